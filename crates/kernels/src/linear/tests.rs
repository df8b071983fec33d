use super::*;
use crate::testing::{assert_same_gradients, random};
use burn::tensor::{Device, FloatDType};

const SHAPES: [[usize; 4]; 4] = [
    [1, 1, 1, 1],
    [3, 7, 5, 2],
    [33, 129, 65, 8],
    [100, 48, 96, 4],
];

fn lora(a: Tensor<2>, b: Tensor<2>) -> Option<Lora> {
    Some(Lora {
        a,
        b,
        scaling: 1.5,
        dropout: 0.0,
    })
}

fn by_plain(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<2>>,
    lora: Option<Lora>,
) -> Tensor<2> {
    crate::with_plain_bodies(|| plain(x, weight, bias, residual, lora))
}

#[test]
fn equals_the_plain_body() {
    let vector = |row: Tensor<2>| Some(row.squeeze_dim(0));
    for [tokens, d_in, d_out, r] in SHAPES {
        let x = random([tokens, d_in], 1.0);
        let weight = random([d_in, d_out], 1.0);
        let (bias, residual) = (random([1, d_out], 1.0), random([tokens, d_out], 1.0));
        let (a, b) = (random([r, d_in], 1.0), random([d_out, r], 1.0));
        assert_same_gradients(
            &[
                x.clone(),
                weight.clone(),
                bias,
                residual,
                a.clone(),
                b.clone(),
            ],
            |[x, w, c, y, a, b]| linear(x, w, vector(c), Some(y), lora(a, b)),
            |[x, w, c, y, a, b]| by_plain(x, w, vector(c), Some(y), lora(a, b)),
        );
        assert_same_gradients(
            &[x.clone(), weight.clone()],
            |[x, w]| linear(x, w, None, None, None),
            |[x, w]| by_plain(x, w, None, None, None),
        );
        // A weight that is a view, as Burn's transposed layouts are.
        assert_same_gradients(
            &[x, weight.transpose().inner(), a, b],
            |[x, w, a, b]| linear(x, w.transpose(), None, None, lora(a, b)),
            |[x, w, a, b]| by_plain(x, w.transpose(), None, None, lora(a, b)),
        );
    }
}

/// Both passes have the same mask: with the mask read off one product, the gradients are those
/// of a masked input.
#[test]
fn dropout_is_the_same_in_both_passes() {
    let [tokens, d_in, r] = [20, 30, 30];
    let identity = || Tensor::<2>::eye(r, &burn::tensor::Device::flex());
    let device = burn::tensor::Device::flex();
    let run = |x: Tensor<2>| {
        let zero = Tensor::zeros([d_in, r], &device);
        let lora = Lora {
            a: identity().autodiff(),
            b: identity(),
            scaling: 1.0,
            dropout: 0.4,
        };
        crate::with_seed(5, || linear(x, zero, None, None, Some(lora)))
    };
    let ones = Tensor::<2>::ones([tokens, d_in], &device);
    let mask = run(ones.clone().autodiff()).inner();
    let kept = mask
        .clone()
        .greater_elem(0.0)
        .int()
        .sum()
        .into_scalar::<i32>();
    assert!((300..420).contains(&kept), "{kept} of 600 values are kept");
    let x = ones.autodiff().require_grad();
    let gradients = run(x.clone()).sum().backward();
    let gradient = x.grad(&gradients).unwrap();
    gradient.into_data().assert_eq(&mask.into_data(), true);
}

/// A weight in 16 bits gives what its values give on the CPU in f32, up to the rounding of the
/// input.
#[test]
fn a_weight_in_16_bits() {
    let types = [FloatDType::BF16, FloatDType::F16].into_iter();
    let types = types.filter(|&dtype| crate::testing::device().supports_dtype(dtype));
    for (dtype, [tokens, d_in, d_out, r]) in types.flat_map(|t| SHAPES.map(|s| (t, s))) {
        let x = random([tokens, d_in], 1.0);
        let weight = random([d_in, d_out], 1.0).cast(dtype);
        let (a, b) = (random([r, d_in], 1.0), random([d_out, r], 1.0));
        let [found, wanted] = [false, true].map(|on_host| {
            let place = |tensor: &Tensor<2>| match on_host {
                true => Tensor::from_data(tensor.to_data(), (&Device::flex(), tensor.dtype())),
                false => tensor.clone(),
            };
            let (x, weight) = (place(&x).autodiff().require_grad(), place(&weight));
            let lora = lora(place(&a), place(&b));
            let output = match on_host {
                true => by_plain(x.clone(), weight, None, None, lora),
                false => linear(x.clone(), weight, None, None, lora),
            };
            let gradient = x.grad(&output.clone().sum().backward()).unwrap();
            [output.inner(), gradient].map(|tensor| tensor.into_data())
        });
        for (found, wanted) in found.into_iter().zip(wanted) {
            let [found, wanted] =
                [found, wanted].map(|data| Tensor::<2>::from_data(data, &Device::flex()));
            // Each factor is off by at most this share of itself, and sums grow as square roots
            // do; where the input is rounded for the change too, that is a sum over r of sums,
            // times its scaling.
            let (share, change) = match dtype {
                FloatDType::BF16 => (1.0 / 256.0, 1.5 * (r as f32).sqrt()),
                _ => (1.0 / 1024.0, 0.0),
            };
            let size = (d_in.max(d_out) as f32).sqrt() * (1.0 + change) * 4.0;
            let largest = (found - wanted).abs().max().into_scalar::<f32>();
            assert!(largest < size * share, "{largest} at {size}");
        }
    }
}

