//! LoRA's configuration as a method: what it does to a model.

use std::sync::Arc;

use burn::nn::DropoutConfig;
use burn::tensor::TensorData;
use indexmap::IndexMap;
use serde_json::{Map, Value};

use super::conv::ConvLora;
use super::dora::DoraLayer;
use super::layer::LoraLayer;
use super::read::optional_keys;
use crate::config::{Bias, CommonConfig, InitLoraWeights, LoraConfig, TargetModules};
use crate::{
    AtEmbeddings, LayerInfo, LayerKind, LayerMethod, Method, PeftError, Result, StateDict,
    TakesWeight, target,
};

impl LoraConfig {
    /// Warns of keys about the initial values that have no effect on these adapted layers.
    fn warn_of_start(&self, layers: &[&LayerInfo]) {
        let init = self.init_lora_weights;
        if self.loftq_config.is_some() && init != InitLoraWeights::Loftq {
            tracing::warn!(
                "loftq_config has no effect with init_lora_weights = {}: it is for \"loftq\"",
                init.to_json()
            );
        }
        let embeddings = layers.iter();
        let embeddings = embeddings.filter(|layer| layer.kind == LayerKind::Embedding);
        let paths: Vec<&str> = embeddings.map(|layer| layer.path.as_str()).collect();
        if init.splits() && !paths.is_empty() {
            tracing::warn!(
                "init_lora_weights = {} has no effect on {}: an embedding begins as with true",
                init.to_json(),
                paths.join(", ")
            );
        }
    }
}

impl Method for LoraConfig {
    fn peft_type(&self) -> &str {
        "LORA"
    }

    fn class_name(&self) -> &str {
        "Lora"
    }

    fn common(&self) -> &CommonConfig {
        &self.common
    }

    fn with_common(&self, common: CommonConfig) -> Arc<dyn Method> {
        let mut config = self.clone();
        config.common = common;
        Arc::new(config)
    }

    fn attached(&self, common: CommonConfig, layers: &[&LayerInfo]) -> Arc<dyn Method> {
        let mut config = self.clone();
        config.common = common;
        // PEFT sets the flag from the kind of the layers, so a file for it has to contain the
        // result.
        config.fan_in_fan_out |= layers.iter().any(|layer| layer.kind == LayerKind::Conv1D);
        if !config.common.inference_mode {
            config.warn_of_start(layers);
        }
        Arc::new(config)
    }

    fn to_json(&self) -> Map<String, Value> {
        LoraConfig::to_json(self)
    }

    fn optional_keys(&self) -> Vec<&'static str> {
        optional_keys()
    }

    fn validate(&self) -> Result<()> {
        LoraConfig::validate(self)
    }

    fn supports(&self, layer: &LayerInfo) -> bool {
        layer.kind.is_linear() || layer.kind.is_convolution() || layer.kind == LayerKind::Embedding
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::lora_target_modules(model_type)
    }

    fn bias(&self) -> Bias {
        self.bias
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        let is_tied = self.ensure_weight_tying && layer.is_input;
        if is_tied && self.use_dora {
            return Err(PeftError::conflict(
                &["ensure_weight_tying", "use_dora"],
                format!(
                    "ensure_weight_tying = true cannot be used with use_dora = true on {}: \
                     the magnitudes of an embedding are not those of the output layer",
                    layer.path
                ),
            ));
        }
        let dropout = DropoutConfig::new(self.lora_dropout).init();
        if let Some(conv) = layer.conv.clone() {
            return Ok(Arc::new(ConvLora::new(self, layer, conv, dropout)?));
        }
        let lora = LoraLayer {
            kind: layer.kind,
            d_in: layer.d_in,
            d_out: layer.d_out,
            r: self.rank(&layer.path)?,
            scaling: self.scaling(&layer.path)?,
            dropout,
            init: self.init_lora_weights,
            loftq: self.loftq_config.unwrap_or_default(),
            lora_bias: self.lora_bias && layer.kind != LayerKind::Embedding,
            is_tied,
        };
        Ok(if self.use_dora {
            Arc::new(DoraLayer { lora })
        } else {
            Arc::new(lora)
        })
    }

    fn at_embeddings(&self) -> Option<&dyn AtEmbeddings> {
        Some(self)
    }

    fn takes_weight(&self) -> Option<&dyn TakesWeight> {
        Some(self)
    }
}

impl AtEmbeddings for LoraConfig {
    fn ensure_weight_tying(&self) -> bool {
        self.ensure_weight_tying
    }

    fn further_layers(&self, layers: &[LayerInfo]) -> Result<Vec<(String, Arc<dyn LayerMethod>)>> {
        match &self.trainable_token_indices {
            Some(indices) => indices.layers(layers),
            None => Ok(Vec::new()),
        }
    }
}

impl TakesWeight for LoraConfig {
    /// PEFT's `subtract_mutated_init`: `B A - B₀ A₀` is `[B, -B₀] [A; A₀]`, of twice the rank.
    fn subtract_initial(
        &self,
        now: StateDict,
        mut initial: IndexMap<String, TensorData>,
    ) -> Result<(Arc<dyn Method>, StateDict)> {
        if !self.init_lora_weights.splits() || self.use_dora {
            return Err(PeftError::NotConvertible {
                problem: format!(
                    "only an adapter that took a part of the base's weights can be \
                     converted, and no DoRA: this one has init_lora_weights = {} and \
                     use_dora = {}",
                    self.init_lora_weights.to_json(),
                    self.use_dora
                ),
            });
        }
        let mut converted = Vec::new();
        for (key, data) in now {
            let data = match (key.contains("lora_A"), key.contains("lora_B")) {
                (false, false) => data,
                (is_a, _) => {
                    let first = initial.swap_remove(&key);
                    let first = first.filter(|first| first.shape() == data.shape());
                    let first = first.ok_or_else(|| PeftError::NotConvertible {
                        problem: format!(
                            "the initial adapter has no {key} of shape {:?}: it is another's",
                            data.shape().to_vec()
                        ),
                    })?;
                    if is_a {
                        stacked(&data, &first)
                    } else {
                        beside(&data, &first)
                    }
                }
            };
            converted.push((key, data));
        }
        let mut config = self.clone();
        let twice = if self.use_rslora { 2.0_f64.sqrt() } else { 2.0 };
        config.r *= 2;
        config.lora_alpha *= twice;
        config.rank_pattern.values_mut().for_each(|rank| *rank *= 2);
        config
            .alpha_pattern
            .values_mut()
            .for_each(|alpha| *alpha *= twice);
        config.init_lora_weights = InitLoraWeights::True;
        config.loftq_config = None;
        Ok((Arc::new(config), converted))
    }
}

/// `[a; b]` for two matrices of the same shape.
fn stacked(a: &TensorData, b: &TensorData) -> TensorData {
    let values: Vec<f32> = a.iter::<f32>().chain(b.iter::<f32>()).collect();
    TensorData::new(values, [2 * a.shape()[0], a.shape()[1]])
}

/// `[a, -b]` for two matrices of the same shape.
fn beside(a: &TensorData, b: &TensorData) -> TensorData {
    let [rows, columns] = [a.shape()[0], a.shape()[1]];
    let (a, b): (Vec<f32>, Vec<f32>) = (a.iter::<f32>().collect(), b.iter::<f32>().collect());
    let rows_of = a.chunks(columns).zip(b.chunks(columns));
    let values = rows_of.flat_map(|(a, b)| a.iter().copied().chain(b.iter().map(|b| -b)));
    TensorData::new(values.collect::<Vec<f32>>(), [rows, 2 * columns])
}
