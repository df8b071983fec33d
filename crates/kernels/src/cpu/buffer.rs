//! Memory for results, and the splitting of work over rows.

use std::ops::Range;

use bytemuck::Pod;
use rayon::prelude::*;

/// The number of values below which work is not worth waking a second thread.
const WORTH_SHARING: usize = 1 << 14;

/// A vector of `length` values. `fill` must write every one, and must not read one before that.
pub fn filled(length: usize, fill: impl FnOnce(&mut [f32])) -> Vec<f32> {
    filled_as(length, fill)
}

/// As [`filled`], for any type whose bits are all valid.
pub fn filled_as<T: Pod>(length: usize, fill: impl FnOnce(&mut [T])) -> Vec<T> {
    let mut values = Vec::with_capacity(length);
    // SAFETY: any bits are a valid `T`, nothing is dropped, and `fill` writes every value before
    // anyone reads it. Clearing the memory first would cost another pass.
    #[allow(clippy::uninit_vec)]
    unsafe {
        values.set_len(length);
    }
    fill(&mut values);
    values
}

/// Calls `body(first row, rows)` with pieces of `out` of whole rows of `width`, in parallel.
pub fn for_rows(out: &mut [f32], width: usize, body: impl Fn(usize, &mut [f32]) + Sync) {
    if width == 0 || out.is_empty() {
        return;
    }
    if out.len() < WORTH_SHARING {
        return body(0, out);
    }
    let rows = (WORTH_SHARING / 2).div_ceil(width);
    out.par_chunks_mut(rows * width)
        .enumerate()
        .for_each(|(piece, out)| body(piece * rows, out));
}

/// `length` values in rows of `width`. `fill` writes pieces of whole rows, in parallel, and gets their
/// places.
pub fn filled_rows(
    length: usize,
    width: usize,
    fill: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> Vec<f32> {
    filled(length, |out| {
        for_rows(out, width, |first, out| {
            let first = first * width;
            fill(first..first + out.len(), out);
        });
    })
}

/// As [`for_rows`], with pieces of two outputs of the same size.
///
/// # Panics
/// If the sizes differ.
pub fn for_row_pairs(
    [a, b]: [&mut [f32]; 2],
    width: usize,
    body: impl Fn(usize, [&mut [f32]; 2]) + Sync,
) {
    assert_eq!(a.len(), b.len());
    if width == 0 || a.is_empty() {
        return;
    }
    if a.len() < WORTH_SHARING {
        return body(0, [a, b]);
    }
    let rows = (WORTH_SHARING / 2).div_ceil(width);
    let pieces = a.par_chunks_mut(rows * width);
    pieces
        .zip(b.par_chunks_mut(rows * width))
        .enumerate()
        .for_each(|(piece, (a, b))| body(piece * rows, [a, b]));
}

/// Calls `body` with pieces of `0..rows` in parallel, each of `size` except the last.
pub fn for_pieces(rows: usize, size: usize, body: impl Fn(Range<usize>) + Sync) {
    (0..rows.div_ceil(size)).into_par_iter().for_each(|piece| {
        let first = piece * size;
        body(first..rows.min(first + size));
    });
}

/// Asks memory for values that are read soon.
pub fn ask_for<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..size_of_val(values)).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let at = values.as_ptr().wrapping_byte_add(line);
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

/// Defines functions whose body is compiled for the vector instructions of this processor. A
/// closure would not do: one that the compiler does not inline is compiled for any processor.
macro_rules! vectorised {
    ($($(#[$doc:meta])* $visible:vis fn $name:ident<'a>($($argument:ident: $type:ty),* $(,)?) $body:block)*) => {$(
        $(#[$doc])*
        $visible fn $name<'a>($($argument: $type),*) {
            struct Body<'a> {
                $($argument: $type),*
            }
            impl<'a> pulp::WithSimd for Body<'a> {
                type Output = ();

                #[inline(always)]
                fn with_simd<S: pulp::Simd>(self, _: S) {
                    let Self { $($argument),* } = self;
                    $body
                }
            }
            pulp::Arch::new().dispatch(Body { $($argument),* })
        }
    )*};
}
pub(crate) use vectorised;
