//! LoHa (FedPara, arXiv 2108.06098): a Hadamard product of two low-rank changes.

use std::sync::Arc;

use burn::tensor::Tensor;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::shared::lycoris::{Drops, Ranks, ranks};
use super::shared::parts::parameter;
use crate::config::check::{PROBABILITY, within};
use crate::config::{CommonConfig, TargetModules};
use crate::{
    Base, Frozen, Init, LayerInfo, LayerMethod, Method, Result, TensorSpec, Tensors, target,
};

/// The configuration of LoHa: `y = base(x) + α/r · x ((w1_a w1_b) ⊙ (w2_a w2_b))ᵀ` with `w·_a`
/// `[d_out, r]` and `w·_b` `[r, d_in]` (peft/tuners/loha/layer.py).
///
/// It costs `2 r (d_in + d_out)` parameters a layer, for a change of rank up to `r²`, and memory
/// for a weight's worth of gradient. Python's peft puts it on `Linear` only, not on `Conv1D`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoHaConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The rank of each factor.
    pub r: usize,
    /// α in the scaling α/r.
    pub alpha: serde_json::Number,
    /// The probability with which an output feature gets no change in a step.
    pub rank_dropout: f64,
    /// The probability with which a layer is not adapted in a step.
    pub module_dropout: f64,
    /// Whether `w2_b` starts at zero.
    pub init_weights: bool,
    /// Ranks of single layers, by pattern.
    pub rank_pattern: IndexMap<String, usize>,
    /// α of single layers, by pattern.
    pub alpha_pattern: IndexMap<String, serde_json::Number>,
}

impl Default for LoHaConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            r: 8,
            alpha: 8.into(),
            rank_dropout: 0.0,
            module_dropout: 0.0,
            init_weights: true,
            rank_pattern: IndexMap::new(),
            alpha_pattern: IndexMap::new(),
        }
    }
}

crate::peft_config!(LoHaConfig, "LOHA", "LoHa", without: [], fixed: {
    // For convolutions.
    vec![("use_effective_conv2d", json!(false))]
});

impl Method for LoHaConfig {
    crate::method_of_keys!();

    fn validate(&self) -> Result<()> {
        ranks!(self).validate()?;
        within("rank_dropout", self.rank_dropout, PROBABILITY)?;
        within("module_dropout", self.module_dropout, PROBABILITY)
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::lora_target_modules(model_type)
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        let (r, scaling) = ranks!(self).at(layer)?;
        Ok(Arc::new(LoHaLayer {
            r,
            d_in: layer.d_in,
            d_out: layer.d_out,
            scaling,
            init: self.init_weights,
            drops: Drops {
                rank: self.rank_dropout,
                scaled: true,
                module: self.module_dropout,
            },
        }))
    }
}

/// LoHa at one layer.
#[derive(Debug)]
struct LoHaLayer {
    r: usize,
    d_in: usize,
    d_out: usize,
    scaling: f64,
    init: bool,
    drops: Drops,
}

impl LoHaLayer {
    /// The change of the weight, `[d_in, d_out]`.
    fn change(&self, tensors: &Tensors<'_>) -> Tensor<2> {
        let product = |a, b| tensors.matrix(a).matmul(tensors.matrix(b));
        let (first, second) = (
            product("hada_w1_a", "hada_w1_b"),
            product("hada_w2_a", "hada_w2_b"),
        );
        (first * second).transpose() * self.scaling
    }
}

impl LayerMethod for LoHaLayer {
    fn prefix(&self) -> &str {
        "loha"
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let (r, d_in, d_out) = (self.r, self.d_in, self.d_out);
        let of_a = Init::kaiming_uniform(r);
        let of_b = Init::kaiming_uniform(d_in);
        let last = if self.init { Init::Zeros } else { of_b.clone() };
        let spec = |name, shape: [usize; 2], init, partner| {
            TensorSpec::new(name, name, shape)
                .with_init(init)
                .waiting_for(partner)
        };
        self.drops.resting(vec![
            spec("hada_w1_a", [d_out, r], of_a.clone(), "hada_w2_b"),
            spec("hada_w1_b", [r, d_in], of_b, "hada_w2_b"),
            spec("hada_w2_a", [d_out, r], of_a, "hada_w2_b"),
            spec("hada_w2_b", [r, d_in], last, "hada_w2_a"),
        ])
    }

    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        let delta = self.drops.apply(self.change(tensors), &input);
        base.forward(input.clone()) + input.matmul(delta)
    }

    fn delta_weight(&self, tensors: &Tensors<'_>, _layer: &Frozen<'_>) -> Option<Tensor<2>> {
        Some(self.change(tensors))
    }

    fn parts(&self) -> Vec<(String, String)> {
        let (r, d_in, d_out) = (self.r, self.d_in, self.d_out);
        vec![
            parameter("hada_w1_a", [d_out, r]),
            parameter("hada_w1_b", [r, d_in]),
            parameter("hada_w2_a", [d_out, r]),
            parameter("hada_w2_b", [r, d_in]),
        ]
    }
}
