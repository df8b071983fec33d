//! HiRA (Huang et al. 2025, "HiRA: Parameter-efficient Hadamard high-rank adaptation").

use std::sync::Arc;

use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Int, Tensor};
use burn_peft_kernels::apply_dropout;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::shared::init_weights::InitWeights;
use super::shared::parts::{dropout, parameter};
use crate::config::check::{PROBABILITY, SIDE, each_within, within};
use crate::config::{CommonConfig, TargetModules};
use crate::{
    Base, Frozen, Init, LayerInfo, LayerKind, LayerMethod, Method, Result, TensorSpec, Tensors,
    target,
};

/// The configuration of HiRA: `y = base(x) + dropout(x) (W ⊙ (B A)ᵀ)` with `A` `[r, d_in]`, `B`
/// `[d_out, r]` and the frozen `W` `[d_in, d_out]` (peft/tuners/hira/layer.py); for an embedding,
/// the rows of `W ⊙ (B A)ᵀ`, without dropout.
///
/// It costs `r (d_in + d_out)` parameters per layer, the same as LoRA, for a change of full rank; and
/// the memory of a gradient the size of the weight, since the product with `W` has to be computed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct HiraConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The rank of `B A`.
    pub r: usize,
    /// The probability of dropping an element of the adapter's input.
    pub hira_dropout: f64,
    /// Written back as read: PEFT does not set it from the kind of layer.
    pub fan_in_fan_out: bool,
    /// How `A` and `B` start.
    pub init_weights: InitWeights,
    /// Ranks of single layers, by pattern.
    pub rank_pattern: IndexMap<String, usize>,
}

impl Default for HiraConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            r: 32,
            hira_dropout: 0.0,
            fan_in_fan_out: false,
            init_weights: InitWeights::Flag(true),
            rank_pattern: IndexMap::new(),
        }
    }
}

crate::peft_config!(HiraConfig, "HIRA", "Hira", without: []);

impl Method for HiraConfig {
    crate::method_of_keys!();

    fn validate(&self) -> Result<()> {
        within("r", self.r, SIDE)?;
        each_within("rank_pattern", &self.rank_pattern, SIDE)?;
        self.init_weights.check(&["gaussian"])?;
        within("hira_dropout", self.hira_dropout, PROBABILITY)
    }

    fn supports(&self, layer: &LayerInfo) -> bool {
        use LayerKind::{Conv1D, Embedding, Linear};
        matches!(layer.kind, Linear | Conv1D | Embedding)
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::lora_target_modules(model_type)
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        let rank = target::pattern_value("rank_pattern", &self.rank_pattern, &layer.path)?;
        Ok(Arc::new(HiraLayer {
            r: rank.copied().unwrap_or(self.r),
            d_in: layer.d_in,
            d_out: layer.d_out,
            names: match layer.kind {
                LayerKind::Embedding => ["hira_embedding_A", "hira_embedding_B"],
                _ => ["hira_A", "hira_B"],
            },
            dropout: DropoutConfig::new(self.hira_dropout).init(),
            init: self.init_weights.clone(),
        }))
    }
}

/// HiRA at one layer.
#[derive(Debug)]
struct HiraLayer {
    r: usize,
    d_in: usize,
    d_out: usize,
    /// The names of `A` and `B`.
    names: [&'static str; 2],
    dropout: Dropout,
    init: InitWeights,
}

impl HiraLayer {
    /// `W ⊙ (B A)ᵀ`, `[d_in, d_out]`.
    fn change(&self, tensors: &Tensors<'_>, weight: Tensor<2>) -> Tensor<2> {
        let [a, b] = self.names.map(|name| tensors.matrix(name));
        weight * a.transpose().matmul(b.transpose())
    }
}

impl LayerMethod for HiraLayer {
    fn prefix(&self) -> &str {
        "hira"
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let [name_a, name_b] = self.names;
        let is_embedding = name_a == "hira_embedding_A";
        let (a, b) = match &self.init {
            InitWeights::Flag(true) | InitWeights::Named(_) if is_embedding => {
                (Init::Zeros, Init::Normal(1.0))
            }
            InitWeights::Flag(true) => (Init::kaiming_uniform(self.d_in), Init::Zeros),
            InitWeights::Flag(false) => (Init::Normal(1.0), Init::Normal(1.0)),
            InitWeights::Named(_) => (Init::Normal(1.0 / self.r as f64), Init::Zeros),
        };
        vec![
            TensorSpec::named(name_a, [self.r, self.d_in])
                .with_init(a)
                .waiting_for(name_b),
            TensorSpec::named(name_b, [self.d_out, self.r])
                .with_init(b)
                .waiting_for(name_a),
        ]
    }

    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        let delta = self.change(tensors, base.weight());
        base.forward(input.clone()) + apply_dropout(&self.dropout, input).matmul(delta)
    }

    fn embed(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<1, Int>,
        base: &Base<'_, Tensor<1, Int>>,
    ) -> Tensor<2> {
        let [a, b] = self.names.map(|name| tensors.matrix(name));
        let factors = a.transpose().select(0, input.clone()).matmul(b.transpose());
        base.forward(input.clone()) + base.weight().select(0, input) * factors
    }

    fn delta_weight(&self, tensors: &Tensors<'_>, layer: &Frozen<'_>) -> Option<Tensor<2>> {
        Some(self.change(tensors, layer.weight()))
    }

    fn parts(&self) -> Vec<(String, String)> {
        vec![
            dropout("hira_dropout", self.dropout.prob),
            parameter(self.names[0], [self.r, self.d_in]),
            parameter(self.names[1], [self.d_out, self.r]),
        ]
    }
}
