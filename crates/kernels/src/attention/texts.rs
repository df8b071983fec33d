//! The texts of a batch, and which of them are computed side by side.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};

use super::shared::SharedTokens;
use super::{HiddenKeys, Span};
use crate::MovedRows;
use crate::dropout::numbers;

/// The texts of a batch, in the order of their tokens.
#[derive(Clone, Debug)]
pub struct Texts(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    spans: Vec<Span>,
    /// Where texts share tokens, the rows that `spans` are of.
    shared: Option<SharedTokens>,
    /// For the plain body: made once for all layers.
    groups: OnceLock<Groups>,
}

impl Texts {
    /// The texts of these spans.
    pub fn new(spans: Vec<Span>) -> Self {
        Self::of(spans, None)
    }

    /// Texts that may share tokens, `tokens` being those of all: each is given by ranges of them, of
    /// which it is put together. What texts begin alike is so computed once.
    ///
    /// # Panics
    /// If a range goes beyond the tokens.
    pub fn sharing(texts: &[Vec<Range<usize>>], tokens: usize) -> Self {
        let mut token_of = Vec::new();
        let spans = texts.iter().map(|text| {
            let start = token_of.len();
            token_of.extend(text.iter().cloned().flatten());
            let length = token_of.len() - start;
            Span {
                start,
                queries: length,
                keys: length,
            }
        });
        let spans = spans.collect();
        Self::of(spans, Some(SharedTokens::new(token_of, tokens)))
    }

    fn of(spans: Vec<Span>, shared: Option<SharedTokens>) -> Self {
        Self(Arc::new(Inner {
            spans,
            shared,
            groups: OnceLock::new(),
        }))
    }

    /// Where they are; of texts that [share tokens](Self::sharing), in rows of their own.
    pub fn spans(&self) -> &[Span] {
        &self.0.spans
    }

    /// Whether they may share tokens.
    pub fn share_tokens(&self) -> bool {
        self.0.shared.is_some()
    }

    /// The rows of texts that share tokens.
    pub(super) fn shared(&self) -> Option<&SharedTokens> {
        self.0.shared.as_ref()
    }

    /// The groups of a batch of so many tokens, or rows where they are shared.
    pub(super) fn groups(&self, tokens: usize, device: &Device) -> &Groups {
        let made = || Groups::new(&self.0.spans, tokens, &device.clone().without_autodiff());
        self.0.groups.get_or_init(made)
    }
}

/// All texts by their lengths, padded to rows of equal length within each group.
#[derive(Debug)]
pub(super) struct Groups {
    pub groups: Vec<Group>,
    /// From tokens to the rows of groups; none where they are the same.
    moved: Option<MovedRows>,
}

/// Texts of about the same length, each with as many rows as the longest has tokens.
#[derive(Debug)]
pub(super) struct Group {
    /// Its rows among those of all groups.
    pub rows: Range<usize>,
    pub texts: usize,
    pub longest: usize,
    /// The last key that each query sees, `[texts, 1, longest, 1]` or the same for all.
    last: Tensor<4, Int>,
    /// The keys that a query does not see, without a window.
    hidden: HiddenKeys,
    /// The token that each query is, `[texts, 1, longest, 1]`.
    pub tokens: Tensor<4, Int>,
}

impl Groups {
    fn new(spans: &[Span], tokens: usize, device: &Device) -> Self {
        let end = spans.iter().fold(0, |end, span| {
            assert!(span.start >= end, "texts overlap at {span:?}");
            span.start + span.queries
        });
        assert!(end <= tokens, "texts end at token {end} of {tokens}");

        let mut sorted: Vec<Span> = spans.iter().copied().filter(|span| span.keys > 0).collect();
        sorted.sort_by_key(|span| (std::cmp::Reverse(span.queries), span.start));
        let mut groups = Vec::new();
        let mut from = Vec::new();
        // A text of at most half the longest's length would be padded to four times its scores.
        let mut left = &sorted[..];
        while let Some(longest) = left.first().map(|span| span.queries) {
            let count = left.partition_point(|span| 2 * span.queries > longest);
            let (texts, others) = left.split_at(count);
            let start = from.len();
            for span in texts {
                from.extend((0..longest).map(|i| (i < span.queries).then_some(span.start + i)));
            }
            groups.push(Group::new(texts, longest, start..from.len(), device));
            left = others;
        }

        let in_place = from.len() == tokens && from.iter().copied().eq((0..tokens).map(Some));
        let moved = (!in_place).then(|| MovedRows::new(&from, tokens, device));
        Self { groups, moved }
    }

