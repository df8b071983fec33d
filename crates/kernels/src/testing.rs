//! What the operations' tests share.

use std::cell::{Cell, RefCell};
use std::f64::consts::TAU;

use burn::tensor::{Device, FloatDType, Gradients, Tensor, TensorData, Tolerance};

use crate::cpu::ActivationKind;
use crate::cpu::random::mix;
use crate::{Lora, linear, with_plain_bodies};

thread_local! {
    /// How many numbers this thread has drawn; every test has a thread of its own.
    static DRAWN: Cell<u64> = const { Cell::new(0) };
    /// The device under test, if it is not the CPU.
    static DEVICE: RefCell<Option<Device>> = const { RefCell::new(None) };
    /// The type of [`random`]'s tensors.
    static DTYPE: Cell<FloatDType> = const { Cell::new(FloatDType::F32) };
}

/// The device under test: the CPU, or the GPU inside [`on_gpu`].
pub(crate) fn device() -> Device {
    DEVICE.with_borrow(|device| device.clone().unwrap_or_else(Device::flex))
}

/// Runs a test on this machine's GPU, which may be one in software; says so where there is none,
/// and fails if `BURN_PEFT_REQUIRE_GPU=1`.
#[cfg(feature = "wgpu")]
pub(crate) fn on_gpu(test: impl FnOnce()) {
    let devices = Device::enumerate(burn::tensor::DeviceType::Wgpu);
    let Some(gpu) = devices.into_iter().next() else {
        let is_required = std::env::var("BURN_PEFT_REQUIRE_GPU").is_ok_and(|value| value == "1");
        assert!(!is_required, "BURN_PEFT_REQUIRE_GPU=1, and there is no GPU");
        eprintln!("not run: this machine has no GPU, not even one in software");
        return;
    };
    DEVICE.replace(Some(gpu));
    // Otherwise it would compare the plain bodies with themselves.
    assert!(crate::gpu::takes(&random([1, 1], 1.0)), "plain bodies only");
    test();
    DEVICE.replace(None);
}

/// Runs a test as [`on_gpu`] with tensors of each type of 16 bits that the GPU has: in
/// [`assert_same_gradients`] they are compared as exactly as the type is.
#[cfg(feature = "wgpu")]
pub(crate) fn on_gpu_in_16_bits(test: impl Fn()) {
    for dtype in [FloatDType::F16, FloatDType::BF16] {
        on_gpu(|| {
            if device().supports_dtype(dtype) {
                DTYPE.set(dtype);
                assert!(crate::gpu::takes(&random([1, 1], 1.0)), "plain bodies only");
                test();
                DTYPE.set(FloatDType::F32);
            } else {
                eprintln!("not run: the GPU has no {dtype:?}");
            }
        });
    }
}

/// Runs the test `equals_the_plain_body` on a GPU too, in 32 bits and in 16.
macro_rules! on_gpu_too {
    () => {
        #[cfg(feature = "wgpu")]
        #[test]
        fn equals_the_plain_body_on_a_gpu() {
            crate::testing::on_gpu(equals_the_plain_body);
        }

        #[cfg(feature = "wgpu")]
        #[test]
        fn equals_the_plain_body_on_a_gpu_in_16_bits() {
            crate::testing::on_gpu_in_16_bits(equals_the_plain_body);
        }
    };
}

pub(crate) use on_gpu_too;

/// A number in `0..1`; the numbers are the same in every run of a test.
fn uniform() -> f64 {
    let drawn = DRAWN.replace(DRAWN.get() + 1);
    (mix(drawn) >> 11) as f64 / (1u64 << 53) as f64
}

/// Random words from a seed.
pub(crate) fn words(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    })
}

/// Random numbers in -1..1 from a seed.
pub(crate) fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let numbers = words(seed).map(|word| (word >> 40) as f32 / (1 << 23) as f32 - 1.0);
    numbers.take(count).collect()
}

/// Normal values around zero, the same in every run of a test.
pub(crate) fn random(shape: [usize; 2], deviation: f64) -> Tensor<2> {
    // Box and Muller's transform.
    let normal = || (-2.0 * (1.0 - uniform()).ln()).sqrt() * (TAU * uniform()).cos();
    let values = (0..shape[0] * shape[1]).map(|_| (deviation * normal()) as f32);
    let values = TensorData::new(values.collect(), shape);
    Tensor::from_data(values, (&device(), DTYPE.get().into()))
}

