//! Vectors of `f32` in slices.

use pulp::Simd;

/// The vector at the start of a slice.
///
/// # Panics
///
/// If the slice is shorter than a vector.
#[inline(always)]
pub(crate) fn load<S: Simd>(_: S, from: &[f32]) -> S::f32s {
    assert!(from.len() >= S::F32_LANES);
    // SAFETY: the slice holds a vector's elements, and any bit pattern is a valid element.
    unsafe { from.as_ptr().cast::<S::f32s>().read_unaligned() }
}

/// Writes a vector to the start of a slice.
///
/// # Panics
///
/// If the slice is shorter than a vector.
#[inline(always)]
pub(crate) fn store<S: Simd>(_: S, to: &mut [f32], value: S::f32s) {
    assert!(to.len() >= S::F32_LANES);
    // SAFETY: the slice has room for a vector's elements.
    unsafe { to.as_mut_ptr().cast::<S::f32s>().write_unaligned(value) }
}

/// 0, 1, 2, ... in the lanes; no processor has more than 16.
#[inline(always)]
pub(crate) fn lanes<S: Simd>(simd: S) -> S::u32s {
    simd.partial_load_u32s(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15])
}
