//! Which tokens of a batch form its texts, as attention needs it.

use burn::tensor::{Int, Tensor};
use burn_peft_kernels::{Span, Texts};

use crate::ModelInput;
use crate::embeddings::Pooling;

/// The texts of a batch, its rows one after the other; `None` if a mask is more than padding at
/// either end of a row. Extra positions belong to their row; several texts cannot share them.
pub(crate) fn texts(input: &ModelInput) -> Option<Texts> {
    let shape = input.input_ids.dims();
    let extra = &input.extra;
    if !extra.keys_and_values.is_empty() || (input.segment_ids.is_some() && !extra.is_empty()) {
        return None;
    }
    let known = || match (&input.segment_ids, &input.attention_mask) {
        (Some(ids), _) => packed(&host(ids), shape),
        (None, Some(mask)) => rows(Some(&host(mask)), shape),
        (None, None) => rows(None, shape),
    };
    let texts = input.texts.clone().or_else(known)?;
    match extra.embedded_positions() {
        0 => Some(texts),
        _ if texts.share_tokens() => panic!("nothing can stand before texts that share tokens"),
        extra => after(texts.spans(), shape, extra),
    }
}

/// For every token, `[batch * seq, d]`, the mean of its text's hidden states; padding gets a
/// meaningless value.
pub(crate) fn mean_of_texts(hidden: Tensor<2>, input: &ModelInput) -> Tensor<2> {
    let [tokens, d] = hidden.dims();
    let Some(texts) = texts(input) else {
        let [batch, _] = input.input_ids.dims();
        let seq = tokens / batch;
        let rows = hidden.reshape([batch, seq, d]);
        assert!(
            input.segment_ids.is_none(),
            "texts that lie in pieces have no mean"
        );
        let mask = input.full_attention_mask(seq);
        // Without a mask nothing is padding.
        let mask =
            mask.unwrap_or_else(|| Tensor::<2, Int>::ones([batch, seq], &input.input_ids.device()));
        let mask = mask.float().reshape([batch, seq, 1]);
        let mean = (rows * mask.clone()).sum_dim(1) / mask.sum_dim(1);
        return mean.expand([batch, seq, d]).reshape([tokens, d]);
    };
    let spans = texts.spans().iter().filter(|span| span.keys > 0);
    let ranges = spans.clone().map(|span| span.start..span.start + span.keys);
    let means = Pooling::Mean.of(hidden, &ranges.collect::<Vec<_>>());
    let mut text_of = vec![0; tokens];
    for (text, span) in spans.enumerate() {
        text_of[span.start..span.start + span.queries].fill(text as i64);
    }
    means.select(
        0,
        Tensor::<1, Int>::from_data(text_of.as_slice(), &input.input_ids.device()),
    )
}

/// The values of a small tensor.
fn host(tensor: &Tensor<2, Int>) -> Vec<i64> {
    tensor.clone().into_data().iter::<i64>().collect()
}

/// The first key of each row of a mask `[batch, positions]`; `None` if a row is all padding or has
/// some after its first token.
pub(crate) fn first_keys(mask: &Tensor<2, Int>) -> Option<Vec<usize>> {
    let [_, positions] = mask.dims();
    let mask = host(mask);
    let rows = mask.chunks_exact(positions).map(|row| {
        let first = row.iter().position(|&value| value != 0)?;
        (!row[first..].contains(&0)).then_some(first)
    });
    rows.collect()
}

/// The texts of rows with one text each; `mask` is 0 at padding, `[batch, seq]`.
pub(crate) fn rows(mask: Option<&[i64]>, [batch, seq]: [usize; 2]) -> Option<Texts> {
    let starts = (0..batch).map(|row| row * seq);
    let spans = starts.map(|start| match mask {
        Some(mask) => unpadded(&mask[start..start + seq], start),
        None => Some(Some(Span {
            start,
            queries: seq,
            keys: seq,
        })),
    });
    let spans = spans.collect::<Option<Vec<_>>>()?;
    Some(Texts::new(spans.into_iter().flatten().collect()))
}

/// The texts of packed rows, from the numbers of the texts, `[batch, seq]`.
pub(crate) fn packed(segment_ids: &[i64], [batch, seq]: [usize; 2]) -> Option<Texts> {
    let starts = (0..batch).map(|row| row * seq);
    let spans = starts.map(|start| segments(&segment_ids[start..start + seq], start));
    Some(Texts::new(spans.collect::<Option<Vec<_>>>()?.concat()))
}

/// The texts of rows that begin with this many extra positions; `None` if padding lies between.
fn after(texts: &[Span], [batch, seq]: [usize; 2], extra: usize) -> Option<Texts> {
    let mut texts = texts.iter().peekable();
    let spans = (0..batch).map(|row| {
        let of_row = texts.next_if(|text| text.start < (row + 1) * seq);
        let keys = match of_row {
            Some(text) if text.start > row * seq => return None,
            Some(text) => text.keys,
            None => 0,
        };
        Some(Span {
            start: row * (seq + extra),
            queries: seq + extra,
            keys: keys + extra,
        })
    });
    Some(Texts::new(spans.collect::<Option<Vec<_>>>()?))
}

/// The texts of a packed row; `None` if one of them is in several pieces.
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

/// The text of a row: padding before it sees nothing, padding after it sees all of it.
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

        // The second row is all padding.
        let right = rows(Some(&[1, 1, 0, 0, 0, 0]), [2, 3]).unwrap();
        assert_eq!(right.spans(), [span(0, 3, 2)]);
        let with_extra = after(right.spans(), [2, 3], 2).unwrap();
        assert_eq!(with_extra.spans(), [span(0, 5, 4), span(5, 5, 2)]);
        let left = rows(Some(&[0, 1, 1]), [1, 3]).unwrap();
        assert!(after(left.spans(), [1, 3], 2).is_none());
    }
}
