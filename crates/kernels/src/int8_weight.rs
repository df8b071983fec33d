//! A frozen weight in eight bits, in which its products are made.

use std::fmt;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};
use half::f16;

use crate::BlockWeight;
use crate::cpu::buffer::{filled, for_rows};
use crate::cpu::int8::{Int8Matrix, Int8View};
use crate::cpu::{BlockType, Weight};
use crate::flex::{on_device, with_matrix};

/// A frozen weight with one byte for each value, and a scale for every 32 neighbours along `d_in`.
///
/// Its products are made in eight bits: the other side is rounded too, in blocks of 32 along its
/// rows, and integers are multiplied. One copy serves both passes, and nothing dense is made or
/// kept. Clones share the bytes. It is not a parameter: nothing trains, counts or records it.
#[derive(Clone)]
pub struct Int8Weight {
    matrix: Arc<Int8Matrix>,
    is_transposed: bool,
}

impl fmt::Debug for Int8Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Int8Weight({:?})", self.dims())
    }
}

impl Int8Weight {
    /// Rounds a weight `[d_in, d_out]`, which may be on any device. Products of inputs read its
    /// bytes as they lie. Products of gradients, and of inputs with the
    /// [transpose](Self::transposed), round them once more, with scales along the other side.
    pub fn new(weight: &Tensor<2>) -> Self {
        Self::lying(weight, false)
    }

    /// Rounds an output layer's table of words, `[vocab, d]`. The layer multiplies with its
    /// transpose, and the bytes lie as that product reads them.
    pub fn table(weight: &Tensor<2>) -> Self {
        Self::lying(weight, true)
    }

    fn lying(weight: &Tensor<2>, is_transposed: bool) -> Self {
        let matrix = with_matrix(weight, |values| {
            Int8Matrix::quantize(if is_transposed {
                values.transposed()
            } else {
                values
            })
        });
        Self {
            matrix: Arc::new(matrix),
            is_transposed,
        }
    }

    /// Takes the codes and scales of a weight in a GGUF file's `Q8_0` blocks as they are; `None`
    /// for other blocks. They lie as those products read them in which the blocks run along `d_in`.
    pub fn from_blocks(weight: &BlockWeight) -> Option<Self> {
        let [rows, cols] = weight.dims();
        let is_transposed = !weight.is_transposed();
        let (rows, cols) = if is_transposed {
            (cols, rows)
        } else {
            (rows, cols)
        };
        (weight.block_type() == BlockType::Q8_0).then(|| Self {
            matrix: Arc::new(Int8Matrix::from_q8_0(weight.bytes(), rows, cols)),
            is_transposed,
        })
    }

    /// Whether all scales are finite.
    pub fn is_finite(&self) -> bool {
        let finite = |bits: &u16| f16::from_bits(*bits).is_finite();
        self.matrix.scales().all(|scales| scales.iter().all(finite))
    }

    /// Rounds another weight of the same shape, the same way as this one.
    pub fn requantized(&self, weight: &Tensor<2>) -> Self {
        Self::lying(weight, self.is_transposed)
    }

    /// The transposed weight, over the same bytes.
    pub fn transposed(&self) -> Self {
        Self {
            is_transposed: !self.is_transposed,
            ..self.clone()
        }
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        let view = self.view();
        [view.rows(), view.cols()]
    }

    /// The bytes it takes, scales included.
    pub fn num_bytes(&self) -> usize {
        self.matrix.bytes()
    }

    /// Calls `visit` with all bytes that the values are made from, in pieces.
    pub fn visit_bytes(&self, visit: &mut dyn FnMut(&[u8])) {
        self.matrix.squares().for_each(&mut *visit);
        let scales = self.matrix.scales();
        scales.for_each(|scales| visit(bytemuck::cast_slice(scales)));
        visit(bytemuck::cast_slice(self.matrix.column_factors()));
    }

    /// The values in 32 bits, `[rows, cols]`, on a device.
    pub fn dequantize(&self, device: &Device) -> Tensor<2> {
        let weight = Self {
            is_transposed: false,
            ..self.clone()
        };
        let [rows, cols] = weight.dims();
        let values = on_device(weight.rows(rows, |row| row), [rows, cols], device);
        if self.is_transposed {
            values.transpose()
        } else {
            values
        }
    }

    /// Some of the rows, `[ids]` to `[ids, cols]`, in 32 bits, on a device.
    ///
    /// # Panics
    /// If there is no such row.
    pub fn select(&self, ids: Tensor<1, Int>, device: &Device) -> Tensor<2> {
        let ids = ids.into_data();
        let ids: Vec<usize> = ids.iter::<i64>().map(|id| id as usize).collect();
        let [_, cols] = self.dims();
        on_device(
            self.rows(ids.len(), |at| ids[at]),
            [ids.len(), cols],
            device,
        )
    }

