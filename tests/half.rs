//! Frozen weights in 16 bits on the device. A GPU multiplies in 16 bits; the CPU's kernels widen
//! float16 first.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{DType, Device, FloatDType, Tensor, TensorData};
use burn_peft::{PeftModel, QuantType, Quantization, QuantizedWeight};
use burn_peft_kernels::{linear, quantized_linear};
use burn_peft_models::CausalLm;

use crate::common::device;
use crate::conformance::{base, batch, fixtures, without_dropout};
use crate::steps::all;

/// The types among bfloat16 and float16 in which the device computes, with the number of their
/// mantissa bits.
fn types() -> impl Iterator<Item = (FloatDType, i32)> {
    let all = [(FloatDType::F16, 10), (FloatDType::BF16, 7)].into_iter();
    all.filter(|&(dtype, _)| device().supports_dtype(DType::from(dtype)))
}

/// Numbers between -1 and 1.
fn numbers(shape: [usize; 2], device: &Device) -> Tensor<2> {
    let values: Vec<f32> = (0..shape[0] * shape[1])
        .map(|i| (i as f32 * 12.9898).sin())
        .collect();
    Tensor::from_data(TensorData::new(values, shape), device)
}

/// A factor for each row. Gradients of a mean loss are as small as some of these, and no row may
/// spoil the precision of another.
fn sizes(device: &Device) -> Tensor<2> {
    Tensor::from_data([[1e-7f32], [1e5], [0.0], [1.0], [1e-12]], device)
}

/// The output for the inputs, and the gradient for the weights of the output. Both have rows of
/// very different sizes.
fn both(device: &Device, product: &dyn Fn(Tensor<2>) -> Tensor<2>) -> [Vec<f32>; 2] {
    let x = (numbers([5, 200], device) * sizes(device)).autodiff();
    let x = x.require_grad();
    let output = product(x.clone());
    let weights = (numbers([5, 90], device) * sizes(device)).autodiff();
    let gradients = (output.clone() * weights).sum().backward();
    let of_x = x.grad(&gradients).unwrap();
    [output.inner(), of_x].map(|tensor| tensor.into_data().try_into_vec().unwrap())
}

fn assert_near(found: [Vec<f32>; 2], expected: [Vec<f32>; 2], bits: i32, what: &str) {
    for (found, expected) in found.iter().zip(&expected) {
        let columns = found.len() / 5;
        for (found, expected) in found.chunks(columns).zip(expected.chunks(columns)) {
            let largest = expected.iter().fold(0.0f32, |m, value| m.max(value.abs()));
            let off = crate::common::largest_difference(found, expected);
            assert!(
                off <= largest * 0.5f32.powi(bits),
                "{what}: {off} of {largest}"
            );
        }
    }
}

/// Each row of a product and of its gradient is as exact as the type allows for its largest number,
/// whatever the other rows are. The same holds for quantised weights.
#[test]
fn products_keep_the_range_of_every_row() {
    let cpu = Device::flex();
    for (dtype, bits) in types() {
        let weight = numbers([200, 90], &cpu).cast(dtype).cast(FloatDType::F32);
        let exact = both(&cpu, &|x| linear(x, weight.clone(), None, None, None));
        let kept = numbers([200, 90], &device()).cast(dtype);
        let found = both(&device(), &|x| linear(x, kept.clone(), None, None, None));
        assert_near(found, exact, bits, &format!("{dtype:?}"));

        let [exact, found] =
            [(cpu.clone(), FloatDType::F32), (device(), dtype)].map(|(device, compute_dtype)| {
                let quant_type = QuantType::Nf4;
                let quantization = Quantization {
                    quant_type,
                    compute_dtype,
                };
                let weight = QuantizedWeight::new(numbers([200, 90], &device), quantization);
                both(&device, &|x| quantized_linear(x, &weight, None, None, None))
            });
        assert_near(found, exact, bits, &format!("4 bits in {dtype:?}"));
    }
}

/// The gradients equal those with a base in 32 bits, even for a loss made very small by
/// accumulation and averaging.
#[test]
fn gradients_of_a_small_loss_are_not_lost() {
    let case = fixtures().join("conformance/cases/gpt2_lora");
    let batch = batch(&case);
    let gradients = |dtype: Option<FloatDType>| {
        let mut model = PeftModel::from_pretrained(base(), &case, true).unwrap();
        if let Some(dtype) = dtype {
            model.cast_frozen(dtype);
        }
        let model = without_dropout(model.train());
        let loss = model.loss(&batch) * 1e-9;
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let trained = all(&model, &gradients).into_iter().flatten();
        let values = trained.map(|data| data.try_into_vec::<f32>().unwrap());
        values.collect::<Vec<_>>()
    };
    let exact = gradients(None);
    for (dtype, bits) in types() {
        for (found, exact) in gradients(Some(dtype)).into_iter().zip(&exact) {
            let largest = exact.iter().fold(0.0f32, |m, value| m.max(value.abs()));
            let off = crate::common::largest_difference(&found, exact);
            println!("{dtype:?}: {off} of {largest}");
            assert!(off <= largest * 0.5f32.powi(bits - 4), "{off} of {largest}");
        }
    }
}
