//! Matrices as columns of a buffer, such as queries, keys and values of one fused projection.

use std::marker::PhantomData;

/// Some columns of a matrix whose rows are tokens.
#[derive(Debug, Clone, Copy)]
pub struct Columns<'a> {
    data: &'a [f32],
    stride: usize,
    offset: usize,
}

impl<'a> Columns<'a> {
    /// The columns from `offset` on of a matrix with rows of `stride` elements.
    pub fn new(data: &'a [f32], stride: usize, offset: usize) -> Self {
        Self {
            data,
            stride,
            offset,
        }
    }

    /// `width` elements of row `token`, from column `start` of these columns on.
    #[inline(always)]
    pub(crate) fn row(&self, token: usize, start: usize, width: usize) -> &'a [f32] {
        &self.data[token * self.stride + self.offset + start..][..width]
    }

    pub(crate) fn check(&self, tokens: usize, width: usize) {
        assert!(
            tokens < 2 || width <= self.stride,
            "columns beyond the end of a row"
        );
        let end = tokens.saturating_sub(1) * self.stride + self.offset + width;
        assert!(
            tokens == 0 || self.data.len() >= end,
            "a matrix of fewer than {tokens} rows"
        );
    }
}

/// Some columns of a matrix whose rows are tokens, to be written by several threads.
#[derive(Debug)]
pub struct ColumnsMut<'a> {
    data: *mut f32,
    rows: usize,
    stride: usize,
    offset: usize,
    width: usize,
    owner: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for a `&mut [f32]` without the other columns. Threads write through `row`,
// whose callers make sure that no two hold the same elements.
unsafe impl Send for ColumnsMut<'_> {}
// SAFETY: as above.
unsafe impl Sync for ColumnsMut<'_> {}

impl<'a> ColumnsMut<'a> {
    /// A whole matrix with rows of `width` elements.
    pub fn new(data: &'a mut [f32], width: usize) -> Self {
        let [all] = Self::split(data, [width]);
        all
    }

    /// Neighbouring ranges of columns that together are the matrix.
    pub fn split<const N: usize>(data: &'a mut [f32], widths: [usize; N]) -> [Self; N] {
        let stride = widths.iter().sum::<usize>();
        let rows = data.len().checked_div(stride).unwrap_or(0);
        let mut end = 0;
        widths.map(|width| {
            let offset = end;
            end += width;
            let data = data.as_mut_ptr();
            Self {
                data,
                rows,
                stride,
                offset,
                width,
                owner: PhantomData,
            }
        })
    }

    /// `width` elements of row `token`, from column `start` of these columns on.
    ///
    /// # Safety
    ///
    /// No other reference to any of these elements may be in use.
    #[expect(clippy::mut_from_ref, reason = "threads write different parts")]
    #[inline(always)]
    pub(crate) unsafe fn row(&self, token: usize, start: usize, width: usize) -> &mut [f32] {
        assert!(token < self.rows && start + width <= self.width);
        let at = token * self.stride + self.offset + start;
        // SAFETY: the assertion keeps it within the slice, and the caller makes it exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.data.add(at), width) }
    }

    /// Sets the rows of some tokens to zero.
    pub(crate) fn clear(&mut self, tokens: std::ops::Range<usize>) {
        for token in tokens {
            // SAFETY: `self` is borrowed exclusively.
            unsafe { self.row(token, 0, self.width) }.fill(0.0);
        }
    }

    pub(crate) fn check(&self, tokens: usize, width: usize) {
        assert_eq!(self.width, width, "columns of a result");
        assert!(self.rows >= tokens, "a result of fewer than {tokens} rows");
    }
}
