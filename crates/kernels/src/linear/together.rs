//! Several linear layers with the same input.

use burn::backend::Flex;
use burn::tensor::Tensor;
use burn_flex::FlexTensor;

use super::{Lora, int8_linear, linear};
use crate::Int8Weight;
use crate::cpu::LowRank;
use crate::cpu::int8::{Part, products};
use crate::cpu::product::FEW_ROWS;
use crate::flex::{contiguous, matrix, readable, takes, tensor_of, values};

/// The weight of a [`LinearLayer`], `[d_in, d_out]`.
#[derive(Clone, Debug)]
// A tensor is large, and made once a call: a box would gain nothing.
#[allow(clippy::large_enum_variant)]
pub enum LinearWeight {
    /// As [`linear`] takes it.
    Dense(Tensor<2>),
    /// As [`int8_linear`] takes it.
    Int8(Int8Weight),
}

/// A linear layer, as [`linear`] or [`int8_linear`] takes it.
#[derive(Clone, Debug)]
pub struct LinearLayer {
    /// `[d_in, d_out]`.
    pub weight: LinearWeight,
    /// `[d_out]`.
    pub bias: Option<Tensor<1>>,
    /// What is added to the layer.
    pub lora: Option<Lora>,
}

/// The outputs of several layers for the input `x`, as [`linear`] and [`int8_linear`] have them. The
/// body for GPUs computes LoRA's products of all layers together. On the CPU, the few rows of decoding
/// are rounded once for all layers in eight bits, and these share one pass over their weights.
///
/// # Panics
/// As [`linear`].
pub fn linears<const N: usize>(x: Tensor<2>, layers: [LinearLayer; N]) -> [Tensor<2>; N] {
    #[cfg(feature = "gpu")]
    if let Some(outputs) = on_gpu(&x, &layers) {
        return outputs;
    }
    if let Some(outputs) = few_on_cpu(&x, &layers) {
        return outputs;
    }
    layers.map(|layer| {
        let LinearLayer { weight, bias, lora } = layer;
        match weight {
            LinearWeight::Dense(weight) => linear(x.clone(), weight, bias, None, lora),
            LinearWeight::Int8(weight) => int8_linear(x.clone(), &weight, bias, None, lora),
        }
    })
}

/// The parts of a layer in eight bits as the CPU reads them.
struct OnCpu<'a> {
    weight: &'a Int8Weight,
    bias: Option<FlexTensor>,
    /// LoRA's factors, its scaling, and room for the product of the first factor.
    lora: Option<([FlexTensor; 2], f32, Vec<f32>)>,
    out: Vec<f32>,
}

impl<'a> OnCpu<'a> {
    /// `None` if a tensor records gradients, or if another body takes the layer.
    fn new(layer: &'a LinearLayer, tokens: usize) -> Option<Self> {
        let LinearWeight::Int8(weight) = &layer.weight else {
            return None;
        };
        let bias = match &layer.bias {
            Some(bias) => Some(contiguous(plain_on_cpu(bias)?)),
            None => None,
        };
        let lora = match &layer.lora {
            Some(lora) => {
                let [a, b] = [plain_on_cpu(&lora.a)?, plain_on_cpu(&lora.b)?].map(readable);
                let [r, _] = lora.a.dims();
                Some(([a, b], lora.scaling as f32, vec![0.0; tokens * r]))
            }
            None => None,
        };
        let [_, d_out] = weight.dims();
        let out = vec![0.0; tokens * d_out];
        Some(Self {
            weight,
            bias,
            lora,
            out,
        })
    }

    fn part(&mut self) -> Part<'_> {
        Part {
            weight: self.weight.view(),
            bias: self.bias.as_ref().map(values),
            low_rank: self.lora.as_mut().map(|([a, b], scaling, hidden)| LowRank {
                down: matrix(a).transposed(),
                up: matrix(b).transposed(),
                scaling: *scaling,
                hidden,
            }),
            out: &mut self.out,
        }
    }
}

/// The tensor as the CPU reads it, if it is in 32 bits there and records no gradients.
fn plain_on_cpu<const D: usize>(tensor: &Tensor<D>) -> Option<FlexTensor> {
    if tensor.is_autodiff() || !takes(tensor) {
        return None;
    }
    tensor.clone().try_into_primitive::<Flex>().ok()
}

