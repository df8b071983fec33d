//! Which rows are computed together.

/// The tokens of a batch, at most, where nobody says how many rows it has: a batch of one row may have more.
const TOKENS: usize = 4096;

/// How many rows of up to so many tokens such a batch has: eight at least, as everywhere.
pub fn rows_of(longest: usize) -> usize {
    (TOKENS / longest.max(1)).clamp(8, 256)
}

/// The places of rows of these lengths in batches of like length; those without tokens are in none.
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
