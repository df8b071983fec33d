//! Which rows of each set are trained on, and which are held back for evaluation.

use crate::config::DataConfig;
use crate::error::{DataError, Result, SettingProblem};
use crate::mixture::apportion;
use crate::source::part::{Part, Split};
use crate::source::{Finder, Source};

/// The rows of a set.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Parts {
    pub train: Part,
    /// `None` if no row of the set is held back.
    pub validation: Option<Part>,
}

/// The rows of each set of `data.train`, whose tables are `sets`; `validation_split` and
/// `max_samples` apply to all sets together.
pub(crate) fn parts(
    config: &DataConfig,
    sets: &[DataConfig],
    seed: u64,
    find: Finder<'_>,
) -> Result<Vec<Parts>> {
    let split = |size, validation| Split {
        size,
        seed,
        validation,
    };
    if let [_] = sets {
        let side = |validation| config.validation_split.map(|size| split(size, validation));
        let train = Part {
            split: side(false),
            max: config.max_samples,
        };
        let validation = side(true).map(held_part);
        return Ok(vec![Parts { train, validation }]);
    }
    if config.validation_split.is_none() && config.max_samples.is_none() {
        return Ok(vec![Parts::default(); sets.len()]);
    }
    let rows = sets.iter().map(|set| {
        let spec = set.train.sets().remove(0).path;
        Source::open(&spec, set.sample_by, find)?.count()
    });
    let rows: Vec<usize> = rows.collect::<Result<_>>()?;
    let held = match config.validation_split {
        Some(size) => held_back(size, &rows)?,
        None => vec![0; rows.len()],
    };
    let left: Vec<usize> = rows
        .iter()
        .zip(&held)
        .map(|(rows, held)| rows - held)
        .collect();
    let max = match config.max_samples {
        Some(max) => at_most(max, &left, config.train.weights())?,
        None => left.clone(),
    };
    let parts = held.into_iter().zip(max.into_iter().zip(left));
    let parts = parts.map(|(held, (max, left))| {
        let side = |validation| (held > 0).then(|| split(held as f64, validation));
        let validation = side(true).map(held_part);
        let train = Part {
            split: side(false),
            max: (max < left).then_some(max),
        };
        Parts { train, validation }
    });
    Ok(parts.collect())
}

fn held_part(split: Split) -> Part {
    Part {
        split: Some(split),
        max: None,
    }
}

/// How many rows of each set are held back: a share of all rows, or a number, in proportion to the
/// sets' rows. At least one row of each set is trained on.
fn held_back(size: f64, rows: &[usize]) -> Result<Vec<usize>> {
    let total: usize = rows.iter().sum();
    let count = if size < 1.0 {
        (size * total as f64).ceil()
    } else {
        size
    };
    let count = count as usize;
    let left: Vec<usize> = rows.iter().map(|rows| rows.saturating_sub(1)).collect();
    if count > left.iter().sum() {
        let problem = SettingProblem::SplitOfAll {
            size,
            count,
            rows: total,
            file: format!("the {} sets of data.train", rows.len()),
        };
        return Err(DataError::setting("validation_split", problem));
    }
    let weights: Vec<f64> = rows.iter().map(|&rows| rows as f64).collect();
    Ok(shared_out(count, &weights, &left))
}

/// How many rows of each set are used if together they are at most `max`: in proportion to the
/// weights, or else to the rows of each set, and at least one of each.
fn at_most(max: usize, rows: &[usize], weights: Option<Vec<f64>>) -> Result<Vec<usize>> {
    if max < rows.len() {
        let (value, least) = (max, rows.len());
        let problem = SettingProblem::TooSmall { value, least };
        return Err(DataError::setting("max_samples", problem));
    }
    let weights = weights.unwrap_or_else(|| rows.iter().map(|&rows| rows as f64).collect());
    let mut shares = shared_out(max, &weights, rows);
    while let Some(none) = (0..rows.len()).find(|&set| shares[set] == 0 && rows[set] > 0) {
        let most = (0..rows.len())
            .max_by_key(|&set| shares[set])
            .unwrap_or(none);
        shares[most] -= 1;
        shares[none] = 1;
    }
    Ok(shares)
}

/// Shares out `count` rows by weight, to no set more than its `most`. What exceeds it goes to the
/// other sets.
fn shared_out(count: usize, weights: &[f64], most: &[usize]) -> Vec<usize> {
    let mut shares = vec![0; most.len()];
    loop {
        let left = count - shares.iter().sum::<usize>();
        let open = |set: usize| shares[set] < most[set];
        let weight = |set: usize| if open(set) { weights[set] } else { 0.0 };
        let total: f64 = (0..most.len()).map(weight).sum();
        if left == 0 || total <= 0.0 {
            return shares;
        }
        let quotas = (0..most.len()).map(|set| left as f64 * (weight(set) / total));
        let more = apportion(left, &quotas.collect::<Vec<_>>());
        for (share, (more, most)) in shares.iter_mut().zip(more.into_iter().zip(most)) {
            *share = (*share + more).min(*most);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_held_back_in_proportion() {
        let held = |size, rows: &[usize]| held_back(size, rows).unwrap();
        assert_eq!(held(0.1, &[100, 50, 7]), [10, 5, 1]);
        assert_eq!(held(10.0, &[30, 10]), [8, 2]);
        // Every set keeps a row, and the total is still right.
        assert_eq!(held(8.0, &[9, 1]), [8, 0]);
        assert_eq!(held(0.5, &[1, 1, 8]), [0, 0, 5]);
        for (size, rows) in [(2.0, [1, 1]), (9.0, [5, 5]), (0.95, [5, 5])] {
            let error = held_back(size, &rows).unwrap_err().to_string();
            assert!(error.contains("of the 2 sets of data.train"), "{error}");
        }
    }

    #[test]
    fn no_more_rows_than_max_samples_are_taken() {
        let most = |max, rows: &[usize], weights: Option<&[f64]>| {
            at_most(max, rows, weights.map(<[f64]>::to_vec)).unwrap()
        };
        assert_eq!(most(10, &[900, 100], None), [9, 1]);
        assert_eq!(most(7, &[12, 6, 3], None), [4, 2, 1]);
        assert_eq!(most(2, &[900, 100], None), [1, 1]);
        assert_eq!(most(100, &[900, 100], Some(&[1.0, 1.0])), [50, 50]);
        assert_eq!(most(100, &[900, 20], Some(&[1.0, 1.0])), [80, 20]);
        assert_eq!(most(5000, &[900, 20], None), [900, 20]);
        let error = at_most(1, &[5, 5], None).unwrap_err().to_string();
        assert_eq!(error, "data.max_samples is 1; it must be 2 or more");
    }
}