crate::testing::on_gpu_too!();

/// A GPU narrows the input of the product, the CPU widens the weight.
#[cfg(feature = "wgpu")]
#[test]
fn a_weight_in_16_bits_on_a_gpu() {
    crate::testing::on_gpu(a_weight_in_16_bits);
}

/// A row that is added to all, and a product in another type, are the plain body's.
#[cfg(feature = "wgpu")]
#[test]
fn takes_what_has_a_value_for_each_on_a_gpu() {
    crate::testing::on_gpu(|| {
        let [x, y, row] = [[9, 12], [9, 7], [1, 7]].map(|shape| random(shape, 1.0));
        let lora = || lora(random([2, 12], 1.0), random([7, 2], 1.0)).unwrap();
        assert!(crate::gpu::takes_lora(&x, &None, &Some(y.clone()), &lora()));
        assert!(!crate::gpu::takes_lora(
            &x,
            &None,
            &Some(row.clone()),
            &lora()
        ));
        let short = Some(row.clone().slice([0..1, 0..6]).squeeze_dim(0));
        assert!(!crate::gpu::takes_lora(&x, &short, &None, &lora()));
        assert_same_gradients(
            &[
                x,
                random([12, 7], 1.0),
                row,
                random([2, 12], 1.0),
                random([7, 2], 1.0),
            ],
            |[x, w, y, a, b]| linear(x, w, None, Some(y), self::lora(a, b)),
            |[x, w, y, a, b]| by_plain(x, w, None, Some(y), self::lora(a, b)),
        );
    });
}

#[cfg(feature = "wgpu")]
#[test]
#[should_panic(expected = "product and LoRA")]
fn a_product_that_does_not_fit_is_said() {
    let layer = crate::gpu::Layer {
        base: crate::gpu::Base::Product(random([9, 6], 1.0)),
        bias: None,
        lora: lora(random([2, 12], 1.0), random([7, 2], 1.0)).unwrap(),
        dropout: None,
    };
    crate::gpu::lora_linear(random([9, 12], 1.0), layer, None);
}

/// In both passes, of any rows of a step.
#[test]
fn drops_what_the_plain_body_drops() {
    let [tokens, d_in, d_out, r] = [37, 70, 40, 20];
    let weight = random([d_in, d_out], 0.1);
    let inputs = [
        random([tokens, d_in], 1.0),
        random([1, d_out], 1.0),
        random([tokens, d_out], 1.0),
        random([r, d_in], 1.0),
        random([d_out, r], 1.0),
    ];
    let lora = |a, b| Lora {
        a,
        b,
        scaling: 1.5,
        dropout: 0.3,
    };
    let seeded =
        |run: &dyn Fn() -> Tensor<2>| crate::with_first_row(11, || crate::with_seed(5, run));
    assert_same_gradients(
        &inputs,
        |[x, bias, residual, a, b]| {
            let bias = Some(bias.squeeze_dim(0));
            let run = || {
                let (x, bias, residual) = (x.clone(), bias.clone(), Some(residual.clone()));
                linear(
                    x,
                    weight.clone(),
                    bias,
                    residual,
                    Some(lora(a.clone(), b.clone())),
                )
            };
            seeded(&run)
        },
        |[x, bias, residual, a, b]| {
            let device = x.device().without_autodiff();
            let weight = Tensor::<2>::from_data(weight.to_data(), &device).cast(x.dtype());
            let product = x.clone().matmul(weight.autodiff());
            // On the tape, as the inputs of training are: only there dropout acts.
            let run = || lora(a.clone().autodiff(), b.clone()).forward(x.clone().autodiff());
            let change = seeded(&|| crate::with_plain_bodies(run));
            product + bias + change + residual
        },
    );
}

#[cfg(feature = "wgpu")]
#[test]
fn a_gpu_drops_what_the_plain_body_drops() {
    crate::testing::on_gpu(drops_what_the_plain_body_drops);
}

#[cfg(feature = "wgpu")]
#[test]
fn a_gpu_drops_what_the_plain_body_drops_in_16_bits() {
    crate::testing::on_gpu_in_16_bits(drops_what_the_plain_body_drops);
}
