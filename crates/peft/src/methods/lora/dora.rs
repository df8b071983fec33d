//! DoRA (arXiv 2402.09353): LoRA with a trained magnitude for each output feature.

use burn::tensor::{Int, Tensor};
use burn_peft_kernels::apply_dropout;

use super::layer::LoraLayer;
use crate::{Base, Frozen, Init, LayerKind, LayerMethod, Result, Split, TensorSpec, Tensors};

/// LoRA's `use_dora` at one layer: `y = m / ‖W + ΔW‖ ⊙ (x (W + ΔW)) + b` with LoRA's `ΔW`, the
/// norm over the inputs of each output feature, and a trained `m` `[d_out]` that starts as that
/// norm. As in the paper's section 4.3, the norm itself has no gradient
/// (peft/tuners/lora/dora.py).
///
/// It costs `d_out` parameters per layer in addition to LoRA's, and a product of the size of the
/// weight in every step.
#[derive(Debug)]
pub(super) struct DoraLayer {
    pub lora: LoraLayer,
}

/// The name of the norms.
pub(crate) const MAGNITUDE: &str = "lora_magnitude_vector";

/// The norm of each column of a weight `[d_in, d_out]`, `[1, d_out]`.
pub(super) fn norms(weight: Tensor<2>) -> Tensor<2> {
    weight.square().sum_dim(0).sqrt()
}

impl DoraLayer {
    /// `m / ‖W + ΔW‖`, `[1, d_out]`; only `m` gets a gradient.
    fn factors(&self, tensors: &Tensors<'_>, weight: Tensor<2>) -> Tensor<2> {
        let changed = weight + self.lora.delta(tensors);
        tensors.vector(MAGNITUDE).unsqueeze() / norms(changed).detach()
    }
}

impl LayerMethod for DoraLayer {
    fn prefix(&self) -> &str {
        "lora"
    }

    fn tensors(&self, layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let mut tensors = self.lora.tensors(layer);
        let mut weight = layer.weight();
        if !self.lora.splits() {
            // The initial magnitudes depend on the initial A and B, so those are drawn here.
            let device = weight.device();
            let [a, b] = self.lora.names().map(|name| {
                let spec = tensors.iter_mut().find(|spec| spec.name == name);
                let spec = spec.expect("LoRA has A and B");
                let shape = [spec.shape[0], spec.shape[1]];
                let values: Tensor<2> = spec.init.draw(shape, &device);
                spec.init = Init::Data(values.to_data());
                values
            });
            weight = weight + self.lora.delta_of(a, b);
        }
        let magnitude = TensorSpec::named(MAGNITUDE, [self.lora.d_out]);
        tensors.push(magnitude.with_init(Init::Data(norms(weight).into_data())));
        tensors
    }

    fn takes_weight(&self) -> bool {
        self.lora.takes_weight()
    }

    fn split(&self, layer: &Frozen<'_>) -> Result<Option<Split>> {
        let Some(mut split) = self.lora.split(layer)? else {
            return Ok(None);
        };
        let weight = layer.weight().without_autodiff();
        let device = weight.device();
        let [a, b] = self.lora.names().map(|name| {
            let data = split.tensors.iter().find(|(other, _)| *other == name);
            let (_, data) = data.expect("LoRA splits into A and B");
            Tensor::<2>::from_data(data.clone(), &device)
        });
        let left = split.weight.clone().unwrap_or(weight);
        let norms = norms(left + self.lora.delta_of(a, b));
        split.tensors.push((MAGNITUDE, norms.into_data()));
        Ok(Some(split))
    }

    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        let factors = self.factors(tensors, base.weight());
        let output = base.forward(input.clone());
        let dropped = apply_dropout(&self.lora.dropout, input.clone());
        // The frozen layer's output for the adapter's input.
        let frozen = if self.lora.drops(&input) {
            dropped.clone().matmul(base.weight())
        } else if let Some(bias) = base.bias() {
            output.clone() - bias.unsqueeze()
        } else {
            output.clone()
        };
        let change = self.lora.change(tensors, dropped);
        output + frozen * (factors.clone() - 1.0) + change * factors
    }

    fn embed(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<1, Int>,
        base: &Base<'_, Tensor<1, Int>>,
    ) -> Tensor<2> {
        self.lora.embed(tensors, input, base) * self.factors(tensors, base.weight())
    }

    fn merge(
        &self,
        tensors: &Tensors<'_>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        let factors = self.factors(tensors, weight.clone());
        Some(((weight + self.lora.delta(tensors)) * factors, bias))
    }

    fn layer_name(&self, kind: LayerKind) -> String {
        self.lora.layer_name(kind)
    }

    fn parts(&self) -> Vec<(String, String)> {
        let mut parts = self.lora.parts();
        let module = match self.lora.kind {
            LayerKind::Embedding => "lora.dora.DoraEmbeddingLayer()",
            _ => "lora.dora.DoraLinearLayer()",
        };
        parts.push((MAGNITUDE.into(), module.into()));
        parts
    }
}
