//! What llama.cpp changes in one tensor, in both directions.

use super::architecture::Changes;

/// How to get a model's tensor from the one in the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Change {
    Nothing,
    MinusOne,
    Turned,
    /// The halves of each head are interleaved.
    Woven {
        heads: usize,
    },
    /// The query, key and value of all heads are separated.
    Apart {
        heads: usize,
    },
    /// It is a single row in the file.
    Row {
        at: usize,
    },
}

impl Change {
    /// The change of a tensor in the file.
    pub fn of(
        changes: Changes,
        name: &str,
        dimensions: usize,
        (heads, of_keys): (u64, u64),
    ) -> Self {
        let part = |part: &str| name.split('.').any(|found| found == part);
        let heads = heads as usize;
        match changes {
            Changes::Interleaved if part("attn_q") => Self::Woven { heads },
            Changes::Interleaved if part("attn_k") => Self::Woven {
                heads: of_keys as usize,
            },
            Changes::NormsAroundOne if name.ends_with("norm.weight") => Self::MinusOne,
            Changes::Turned if dimensions == 2 && name.starts_with("blk.") => Self::Turned,
            Changes::FusedByHead if part("attn_qkv") => Self::Apart { heads },
            _ => Self::Nothing,
        }
    }

    /// Which of the `rows` rows of the file is row `row` of the model.
    pub fn row(self, row: usize, rows: usize) -> usize {
        match self {
            Self::Woven { heads } => {
                let width = rows / heads;
                let (head, place) = (row / width, row % width);
                let (half, place) = (place / (width / 2), place % (width / 2));
                head * width + 2 * place + half
            }
            Self::Apart { heads } => {
                let width = rows / heads / 3;
                let (head, place) = (row / (3 * width), row % (3 * width));
                let (part, place) = (place / width, place % width);
                part * heads * width + head * width + place
            }
            _ => row,
        }
    }

    /// Which row of the model is row `place` of the `rows` rows of the file: the inverse of
    /// [`row`](Self::row).
    pub fn row_of_model(self, place: usize, rows: usize) -> usize {
        match self {
            Self::Woven { heads } => {
                let width = rows / heads;
                let (head, place) = (place / width, place % width);
                head * width + place % 2 * (width / 2) + place / 2
            }
            Self::Apart { heads } => {
                let width = rows / heads / 3;
                let (part, place) = (place / (heads * width), place % (heads * width));
                let (head, place) = (place / width, place % width);
                (3 * head + part) * width + place
            }
            _ => place,
        }
    }

    /// The number that the number of rows has to be a multiple of.
    pub fn multiple(self) -> usize {
        match self {
            Self::Woven { heads } => heads.saturating_mul(2),
            Self::Apart { heads } => heads.saturating_mul(3),
            _ => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_both_ways() {
        for (change, rows) in [
            (Change::Nothing, 7),
            (Change::Woven { heads: 3 }, 24),
            (Change::Apart { heads: 4 }, 36),
        ] {
            let there: Vec<usize> = (0..rows).map(|row| change.row(row, rows)).collect();
            let back = there.iter().map(|&place| change.row_of_model(place, rows));
            assert!(back.eq(0..rows), "{change:?}");
            // An order other than the model's.
            assert_eq!(
                there == (0..rows).collect::<Vec<_>>(),
                change == Change::Nothing
            );
        }
    }
}
