//! Where a product is written.

use super::{MatrixMut, Onto};

/// Where tiles are written, and what they are added to in the first block along k.
pub(in crate::cpu) struct Output {
    c: *mut f32,
    stride: usize,
    base: *const f32,
    base_stride: usize,
}

// SAFETY: tasks write tiles that do not overlap.
unsafe impl Sync for Output {}

impl Output {
    pub(in crate::cpu) fn new(onto: Onto<'_>, c: &mut MatrixMut<'_>) -> Self {
        let stride = c.row_stride();
        let c = c.as_mut_ptr();
        let (base, base_stride) = match onto {
            Onto::Zero => (std::ptr::null(), 0),
            Onto::Row(row) => (row.as_ptr(), 0),
            Onto::Current => (c.cast_const(), stride),
        };
        Self {
            c,
            stride,
            base,
            base_stride,
        }
    }

    /// Rows of `stride` values without gaps, which are overwritten.
    pub(in crate::cpu) fn of_rows(c: *mut f32, stride: usize) -> Self {
        Self {
            c,
            stride,
            base: std::ptr::null(),
            base_stride: 0,
        }
    }

    pub(in crate::cpu) fn stride(&self) -> usize {
        self.stride
    }

    /// Where an element of C lies, and what the product is added to there, with its stride: null,
    /// the base, or C itself if the sum `goes_on`.
    pub(in crate::cpu) fn at(
        &self,
        row: usize,
        col: usize,
        goes_on: bool,
    ) -> (*mut f32, *const f32, usize) {
        let c = self.c.wrapping_add(row * self.stride + col);
        if goes_on {
            (c, c.cast_const(), self.stride)
        } else if self.base.is_null() {
            (c, self.base, 0)
        } else {
            let base = self.base.wrapping_add(row * self.base_stride + col);
            (c, base, self.base_stride)
        }
    }
}
