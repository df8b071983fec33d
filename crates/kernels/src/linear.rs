//! A linear layer with a frozen or trained weight, a bias, a residual that it is added to, and LoRA.

mod on_cpu;
#[cfg(test)]
mod tests;
mod together;

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use self::on_cpu::{Factors, LinearKernel};
use crate::cpu::dropout;
use crate::flex::{Optional, takes, takes_weight};
use crate::product::product;
use crate::quantized::QuantizedWeight;
use crate::stored::Stored;
use crate::{BlockWeight, Int8Weight, draw_seed, is_specialised};

pub use self::together::{LinearLayer, LinearWeight, linears};

/// The low-rank part of a linear layer: `scaling · dropout(x) aᵀ bᵀ` (arXiv 2106.09685).
#[derive(Clone, Debug)]
pub struct Lora {
    /// `[r, d_in]`.
    pub a: Tensor<2>,
    /// `[d_out, r]`.
    pub b: Tensor<2>,
    /// `lora_alpha / r`, or what replaces it (`lora_alpha / √r` in rsLoRA).
    pub scaling: f64,
    /// The share of the input's values that training sets to zero.
    pub dropout: f64,
}

impl Lora {
    /// What it adds to the output, `[tokens, d_out]`, for the input `x`, `[tokens, d_in]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        // Scaling the [tokens, r] product is d_out / r times cheaper than scaling the result.
        let hidden = crate::dropout(x, self.dropout).matmul(self.a.clone().transpose());
        (hidden * self.scaling).matmul(self.b.clone().transpose())
    }

    /// The change of the weight that adds the same without dropout, `[d_in, d_out]`.
    pub fn delta_weight(&self) -> Tensor<2> {
        let product = self.a.clone().transpose();
        product.matmul(self.b.clone().transpose()) * self.scaling
    }
}

/// `x · weight + bias + residual + lora`: `x` is `[tokens, d_in]`, `weight` `[d_in, d_out]`,
/// `bias` `[d_out]`, `residual` and result `[tokens, d_out]`.
///
/// The CPU's body adds the product to bias and residual in place. It keeps `x aᵀ`, `[tokens, r]`,
/// and the input if a gradient needs it, and makes only the gradients of what is tracked. Dropout
/// is repeated from its seed for the gradient.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn linear(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<2>>,
    lora: Option<Lora>,
) -> Tensor<2> {
    if !(takes_weight(&weight) && takes_all(&x, &bias, &residual, &lora)) {
        return plain(x, weight, bias, residual, lora);
    }
    fused(
        x,
        Stored::Dense(weight.into_dispatch()),
        bias,
        residual,
        lora,
    )
}

/// As [`linear`], with a quantised weight. Its values are made for each product of both passes and
/// dropped after it.
pub fn quantized_linear(
    x: Tensor<2>,
    weight: &QuantizedWeight,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<2>>,
    lora: Option<Lora>,
) -> Tensor<2> {
    if !(is_specialised(&x.device()) && takes_all(&x, &bias, &residual, &lora)) {
        return plain_onto(weight.product(x.clone()), x, bias, residual, lora);
    }
    let (codes, absmax, _, form) = weight.parts();
    let weight = Stored::Quantized {
        codes,
        absmax,
        form,
    };
    fused(x, weight, bias, residual, lora)
}

/// As [`linear`], with a weight in blocks, which are unpacked while they are read. The plain body
/// makes the weight dense.
pub fn block_linear(
    x: Tensor<2>,
    weight: &BlockWeight,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<2>>,
    lora: Option<Lora>,
) -> Tensor<2> {
    if !(is_specialised(&x.device()) && takes_all(&x, &bias, &residual, &lora)) {
        let weight = weight.dequantize(&x.device());
        return plain(x, weight, bias, residual, lora);
    }
    fused(x, Stored::Blocks(weight.clone()), bias, residual, lora)
}

/// As [`linear`], with a weight whose products are made in eight bits in both passes; those of LoRA
/// are in 32 bits. The plain body makes the weight dense and multiplies in 32 bits.
pub fn int8_linear(
    x: Tensor<2>,
    weight: &Int8Weight,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<2>>,
    lora: Option<Lora>,
) -> Tensor<2> {
    if !(is_specialised(&x.device()) && takes_all(&x, &bias, &residual, &lora)) {
        let weight = weight.dequantize(&x.device());
        return plain(x, weight, bias, residual, lora);
    }
    fused(x, Stored::Int8(weight.clone()), bias, residual, lora)
}

