//! A frozen weight in 4 or 8 bits, and its product with an input.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::ops::FloatTensorOps;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::module::{Module, Param, ParamId};
use burn::tensor::{DType, Device, FloatDType, Int, Scalar, Shape, Slice, Tensor, TensorData};
use burn_flex::FlexTensor;

use crate::cpu::quantize::{BLOCK, dequantize, quantize};
use crate::cpu::{Matrix, QuantType, Weight};
use crate::flex::{cpu_device, is_specialised, tensor_of, values};
use crate::product::FrozenProduct;

/// A weight `[d_in, d_out]`, kept as codes of 4 or 8 bits with a scale for every 64 codes (QLoRA,
/// arXiv 2305.14314).
///
/// The blocks run along the weight as PyTorch's `Linear` has it, `[d_out, d_in]`, row after row,
/// and the codes and scales are those of bitsandbytes. The codes are packed into 32-bit integers,
/// which every device can hold and shift. Nothing trains the weight.
#[derive(Module, Debug)]
pub struct QuantizedWeight {
    /// A parameter, so that whoever visits all frozen values finds them: a resumed run checks that
    /// it has the same base.
    codes: Param<Tensor<1, Int>>,
    /// The largest magnitude of each block.
    absmax: Tensor<1>,
    /// The value of each code.
    code_book: Tensor<1>,
    #[module(skip)]
    form: Form,
}

/// How weights are quantised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantization {
    /// What the codes stand for.
    pub quant_type: QuantType,
    /// The type of the products: the weight's values are rounded to it, and the input's may be. The
    /// CPU's specialised body uses f32 for f16.
    pub compute_dtype: FloatDType,
}

/// The parts of a quantised weight that are not tensors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Form {
    dims: [usize; 2],
    quantization: Quantization,
}

impl QuantizedWeight {
    /// Rounds a weight `[d_in, d_out]` to the nearest codes.
    pub fn new(weight: Tensor<2>, quantization: Quantization) -> Self {
        let quant_type = quantization.quant_type;
        let (dims, device) = (weight.dims(), weight.device());
        let numbers = weight.transpose().into_data().convert::<f32>();
        let numbers = numbers.as_slice::<f32>().expect("just converted");
        let (codes, absmax) = quantize(numbers, quant_type);
        let words = codes.chunks_exact(4).map(|bytes| {
            let bytes = bytes.try_into().expect("four bytes");
            i32::from_le_bytes(bytes)
        });
        let codes = TensorData::from(words.collect::<Vec<_>>().as_slice());
        let codes = Tensor::from_data(codes, (&device, DType::I32));
        Self {
            codes: Param::initialized(ParamId::new(), codes),
            absmax: vector(&absmax, &device),
            code_book: vector(&quant_type.code_book().values, &device),
            form: Form { dims, quantization },
        }
    }

    /// Another weight of the same shape, quantised the same way.
    pub fn requantized(&self, weight: Tensor<2>) -> Self {
        let device = self.absmax.device();
        let weight = Self::new(weight.without_autodiff(), self.form.quantization);
        if device.is_autodiff() {
            weight.train()
        } else {
            weight
        }
    }

    /// `[d_in, d_out]`.
    pub fn dims(&self) -> [usize; 2] {
        self.form.dims
    }

    /// How it was quantised.
    pub fn quantization(&self) -> Quantization {
        self.form.quantization
    }

    /// The codes, packed as bitsandbytes packs them: the first of two in a byte has the high half.
    pub fn packed_codes(&self) -> Vec<u8> {
        let words = self.codes.val().into_data();
        let words = words.iter::<i32>();
        words.flat_map(i32::to_le_bytes).collect()
    }

    /// The scale of each block of 64, `[blocks]`: its largest magnitude.
    pub fn absmax(&self) -> Tensor<1> {
        self.absmax.clone()
    }

    /// The bytes it takes.
    pub fn num_bytes(&self) -> usize {
        let floats = self.absmax.dims()[0] + self.code_book.dims()[0];
        4 * (self.codes.val().dims()[0] + floats)
    }

    /// The weight in 32 bits, `[d_in, d_out]`.
    pub fn dequantize(&self) -> Tensor<2> {
        let (codes, absmax, code_book, form) = self.parts();
        Tensor::from_dispatch(Dispatch::dequantized(codes, absmax, code_book, form))
    }

    /// `x · weight`, `[tokens, d_in]` to `[tokens, d_out]`. The dense weight is made for the
    /// product, and again for the product of the backward pass.
    pub(crate) fn product(&self, x: Tensor<2>) -> Tensor<2> {
        let (codes, absmax, code_book, form) = self.parts();
        let x = x.into_dispatch();
        let output = Dispatch::quantized_product(x, codes, absmax, code_book, form, false);
        Tensor::from_dispatch(output)
    }

