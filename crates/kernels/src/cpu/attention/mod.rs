//! Attention of many texts at once, forward and backward, which never stores the scores.
//!
//! It follows FlashAttention (Dao et al., 2022, arXiv:2205.14135; the loops of FlashAttention-2,
//! arXiv:2307.08691). Blocks of queries are multiplied with blocks of keys while both are in the
//! caches. The softmax is updated by its running maximum and sum, and the backward pass computes
//! the weights again from the log-sum-exp. A task is the heads of one text that share keys, or one
//! of these heads where that gives too few tasks. Every element is written by a single task, so
//! results do not depend on the number of threads.

mod backward;
mod band;
mod decode;
mod forward;
mod pack;
mod product;
mod scratch;
pub(crate) mod simd;
pub(crate) mod softcap;
#[cfg(test)]
mod tests;
mod view;

pub use backward::{Gradients, Saved, backward};
pub use decode::{Cache, decode};
pub use forward::forward;
pub use view::{Columns, ColumnsMut};

use std::ops::Range;

use rayon::prelude::*;

use crate::cpu::random::Dropout;

/// Queries and keys in a block, chosen by measurement: its scores take 48 KiB. Both are whole
/// numbers of vectors on every processor, and the keys also of panels.
const QUERIES: usize = 96;
const KEYS: usize = 128;
const _: () = assert!(QUERIES.is_multiple_of(16) && KEYS.is_multiple_of(64));

/// The fewest tasks that a usual number of threads shares evenly. The actual number of threads must
/// not decide this, or sums would depend on it.
const FEW: usize = 8;

/// The number of multiplications below which waking threads costs more than it gains.
const SERIAL: usize = 1 << 17;

/// More keys than any text has, yet few enough that sums do not overflow.
const UNBOUNDED: usize = usize::MAX / 8;

/// Calls `run` for every task, on all threads if there is enough to do.
fn for_each<T: Send>(tasks: Vec<T>, multiplications: usize, run: impl Fn(T) + Send + Sync) {
    for_each_from(SERIAL, tasks, multiplications, run);
}

/// As [`for_each`], on all threads from `least` multiplications on.
fn for_each_from<T: Send>(
    least: usize,
    tasks: Vec<T>,
    multiplications: usize,
    run: impl Fn(T) + Send + Sync,
) {
    if multiplications < least {
        tasks.into_iter().for_each(run);
    } else {
        tasks.into_par_iter().for_each(run);
    }
}

/// One text in the flattened tokens. In causal attention, its query `i` stands at key
/// `min(i, keys - 1)` and sees that key and those before it. Otherwise query `i` stands at `i` and
/// sees all keys. A window leaves only the keys that are closer than the window. Padding may be too
/// far from every key; the functions of this module then give it zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its first token.
    pub start: usize,
    /// The number of its tokens that are queries, padding on the right included.
    pub queries: usize,
    /// The number of its tokens that are keys, at most `queries`; the rest is padding.
    pub keys: usize,
}

/// Shapes that stay the same for all texts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dims {
    /// Heads of the queries.
    pub heads: usize,
    /// Heads of keys and values; a divisor of `heads`.
    pub kv_heads: usize,
    /// Elements of a head.
    pub head_dim: usize,
    /// Factor on the scores, usually `1 / sqrt(head_dim)`.
    pub scale: f32,
    /// Whether a query sees no later keys.
    pub causal: bool,
    /// A query sees keys at a distance of less than this; with 1, only its own.
    pub window: Option<usize>,
    /// Bounds the scores `s`: `softcap * tanh(s / softcap)`.
    pub softcap: Option<f32>,
}

