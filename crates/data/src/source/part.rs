//! Which rows of a source are wanted: its slice, and one side of a `validation_split`.

use crate::batches::sampler::stream;
use crate::error::{DataError, Result, SettingProblem};
use crate::source::{Record, Source};
use indicatif::ProgressBar;
use rand::seq::SliceRandom;
use serde::Serialize;
use std::ops::Range;

/// One side of a split that the seed draws.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Split {
    /// The share (below 1) or number of rows for validation.
    pub size: f64,
    pub seed: u64,
    /// Whether this is the validation side.
    pub validation: bool,
}

/// The wanted rows of a source.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Part {
    pub split: Option<Split>,
    /// At most this many.
    pub max: Option<usize>,
}

impl Part {
    /// The wanted records, in the source's order. Nothing after the last one is read. If only some
    /// are wanted, all are counted first.
    pub fn records<'a>(
        self,
        source: &'a Source,
        bar: &ProgressBar,
    ) -> Result<impl Iterator<Item = Result<Record>> + 'a> {
        let mut range = 0..usize::MAX;
        if self.split.is_some() || !source.slice().is_whole() {
            let counted = source.records(&ProgressBar::hidden())?;
            range = source.slice().range(count(counted)?)?;
        }
        let drawn = match self.split {
            Some(split) => Some(draw(range.clone(), split, source)?),
            None => None,
        };
        let Range { start, end } = range;
        let records = source.records(bar)?.take(end).skip(start).enumerate();
        let wanted = records.filter(move |(index, record)| {
            record.is_err() || drawn.as_ref().is_none_or(|drawn| drawn[*index])
        });
        let wanted = wanted.map(|(_, record)| record);
        Ok(wanted.take(self.max.unwrap_or(usize::MAX)))
    }
}

impl Source {
    /// The rows that the slice asks for.
    pub(crate) fn count(&self) -> Result<usize> {
        let counted = count(self.records(&ProgressBar::hidden())?)?;
        Ok(self.slice().range(counted)?.len())
    }
}

fn count(records: impl Iterator<Item = Result<Record>>) -> Result<usize> {
    let mut count = 0;
    for record in records {
        record?;
        count += 1;
    }
    Ok(count)
}

/// Which of the rows belong to a side of a split.
fn draw(range: Range<usize>, split: Split, source: &Source) -> Result<Vec<bool>> {
    let (total, size) = (range.len(), split.size);
    let rows = if size < 1.0 {
        (size * total as f64).ceil()
    } else {
        size
    };
    let count = rows as usize;
    if count >= total {
        let problem = SettingProblem::SplitOfAll {
            size,
            count,
            rows: total,
            file: source.name.clone(),
        };
        return Err(DataError::setting("validation_split", problem));
    }
    let mut drawn = vec![!split.validation; total];
    drawn[..count].fill(split.validation);
    drawn.shuffle(&mut stream(split.seed, u64::MAX));
    Ok(drawn)
}
