//! Copies of a head's rows, in the layouts that the products read.

use pulp::Simd;

use super::product::panel;
use super::view::Columns;
use crate::cpu::buffer::vectorised;

vectorised! {
    /// Copies the rows `(first, count)` of one head, which has the columns `(start, width)`, to
    /// rows `stride` apart.
    pub(crate) fn rows<'a>(
        from: Columns<'a>,
        rows: (usize, usize),
        columns: (usize, usize),
        to: &'a mut [f32],
        stride: usize,
    ) {
        let (first, count) = rows;
        for (token, to) in (first..first + count).zip(to.chunks_exact_mut(stride)) {
            for (to, from) in to.iter_mut().zip(from.row(token, columns.0, columns.1)) {
                *to = *from;
            }
        }
    }

    /// The same, times `scale`.
    pub(crate) fn scaled_rows<'a>(
        from: Columns<'a>,
        rows: (usize, usize),
        columns: (usize, usize),
        scale: f32,
        to: &'a mut [f32],
        stride: usize,
    ) {
        let (first, count) = rows;
        for (token, to) in (first..first + count).zip(to.chunks_exact_mut(stride)) {
            for (to, from) in to.iter_mut().zip(from.row(token, columns.0, columns.1)) {
                *to = from * scale;
            }
        }
    }
}

/// Length of what [`transposed`] writes.
pub(crate) fn transposed_len<S: Simd>(rows: usize, width: usize) -> usize {
    rows.next_multiple_of(panel::<S>()) * width
}

/// Writes the rows `first..first + rows` of one head as columns, in panels of [`panel`] columns one
/// after the other: `to[p][k][j]` is element `k` of row `p * panel + j`. Columns after the last are
/// zero.
pub(crate) fn transposed<S: Simd>(
    _: S,
    from: Columns,
    (first, rows): (usize, usize),
    (start, width): (usize, usize),
    to: &mut [f32],
) {
    let panel = panel::<S>();
    let panels = to
        .chunks_exact_mut(panel * width)
        .take(rows.div_ceil(panel));
    for (p, to) in panels.enumerate() {
        let first = first + p * panel;
        let rows = (rows - p * panel).min(panel);
        let mut j = 0;
        while j + 4 <= rows {
            let four = std::array::from_fn(|r| from.row(first + j + r, start, width));
            four_columns(four, &mut to[j..], panel);
            j += 4;
        }
        for j in j..rows {
            let row = from.row(first + j, start, width);
            for (to, value) in to[j..].iter_mut().step_by(panel).zip(row) {
                *to = *value;
            }
        }
        if rows < panel {
            for row in to.chunks_exact_mut(panel) {
                row[rows..].fill(0.0);
            }
        }
    }
}

/// Writes four rows as the first four columns of `to`, whose rows are `stride` apart.
#[inline(always)]
fn four_columns(from: [&[f32]; 4], to: &mut [f32], stride: usize) {
    let [a, b, c, d] = from.map(|row| row.as_chunks::<4>().0);
    let mut at = 0;
    let mut write = |row: [f32; 4]| {
        to[at..at + 4].copy_from_slice(&row);
        at += stride;
    };
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        let [a, b, c, d] = transpose([*a, *b, *c, *d]);
        write(a);
        write(b);
        write(c);
        write(d);
    }
    let tails = from.map(|row| row.as_chunks::<4>().1);
    for i in 0..tails[0].len() {
        write(tails.map(|tail| tail[i]));
    }
}

/// Compilers turn the plain form into sixteen single moves.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn transpose(block: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    use std::arch::x86_64::{__m128, _MM_TRANSPOSE4_PS};
    // SAFETY: every x86-64 processor has SSE, and the types differ in name only.
    unsafe {
        let [mut a, mut b, mut c, mut d] = std::mem::transmute::<[[f32; 4]; 4], [__m128; 4]>(block);
        _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
        std::mem::transmute::<[__m128; 4], [[f32; 4]; 4]>([a, b, c, d])
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn transpose(block: [[f32; 4]; 4]) -> [[f32; 4]; 4] {
    std::array::from_fn(|column| block.map(|row| row[column]))
}
