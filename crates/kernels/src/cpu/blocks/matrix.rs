//! A view of a matrix in blocks.

use std::ops::Range;

use bytemuck::Pod;

use super::BlockType;
use crate::cpu::Matrix;

/// A matrix whose lines are whole blocks, one after the other as in a file. As it is made a line is a
/// row, `[d_out, d_in]` of a linear layer; transposed, `[d_in, d_out]`, it is a column.
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
    /// `[rows, cols]`.
    ///
    /// # Panics
    /// If a row is no whole number of blocks, or the bytes are not those of so many.
    pub fn new(of: BlockType, bytes: &'a [u8], rows: usize, cols: usize) -> Self {
        assert!(
            cols.is_multiple_of(of.values()),
            "rows of {cols} values are no blocks of {} in {}",
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

    /// The same, whose products of many rows round both sides to bf16 where the processor has
    /// AVX512-BF16, as those of a weight kept in bf16. Otherwise nothing is rounded.
    pub fn in_bf16(self, rounds: bool) -> Self {
        Self { rounds, ..self }
    }

    /// Whether products may round to bf16.
    pub fn rounds(&self) -> bool {
        self.rounds
    }

    /// How the values are kept.
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
    /// If there are not so many, or blocks do not lie along the rows.
    pub fn some_rows(self, rows: Range<usize>) -> Self {
        assert!(self.has_contiguous_rows(), "a block is cut by its columns");
        let bytes = self.line_bytes();
        Self {
            bytes: &self.bytes[rows.start * bytes..rows.end * bytes],
            lines: rows.len(),
            ..self
        }
    }

    /// The values of a row, or, of a transposed matrix, of a column.
    ///
    /// # Panics
    /// If there is none of this number, or `out` is not as long.
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
    /// If there is none.
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

    /// The same as a matrix of numbers, if its bytes are aligned as those are and in this machine's
    /// byte order; for types without blocks.
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
