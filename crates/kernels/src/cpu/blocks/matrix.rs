//! A view of a matrix in blocks.

use std::ops::Range;

use bytemuck::Pod;

use super::BlockType;
use crate::cpu::Matrix;

/// A matrix whose lines are whole blocks, one after the other as in a file. In a new matrix a line
/// is a row (`[d_out, d_in]` of a linear layer); in the transposed one, `[d_in, d_out]`, it is a
/// column.
#[derive(Clone, Copy, Debug)]
pub struct BlockMatrix<'a> {
    of: BlockType,
    bytes: &'a [u8],
    lines: usize,
    length: usize,
    is_transposed: bool,
    rounds: bool,
}

impl<'a> BlockMatrix<'a> {
    /// A matrix `[rows, cols]` over these bytes.
    ///
    /// # Panics
    /// If a row is not a whole number of blocks, or if there are more or fewer bytes than those of
    /// all rows.
    pub fn new(of: BlockType, bytes: &'a [u8], rows: usize, cols: usize) -> Self {
        assert!(
            cols.is_multiple_of(of.values()),
            "rows of {cols} values are not whole blocks of {} in {}",
            of.values(),
            of.name(),
        );
        let wanted = (cols / of.values() * of.bytes()).checked_mul(rows);
        assert!(
            wanted == Some(bytes.len()),
            "[{rows}, {cols}] in {} is not {} bytes",
            of.name(),
            bytes.len(),
        );
        Self {
            of,
            bytes,
            lines: rows,
            length: cols,
            is_transposed: false,
            rounds: false,
        }
    }

    /// Sets whether products of many rows round both sides to bf16, as with a weight kept in bf16.
    /// They do so only where the processor has AVX512-BF16.
    pub fn in_bf16(self, rounds: bool) -> Self {
        Self { rounds, ..self }
    }

    /// Whether products may round to bf16.
    pub fn rounds(&self) -> bool {
        self.rounds
    }

    /// The type of its blocks.
    pub fn block_type(&self) -> BlockType {
        self.of
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        if self.is_transposed {
            self.length
        } else {
            self.lines
        }
    }

    /// How many columns there are.
    pub fn cols(&self) -> usize {
        if self.is_transposed {
            self.lines
        } else {
            self.length
        }
    }

    /// The transposed matrix, over the same memory.
    pub fn transposed(self) -> Self {
        let is_transposed = !self.is_transposed;
        Self {
            is_transposed,
            ..self
        }
    }

    /// Whether blocks lie along the rows.
    pub fn has_contiguous_rows(&self) -> bool {
        !self.is_transposed
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If there are no such rows, or blocks do not lie along the rows.
    pub fn some_rows(self, rows: Range<usize>) -> Self {
        assert!(
            self.has_contiguous_rows(),
            "rows of a transposed matrix cut its blocks"
        );
        let bytes = self.line_bytes();
        Self {
            bytes: &self.bytes[rows.start * bytes..rows.end * bytes],
            lines: rows.len(),
            ..self
        }
    }

    /// Writes the values of a row, or of a column if the matrix is transposed.
    ///
    /// # Panics
    /// If there is no such line, or if `out` has another length.
    pub fn line(&self, line: usize, out: &mut [f32]) {
        assert!(line < self.lines, "there are {} lines", self.lines);
        self.of.dequantize(self.bytes_of(line), out);
    }

    /// The bytes of a line.
    pub(in crate::cpu) fn bytes_of(&self, line: usize) -> &'a [u8] {
        let bytes = self.line_bytes();
        &self.bytes[line * bytes..][..bytes]
    }

    /// One value.
    ///
    /// # Panics
    /// If there is no such value.
    pub fn at(&self, row: usize, col: usize) -> f32 {
        let (line, place) = if self.is_transposed {
            (col, row)
        } else {
            (row, col)
        };
        let (values, bytes) = (self.of.values(), self.of.bytes());
        let mut block = [0.0; 256];
        let from = place / values * bytes;
        let block = &mut block[..values];
        self.of
            .dequantize(&self.bytes_of(line)[from..from + bytes], block);
        block[place % values]
    }

    /// The same matrix as plain numbers, for types without blocks; `None` if its bytes are not
    /// aligned or not in this machine's byte order.
    pub(crate) fn dense<T: Pod>(&self) -> Option<Matrix<'a, T>> {
        let is_plain = self.of.values() == 1 && self.of.bytes() == size_of::<T>();
        if !is_plain || cfg!(target_endian = "big") {
            return None;
        }
        let numbers = bytemuck::try_cast_slice(self.bytes).ok()?;
        let matrix = Matrix::new(numbers, self.lines, self.length);
        Some(if self.is_transposed {
            matrix.transposed()
        } else {
            matrix
        })
    }

    /// The bytes from a line to the next.
    pub(in crate::cpu) fn line_bytes(&self) -> usize {
        self.length / self.of.values() * self.of.bytes()
    }
}
