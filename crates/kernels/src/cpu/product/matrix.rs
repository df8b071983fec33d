//! Views of matrices in slices: what the products read and write.

/// A matrix in a slice, with a stride of 1 along one axis: element `(i, j)` lies at
/// `i * row_stride + j * col_stride`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// `[rows, cols]`, row after row without gaps.
    ///
    /// # Panics
    /// If `data` is shorter than the matrix.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::with_stride(data, rows, cols, cols)
    }

    /// `[rows, cols]`, each row `row_stride` elements after the one before it.
    ///
    /// # Panics
    /// If rows overlap or `data` is shorter than the matrix.
    pub fn with_stride(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        check_extent(data.len(), rows, cols, row_stride);
        Self {
            data,
            rows,
            cols,
            row_stride,
            col_stride: 1,
        }
    }

    /// The transposed matrix, over the same memory.
    pub fn transposed(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// `[rows, cols]` with two strides, one of which is 1.
    ///
    /// # Panics
    /// If neither stride is 1 or `data` is shorter than the matrix.
    pub fn with_strides(data: &'a [T], shape: [usize; 2], strides: [usize; 2]) -> Self {
        let ([rows, cols], [row_stride, col_stride]) = (shape, strides);
        match col_stride {
            1 => Self::with_stride(data, rows, cols, row_stride),
            _ => {
                assert_eq!(row_stride, 1, "one of the strides has to be 1");
                Self::with_stride(data, cols, rows, col_stride).transposed()
            }
        }
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If there are no such rows.
    pub fn some_rows(self, rows: std::ops::Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.rows);
        Self {
            data: &self.data[(rows.start * self.row_stride).min(self.data.len())..],
            rows: rows.len(),
            ..self
        }
    }

    /// Some of the columns.
    ///
    /// # Panics
    /// If there are no such columns.
    pub fn some_columns(self, columns: std::ops::Range<usize>) -> Self {
        self.transposed().some_rows(columns).transposed()
    }

    /// One value.
    ///
    /// # Panics
    /// If it lies beyond the slice.
    #[inline]
    pub fn at(&self, row: usize, col: usize) -> T
    where
        T: Copy,
    {
        self.data[row * self.row_stride + col * self.col_stride]
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns there are.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from a row to the next one.
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// Elements from a column to the next one.
    pub fn col_stride(&self) -> usize {
        self.col_stride
    }

    /// The memory from element `(0, 0)` on.
    pub fn data(&self) -> &'a [T] {
        self.data
    }

    /// Whether each row is contiguous.
    pub fn has_contiguous_rows(&self) -> bool {
        self.col_stride == 1
    }

    /// Row `i` of a matrix whose rows are contiguous.
    ///
    /// # Panics
    /// If `i` is out of range or rows are not contiguous.
    pub fn row(&self, i: usize) -> &'a [T] {
        assert!(i < self.rows && self.has_contiguous_rows());
        &self.data[i * self.row_stride..][..self.cols]
    }
}

/// A row-major matrix in a slice, to be written.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// `[rows, cols]`, row after row without gaps.
    ///
    /// # Panics
    /// If `data` is shorter than the matrix.
    pub fn new(data: &'a mut [f32], rows: usize, cols: usize) -> Self {
        Self::with_stride(data, rows, cols, cols)
    }

    /// `[rows, cols]`, each row `row_stride` elements after the one before it.
    ///
    /// # Panics
    /// If rows overlap or `data` is shorter than the matrix.
    pub fn with_stride(data: &'a mut [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        check_extent(data.len(), rows, cols, row_stride);
        Self {
            data,
            rows,
            cols,
            row_stride,
        }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many columns there are.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements from a row to the next one.
    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    /// Row `i`.
    ///
    /// # Panics
    /// If `i` is out of range.
    pub fn row_mut(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.rows);
        &mut self.data[i * self.row_stride..][..self.cols]
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.data.as_mut_ptr()
    }
}

/// Every later pointer computation rests on this check.
fn check_extent(len: usize, rows: usize, cols: usize, row_stride: usize) {
    assert!(
        rows <= 1 || row_stride >= cols,
        "a row stride of {row_stride} makes rows of {cols} elements overlap"
    );
    let extent = match (rows, cols) {
        (0, _) | (_, 0) => Some(0),
        _ => (rows - 1)
            .checked_mul(row_stride)
            .and_then(|last| last.checked_add(cols)),
    };
    assert!(
        extent.is_some_and(|extent| extent <= len),
        "[{rows}, {cols}] with a row stride of {row_stride} does not fit a slice of {len}"
    );
}
