//! LN tuning (arXiv 2312.11420): trains the norms.

use std::sync::Arc;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::config::{CommonConfig, TargetModules};
use crate::method::AS_THE_LAYER;
use crate::{
    Base, Frozen, Init, LayerInfo, LayerKind, LayerMethod, Method, Result, TensorSpec, Tensors,
    target,
};

/// The configuration of LN tuning: `y = w ⊙ norm(x) + b` with trained copies `w` and `b` `[d]` of
/// the norm's own parameters (peft/tuners/ln_tuning/layer.py).
///
/// It costs `2 d` parameters per norm. Merging replaces the originals by the copies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct LNTuningConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
}

crate::peft_config!(
    LNTuningConfig, "LN_TUNING", "LNTuning",
    without: ["layers_to_transform", "layers_pattern"]
);

impl Method for LNTuningConfig {
    crate::method_of_keys!();

    fn supports(&self, layer: &LayerInfo) -> bool {
        layer.kind.is_norm()
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::ln_tuning_target_modules(model_type)
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        Ok(Arc::new(NormLayer { d: layer.d_out }))
    }
}

/// One norm.
#[derive(Debug)]
struct NormLayer {
    d: usize,
}

const WEIGHT: &str = "ln_tuning_layers.weight";
const BIAS: &str = "ln_tuning_layers.bias";

impl NormLayer {
    fn bias(&self, tensors: &Tensors<'_>) -> Option<Tensor<1>> {
        tensors.contains(BIAS).then(|| tensors.vector(BIAS))
    }
}

impl LayerMethod for NormLayer {
    fn prefix(&self) -> &str {
        "ln_tuning"
    }

    fn layer_name(&self, _: LayerKind) -> String {
        "ln_tuning.LNTuningLayer".into()
    }

    fn tensors(&self, layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let weight = Init::Data(layer.weight().into_data());
        let mut tensors = vec![TensorSpec::named(WEIGHT, [self.d]).with_init(weight)];
        if let Some(bias) = layer.bias() {
            let bias = Init::Data(bias.into_data());
            tensors.push(TensorSpec::named(BIAS, [self.d]).with_init(bias));
        }
        tensors
    }

    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        let weight = tensors.vector(WEIGHT).unsqueeze();
        base.forward_with(input, weight, self.bias(tensors))
    }

    fn merge(
        &self,
        tensors: &Tensors<'_>,
        _: Tensor<2>,
        _: Option<Tensor<1>>,
    ) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        Some((tensors.vector(WEIGHT).unsqueeze(), self.bias(tensors)))
    }

    fn parts(&self) -> Vec<(String, String)> {
        vec![("ln_tuning_layers".into(), AS_THE_LAYER.into())]
    }
}
