//! Which tokens are the texts of a batch, as the attention kernel wants to know it.

use std::sync::Arc;

use burn::tensor::{Int, Tensor};
use burn_peft_kernels::Span;

use crate::ModelInput;

/// The texts of a batch, its rows one after the other, or nothing where a mask is more than
/// padding at either end of a row. Extra positions are part of their row; several texts cannot
/// share them.
pub(crate) fn spans(input: &ModelInput) -> Option<Arc<[Span]>> {
    let [batch, seq] = input.input_ids.dims();
    let extra = &input.extra;
    if !extra.keys_and_values.is_empty() || (input.segment_ids.is_some() && !extra.is_empty()) {
        return None;
    }
    let seq = seq + extra.embedded_positions();
    let rows = (0..batch).map(|row| row * seq);
    let whole = |start| Span {
        start,
        queries: seq,
        keys: seq,
    };
    match (&input.segment_ids, &input.full_attention_mask(seq)) {
        (Some(ids), _) => {
            let ids = host(ids);
            let rows = rows.map(|start| segments(&ids[start..start + seq], start));
            Some(rows.collect::<Option<Vec<_>>>()?.concat().into())
        }
        (None, Some(mask)) => {
            let mask = host(mask);
            let rows = rows.map(|start| unpadded(&mask[start..start + seq], start));
            let rows = rows.collect::<Option<Vec<_>>>()?;
            Some(rows.into_iter().flatten().collect())
        }
        (None, None) => Some(rows.map(whole).collect()),
    }
}

/// The values of a small tensor.
pub(crate) fn host(tensor: &Tensor<2, Int>) -> Vec<i64> {
    tensor.clone().into_data().iter::<i64>().collect()
}

/// The texts of a packed row, unless one of them comes in several pieces.
fn segments(ids: &[i64], start: usize) -> Option<Vec<Span>> {
    let mut spans: Vec<Span> = Vec::new();
    let mut seen = Vec::new();
    let mut begin = start;
    for text in ids.chunk_by(|a, b| a == b) {
        if seen.contains(&text[0]) {
            return None;
        }
        seen.push(text[0]);
        spans.push(Span {
            start: begin,
            queries: text.len(),
            keys: text.len(),
        });
        begin += text.len();
    }
    Some(spans)
}

/// The text of a row: padding before it sees nothing, padding after it all of it.
fn unpadded(mask: &[i64], start: usize) -> Option<Option<Span>> {
    let Some(first) = mask.iter().position(|&value| value != 0) else {
        return Some(None);
    };
    let last = mask.iter().rposition(|&value| value != 0)?;
    if mask[first..=last].contains(&0) {
        return None;
    }
    Some(Some(Span {
        start: start + first,
        queries: mask.len() - first,
        keys: last + 1 - first,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_lies_at_the_ends_or_there_are_no_spans() {
        let span = |start, queries, keys| Span {
            start,
            queries,
            keys,
        };
        assert_eq!(unpadded(&[1, 1, 0], 10), Some(Some(span(10, 3, 2))));
        assert_eq!(unpadded(&[0, 1, 1], 10), Some(Some(span(11, 2, 2))));
        assert_eq!(unpadded(&[0, 0], 10), Some(None));
        assert_eq!(unpadded(&[1, 0, 1], 10), None);
        let texts = vec![span(4, 2, 2), span(6, 1, 1), span(7, 1, 1)];
        assert_eq!(segments(&[1, 1, 2, 0], 4), Some(texts));
        assert_eq!(segments(&[1, 2, 1], 4), None);
    }
}
