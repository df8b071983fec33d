//! Several examples in one row: best fit, longest first.

use std::collections::BTreeMap;

/// Packs examples of these lengths into rows of at most `max` tokens. No example is cut. The result
/// depends on the lengths only.
///
/// The longest example goes first, each into the fullest row that it fits in (best-fit decreasing,
/// TRL's default packing), or into a new row where it fits in none. Within a row the examples keep
/// the order of the file, and rows are ordered by their first example.
pub(crate) fn pack(lengths: &[usize], max: usize) -> Vec<Vec<u32>> {
    let mut order: Vec<u32> = (0..lengths.len() as u32).collect();
    order.sort_by_key(|&example| std::cmp::Reverse(lengths[example as usize]));
    let mut rows: Vec<Vec<u32>> = Vec::new();
    // Rows, keyed by the tokens that still fit.
    let mut left: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for example in order {
        let length = lengths[example as usize];
        let fit = left.range(length..).next().map(|(&room, _)| room);
        let (row, room) = match fit.and_then(|room| Some((left.get_mut(&room)?.pop()?, room))) {
            Some((row, room)) => {
                if left.get(&room).is_some_and(Vec::is_empty) {
                    left.remove(&room);
                }
                (row, room)
            }
            None => {
                rows.push(Vec::new());
                (rows.len() - 1, max.max(length))
            }
        };
        rows[row].push(example);
        if room > length {
            left.entry(room - length).or_default().push(row);
        }
    }
    rows.iter_mut().for_each(|row| row.sort_unstable());
    rows.sort_unstable();
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_is_in_one_row_and_no_row_too_long() {
        assert_eq!(
            pack(&[3, 7, 5, 2, 4], 10),
            [vec![0, 1], vec![2, 4], vec![3]]
        );
        assert_eq!(pack(&[12, 3], 10), [vec![0], vec![1]]);
        assert!(pack(&[], 10).is_empty());

        let lengths: Vec<usize> = (0..1000).map(|i| 2 + (i * 37) % 41).collect();
        let rows = pack(&lengths, 64);
        let tokens = |row: &Vec<u32>| row.iter().map(|&i| lengths[i as usize]).sum::<usize>();
        assert!(rows.iter().all(|row| tokens(row) <= 64));
        let mut seen = rows.concat();
        seen.sort_unstable();
        assert_eq!(seen, (0..1000).collect::<Vec<_>>());
        let total: usize = lengths.iter().sum();
        // Almost nothing is wasted.
        assert!(rows.len() <= total.div_ceil(64) + 1, "{}", rows.len());
    }
}