/// The outputs of layers in eight bits, if no gradient is recorded and there are few rows.
fn few_on_cpu<const N: usize>(x: &Tensor<2>, layers: &[LinearLayer; N]) -> Option<[Tensor<2>; N]> {
    let [tokens, _] = x.dims();
    if tokens > FEW_ROWS {
        return None;
    }
    let x = contiguous(plain_on_cpu(x)?);
    let layers = layers.iter().map(|layer| OnCpu::new(layer, tokens));
    let mut layers: Vec<OnCpu<'_>> = layers.collect::<Option<_>>()?;
    let mut parts: Vec<_> = layers.iter_mut().map(OnCpu::part).collect();
    let are_made = products(matrix(&x), &mut parts);
    drop(parts);
    let outputs = are_made.then(|| {
        layers.into_iter().map(|layer| {
            let [_, d_out] = layer.weight.dims();
            Tensor::from_primitive::<Flex>(tensor_of(layer.out, [tokens, d_out]))
        })
    });
    outputs?.collect::<Vec<_>>().try_into().ok()
}

/// The outputs of the body for GPUs, if it takes the layers together.
#[cfg(feature = "gpu")]
fn on_gpu<const N: usize>(x: &Tensor<2>, layers: &[LinearLayer; N]) -> Option<[Tensor<2>; N]> {
    use crate::gpu::{Base, Layer, lora_linears, takes, takes_lora, takes_together};

    let is_taken = |layer: &LinearLayer| {
        let LinearWeight::Dense(weight) = &layer.weight else {
            return false;
        };
        let is_frozen = !crate::flex::is_trained(weight);
        let takes_lora = |lora| takes_lora(x, &layer.bias, &None, lora);
        is_frozen && takes(weight) && layer.lora.as_ref().is_some_and(takes_lora)
    };
    let has_bias = |layer: &LinearLayer| layer.bias.is_some();
    let alike = layers.iter().all(has_bias) || !layers.iter().any(has_bias);
    let dtype = |layer: &LinearLayer| match &layer.weight {
        LinearWeight::Dense(weight) => Some(weight.dtype()),
        LinearWeight::Int8(_) => None,
    };
    let of_one_type = layers.iter().all(|layer| dtype(layer) == dtype(&layers[0]));
    if !(alike && of_one_type && takes_together(x, N) && layers.iter().all(is_taken)) {
        return None;
    }
    let layer = |layer: &LinearLayer| {
        let (LinearWeight::Dense(weight), Some(lora)) = (&layer.weight, layer.lora.clone()) else {
            return None;
        };
        Some(Layer {
            base: Base::Weight(weight.clone()),
            bias: layer.bias.clone(),
            dropout: super::gpu_dropout(x, &layer.bias, &None, &lora)?,
            lora,
        })
    };
    let layers: Option<Vec<Layer>> = layers.iter().map(layer).collect();
    lora_linears(x.clone(), layers?, None).try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_gradients, random};

    const TOKENS: usize = 37;
    const D_IN: usize = 70;
    /// Width and rank of each layer.
    const LAYERS: [[usize; 2]; 3] = [[40, 8], [24, 3], [9, 20]];

    fn lora(dropout: f64, a: Tensor<2>, b: Tensor<2>) -> Lora {
        Lora {
            a,
            b,
            scaling: 1.5,
            dropout,
        }
    }

    /// The first `N` layers together and each alone, of which `used` outputs count.
    fn equals_each<const N: usize>(has_bias: bool, dropout: f64, used: usize) {
        let weights = LAYERS.map(|[d_out, _]| random([D_IN, d_out], 0.1));
        let mut inputs = vec![random([TOKENS, D_IN], 1.0)];
        for [d_out, r] in LAYERS {
            inputs.push(random([1, d_out], 1.0));
            inputs.push(random([r, D_IN], 1.0));
            inputs.push(random([d_out, r], 1.0));
        }
        let layers = |of_layers: &[Tensor<2>]| -> [LinearLayer; N] {
            std::array::from_fn(|layer| {
                let [bias, a, b] = [0, 1, 2].map(|part| of_layers[3 * layer + part].clone());
                let weight = weights[layer].to_data();
                let device = a.device().without_autodiff();
                LinearLayer {
                    weight: LinearWeight::Dense(
                        Tensor::<2>::from_data(weight, &device).cast(a.dtype()),
                    ),
                    bias: has_bias.then(|| bias.squeeze_dim(0)),
                    lora: Some(lora(dropout, a, b)),
                }
            })
        };
        let joined = |outputs: [Tensor<2>; N], of_layers: &[Tensor<2>]| {
            let outputs = Tensor::cat(outputs.into_iter().take(used).collect(), 1);
            // Every input has a gradient, even if that is zero.
            let all = of_layers.iter().map(|input| input.clone().sum() * 0.0);
            outputs + all.reduce(|a, b| a + b).unwrap().unsqueeze()
        };
        // The layers' seeds come to a GPU in two copies, if each comes alone.
        let seeded = |run: &dyn Fn() -> [Tensor<2>; N]| {
            crate::with_seed(5, || {
                (0..255).for_each(|_| _ = crate::seed::next_drawn());
                run()
            })
        };
        let inputs: [Tensor<2>; 10] = inputs.try_into().unwrap();
        assert_same_gradients(
            &inputs,
            |[x, rest @ ..]: [Tensor<2>; 10]| {
                joined(seeded(&|| linears(x.clone(), layers(&rest))), &rest)
            },
            |[x, rest @ ..]: [Tensor<2>; 10]| {
                // On the tape, as the inputs of training are: only there dropout acts.
                let each = || {
                    let x = x.clone().autodiff();
                    layers(&rest).map(|layer| {
                        let LinearWeight::Dense(weight) = layer.weight else {
                            unreachable!("made above")
                        };
                        let weight = weight.autodiff();
                        super::super::plain(x.clone(), weight, layer.bias, None, layer.lora)
                    })
                };
                joined(seeded(&|| crate::with_plain_bodies(each)), &rest)
            },
        );
    }

    /// Few rows in eight bits have the bits of each layer alone, with and without a bias and LoRA.
    #[test]
    fn few_rows_in_eight_bits_equal_each() {
        let d_in = 200;
        for tokens in [1, 3, 4, 5] {
            for [widths, rank] in [[[130, 64, 31], [8, 3, 20]], [[1500, 700, 700], [16, 16, 2]]] {
                let x = random([tokens, d_in], 1.0);
                let layers: [LinearLayer; 3] = std::array::from_fn(|at| {
                    let (d_out, r) = (widths[at], rank[at]);
                    let factors = [random([r, d_in], 0.1), random([d_out, r], 0.1)];
                    let [a, b] = factors;
                    LinearLayer {
                        weight: LinearWeight::Int8(Int8Weight::new(&random([d_in, d_out], 0.1))),
                        bias: (at == 1).then(|| random([1, d_out], 1.0).squeeze_dim(0)),
                        lora: (at != 2 || tokens == 3).then(|| lora(0.1, a, b)),
                    }
                });
                assert_eq!(few_on_cpu(&x, &layers).is_some(), tokens <= FEW_ROWS);
                let found = linears(x.clone(), layers.clone());
                for (found, LinearLayer { weight, bias, lora }) in found.into_iter().zip(layers) {
                    let LinearWeight::Int8(weight) = weight else {
                        unreachable!("made above")
                    };
                    let alone = int8_linear(x.clone(), &weight, bias, None, lora).into_data();
                    found.into_data().assert_eq(&alone, true);
                }
            }
        }
    }

    #[test]
    fn several_layers_equal_each() {
        equals_each::<3>(true, 0.0, 3);
        equals_each::<3>(false, 0.3, 3);
        equals_each::<2>(true, 0.3, 2);
        equals_each::<3>(true, 0.0, 1);
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn several_layers_equal_each_on_a_gpu() {
        crate::testing::on_gpu(several_layers_equal_each);
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn several_layers_equal_each_on_a_gpu_in_16_bits() {
        crate::testing::on_gpu_in_16_bits(several_layers_equal_each);
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn weights_of_two_types_on_a_gpu() {
        use burn::tensor::{FloatDType, Tolerance};

        crate::testing::on_gpu(|| {
            if !crate::testing::device().supports_dtype(FloatDType::F16) {
                return eprintln!("not run: the GPU has no f16");
            }
            let x = random([TOKENS, D_IN], 1.0);
            let layers = [FloatDType::F16, FloatDType::F32].map(|dtype| LinearLayer {
                weight: LinearWeight::Dense(random([D_IN, 40], 0.1).cast(dtype)),
                bias: None,
                lora: Some(lora(0.0, random([8, D_IN], 0.1), random([40, 8], 0.1))),
            });
            let each = layers.clone().map(|layer| {
                let LinearWeight::Dense(weight) = layer.weight else {
                    panic!("not a dense weight");
                };
                linear(x.clone(), weight, None, None, layer.lora)
            });
            for (found, each) in linears(x, layers).into_iter().zip(each) {
                let (found, each) = (found.into_data(), each.into_data());
                found.assert_approx_eq::<f32>(&each, Tolerance::absolute(1e-6));
            }
        });
    }
}
