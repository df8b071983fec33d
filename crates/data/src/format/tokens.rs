//! Rows that are tokenised already.

use super::Content;
use super::column_names::LOSS_MASKS;
use crate::error::RowProblem;
use crate::tokens::example::IGNORE_INDEX;
use serde_json::{Map, Value};

/// The tokens of a row. A token that a loss mask excludes gets no label; one that `attention_mask`
/// excludes is removed.
pub(super) fn tokens(columns: &Map<String, Value>) -> std::result::Result<Content, RowProblem> {
    let list = |column: &str| match columns.get(column) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_array()
            .and_then(|list| list.iter().map(Value::as_i64).collect::<Option<Vec<_>>>())
            .map(Some)
            .ok_or_else(|| RowProblem::NoIntegers(column.into())),
    };
    let input_ids = list("input_ids")?.ok_or(RowProblem::NoInputIds)?;
    // Parquet has masks of true and false, data frames masks of 0.0 and 1.0.
    let mask = |column: &str| match columns.get(column) {
        Some(Value::Array(list)) => {
            let odd = list.iter().find(|value| as_mask(value).is_none());
            match odd {
                None => Ok(Some(list.iter().filter_map(as_mask).collect())),
                Some(odd) => Err(RowProblem::Mask {
                    value: odd.to_string(),
                    column: column.into(),
                }),
            }
        }
        _ => list(column),
    };
    let same_length = |column: &str, values: Vec<i64>| {
        if values.len() == input_ids.len() {
            Ok(values)
        } else {
            Err(RowProblem::Lengths {
                input_ids: input_ids.len(),
                values: values.len(),
                column: column.into(),
            })
        }
    };
    let labels = match list("labels")? {
        Some(labels) => same_length("labels", labels)?,
        None => input_ids.clone(),
    };
    let mut labels = labels;
    for column in LOSS_MASKS {
        let Some(mask) = mask(column)? else { continue };
        let mask = same_length(column, mask)?;
        let masked = labels.iter_mut().zip(mask).filter(|(_, mask)| *mask == 0);
        masked.for_each(|(label, _)| *label = IGNORE_INDEX);
    }
    let Some(mask) = mask("attention_mask")? else {
        return Ok(Content::Tokens { input_ids, labels });
    };
    // What the mask excludes is padding; batches add their own.
    let mask = same_length("attention_mask", mask)?;
    let kept = |values: Vec<i64>| {
        let pairs = values.into_iter().zip(&mask);
        pairs
            .filter(|(_, mask)| **mask != 0)
            .map(|(value, _)| value)
            .collect()
    };
    Ok(Content::Tokens {
        labels: kept(labels),
        input_ids: kept(input_ids),
    })
}

fn as_mask(value: &Value) -> Option<i64> {
    let number = value.as_bool().map(f64::from).or_else(|| value.as_f64())?;
    [0, 1].into_iter().find(|mask| *mask as f64 == number)
}