    /// The values of `count` rows; `row` maps each to its number.
    fn rows(&self, count: usize, row: impl Fn(usize) -> usize + Sync) -> Vec<f32> {
        let (view, [_, cols]) = (self.view(), self.dims());
        filled(count * cols, |out| {
            for_rows(out, cols, |first, out| {
                for (at, out) in out.chunks_exact_mut(cols).enumerate() {
                    view.row(row(first + at), out);
                }
            });
        })
    }

    /// The weight as products read it.
    pub(crate) fn weight(&self) -> Weight<'_> {
        Weight::Int8(self.view())
    }

    /// The same, as a matrix in eight bits.
    pub(crate) fn view(&self) -> Int8View<'_> {
        let view = self.matrix.view();
        if self.is_transposed {
            view.transposed()
        } else {
            view
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::random;
    use crate::{AttentionOptions, Lora, Span, Texts, attention, int8_linear};
    use crate::{linear, vocabulary_loss, with_plain_bodies};

    /// The largest difference, relative to the root mean square of what was wanted.
    fn error(found: Tensor<2>, wanted: Tensor<2>) -> f32 {
        let size = wanted.clone().square().mean().sqrt().into_scalar::<f32>();
        (found - wanted).abs().max().into_scalar::<f32>() / size
    }

    /// Output and gradients are those of a product with the rounded values, apart from the rounding
    /// of the other side; LoRA's own gradients and the plain body round nothing.
    #[test]
    fn a_product_is_nearly_that_of_the_values() {
        let device = Device::flex();
        for [tokens, d_in, d_out] in [[1, 7, 5], [3, 64, 130], [40, 300, 70]] {
            let weight = Int8Weight::new(&random([d_in, d_out], 1.0));
            assert_eq!(weight.dims(), [d_in, d_out]);
            let dense = weight.dequantize(&device);
            let turned = weight.transposed().dequantize(&device);
            turned
                .into_data()
                .assert_eq(&dense.clone().transpose().into_data(), true);
            let inputs = [[tokens, d_in], [tokens, d_out], [2, d_in], [d_out, 2]];
            let inputs = inputs.map(|shape| random(shape, 1.0).autodiff().require_grad());
            let weights = random([tokens, d_out], 1.0);
            let run = |of: &dyn Fn(Tensor<2>, Option<Tensor<2>>, Option<Lora>) -> Tensor<2>| {
                let [x, residual, a, b] = inputs.clone();
                let (scaling, dropout) = (1.5, 0.0);
                let lora = Lora {
                    a,
                    b,
                    scaling,
                    dropout,
                };
                let output = of(x, Some(residual), Some(lora));
                let gradients = (output.clone() * weights.clone().autodiff())
                    .sum()
                    .backward();
                let of_inputs = inputs.each_ref().map(|x| x.grad(&gradients).unwrap());
                std::iter::once(output.inner()).chain(of_inputs)
            };
            let wanted = run(&|x, y, lora| linear(x, dense.clone(), None, y, lora));
            let found = run(&|x, y, lora| int8_linear(x, &weight, None, y, lora));
            let bounds = [0.06, 0.06, 0.0, 1e-4, 1e-4];
            for ((found, wanted), bound) in found.zip(wanted.clone()).zip(bounds) {
                let off = error(found, wanted);
                assert!(
                    off <= bound,
                    "{tokens} x {d_in} x {d_out}: {off} of {bound}"
                );
            }
            let plain = with_plain_bodies(|| {
                let plain = run(&|x, y, lora| int8_linear(x, &weight, None, y, lora));
                plain.collect::<Vec<_>>()
            });
            for (found, wanted) in plain.into_iter().zip(wanted) {
                assert!(error(found, wanted) < 1e-4);
            }
        }
    }

    /// Attention's output is kept in bf16 for the gradients instead of recomputed: they are nearly the same.
    #[test]
    fn costly_inputs_are_kept_in_bf16() {
        let (heads, head_dim, tokens) = (4, 16, 48);
        let d = heads * head_dim;
        let weight = Int8Weight::new(&random([d, 40], 0.3));
        let span = Span {
            start: 0,
            queries: tokens,
            keys: tokens,
        };
        let texts = Texts::new(vec![span]);
        let options = AttentionOptions::new(heads, 2, head_dim);
        let qkv = [d, d / 2, d / 2].map(|width| random([tokens, width], 1.0));
        let [a, b] = [[3, d], [40, 3]].map(|shape| random(shape, 0.3));
        let weights = random([tokens, 40], 1.0).autodiff();
        let run = |pass: &dyn Fn(Tensor<2>) -> Tensor<2>| {
            let on_tape = |tensor: &Tensor<2>| tensor.clone().autodiff().require_grad();
            let (qkv, [a, b]) = (qkv.each_ref().map(on_tape), [&a, &b].map(on_tape));
            let attended = pass(attention(qkv.clone(), &texts, options, 0.0));
            let lora = Lora {
                a: a.clone(),
                b: b.clone(),
                scaling: 1.0,
                dropout: 0.0,
            };
            let output = int8_linear(attended, &weight, None, None, Some(lora));
            let gradients = (output.clone() * weights.clone()).sum().backward();
            let inputs = qkv.iter().chain([&a, &b]);
            let of_inputs = inputs.map(|x| x.grad(&gradients).unwrap());
            [output.inner()]
                .into_iter()
                .chain(of_inputs)
                .collect::<Vec<_>>()
        };
        let found = run(&|tensor| tensor);
        // Where it comes from is lost on the way, so that it is kept in 32 bits.
        let wanted = run(&|tensor| tensor.mul_scalar(1.0));
        for (at, (found, wanted)) in found.into_iter().zip(wanted).enumerate() {
            // The output is the same, and so is the gradient of `b`, which needs no input.
            let bound = if [0, 5].contains(&at) { 0.0 } else { 0.02 };
            let off = error(found, wanted);
            assert!(off <= bound, "{at}: {off} of {bound}");
            assert!(at != 4 || off > 0.0, "it was not rounded");
        }
    }

    /// Rows of an embedding and the loss over it as an output layer.
    #[test]
    fn a_table_of_words() {
        let device = Device::flex();
        let (tokens, vocab, d) = (30, 1200, 96);
        let table = Int8Weight::table(&random([vocab, d], 0.1));
        let dense = table.dequantize(&device);
        let ids: Vec<i64> = (0..tokens).map(|row| row * 37 % vocab as i64).collect();
        let ids = Tensor::<1, Int>::from_data(ids.as_slice(), &device);
        let found = table.select(ids.clone(), &device).into_data();
        let wanted = dense.clone().select(0, ids.clone());
        found.assert_eq(&wanted.into_data(), true);
        let x = random([tokens as usize, d], 1.0).autodiff().require_grad();
        let loss = vocabulary_loss(x.clone(), table, ids.clone());
        let expected = vocabulary_loss(x.clone(), dense, ids);
        let of = |loss: &Tensor<1>| x.grad(&loss.backward()).unwrap();
        let off = error(of(&loss), of(&expected));
        assert!(off < 0.06, "{off}");
        let off = ((loss - expected.clone()) / expected).inner().abs();
        let off = off.into_scalar::<f32>();
        assert!(off < 2e-3, "{off}");
    }

    /// The blocks of a file give the same values to the bit, for a layer and for a table.
    #[test]
    fn q8_0_is_taken_as_it_is() {
        let [rows, cols] = [70, 96];
        let bytes: Vec<u8> = (0..rows * cols / 32)
            .flat_map(|block| {
                let scale = f16::from_f32(0.01 * (block % 7) as f32).to_le_bytes();
                let codes = (0..32).map(move |at| (block * 37 + at * 11) as u8);
                scale.into_iter().chain(codes)
            })
            .collect();
        let device = Device::flex();
        let table = BlockWeight::new(BlockType::Q8_0, bytes.into(), [rows, cols]);
        for blocks in [table.transposed(), table.clone()] {
            let weight = Int8Weight::from_blocks(&blocks).unwrap();
            assert!(weight.is_finite());
            assert_eq!(weight.dims(), blocks.dims());
            let found = weight.dequantize(&device).into_data();
            found.assert_eq(&blocks.dequantize(&device).into_data(), true);
        }
        let other = BlockWeight::new(BlockType::F32, vec![0; 16].into(), [2, 2]);
        assert!(Int8Weight::from_blocks(&other).is_none());
    }

    /// A byte for each value, and few for scales and factors.
    #[test]
    fn the_bytes_are_all_that_is_kept() {
        let weight = Int8Weight::new(&random([256, 512], 1.0));
        let mut bytes = 0;
        weight.visit_bytes(&mut |piece| bytes += piece.len());
        assert_eq!(bytes, 256 * 512 + 2 * (8 * 512) + 4 * 512);
        assert_eq!(weight.num_bytes(), bytes);
    }
}