/// All activations.
pub(crate) const ACTIVATIONS: [ActivationKind; 5] = [
    ActivationKind::Silu,
    ActivationKind::Gelu,
    ActivationKind::GeluTanh,
    ActivationKind::Relu,
    ActivationKind::ReluSquared,
];

/// Normal values, none so near to zero that a small step changes its sign.
pub(crate) fn away_from_zero(shape: [usize; 2]) -> Tensor<2> {
    let x = random(shape, 3.0);
    x.clone() + x.sign() * 0.01
}

/// Asserts that `layer` of an input of so many tokens, a bias, a residual and LoRA is [`linear`] with the
/// weight `dense`, `[d_in, d_out]`, in both passes.
pub(crate) fn assert_linear_with(
    dense: &Tensor<2>,
    tokens: usize,
    layer: impl Fn(Tensor<2>, Option<Tensor<1>>, Option<Tensor<2>>, Option<Lora>) -> Tensor<2>,
) {
    let [d_in, d_out] = dense.dims();
    let inputs = [
        random([tokens, d_in], 1.0),
        random([1, d_out], 1.0),
        random([tokens, d_out], 1.0),
        random([2, d_in], 1.0),
        random([d_out, 2], 1.0),
    ];
    let vector = |row: Tensor<2>| Some(row.squeeze_dim(0));
    let lora = |a, b| {
        let (scaling, dropout) = (1.5, 0.0);
        Some(Lora {
            a,
            b,
            scaling,
            dropout,
        })
    };
    let found = |[x, c, y, a, b]: [Tensor<2>; 5]| layer(x, vector(c), Some(y), lora(a, b));
    let plain = |[x, c, y, a, b]: [Tensor<2>; 5]| {
        let weight = dense.clone().cast(x.dtype());
        with_plain_bodies(|| linear(x, weight, vector(c), Some(y), lora(a, b)))
    };
    assert_same_gradients(&inputs, found, plain);
}

/// Asserts that two functions of the inputs have the same value and, weighted by random numbers,
/// the same gradients, with all inputs tracked together and each alone.
pub(crate) fn assert_same_gradients<const N: usize>(
    inputs: &[Tensor<2>],
    specialised: impl Fn([Tensor<2>; N]) -> Tensor<2>,
    plain: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) {
    if DTYPE.get() != FloatDType::F32 {
        return assert_same_in_16_bits(inputs, specialised, plain);
    }
    let all = inputs.iter().map(|input| input.clone().autodiff());
    for tracked in (0..=N).map(|only| move |index| only == N || only == index) {
        let inputs: Vec<_> = all
            .clone()
            .enumerate()
            .map(|(index, input)| {
                if tracked(index) {
                    input.require_grad()
                } else {
                    input
                }
            })
            .collect();
        let inputs: [Tensor<2>; N] = inputs.try_into().unwrap();
        let number = Cell::new(0);
        let references = inputs.each_ref().map(|input| {
            let index = number.replace(number.get() + 1);
            let input = on_cpu(input).autodiff();
            if tracked(index) {
                input.require_grad()
            } else {
                input
            }
        });
        let (a, b) = (specialised(inputs.clone()), plain(references.clone()));
        assert_close(&a, &b);
        let weights = random(a.dims(), 1.0).autodiff();
        let gradients = (a * weights.clone()).sum().backward();
        let expected = (b * on_cpu(&weights).autodiff()).sum().backward();
        assert_slope(&inputs, &gradients, &weights, &plain);
        for (index, (input, reference)) in inputs.iter().zip(&references).enumerate() {
            let (a, b) = (input.grad(&gradients), reference.grad(&expected));
            assert_eq!(a.is_some(), tracked(index), "input {index}");
            if let (Some(a), Some(b)) = (a, b) {
                assert_close(&a, &b);
            }
        }
    }
}

