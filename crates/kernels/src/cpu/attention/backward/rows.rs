//! Passes over the rows of heads.

use std::ops::Range;

use crate::cpu::attention::Dims;
use crate::cpu::attention::view::ColumnsMut;
use crate::cpu::buffer::vectorised;

/// Sum of products, in eight sums side by side.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    let rest = a_rest.iter().zip(b_rest).map(|(a, b)| a * b);
    sums.into_iter().chain(rest).sum()
}

vectorised! {
    /// Sums `of_heads`, `[tokens, heads * head_dim]`, over the heads that share keys, for some
    /// rows.
    pub(super) fn sum_groups<'a>(dims: Dims, of_heads: &'a [f32], rows: Range<usize>, to: &'a ColumnsMut<'a>) {
        let width = dims.group() * dims.head_dim;
        for row in rows {
            let of_heads = &of_heads[row * dims.query_width()..][..dims.query_width()];
            for (kv_head, group) in of_heads.chunks_exact(width).enumerate() {
                let (start, width) = dims.head(kv_head);
                // SAFETY: no other piece has this row.
                let to = unsafe { to.row(row, start, width) };
                to.fill(0.0);
                for head in group.chunks_exact(width) {
                    for (to, value) in to.iter_mut().zip(head) {
                        *to += value;
                    }
                }
            }
        }
    }

    /// Writes the gradients of the rows `(first, count)` of a head, times `scale`.
    pub(super) fn write<'a>(
        to: &'a ColumnsMut<'a>,
        rows: (usize, usize),
        columns: (usize, usize),
        from: &'a [f32],
        stride: usize,
        scale: f32,
    ) {
        let (first, count) = rows;
        for (token, from) in (first..first + count).zip(from.chunks_exact(stride)) {
            // SAFETY: no other task has this head of this text.
            let to = unsafe { to.row(token, columns.0, columns.1) };
            for (to, from) in to.iter_mut().zip(from) {
                *to = from * scale;
            }
        }
    }
}
