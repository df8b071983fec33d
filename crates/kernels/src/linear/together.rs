//! Several linear layers with the same input.

use burn::tensor::Tensor;

use super::{Lora, linear};

/// A linear layer, as [`linear`] takes it.
#[derive(Clone, Debug)]
pub struct LinearLayer {
    /// `[d_in, d_out]`.
    pub weight: Tensor<2>,
    /// `[d_out]`.
    pub bias: Option<Tensor<1>>,
    /// What is added to the layer.
    pub lora: Option<Lora>,
}

/// The outputs of several layers for the input `x`, as [`linear`] has them. The body for GPUs
/// computes LoRA's products of all layers together.
///
/// # Panics
/// As [`linear`].
pub fn linears<const N: usize>(x: Tensor<2>, layers: [LinearLayer; N]) -> [Tensor<2>; N] {
    #[cfg(feature = "gpu")]
    if let Some(outputs) = on_gpu(&x, &layers) {
        return outputs;
    }
    layers.map(|layer| linear(x.clone(), layer.weight, layer.bias, None, layer.lora))
}

/// The outputs of the body for GPUs, if it takes the layers together.
#[cfg(feature = "gpu")]
fn on_gpu<const N: usize>(x: &Tensor<2>, layers: &[LinearLayer; N]) -> Option<[Tensor<2>; N]> {
    use crate::gpu::{Base, Layer, lora_linears, takes, takes_lora, takes_together};

    let is_taken = |layer: &LinearLayer| {
        let is_frozen = !crate::flex::is_trained(&layer.weight);
        let takes_lora = |lora| takes_lora(x, &layer.bias, &None, lora);
        is_frozen && takes(&layer.weight) && layer.lora.as_ref().is_some_and(takes_lora)
    };
    let has_bias = |layer: &LinearLayer| layer.bias.is_some();
    let alike = layers.iter().all(has_bias) || !layers.iter().any(has_bias);
    if !(alike && takes_together(x, N) && layers.iter().all(is_taken)) {
        return None;
    }
    let layer = |layer: &LinearLayer| {
        let lora = layer.lora.clone()?;
        Some(Layer {
            base: Base::Weight(layer.weight.clone()),
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
                    weight: Tensor::<2>::from_data(weight, &device).cast(a.dtype()),
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
                        let weight = layer.weight.autodiff();
                        super::super::plain(x.clone(), weight, layer.bias, None, layer.lora)
                    })
                };
                joined(seeded(&|| crate::with_plain_bodies(each)), &rest)
            },
        );
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
}
