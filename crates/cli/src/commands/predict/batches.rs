//! Which rows are computed together.

/// The most tokens in a batch whose number of rows is not set; a batch of one row may have more.
const TOKENS: usize = 4096;

/// The number of rows of at most this length in such a batch: at least eight, as elsewhere.
pub fn rows_of(longest: usize) -> usize {
    (TOKENS / longest.max(1)).clamp(8, 256)
}

/// The indices of rows with these lengths, in batches of similar length; rows without tokens are
/// left out.
pub fn batches(lengths: &[usize], rows: Option<usize>) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).filter(|&at| lengths[at] > 0).collect();
    order.sort_by_key(|&at| lengths[at]);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for at in order {
        let fits = batches.last().is_some_and(|batch| match rows {
            Some(rows) => batch.len() < rows,
            None => tokens + lengths[at] <= TOKENS,
        });
        match batches.last_mut().filter(|_| fits) {
            Some(batch) => {
                batch.push(at);
                tokens += lengths[at];
            }
            None => {
                batches.push(vec![at]);
                tokens = lengths[at];
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_so_many_tokens_or_rows_of_like_length() {
        let lengths = [3000, 5, 0, 900, 5000, 7];
        assert_eq!(batches(&lengths, None), [vec![1, 5, 3, 0], vec![4]]);
        let two = [vec![1, 5], vec![3, 0], vec![4]];
        assert_eq!(batches(&lengths, Some(2)), two);
        assert_eq!(batches(&lengths, Some(0)).len(), 5);
        assert!(batches(&[0], None).is_empty());
        assert_eq!([0, 16, 64, 4096].map(rows_of), [256, 256, 64, 8]);
    }
}
