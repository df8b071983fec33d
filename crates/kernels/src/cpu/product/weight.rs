//! A weight in any of the forms that products take.

use half::bf16;

use super::choose::{check_shapes, product_blocks, product_packed_blocks};
use super::{Matrix, MatrixMut, Onto, PackedLeft, product_bf16, product_f32, product_packed};
use crate::cpu::blocks::BlockMatrix;
use crate::cpu::buffer::filled;
use crate::cpu::int8::{self, Int8View, Limit};
use crate::cpu::low_rank::LowRank;

/// A weight as it lies in memory.
#[derive(Clone, Copy, Debug)]
pub enum Weight<'a> {
    /// In 32 bits.
    F32(Matrix<'a, f32>),
    /// In bf16.
    BF16(Matrix<'a, bf16>),
    /// In blocks of a GGUF file.
    Blocks(BlockMatrix<'a>),
    /// In eight bits, with a scale for every 32 neighbours.
    Int8(Int8View<'a>),
}

impl Weight<'_> {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        match self {
            Self::F32(weight) => weight.rows(),
            Self::BF16(weight) => weight.rows(),
            Self::Blocks(weight) => weight.rows(),
            Self::Int8(weight) => weight.rows(),
        }
    }

    /// How many columns there are.
    pub fn cols(&self) -> usize {
        match self {
            Self::F32(weight) => weight.cols(),
            Self::BF16(weight) => weight.cols(),
            Self::Blocks(weight) => weight.cols(),
            Self::Int8(weight) => weight.cols(),
        }
    }

    /// The transposed weight, over the same memory.
    pub fn transposed(self) -> Self {
        match self {
            Self::F32(weight) => Self::F32(weight.transposed()),
            Self::BF16(weight) => Self::BF16(weight.transposed()),
            Self::Blocks(weight) => Self::Blocks(weight.transposed()),
            Self::Int8(weight) => Self::Int8(weight.transposed()),
        }
    }

    /// Some of the rows.
    ///
    /// # Panics
    /// If there are no such rows. A weight in blocks also panics if they do not lie along the rows,
    /// one in eight bits if the first row is not the first of a square.
    pub fn some_rows(self, rows: std::ops::Range<usize>) -> Self {
        match self {
            Self::F32(weight) => Self::F32(weight.some_rows(rows)),
            Self::BF16(weight) => Self::BF16(weight.some_rows(rows)),
            Self::Blocks(weight) => Self::Blocks(weight.some_rows(rows)),
            Self::Int8(weight) => Self::Int8(weight.some_rows(rows)),
        }
    }

    /// The same weight, for a left side of probabilities: products with a weight in eight bits
    /// round their blocks by [another limit](Limit::Probability).
    pub fn of_probabilities(self) -> Self {
        match self {
            Self::Int8(weight) => Self::Int8(weight.with_limit(Limit::Probability)),
            other => other,
        }
    }

    /// One value.
    ///
    /// # Panics
    /// If it lies beyond the memory of the weight.
    #[inline]
    pub fn at(&self, row: usize, column: usize) -> f32 {
        match self {
            Self::F32(weight) => weight.at(row, column),
            Self::BF16(weight) => weight.at(row, column).to_f32(),
            Self::Blocks(weight) => weight.at(row, column),
            Self::Int8(weight) => weight.at(row, column),
        }
    }

    /// Subtracts the values of a row, times a factor, from others.
    ///
    /// # Panics
    /// If there is no such row, or if `from` has another length.
    pub fn take_row(&self, row: usize, factor: f32, from: &mut [f32]) {
        assert_eq!(from.len(), self.cols());
        if let Self::Blocks(weight) = self
            && weight.has_contiguous_rows()
        {
            let mut values = vec![0.0; from.len()];
            weight.line(row, &mut values);
            (from.iter_mut().zip(values)).for_each(|(from, value)| *from -= factor * value);
            return;
        }
        for (column, value) in from.iter_mut().enumerate() {
            *value -= factor * self.at(row, column);
        }
    }

    /// Whether a left side of `rows` rows is better packed ([`PackedLeft`]), if it can be.
    pub fn wants_packed(&self, rows: usize) -> bool {
        match self {
            Self::F32(_) => false,
            Self::BF16(_) => rows > super::gemv::ROWS,
            Self::Blocks(weight) => super::blocks::wants_packed(weight, rows),
            Self::Int8(_) => false,
        }
    }

    /// `out = onto + a · weight`, `[m, k] · [k, n]`.
    ///
    /// # Panics
    /// If the shapes do not fit each other, or if `a` is packed and the weight in 32 or in eight
    /// bits.
    pub fn product<'a>(&self, a: impl Into<Left<'a>>, onto: Onto<'_>, out: &mut MatrixMut<'_>) {
        match (self, a.into()) {
            (Self::F32(weight), Left::Loose(a)) => product_f32(a, *weight, onto, out),
            (Self::BF16(weight), Left::Loose(a)) => product_bf16(a, *weight, onto, out),
            (Self::BF16(weight), Left::Packed(a)) => product_packed(a, *weight, onto, out),
            (Self::Blocks(weight), Left::Loose(a)) => product_blocks(a, *weight, onto, out),
            (Self::Blocks(weight), Left::Packed(a)) => {
                product_packed_blocks(a, *weight, onto, out);
            }
            (Self::Int8(weight), Left::Loose(a)) => {
                let shapes = ([a.rows(), a.cols()], [weight.rows(), weight.cols()]);
                check_shapes(shapes.0, shapes.1, onto, out);
                int8::product(a, *weight, None, onto, out);
            }
            (Self::F32(_) | Self::Int8(_), Left::Packed(_)) => {
                panic!("a packed matrix has bf16's precision")
            }
        }
    }

    /// As [`product`](Self::product), plus a low-rank part. With a weight in eight bits, that part
    /// is made while rows and tiles are in the cache.
    ///
    /// # Panics
    /// If the shapes do not fit each other.
    pub fn product_with(
        &self,
        a: Matrix<'_, f32>,
        mut low_rank: LowRank<'_>,
        onto: Onto<'_>,
        out: &mut MatrixMut<'_>,
    ) {
        if let Self::Int8(weight) = self
            && let Some(beside) = low_rank.beside(a)
        {
            let shapes = ([a.rows(), a.cols()], [weight.rows(), weight.cols()]);
            check_shapes(shapes.0, shapes.1, onto, out);
            return int8::product(a, *weight, Some(&beside), onto, out);
        }
        low_rank.before(a);
        self.product(a, onto, out);
        low_rank.after(out);
    }

    /// Returns `onto + a · weight`, `[m, n]`.
    ///
    /// # Panics
    /// As [`product`](Self::product), and for [`Onto::Current`]: there is nothing to add to.
    pub fn times<'a>(&self, a: impl Into<Left<'a>>, onto: Onto<'_>) -> Vec<f32> {
        assert!(!matches!(onto, Onto::Current), "there is nothing to add to");
        let a = a.into();
        let (rows, cols) = (a.rows(), self.cols());
        filled(rows * cols, |out| {
            self.product(a, onto, &mut MatrixMut::new(out, rows, cols));
        })
    }
}

/// The left side of a product.
#[derive(Clone, Copy, Debug)]
pub enum Left<'a> {
    /// In 32 bits.
    Loose(Matrix<'a, f32>),
    /// In 16 bits, packed.
    Packed(&'a PackedLeft),
}

impl<'a> From<Matrix<'a, f32>> for Left<'a> {
    fn from(matrix: Matrix<'a, f32>) -> Self {
        Self::Loose(matrix)
    }
}

impl<'a> Left<'a> {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        match self {
            Self::Loose(matrix) => matrix.rows(),
            Self::Packed(packed) => packed.rows(),
        }
    }

    /// The packed matrix if there is one, or else the matrix itself.
    pub fn new(packed: Option<&'a PackedLeft>, matrix: Matrix<'a, f32>) -> Self {
        packed.map_or(Self::Loose(matrix), Self::Packed)
    }
}
