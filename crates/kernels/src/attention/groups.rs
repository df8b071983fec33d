//! Which texts of a batch the plain body computes side by side.

use std::ops::Range;
use std::sync::OnceLock;

use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData};

use super::{AttentionOptions, HiddenKeys, Span};
use crate::MovedRows;
use crate::dropout::numbers;

/// All texts by their lengths, padded to rows of equal length within each group.
#[derive(Debug)]
pub(super) struct Groups {
    pub groups: Vec<Group>,
    /// From tokens to the rows of groups; `None` where they are the same.
    moved: Option<MovedRows>,
}

/// Texts of about the same length; each has as many rows as the longest has tokens.
#[derive(Debug)]
pub(super) struct Group {
    /// The group's rows among those of all groups.
    pub rows: Range<usize>,
    pub texts: usize,
    pub longest: usize,
    /// The last key that each query sees in causal attention, `[texts, 1, longest, 1]`, or
    /// `[1, 1, longest, 1]` if it is the same for all texts.
    last: Tensor<4, Int>,
    /// The keys that a query does not see in causal attention without a window.
    hidden: HiddenKeys,
    /// The last key of each text: the last that its queries see in attention in both directions.
    ends: Vec<u32>,
    /// For attention in both directions: the position of each query, and the last key of its text,
    /// each `[texts, 1, longest, 1]`.
    both: OnceLock<[Tensor<4, Int>; 2]>,
    /// The token that each query is, `[texts, 1, longest, 1]`.
    pub tokens: Tensor<4, Int>,
}

impl Groups {
    /// Groups texts, which are given in the order of their tokens.
    pub fn new(spans: &[Span], tokens: usize, device: &Device) -> Self {
        let end = spans.iter().fold(0, |end, span| {
            assert!(span.start >= end, "texts overlap at {span:?}");
            span.start + span.queries
        });
        assert!(end <= tokens, "texts end at token {end} of {tokens}");

        let mut sorted: Vec<Span> = spans.iter().copied().filter(|span| span.keys > 0).collect();
        sorted.sort_by_key(|span| (std::cmp::Reverse(span.queries), span.start));
        let mut groups = Vec::new();
        let mut from = Vec::new();
        // A text of at most half the longest one's length would be padded to four times its scores.
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
            // Padding takes the numbers that follow; its output is not used.
            let tokens = span.start..span.start + longest;
            tokens.map(|token| token as u32)
        });
        let only_later = texts.iter().all(|span| span.keys == span.queries);
        let last = if only_later {
            of_host((0..longest as u32).collect(), [1, 1, longest, 1])
        } else {
            let last = texts.iter().flat_map(|span| {
                let of_query = move |query: usize| query.min(span.keys - 1) as u32;
                (0..longest).map(of_query)
            });
            of_host(last.collect(), [count, 1, longest, 1])
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
            ends: texts.iter().map(|span| span.keys as u32 - 1).collect(),
            both: OnceLock::new(),
            tokens: of_host(tokens.collect(), [count, 1, longest, 1]),
        }
    }

    /// The keys that each query does not see. Padding on the right sees what the last token sees.
    pub fn hidden(&self, options: &AttentionOptions) -> HiddenKeys {
        let window = options.window.filter(|&window| window < self.longest);
        let window = window.map(|window| window as u32);
        if !options.causal {
            return self.hidden_in_both(window);
        }
        let Some(window) = window else {
            return self.hidden.clone();
        };
        let early = keys_where(&self.last, |keys, last| {
            keys.add_scalar(window).lower_equal(last)
        });
        self.hidden.and(early)
    }

    /// The same for queries that see later keys too.
    fn hidden_in_both(&self, window: Option<u32>) -> HiddenKeys {
        let full = self
            .ends
            .iter()
            .all(|&end| end as usize + 1 == self.longest);
        let [own, end] = self.both.get_or_init(|| self.places());
        let mut hidden = HiddenKeys {
            mask: (!full).then(|| keys_where(end, |keys, end| keys.greater(end))),
            only_later: false,
        };
        if let Some(window) = window {
            // Padding that is too far from every key sees the last one here, since a softmax over
            // nothing is NaN. `Unseeing` replaces its output.
            let own = &own.clone().min_pair(end.clone().add_scalar(window - 1));
            let early = keys_where(own, |keys, own| keys.add_scalar(window).lower_equal(own));
            let late = keys_where(own, |keys, own| keys.greater_equal(own.add_scalar(window)));
            hidden = hidden.and(early).and(late);
        }
        hidden
    }

    /// The tensors that `both` holds.
    fn places(&self) -> [Tensor<4, Int>; 2] {
        let (longest, device) = (self.longest, self.last.device());
        let of_host = |of_query: &dyn Fn(u32, u32) -> u32| {
            let of_text = |&end: &u32| (0..longest as u32).map(move |query| of_query(query, end));
            let values: Vec<u32> = self.ends.iter().flat_map(of_text).collect();
            let values = TensorData::new(values, [self.texts, 1, longest, 1]);
            Tensor::from_data(values, (&device, DType::U32))
        };
        [of_host(&|query, _| query), of_host(&|_, end| end)]
    }
}

/// Where `compare` is true of a key and of the last one that a query sees: from
/// `[texts, 1, longest, 1]` to `[texts, 1, longest, longest]`.
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
