//! Attention, forward.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::band::{Band, hide};
use super::product::{Causal, Product, panel};
use super::simd::{load, store};
use super::softcap::cap_row;
use super::view::ColumnsMut;
use super::{Input, KEYS, QUERIES, Span, for_each, pack, scratch};
use crate::cpu::exp::{exp, exp_sum, max};
use crate::cpu::random::drop_row;

/// Writes the output `[tokens, heads * head_dim]` and, for a backward pass, the log-sum-exp of the
/// scaled scores `[tokens, heads]`.
///
/// # Panics
///
/// If shapes or spans do not fit each other.
pub fn forward(input: &Input, out: &mut [f32], lse: Option<&mut [f32]>) {
    forward_on(Arch::new(), input, out, lse);
}

pub(super) fn forward_on(arch: Arch, input: &Input, out: &mut [f32], lse: Option<&mut [f32]>) {
    input.check();
    let dims = input.dims;
    let mut out = ColumnsMut::new(out, dims.query_width());
    out.check(input.tokens, dims.query_width());
    let mut lse = lse.map(|lse| ColumnsMut::new(lse, dims.heads));
    if let Some(lse) = &lse {
        lse.check(input.tokens, dims.heads);
    }
    for gap in input.gaps() {
        out.clear(gap.clone());
        if let Some(lse) = &mut lse {
            lse.clear(gap);
        }
    }
    for_each(input.tasks(), input.multiplications(), |(span, heads)| {
        arch.dispatch(Task {
            input,
            span,
            heads,
            out: &out,
            lse: lse.as_ref(),
        });
    });
}

/// Heads of one text that share keys.
struct Task<'a> {
    input: &'a Input<'a>,
    span: Span,
    heads: Range<usize>,
    out: &'a ColumnsMut<'a>,
    lse: Option<&'a ColumnsMut<'a>>,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        self.run(simd);
    }
}

impl Task<'_> {
    fn run<S: Simd>(&self, simd: S) {
        let Self { input, span, .. } = *self;
        let dims = input.dims;
        let stride = dims.head_dim.next_multiple_of(S::F32_LANES);
        let kv = dims.head(self.heads.start / dims.group());
        let block = QUERIES.min(span.queries);
        let lengths = [
            pack::transposed_len::<S>(span.keys, dims.head_dim),
            span.keys * stride,
            block * stride,
            block * stride,
            block * KEYS,
        ];
        scratch::with(lengths, |[keys, values, queries, out, scores]| {
            pack::transposed(simd, input.k, (span.start, span.keys), kv, keys);
            pack::rows(input.v, (span.start, span.keys), kv, values, stride);
            for head in self.heads.clone() {
                for first in (0..span.queries).step_by(QUERIES) {
                    let rows = (span.queries - first).min(QUERIES);
                    let from = (span.start + first, rows);
                    pack::scaled_rows(input.q, from, dims.head(head), dims.scale, queries, stride);
                    let block = Block {
                        first,
                        rows,
                        head,
                        stride,
                    };
                    let softmax = self.block(simd, block, [keys, values, queries], scores, out);
                    self.finish(head, from, &softmax, out, stride);
                }
            }
        });
    }

    /// A block of queries over all keys that it sees.
    #[inline(always)]
    fn block<S: Simd>(
        &self,
        simd: S,
        block: Block,
        [keys, values, queries]: [&[f32]; 3],
        scores: &mut [f32],
        out: &mut [f32],
    ) -> Softmax {
        let Self { input, span, .. } = *self;
        let dims = input.dims;
        let Block {
            first,
            rows,
            head,
            stride,
        } = block;
        let mut softmax = Softmax {
            max: [f32::NEG_INFINITY; QUERIES],
            sum: [0.0; QUERIES],
        };
        let visible = span.keys.min(first + rows);
        let start = span.keys.min(first + 1).saturating_sub(dims.window());
        let start = start - start % panel::<S>();
        // With a window, the rows do not all begin in the same block of keys.
        let begun = start > 0 || dims.window() < visible;
        if begun {
            out[..rows * stride].fill(0.0);
        }
        for key in (start..visible).step_by(KEYS) {
            // Rows before this one see none of these keys.
            let skip = key.saturating_sub(first);
            let band = Band {
                diagonal: first + skip - key,
                window: dims.window(),
                end: span.keys - key,
            };
            let columns = (visible - key).min(KEYS);
            let rows = (rows - skip).min(band.last_query(columns));
            simd.vectorize(Product {
                rows,
                columns,
                depth: dims.head_dim,
                a: &queries[skip * stride..],
                a_row: stride,
                a_depth: 1,
                b: &keys[key * dims.head_dim..],
                b_depth: panel::<S>(),
                b_panel: panel::<S>() * dims.head_dim,
                c: scores,
                c_row: KEYS,
                accumulate: false,
                causal: Causal::Scores(band),
            });
            simd.vectorize(Update {
                softmax: &mut softmax,
                input,
                head,
                query: span.start + first,
                key,
                begun: begun || key > start,
                skip,
                rows: skip + rows,
                columns,
                band,
                scores,
                out,
                stride,
            });
            simd.vectorize(Product {
                rows,
                columns: dims.head_dim,
                depth: columns,
                a: scores,
                a_row: KEYS,
                a_depth: 1,
                b: &values[key * stride..],
                b_depth: stride,
                b_panel: panel::<S>(),
                c: &mut out[skip * stride..],
                c_row: stride,
                accumulate: begun || key > start,
                causal: Causal::OverKeys(band),
            });
        }
        softmax
    }

    /// Divides by the sums of the weights and writes the result of some queries.
    fn finish(
        &self,
        head: usize,
        (first, rows): (usize, usize),
        softmax: &Softmax,
        out: &[f32],
        stride: usize,
    ) {
        let (start, width) = self.input.dims.head(head);
        for row in 0..rows {
            let scale = 1.0 / softmax.sum[row];
            // SAFETY: no other task has this head of this text.
            let to = unsafe { self.out.row(first + row, start, width) };
            for (to, value) in to.iter_mut().zip(&out[row * stride..]) {
                *to = value * scale;
            }
            if let Some(lse) = self.lse {
                // SAFETY: as above.
                let to = unsafe { lse.row(first + row, head, 1) };
                to[0] = softmax.max[row] + softmax.sum[row].ln();
            }
        }
    }
}