/// Asserts that value and gradients are those of the plain body in 64 bits, up to two roundings of the
/// largest, and those of the plain body in the same type, which rounds more often, up to eight.
fn assert_same_in_16_bits<const N: usize>(
    inputs: &[Tensor<2>],
    specialised: impl Fn([Tensor<2>; N]) -> Tensor<2>,
    plain: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) {
    let inputs: [Tensor<2>; N] = inputs.to_vec().try_into().unwrap();
    let wide = |tensor: &Tensor<2>| on_cpu(tensor).cast(FloatDType::F64);
    let weights = random(specialised(inputs.clone()).dims(), 1.0);
    let found = value_and_gradients(inputs.clone(), &weights, specialised);
    let same = value_and_gradients(inputs.clone(), &weights, &plain);
    let exact = value_and_gradients(inputs.each_ref().map(wide), &weights, &plain);
    let epsilon = match DTYPE.get() {
        FloatDType::BF16 => 2.0f64.powi(-7),
        _ => 2.0f64.powi(-10),
    };
    for (index, exact) in exact.iter().enumerate() {
        let size = exact.clone().abs().max().into_scalar::<f64>().max(1.0);
        let far = |other: &Tensor<2>| {
            let difference = (found[index].clone() - other.clone()).abs();
            difference.max().into_scalar::<f64>() / (epsilon * size)
        };
        let (of_exact, of_same) = (far(exact), far(&same[index]));
        assert!(
            of_exact <= 2.0 && of_same <= 8.0,
            "{index}: {of_exact} and {of_same} roundings of {size}"
        );
    }
}

/// The value of a function and the gradients of all inputs, of the sum of the value times the weights:
/// on the CPU in 64 bits.
fn value_and_gradients<const N: usize>(
    inputs: [Tensor<2>; N],
    weights: &Tensor<2>,
    function: impl Fn([Tensor<2>; N]) -> Tensor<2>,
) -> Vec<Tensor<2>> {
    let inputs = inputs.map(|input| input.autodiff().require_grad());
    let output = function(inputs.clone());
    let device = output.device().without_autodiff();
    let weights = Tensor::<2>::from_data(weights.to_data(), &device).cast(output.dtype());
    let gradients = (output.clone() * weights.autodiff()).sum().backward();
    let of_inputs = inputs.iter().map(|input| input.grad(&gradients).unwrap());
    let all = std::iter::once(output.inner()).chain(of_inputs);
    all.map(|tensor| on_cpu(&tensor).cast(FloatDType::F64))
        .collect()
}

/// The values on the CPU, where the plain bodies are the reference: GPUs approximate functions.
fn on_cpu(tensor: &Tensor<2>) -> Tensor<2> {
    Tensor::from_data(tensor.clone().inner().into_data(), &Device::flex())
}

/// Asserts that the gradients of `sum(output * weights)` give its slope along a random direction.
/// The slope is measured with the plain body in 64 bits, by a small step to either side.
fn assert_slope<const N: usize>(
    inputs: &[Tensor<2>; N],
    gradients: &Gradients,
    weights: &Tensor<2>,
    plain: &impl Fn([Tensor<2>; N]) -> Tensor<2>,
) {
    const STEP: f64 = 1e-4;
    // Few GPUs have 64 bits.
    let wide = |tensor: &Tensor<2>| on_cpu(tensor).cast(FloatDType::F64);
    let directions = inputs.each_ref().map(|input| random(input.dims(), 1.0));
    let (mut slope, mut size) = (0.0, 0.0);
    for (input, direction) in inputs.iter().zip(&directions) {
        if let Some(gradient) = input.grad(gradients) {
            let products = wide(&gradient) * wide(direction);
            slope += products.clone().sum().into_scalar::<f64>();
            size += products.square().sum().into_scalar::<f64>();
        }
    }
    let value = |step: f64| {
        let mut number = 0;
        let moved = inputs.each_ref().map(|input| {
            let direction = wide(&directions[number]) * step;
            number += 1;
            match input.grad(gradients) {
                Some(_) => wide(input) + direction,
                None => wide(input),
            }
        });
        (plain(moved) * wide(weights)).sum().into_scalar::<f64>()
    };
    let expected = (value(STEP) - value(-STEP)) / (2.0 * STEP);
    // The slope is a sum of many parts of either sign.
    let tolerance = 1e-4 * size.sqrt().max(1.0);
    assert!(
        (slope - expected).abs() <= tolerance,
        "{slope} is not {expected}"
    );
}

fn assert_close(a: &Tensor<2>, b: &Tensor<2>) {
    let (a, b) = (on_cpu(a), on_cpu(b));
    // The sums of products are as exact as their largest parts.
    let size = b.clone().abs().max().into_scalar::<f32>().max(1.0);
    let tolerance = Tolerance::<f32>::absolute(1e-5 * size).set_relative(1e-4);
    a.into_data().assert_approx_eq(&b.into_data(), tolerance);
}
