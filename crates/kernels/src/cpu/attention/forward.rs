//! Attention, forward.

mod softmax;

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use self::softmax::{Softmax, Update};
use super::band::Band;
use super::product::{Needed, Product, panel};
use super::view::ColumnsMut;
use super::{Input, KEYS, QUERIES, Span, for_each, pack, scratch};

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
    let tasks = input.tasks();
    let size = if tasks.len() < MANY {
        PIECE
    } else {
        usize::MAX
    };
    let (out, lse) = (&out, lse.as_ref());
    let tasks = tasks.iter().flat_map(|(span, heads)| {
        let starts = (0..span.queries).step_by(size);
        starts.map(move |start| Task {
            input,
            span: *span,
            heads: heads.clone(),
            queries: start..span.queries.min(start.saturating_add(size)),
            out,
            lse,
        })
    });
    let run = |task: Task| arch.dispatch(task);
    for_each(tasks.collect(), input.multiplications(), run);
}

/// Queries in a task, if splitting by texts and heads gives fewer than [`MANY`] tasks.
const PIECE: usize = 8 * QUERIES;
const MANY: usize = 32;

/// Heads of one text that share keys, and some of their queries.
struct Task<'a> {
    input: &'a Input<'a>,
    span: Span,
    heads: Range<usize>,
    queries: Range<usize>,
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
        let block = QUERIES.min(self.queries.len());
        let from = self.first_key::<S>(self.queries.start);
        let until = self.visible(self.queries.end);
        let seen = (span.start + from, until - from);
        let lengths = [
            pack::transposed_len::<S>(seen.1, dims.head_dim),
            seen.1 * stride,
            block * stride,
            block * stride,
            block * KEYS,
        ];
        scratch::with(lengths, |[keys, values, queries, out, scores]| {
            pack::transposed(simd, input.k, seen, kv, keys);
            pack::rows(input.v, seen, kv, values, stride);
            for head in self.heads.clone() {
                for first in self.queries.clone().step_by(QUERIES) {
                    let rows = (self.queries.end - first).min(QUERIES);
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

    /// The first key of the panel that a query's window begins in, or of the last panel.
    fn first_key<S: Simd>(&self, query: usize) -> usize {
        let first = Band::new(&self.input.dims, query, 0, self.span.keys).first(0);
        let first = first.min(self.span.keys - 1);
        first - first % panel::<S>()
    }

    /// The key after the last that any query before `until` sees.
    fn visible(&self, until: usize) -> usize {
        self.span.keys.min(until + self.input.dims.after())
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
        let mut softmax = Softmax::new();
        let visible = self.visible(first + rows);
        let packed = self.first_key::<S>(self.queries.start);
        let start = self.first_key::<S>(first);
        // With a window, the rows do not all begin in the same block of keys.
        let last = Band::new(&dims, first, 0, span.keys).first(rows - 1);
        let begun = start > 0 || last > 0;
        if begun {
            out[..rows * stride].fill(0.0);
        }
        for key in (start..visible).step_by(KEYS) {
            // Rows before this one see none of these keys.
            let skip = Band::new(&dims, first, key, span.keys).first_query(0);
            let band = Band::new(&dims, first + skip, key, span.keys);
            let columns = (visible - key).min(KEYS);
            let rows = (rows - skip).min(band.last_query(columns));
            simd.vectorize(Product {
                rows,
                columns,
                depth: dims.head_dim,
                a: &queries[skip * stride..],
                a_row: stride,
                a_depth: 1,
                b: &keys[(key - packed) * dims.head_dim..],
                b_depth: panel::<S>(),
                b_panel: panel::<S>() * dims.head_dim,
                c: scores,
                c_row: KEYS,
                accumulate: false,
                needed: Needed::Scores(band),
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
                b: &values[(key - packed) * stride..],
                b_depth: stride,
                b_panel: panel::<S>(),
                c: &mut out[skip * stride..],
                c_row: stride,
                accumulate: begun || key > start,
                needed: Needed::OverKeys(band),
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
            // Padding may see nothing.
            let (sum, max) = (softmax.sum[row], softmax.max[row]);
            let (scale, logarithm) = if sum == 0.0 {
                (0.0, 0.0)
            } else {
                (1.0 / sum, max + sum.ln())
            };
            // SAFETY: no other task has this head of this text.
            let to = unsafe { self.out.row(first + row, start, width) };
            for (to, value) in to.iter_mut().zip(&out[row * stride..]) {
                *to = value * scale;
            }
            if let Some(lse) = self.lse {
                // SAFETY: as above.
                let to = unsafe { lse.row(first + row, head, 1) };
                to[0] = logarithm;
            }
        }
    }
}

/// Some queries of a head: the first, how many, and the distance between their rows.
#[derive(Clone, Copy)]
struct Block {
    first: usize,
    rows: usize,
    head: usize,
    stride: usize,
}