/// Whether the specialised body takes everything but the weight.
fn takes_all(
    x: &Tensor<2>,
    bias: &Option<Tensor<1>>,
    residual: &Option<Tensor<2>>,
    lora: &Option<Lora>,
) -> bool {
    let takes_lora = lora.iter().all(|lora| takes(&lora.a) && takes(&lora.b));
    takes(x) && bias.iter().all(takes) && residual.iter().all(takes) && takes_lora
}

/// The share that dropout sets to zero. Like Burn's own, it acts only on devices that record
/// gradients.
fn acting_dropout(x: &Tensor<2>, lora: &Lora) -> f64 {
    let trains = x.is_autodiff() || lora.a.is_autodiff();
    if trains && crate::dropout::drops() {
        lora.dropout
    } else {
        0.0
    }
}

fn fused(
    x: Tensor<2>,
    weight: Stored<Dispatch>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<2>>,
    lora: Option<Lora>,
) -> Tensor<2> {
    let dropout = lora.as_ref().map_or(0.0, |lora| acting_dropout(&x, lora));
    let dropout = if dropout > 0.0 {
        dropout::new(dropout, draw_seed(&x.device()))
    } else {
        None
    };
    let factors = Factors {
        scaling: lora.as_ref().map_or(0.0, |lora| lora.scaling) as f32,
        dropout,
    };
    let (a, b) = lora.map(|lora| (lora.a, lora.b)).unzip();
    Tensor::from_dispatch(Dispatch::linear_kernel(
        x.into_dispatch(),
        weight,
        Optional::of(bias),
        Optional::of(residual),
        Optional::of(a),
        Optional::of(b),
        factors,
    ))
}

fn plain(
    x: Tensor<2>,
    weight: Tensor<2>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<2>>,
    lora: Option<Lora>,
) -> Tensor<2> {
    #[cfg(feature = "gpu")]
    if let Some(lora) = &lora
        && crate::gpu::takes(&weight)
        && !crate::flex::is_trained(&weight)
        && let Some(dropout) = gpu_dropout(&x, &bias, &residual, lora)
    {
        let layer = crate::gpu::Layer {
            base: crate::gpu::Base::Weight(weight),
            bias,
            lora: lora.clone(),
            dropout,
        };
        return crate::gpu::lora_linear(x, layer, residual);
    }
    let output = product(x.clone(), weight);
    plain_onto(output, x, bias, residual, lora)
}

/// The dropout of LoRA in the body for GPUs; `None` if that body does not take the arguments other
/// than the base. Dropout needs a seed from [`with_seed`](crate::with_seed): without one the plain
/// body leaves it to Burn.
#[cfg(feature = "gpu")]
fn gpu_dropout(
    x: &Tensor<2>,
    bias: &Option<Tensor<1>>,
    residual: &Option<Tensor<2>>,
    lora: &Lora,
) -> Option<Option<crate::gpu::Masked>> {
    if !crate::gpu::takes_lora(x, bias, residual, lora) {
        return None;
    }
    let probability = acting_dropout(x, lora);
    if probability == 0.0 {
        return Some(None);
    }
    let drawn = crate::seed::next_drawn()?;
    Some(crate::gpu::Masked::new(probability, drawn))
}

/// Adds bias, LoRA's part and residual to `output`, the product with the weight.
fn plain_onto(
    mut output: Tensor<2>,
    x: Tensor<2>,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<2>>,
    lora: Option<Lora>,
) -> Tensor<2> {
    #[cfg(feature = "gpu")]
    if let Some(lora) = &lora
        && crate::gpu::takes_both(&x, &output)
        && let Some(dropout) = gpu_dropout(&x, &bias, &residual, lora)
    {
        let layer = crate::gpu::Layer {
            base: crate::gpu::Base::Product(output),
            bias,
            lora: lora.clone(),
            dropout,
        };
        return crate::gpu::lora_linear(x, layer, residual);
    }
    if let Some(bias) = bias {
        output = output + bias.unsqueeze();
    }
    if let Some(lora) = lora {
        output = output + lora.forward(x);
    }
    match residual {
        Some(residual) => residual + output,
        None => output,
    }
}