impl Dims {
    /// Elements of a row of the queries and of the output.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Elements of a row of the keys and of the values.
    pub fn key_width(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// The first column of a head, and its width.
    fn head(&self, head: usize) -> (usize, usize) {
        (head * self.head_dim, self.head_dim)
    }

    /// Heads that share a head of keys.
    fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// Keys before its own that a query sees at most.
    fn before(&self) -> usize {
        self.window.map_or(UNBOUNDED, |window| window - 1)
    }

    /// Keys after its own that a query sees at most.
    fn after(&self) -> usize {
        if self.causal { 0 } else { self.before() }
    }

    fn check(&self) {
        assert!(
            self.window != Some(0) && self.softcap != Some(0.0),
            "{self:?}"
        );
        assert!(
            self.heads > 0 && self.kv_heads > 0 && self.head_dim > 0,
            "{self:?}"
        );
        assert_eq!(self.heads % self.kv_heads, 0, "{self:?}");
    }
}

/// The inputs of attention.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Shapes.
    pub dims: Dims,
    /// Number of tokens.
    pub tokens: usize,
    /// The texts, in the order of their tokens. A token in no text gets zeros as output and
    /// gradient.
    pub spans: &'a [Span],
    /// Queries, `[tokens, heads * head_dim]`.
    pub q: Columns<'a>,
    /// Keys, `[tokens, kv_heads * head_dim]`.
    pub k: Columns<'a>,
    /// Values, `[tokens, kv_heads * head_dim]`.
    pub v: Columns<'a>,
    /// Dropout of the attention weights.
    pub dropout: Option<Dropout>,
}

impl Input<'_> {
    /// The row of the dropout mask of a query; its columns count the keys of its text.
    pub fn mask_row(&self, head: usize, query: usize) -> u64 {
        let first = self.dropout.map_or(0, |dropout| dropout.first as usize);
        ((first + query) * self.dims.heads + head) as u64
    }

    fn check(&self) {
        self.dims.check();
        self.q.check(self.tokens, self.dims.query_width());
        self.k.check(self.tokens, self.dims.key_width());
        self.v.check(self.tokens, self.dims.key_width());
        let mut end = 0;
        for span in self.spans {
            assert!(
                span.start >= end,
                "spans overlap or are out of order at {span:?}"
            );
            assert!(
                span.keys <= span.queries,
                "more keys than queries in {span:?}"
            );
            end = span.start + span.queries;
        }
        assert!(
            end <= self.tokens,
            "spans end at token {end} of {}",
            self.tokens
        );
    }

    /// Whether a task is one head of queries rather than all heads that share keys, because there
    /// would be too few tasks for threads to share evenly.
    fn splits_groups(&self) -> bool {
        let spans = self.spans.iter().filter(|span| span.keys > 0);
        self.dims.group() > 1 && spans.count() * self.dims.kv_heads < FEW
    }

    /// Tasks of one span and heads that share keys; spans without a key have none.
    fn tasks(&self) -> Vec<(Span, Range<usize>)> {
        let size = if self.splits_groups() {
            1
        } else {
            self.dims.group()
        };
        let spans = self.spans.iter().filter(|span| span.keys > 0);
        let heads = (0..self.dims.heads).step_by(size);
        let heads = heads.map(|head| head..head + size);
        spans
            .flat_map(|&span| heads.clone().map(move |heads| (span, heads)))
            .collect()
    }

    /// The multiplications of one of the products, ignoring causality.
    fn multiplications(&self) -> usize {
        let seen = self.dims.before() + self.dims.after() + 1;
        let scores = self
            .spans
            .iter()
            .map(|span| span.queries * span.keys.min(seen))
            .sum::<usize>();
        scores * self.dims.query_width()
    }

    /// Tokens that no task writes.
    fn gaps(&self) -> Vec<Range<usize>> {
        let spans = self.spans.iter().filter(|span| span.keys > 0);
        let ends = spans.clone().map(|span| span.start + span.queries);
        let starts = spans.map(|span| span.start).chain([self.tokens]);
        let gaps = std::iter::once(0)
            .chain(ends)
            .zip(starts)
            .map(|(end, start)| end..start);
        gaps.filter(|gap| !gap.is_empty()).collect()
    }
}
