//! The rows and files that a step has seen, for messages.

use std::collections::BTreeMap;

use burn_peft_data::Batch;

/// The most rows of a file that are listed.
const SHOWN: usize = 16;

/// The rows of some batches and the file they are from, to be joined by "of": `1, 7` and `a.jsonl`.
/// With several files, the first string names all files but the last: `1, 7 of a.jsonl and 3` and
/// `b.jsonl`.
pub(crate) fn places<'a>(
    batches: impl IntoIterator<Item = &'a Batch>,
    files: &[String],
) -> (String, String) {
    let mut of_files: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for batch in batches {
        for (set, row) in batch.sets.iter().zip(&batch.rows) {
            of_files.entry(*set).or_default().push(*row);
        }
    }
    let file = |set: usize| files.get(set).cloned().unwrap_or_default();
    let Some((last, rows)) = of_files.pop_last() else {
        return (String::new(), file(0));
    };
    let others = of_files
        .iter()
        .map(|(set, rows)| format!("{} of {} and ", list(rows), file(*set)));
    (
        others.collect::<String>() + &list(rows.as_slice()),
        file(last),
    )
}

fn list(rows: &[usize]) -> String {
    let shown: Vec<String> = rows.iter().take(SHOWN).map(ToString::to_string).collect();
    match rows.len() - shown.len() {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stand_with_their_files() {
        let batch = |sets: &[usize], rows: &[usize]| Batch {
            sets: sets.to_vec(),
            rows: rows.to_vec(),
            ..Batch::default()
        };
        let files = ["a.jsonl", "b.csv"].map(String::from);
        let said = |batches: &[Batch]| {
            let (rows, file) = places(batches, &files);
            format!("{rows} of {file}")
        };
        assert_eq!(
            said(&[batch(&[0, 0], &[9, 2]), batch(&[0], &[4])]),
            "9, 2, 4 of a.jsonl"
        );
        assert_eq!(said(&[batch(&[1], &[3])]), "3 of b.csv");
        assert_eq!(
            said(&[batch(&[1, 0], &[3, 1]), batch(&[0], &[7])]),
            "1, 7 of a.jsonl and 3 of b.csv"
        );
        let many: Vec<usize> = (1..=20).collect();
        assert!(said(&[batch(&[0; 20], &many)]).ends_with("16 and 4 more of a.jsonl"));
    }
}
