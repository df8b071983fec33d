//! Slices of a file's rows: `reviews.jsonl[:500]`, `[500:600]`, `[-100:]`, `[:10%]`. They mean what
//! they mean in the `split` of Hugging Face `datasets` (`train[:500]`).

use crate::error::{DataError, FileProblem, Result};
use std::ops::Range;

/// A path and the wanted rows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicedPath<'a> {
    /// The path, without the slice.
    pub path: &'a str,
    /// The text between the brackets.
    slice: Option<&'a str>,
}

impl<'a> SlicedPath<'a> {
    /// All rows of a path, which may itself end in brackets.
    pub fn whole(path: &'a str) -> Self {
        Self { path, slice: None }
    }

    /// Splits a trailing `[from:to]` off a path.
    pub fn new(spec: &'a str) -> Self {
        let cut = |spec: &'a str| {
            let (path, slice) = spec.strip_suffix(']')?.rsplit_once('[')?;
            slice.contains(':').then_some((path, slice))
        };
        match cut(spec) {
            Some((path, slice)) => Self {
                path,
                slice: Some(slice),
            },
            None => Self::whole(spec),
        }
    }

    /// Whether all rows are wanted, however many there are.
    pub fn is_whole(&self) -> bool {
        self.slice.is_none()
    }

    /// The wanted rows of `len`, as indices from 0.
    ///
    /// # Errors
    /// If the slice is not `from:to`, reaches beyond the rows, or is empty.
    pub fn range(&self, len: usize) -> Result<Range<usize>> {
        let Some(slice) = self.slice else {
            return Ok(0..len);
        };
        let bad = |problem| DataError::file(&format!("{}[{slice}]", self.path), problem);
        let bound = |text: &str, missing: usize| match text.trim() {
            "" => Ok(missing),
            text => resolve(text, len).ok_or_else(|| {
                bad(FileProblem::Slice {
                    bound: text.into(),
                    rows: len,
                })
            }),
        };
        let (from, to) = slice.split_once(':').unwrap_or((slice, ""));
        let range = bound(from, 0)?..bound(to, len)?;
        if range.is_empty() {
            return Err(bad(FileProblem::EmptySlice {
                from: range.start,
                to: range.end,
                rows: len,
            }));
        }
        Ok(range)
    }
}

/// The row that `500`, `-100` or `10%` stands for, of `len` rows.
fn resolve(text: &str, len: usize) -> Option<usize> {
    let rows = match text.strip_suffix('%') {
        // `datasets` rounds a share to the closest row.
        Some(share) => {
            (share.trim().parse::<i64>().ok()? as f64 * len as f64 / 100.0).round() as i64
        }
        None => text.parse().ok()?,
    };
    let rows = if rows < 0 {
        rows.checked_add(len as i64)?
    } else {
        rows
    };
    usize::try_from(rows).ok().filter(|&rows| rows <= len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_as_datasets_does() {
        let range = |spec, len| SlicedPath::new(spec).range(len).unwrap();
        assert_eq!(range("a.jsonl", 10), 0..10);
        assert_eq!(range("a.jsonl[:5]", 10), 0..5);
        assert_eq!(range("a.jsonl[5:7]", 10), 5..7);
        assert_eq!(range("a.jsonl[-3:]", 10), 7..10);
        // The example of the `datasets` manual: a third of 999 rows by share.
        assert_eq!(range("a.jsonl[:33%]", 999), 0..330);
        assert_eq!(SlicedPath::new("dir[1]/a.jsonl[2:]").path, "dir[1]/a.jsonl");
        assert_eq!(SlicedPath::new("odd[name]").path, "odd[name]");
    }

    #[test]
    fn refuses_what_is_not_there() {
        for spec in [
            "a[:11]", "a[-11:]", "a[x:]", "a[:200%]", "a[5:5]", "a[7:2]", "a[1:2:3]",
        ] {
            let error = SlicedPath::new(spec).range(10).unwrap_err().to_string();
            assert!(error.starts_with(spec) && error.contains("10"), "{error}");
        }
    }
}