/// Some queries of a head, the first and how many, and the distance of their rows.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    rows: usize,
    head: usize,
    stride: usize,
}

/// Of each query of a block.
struct Softmax {
    /// The largest score so far.
    max: [f32; QUERIES],
    /// The sum of the exponentials of the scores less that.
    sum: [f32; QUERIES],
}

/// Scores of a block into weights (not yet divided by their sum), and what was summed up before
/// brought to the new maximum.
struct Update<'a> {
    softmax: &'a mut Softmax,
    input: &'a Input<'a>,
    head: usize,
    query: usize,
    key: usize,
    /// Whether there is something in `out`.
    begun: bool,
    skip: usize,
    rows: usize,
    columns: usize,
    band: Band,
    scores: &'a mut [f32],
    out: &'a mut [f32],
    stride: usize,
}

impl WithSimd for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let softcap = self.input.dims.softcap;
        let visible = |row: usize| self.columns.min(row - self.skip + self.band.diagonal + 1);
        let first = |row: usize| self.band.first(row - self.skip);
        // In three passes, so that rows do not wait for each other.
        let mut largest = self.softmax.max;
        for (row, scores) in (self.skip..self.rows).zip(self.scores.chunks_exact_mut(KEYS)) {
            let (first, visible) = (first(row), visible(row));
            if softcap.is_some() {
                let whole = visible.next_multiple_of(S::F32_LANES);
                let start = first - first % S::F32_LANES;
                cap_row(simd, softcap, &mut scores[start..whole]);
            }
            let seen = hide(simd, scores, first, visible, f32::NEG_INFINITY);
            largest[row] = max(simd, &scores[seen]).max(largest[row]);
        }
        let mut factors = self.softmax.max;
        let chunks = factors.chunks_exact_mut(S::F32_LANES);
        for (factor, largest) in chunks.zip(largest.chunks_exact(S::F32_LANES)) {
            let value = exp(simd, simd.sub_f32s(load(simd, factor), load(simd, largest)));
            store(simd, factor, value);
        }
        self.softmax.max = largest;
        for (row, scores) in (self.skip..self.rows).zip(self.scores.chunks_exact_mut(KEYS)) {
            let start = first(row) - first(row) % S::F32_LANES;
            let scores = &mut scores[start..visible(row).next_multiple_of(S::F32_LANES)];
            let sum = exp_sum(simd, scores, largest[row]);
            self.softmax.sum[row] = self.softmax.sum[row] * factors[row] + sum;
            if self.begun {
                let out = &mut self.out[row * self.stride..][..self.stride];
                scale(simd, out, factors[row]);
            }
            if let Some(dropout) = self.input.dropout {
                let mask = self.input.mask_row(self.head, self.query + row);
                drop_row(simd, dropout, mask, (self.key + start) as u32, scores);
            }
        }
    }
}

/// Multiplies a row of whole vectors.
#[inline(always)]
fn scale<S: Simd>(simd: S, row: &mut [f32], factor: f32) {
    for chunk in row.chunks_exact_mut(S::F32_LANES) {
        let value = simd.mul_f32s(load(simd, chunk), simd.splat_f32s(factor));
        store(simd, chunk, value);
    }
}