    /// Codes, scales, code book and form, as operations take them.
    #[allow(clippy::type_complexity)]
    pub(crate) fn parts(
        &self,
    ) -> (
        IntTensor<Dispatch>,
        FloatTensor<Dispatch>,
        FloatTensor<Dispatch>,
        Form,
    ) {
        (
            self.codes.val().into_dispatch(),
            self.absmax.clone().into_dispatch(),
            self.code_book.clone().into_dispatch(),
            self.form,
        )
    }
}

fn vector(values: &[f32], device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::from(values), (device, DType::F32))
}

impl Form {
    /// Unpacks the codes of a weight, in order, from the `[words]` that they are packed into. The
    /// high half of a byte comes first, and the low byte of a word.
    fn unpack<B: Backend>(self, words: IntTensor<B>) -> IntTensor<B> {
        let [length] = words.shape().dims();
        let (mask, places): (i64, &[i64]) = match self.quantization.quant_type.bits() {
            4 => (15, &[4, 0, 12, 8, 20, 16, 28, 24]),
            _ => (255, &[0, 8, 16, 24]),
        };
        let codes = places.iter().map(|&place| {
            let shifted = B::bitwise_right_shift_scalar(words.clone(), Scalar::Int(place));
            let codes = B::bitwise_and_scalar(shifted, Scalar::Int(mask));
            B::int_reshape(codes, Shape::new([length, 1]))
        });
        let codes = B::int_cat(codes.collect(), 1);
        B::int_reshape(codes, Shape::new([length * places.len()]))
    }

    /// The weight `[d_in, d_out]`, made by operations that every device has.
    fn dequantize<B: Backend>(
        self,
        codes: IntTensor<B>,
        absmax: FloatTensor<B>,
        code_book: FloatTensor<B>,
    ) -> FloatTensor<B> {
        let [d_in, d_out] = self.dims;
        let [blocks] = absmax.shape().dims();
        let numbers = B::float_select(code_book, 0, self.unpack::<B>(codes));
        let numbers = B::float_reshape(numbers, Shape::new([blocks, BLOCK]));
        let absmax = B::float_reshape(absmax, Shape::new([blocks, 1]));
        let numbers = B::float_mul(numbers, absmax);
        let numbers = B::float_reshape(numbers, Shape::new([blocks * BLOCK]));
        let numbers = B::float_slice(numbers, &[Slice::from(0..d_in * d_out)]);
        B::float_transpose(B::float_reshape(numbers, Shape::new([d_out, d_in])))
    }
}

/// The tables are passed as tensors, so that they are on the device already.
#[backend_extension(
    Flex,
    Cube: cfg(feature = "gpu"),
    Autodiff,
)]
trait QuantizedKernel: FrozenProduct {
    /// The weight `[d_in, d_out]`.
    fn dequantized(
        codes: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        code_book: FloatTensor<Self>,
        form: Form,
    ) -> FloatTensor<Self> {
        form.dequantize::<Self>(codes, absmax, code_book)
    }

    /// `x · weight`, or with the transposed weight `[tokens, d_out]` to `[tokens, d_in]`.
    fn quantized_product(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        code_book: FloatTensor<Self>,
        form: Form,
        transposed: bool,
    ) -> FloatTensor<Self> {
        let mut weight = Self::dequantized(codes, absmax, code_book, form);
        if form.quantization.compute_dtype != FloatDType::F32 {
            weight = Self::float_cast(weight, form.quantization.compute_dtype);
        }
        if transposed {
            weight = Self::float_transpose(weight);
        }
        Self::frozen_product(x, weight)
    }
}

#[cfg(feature = "gpu")]
impl QuantizedKernel for burn::backend::Cube {}

impl QuantizedKernel for Flex {
    fn dequantized(
        codes: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        code_book: FloatTensor<Self>,
        form: Form,
    ) -> FloatTensor<Self> {
        if !is_specialised(&cpu_device()) {
            return form.dequantize::<Self>(codes, absmax, code_book);
        }
        let [d_in, d_out] = form.dims;
        let numbers = Packed {
            codes,
            absmax,
            form,
        }
        .numbers();
        Self::float_transpose(tensor_of(numbers, [d_out, d_in]))
    }
}

impl<B: QuantizedKernel, C: CheckpointStrategy> QuantizedKernel for Autodiff<B, C> {
    fn dequantized(
        codes: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        code_book: FloatTensor<Self>,
        form: Form,
    ) -> FloatTensor<Self> {
        let (absmax, code_book) = (absmax.into_primitive(), code_book.into_primitive());
        FloatTensor::<Self>::new(B::dequantized(codes, absmax, code_book, form))
    }

