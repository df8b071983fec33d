//! A frozen weight in the blocks of a GGUF file.

use std::fmt;

use burn::tensor::{Device, Int, Tensor};
use bytes::Bytes;

use crate::cpu::buffer::{filled, for_rows};
use crate::cpu::{BlockMatrix, BlockType, Weight};
use crate::flex::on_device;

/// A frozen weight in the blocks of a GGUF file: lines of whole blocks, one after the other.
///
/// Its bytes may be a part of a file that is mapped into memory, and clones share them. Products
/// unpack the blocks while they read them; nothing dense is made or kept. It is not a
/// parameter: nothing trains, counts or records it.
#[derive(Clone)]
pub struct BlockWeight {
    of: BlockType,
    bytes: Bytes,
    lines: usize,
    length: usize,
    is_transposed: bool,
    rounds: bool,
}

impl fmt::Debug for BlockWeight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BlockWeight({}, {:?})", self.of.name(), self.dims())
    }
}

impl BlockWeight {
    /// A weight `[rows, cols]`; each row is made of whole blocks.
    ///
    /// # Panics
    /// If a row is not a whole number of blocks, or if there are more or fewer bytes than those of
    /// all rows.
    pub fn new(of: BlockType, bytes: Bytes, [rows, cols]: [usize; 2]) -> Self {
        BlockMatrix::new(of, &bytes, rows, cols);
        Self {
            of,
            bytes,
            lines: rows,
            length: cols,
            is_transposed: false,
            rounds: false,
        }
    }

    /// The transposed weight, over the same bytes: a linear layer's `[d_in, d_out]` from a file's
    /// `[d_out, d_in]`.
    pub fn transposed(&self) -> Self {
        Self {
            is_transposed: !self.is_transposed,
            ..self.clone()
        }
    }

    /// The same weight, in whose products of many rows both sides may be rounded to bf16, as with a
    /// weight that is kept in bf16.
    pub fn in_bf16(&self) -> Self {
        Self {
            rounds: true,
            ..self.clone()
        }
    }

    /// The type of its blocks.
    pub fn block_type(&self) -> BlockType {
        self.of
    }

    /// Whether the lines of blocks are its columns rather than its rows.
    pub(crate) fn is_transposed(&self) -> bool {
        self.is_transposed
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        if self.is_transposed {
            [self.length, self.lines]
        } else {
            [self.lines, self.length]
        }
    }

    /// The bytes of the blocks, line after line.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The values in 32 bits, `[rows, cols]`, on a device.
    pub fn dequantize(&self, device: &Device) -> Tensor<2> {
        let values = self.values(self.lines, |line| line);
        let weight = on_device(values, [self.lines, self.length], device);
        if self.is_transposed {
            weight.transpose()
        } else {
            weight
        }
    }

    /// Some of the rows, `[ids]` to `[ids, cols]`, in 32 bits, on a device.
    ///
    /// # Panics
    /// If there is no such row, or if the weight is transposed, so that a row is spread over many
    /// blocks.
    pub fn select(&self, ids: Tensor<1, Int>, device: &Device) -> Tensor<2> {
        assert!(
            !self.is_transposed,
            "a row of a transposed weight is spread over many blocks"
        );
        let ids = ids.into_data();
        let ids: Vec<usize> = ids.iter::<i64>().map(|id| id as usize).collect();
        let values = self.values(ids.len(), |row| ids[row]);
        on_device(values, [ids.len(), self.length], device)
    }

    /// The values of `count` lines; `line` maps each to its number.
    fn values(&self, count: usize, line: impl Fn(usize) -> usize + Sync) -> Vec<f32> {
        let (matrix, length) = (self.matrix(), self.length);
        filled(count * length, |out| {
            for_rows(out, length, |first, out| {
                for (row, out) in out.chunks_exact_mut(length).enumerate() {
                    matrix.line(line(first + row), out);
                }
            });
        })
    }

    /// The weight as products read it.
    pub(crate) fn weight(&self) -> Weight<'_> {
        let matrix = self.matrix();
        let weight = match (self.of, self.rounds) {
            (BlockType::F32, _) => matrix.dense().map(Weight::F32),
            (BlockType::BF16, true) => matrix.dense().map(Weight::BF16),
            _ => None,
        };
        let weight = weight.unwrap_or_else(|| Weight::Blocks(matrix.in_bf16(self.rounds)));
        if self.is_transposed {
            weight.transposed()
        } else {
            weight
        }
    }

    fn matrix(&self) -> BlockMatrix<'_> {
        BlockMatrix::new(self.of, &self.bytes, self.lines, self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_linear_with, random};
    use crate::{block_linear, vocabulary_loss};

    /// A weight in 4 bits, and one in 32 bits whose bytes have any alignment.
    fn weights(rows: usize, cols: usize) -> [BlockWeight; 2] {
        let scale = half::f16::from_f32(0.125).to_le_bytes();
        let blocks = (0..rows * cols / 32).flat_map(|block| {
            let codes = (0..16).map(move |byte| (block * 37 + byte * 11) as u8);
            scale.into_iter().chain(codes)
        });
        let numbers = random([rows, cols], 1.0).into_data();
        let numbers = numbers.iter::<f32>().flat_map(f32::to_le_bytes);
        let shape = [rows, cols];
        [
            BlockWeight::new(BlockType::Q4_0, blocks.collect(), shape),
            BlockWeight::new(BlockType::F32, numbers.collect(), shape),
        ]
    }

    /// Products with blocks equal those with their values, in both passes and both bodies. So do
    /// selected rows and the loss over a vocabulary.
    #[test]
    fn a_product_is_that_of_the_values() {
        let device = Device::flex();
        for [tokens, d_in, d_out] in [[1, 32, 1], [3, 64, 5], [40, 96, 70]] {
            for weight in weights(d_out, d_in).map(|weight| weight.transposed()) {
                assert_eq!(weight.dims(), [d_in, d_out]);
                let dense = weight.dequantize(&device);
                assert_linear_with(&dense, tokens, |x, bias, residual, lora| {
                    block_linear(x, &weight, bias, residual, lora)
                });

                let table = weight.transposed();
                let rows: Vec<i64> = (0..tokens).map(|row| (row * 3 % d_out) as i64).collect();
                let rows = Tensor::<1, Int>::from_data(rows.as_slice(), &device);
                let found = table.select(rows.clone(), &device).into_data();
                let expected = dense.clone().transpose().select(0, rows.clone());
                found.assert_eq(&expected.into_data(), true);

                let x = random([tokens, d_in], 1.0).autodiff().require_grad();
                let loss = vocabulary_loss(x.clone(), table, rows.clone());
                let wanted = vocabulary_loss(x.clone(), dense.transpose(), rows);
                let of = |loss: &Tensor<1>| x.grad(&loss.backward()).unwrap();
                let off = (of(&loss) - of(&wanted)).abs().max().into_scalar::<f32>();
                assert!(off < 1e-4, "{off}");
                let off = (loss.inner() - wanted.inner()).abs().into_scalar::<f32>();
                assert!(off < 1e-3 * tokens as f32, "{off}");
            }
        }
    }
}