    /// The rows of all groups, from those of all tokens.
    pub fn gather(&self, of_tokens: Tensor<2>) -> Tensor<2> {
        match &self.moved {
            Some(rows) => rows.there(of_tokens),
            None => of_tokens,
        }
    }

    /// The rows of all tokens, from those of all groups.
    pub fn scatter(&self, of_groups: Tensor<2>) -> Tensor<2> {
        match &self.moved {
            Some(rows) => rows.back(of_groups),
            None => of_groups,
        }
    }
}

impl Group {
    fn new(texts: &[Span], longest: usize, rows: Range<usize>, device: &Device) -> Self {
        let count = texts.len();
        let of_host = |values: Vec<u32>, shape: [usize; 4]| {
            Tensor::<4, Int>::from_data(TensorData::new(values, shape), (device, DType::U32))
        };
        let tokens = texts.iter().flat_map(|span| {
            // Those of the padding are no one's.
            let tokens = span.start..span.start + longest;
            tokens.map(|token| token as u32)
        });
        let only_later = texts.iter().all(|span| span.keys == span.queries);
        let last = match only_later {
            true => of_host((0..longest as u32).collect(), [1, 1, longest, 1]),
            false => {
                let last = texts.iter().flat_map(|span| {
                    let of_query = move |query: usize| query.min(span.keys - 1) as u32;
                    (0..longest).map(of_query)
                });
                of_host(last.collect(), [count, 1, longest, 1])
            }
        };
        let hidden = HiddenKeys {
            mask: Some(keys_where(&last, |keys, last| keys.greater(last))),
            only_later,
        };
        Self {
            rows,
            texts: count,
            longest,
            last,
            hidden,
            tokens: of_host(tokens.collect(), [count, 1, longest, 1]),
        }
    }

    /// The keys that a query does not see. Padding on the right sees what the last token does.
    pub fn hidden(&self, window: Option<usize>) -> HiddenKeys {
        let Some(window) = window.filter(|&window| window < self.longest) else {
            return self.hidden.clone();
        };
        let early = keys_where(&self.last, |keys, last| {
            keys.add_scalar(window as u32).lower_equal(last)
        });
        self.hidden.and(early)
    }
}

/// Which keys stand so to the last that each query sees, `[texts, 1, longest, 1]`.
fn keys_where(
    last: &Tensor<4, Int>,
    compare: impl FnOnce(Tensor<4, Int>, Tensor<4, Int>) -> Tensor<4, Bool>,
) -> Tensor<4, Bool> {
    let [texts, _, longest, _] = last.dims();
    let shape = [texts, 1, longest, longest];
    let keys = numbers(longest, &last.device()).reshape([1, 1, 1, longest]);
    compare(keys.expand(shape), last.clone().expand(shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_about_the_same_length_are_one_group() {
        let mut start = 0;
        let spans = [100, 40, 60, 51, 7, 100].map(|queries| {
            start += queries;
            Span {
                start: start - queries,
                queries,
                keys: queries,
            }
        });
        let groups = Groups::new(&spans, start, &Device::flex());
        let sizes = groups
            .groups
            .iter()
            .map(|group| (group.texts, group.longest));
        assert_eq!(sizes.collect::<Vec<_>>(), [(4, 100), (1, 40), (1, 7)]);
    }
}
