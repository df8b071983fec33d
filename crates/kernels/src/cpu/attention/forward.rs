//! Attention, forward.

use pulp::{Arch, Simd, WithSimd};

use super::product::{Causal, Product, hide, panel};
use super::simd::{load, store};
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
    for_each(
        input.tasks(dims.heads),
        input.multiplications(),
        |(span, head)| {
            arch.dispatch(Task {
                input,
                span,
                head,
                out: &out,
                lse: lse.as_ref(),
            });
        },
    );
}

/// One head of one text.
struct Task<'a> {
    input: &'a Input<'a>,
    span: Span,
    head: usize,
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
        let Self {
            input, span, head, ..
        } = *self;
        let dims = input.dims;
        let stride = dims.head_dim.next_multiple_of(S::F32_LANES);
        let kv = dims.head(head / dims.group());
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
            for first in (0..span.queries).step_by(QUERIES) {
                let rows = (span.queries - first).min(QUERIES);
                let from = (span.start + first, rows);
                pack::scaled_rows(input.q, from, dims.head(head), dims.scale, queries, stride);
                let mut softmax = Softmax {
                    max: [f32::NEG_INFINITY; QUERIES],
                    sum: [0.0; QUERIES],
                };
                let visible = span.keys.min(first + rows);
                for key in (0..visible).step_by(KEYS) {
                    // Rows before this one see none of these keys.
                    let skip = key.saturating_sub(first);
                    let diagonal = first + skip - key;
                    let columns = (visible - key).min(KEYS);
                    simd.vectorize(Product {
                        rows: rows - skip,
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
                        causal: Causal::Scores { diagonal },
                    });
                    simd.vectorize(Update {
                        softmax: &mut softmax,
                        input,
                        head,
                        query: span.start + first,
                        key,
                        first: key == 0,
                        skip,
                        rows,
                        columns,
                        diagonal,
                        scores,
                        out,
                        stride,
                    });
                    simd.vectorize(Product {
                        rows: rows - skip,
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
                        accumulate: key > 0,
                        causal: Causal::OverKeys { diagonal },
                    });
                }
                self.finish(span.start + first, rows, &softmax, out, stride);
            }
        });
    }

    /// Divides by the sums of the weights and writes the result of some queries.
    fn finish(&self, first: usize, rows: usize, softmax: &Softmax, out: &[f32], stride: usize) {
        let (start, width) = self.input.dims.head(self.head);
        for row in 0..rows {
            let scale = 1.0 / softmax.sum[row];
            // SAFETY: no other task has this head of this text.
            let to = unsafe { self.out.row(first + row, start, width) };
            for (to, value) in to.iter_mut().zip(&out[row * stride..]) {
                *to = value * scale;
            }
            if let Some(lse) = self.lse {
                // SAFETY: as above.
                let to = unsafe { lse.row(first + row, self.head, 1) };
                to[0] = softmax.max[row] + softmax.sum[row].ln();
            }
        }
    }
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
    /// Whether there is nothing in `out` yet.
    first: bool,
    skip: usize,
    rows: usize,
    columns: usize,
    diagonal: usize,
    scores: &'a mut [f32],
    out: &'a mut [f32],
    stride: usize,
}

impl WithSimd for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let visible = |row: usize| self.columns.min(row - self.skip + self.diagonal + 1);
        // In three passes, so that rows do not wait for each other.
        let mut largest = self.softmax.max;
        for (row, scores) in (self.skip..self.rows).zip(self.scores.chunks_exact_mut(KEYS)) {
            hide(simd, scores, visible(row), f32::NEG_INFINITY);
            let whole = visible(row).next_multiple_of(S::F32_LANES);
            largest[row] = max(simd, &scores[..whole]).max(largest[row]);
        }
        let mut factors = self.softmax.max;
        let chunks = factors.chunks_exact_mut(S::F32_LANES);
        for (factor, largest) in chunks.zip(largest.chunks_exact(S::F32_LANES)) {
            let value = exp(simd, simd.sub_f32s(load(simd, factor), load(simd, largest)));
            store(simd, factor, value);
        }
        self.softmax.max = largest;
        for (row, scores) in (self.skip..self.rows).zip(self.scores.chunks_exact_mut(KEYS)) {
            let whole = visible(row).next_multiple_of(S::F32_LANES);
            let sum = exp_sum(simd, &mut scores[..whole], largest[row]);
            self.softmax.sum[row] = self.softmax.sum[row] * factors[row] + sum;
            if !self.first {
                scale(
                    simd,
                    &mut self.out[row * self.stride..][..self.stride],
                    factors[row],
                );
            }
            if let Some(dropout) = self.input.dropout {
                let mask = self.input.mask_row(self.head, self.query + row);
                let column = self.key as u32;
                drop_row(simd, dropout, mask, column, &mut scores[..whole]);
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