    fn quantized_product(
        x: FloatTensor<Self>,
        codes: IntTensor<Self>,
        absmax: FloatTensor<Self>,
        code_book: FloatTensor<Self>,
        form: Form,
        transposed: bool,
    ) -> FloatTensor<Self> {
        let (absmax, code_book) = (absmax.into_primitive(), code_book.into_primitive());
        let node = x.node();
        let product = |absmax, code_book, codes| {
            let x = x.into_primitive();
            B::quantized_product(x, codes, absmax, code_book, form, transposed)
        };
        let state = (codes.clone(), absmax.clone(), code_book.clone());
        let output = product(absmax, code_book, codes);
        match (ProductBackward { form, transposed })
            .prepare::<C>([node])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => prepared.finish(state, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct ProductBackward {
    form: Form,
    transposed: bool,
}

impl<B: QuantizedKernel> Backward<B, 1> for ProductBackward {
    type State = (IntTensor<B>, FloatTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let (codes, absmax, code_book) = ops.state;
        if let [Some(node)] = ops.parents {
            let (form, transposed) = (self.form, !self.transposed);
            let of_x = B::quantized_product(grad, codes, absmax, code_book, form, transposed);
            grads.register::<B>(node.id, of_x);
        }
    }
}

/// A quantised weight as the CPU reads it.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    pub(crate) codes: FlexTensor,
    pub(crate) absmax: FlexTensor,
    pub(crate) form: Form,
}

impl Packed {
    /// `[d_in, d_out]`.
    pub(crate) fn dims(&self) -> [usize; 2] {
        self.form.dims
    }

    /// The numbers of the transposed weight, `[d_out, d_in]`.
    fn numbers<T: crate::cpu::quantize::Dense>(&self) -> Vec<T> {
        let [d_in, d_out] = self.form.dims;
        let words: &[i32] = self.codes.storage();
        let codes: std::borrow::Cow<'_, [u8]> = if cfg!(target_endian = "little") {
            bytemuck::cast_slice(words).into()
        } else {
            words.iter().flat_map(|word| word.to_le_bytes()).collect()
        };
        let scales = values(&self.absmax);
        dequantize(
            &codes,
            scales,
            self.form.quantization.quant_type,
            d_in * d_out,
        )
    }

    /// Runs `body` with the dense weight, which is dropped after it.
    pub(crate) fn with_dense<R>(&self, body: impl FnOnce(Weight<'_>) -> R) -> R {
        let [d_in, d_out] = self.form.dims;
        match self.form.quantization.compute_dtype {
            FloatDType::BF16 => {
                let numbers = self.numbers();
                let matrix = Matrix::new(&numbers, d_out, d_in);
                body(Weight::BF16(matrix.transposed()))
            }
            _ => {
                let numbers = self.numbers();
                let matrix = Matrix::new(&numbers, d_out, d_in);
                body(Weight::F32(matrix.transposed()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_linear_with, random};
    use crate::{linear, quantized_linear, with_plain_bodies};

    fn in_f32(quant_type: QuantType) -> Quantization {
        let compute_dtype = FloatDType::F32;
        Quantization {
            quant_type,
            compute_dtype,
        }
    }

    /// A product with a quantised weight is that with its values, in both passes and both bodies,
    /// whether or not the blocks of 64 fit the weight.
    #[test]
    fn a_product_is_that_of_the_values() {
        for quant_type in [QuantType::Nf4, QuantType::Fp4, QuantType::Int8] {
            for [tokens, d_in, d_out] in [[1, 1, 1], [3, 7, 5], [33, 129, 65]] {
                let weight = random([d_in, d_out], 1.0);
                let weight = QuantizedWeight::new(weight, in_f32(quant_type));
                let dense = weight.dequantize();
                assert_eq!(dense.dims(), [d_in, d_out]);
                let plain = with_plain_bodies(|| weight.dequantize());
                dense.to_data().assert_eq(&plain.into_data(), true);
                assert_linear_with(&dense, tokens, |x, bias, residual, lora| {
                    quantized_linear(x, &weight, bias, residual, lora)
                });
                assert_linear_with(&dense, tokens, |x, bias, residual, lora| {
                    with_plain_bodies(|| quantized_linear(x, &weight, bias, residual, lora))
                });
            }
        }
    }

    /// In bf16 a product is as exact as with a weight kept in it.
    #[test]
    fn products_in_bf16() {
        let (x, weight) = (random([40, 96], 1.0), random([96, 64], 1.0));
        let quantization = Quantization {
            compute_dtype: FloatDType::BF16,
            ..in_f32(QuantType::Nf4)
        };
        let weight = QuantizedWeight::new(weight, quantization);
        let output = quantized_linear(x.clone(), &weight, None, None, None);
        let kept = weight.dequantize().cast(FloatDType::BF16);
        let expected = linear(x, kept, None, None, None);
        output.into_data().assert_eq(&expected.into_data(), true);
    }

    /// Codes and scales are all that is kept: 4.5 bits a weight, or 8.5.
    #[test]
    fn the_codes_are_packed() {
        for (quant_type, bits) in [(QuantType::Nf4, 4.5), (QuantType::Int8, 8.5)] {
            let weight = random([256, 512], 1.0);
            let weight = QuantizedWeight::new(weight, in_f32(quant_type));
            let table = 4 * quant_type.code_book().values.len();
            let bytes = (weight.num_bytes() - table) as f64;
            assert_eq!(bytes * 8.0 / (256.0 * 512.0), bits);
        }
    }
}
