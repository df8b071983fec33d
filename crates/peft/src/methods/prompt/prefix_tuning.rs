//! Prefix tuning (arXiv 2101.00190), as PEFT computes it (peft/tuners/prefix_tuning).
//!
//! ```text
//! attention of layer l: softmax(q [K_l; k]ᵀ / √head_dim) [V_l; v]
//! plain:     [K_1; V_1; K_2; …] = P                             P [T, layers · 2 · d]
//! projected: [K_1; V_1; K_2; …] = W2 tanh(W1 p + b1) + b2       P [T, d]
//! ```
//!
//! `T` is `num_virtual_tokens`; `d` is `token_dim`, which here is the width of a layer's keys. K
//! and V are split into heads like the layer's own keys and values. It costs `T · layers · 2 · d`
//! parameters (368,640 for 10 tokens of GPT-2, more than LoRA of rank 8) and `T` positions. The
//! projection, of width `encoder_hidden_size`, costs another `2 · layers · d · encoder_hidden_size`
//! in training and is not saved. It cannot be merged. In generation, the prefix is the first
//! content of the cache.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::activation::tanh;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::encoder::{Linear, spec};
use super::prompt_tuning::{EMBEDDING, PROMPT_EMBEDDINGS};
use crate::config::check::{SIDE, within};
use crate::config::{Fields, PromptLearning};
use crate::{
    AtModel, Extra, Init, Method, ModelInfo, ModelMethod, Result, TensorSpec, Tensors, Tree,
};

/// How a prefix is initialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PrefixInit {
    /// All keys and values are zero. This is not the identity: zeros take a share of the attention.
    #[serde(rename = "zero")]
    Zero,
}

/// The configuration of prefix tuning: PEFT's `PrefixTuningConfig`, key for key.
#[derive(Clone, Debug, Default, PartialEq, burn_peft_derive::KeyDocs)]
pub struct PrefixTuningConfig {
    /// The keys that methods with virtual tokens share.
    pub prompt: PromptLearning,
    /// Whether keys and values are computed by a network.
    pub prefix_projection: bool,
    /// The width of that network; `None` means the model's.
    pub encoder_hidden_size: Option<usize>,
    /// How it is initialised; `None` means at random.
    pub init_weights: Option<PrefixInit>,
}

impl PrefixTuningConfig {
    /// The value of `peft_type`.
    pub const PEFT_TYPE: &'static str = "PREFIX_TUNING";

    /// A prefix of this many positions, without projection.
    pub fn new(num_virtual_tokens: usize) -> Self {
        Self {
            prompt: PromptLearning::new(num_virtual_tokens),
            ..Self::default()
        }
    }

    /// Computes keys and values by a network of this width.
    pub fn with_projection(mut self, encoder_hidden_size: usize) -> Self {
        self.prefix_projection = true;
        self.encoder_hidden_size = Some(encoder_hidden_size);
        self
    }

    pub(in crate::methods) fn read(mut fields: Fields) -> Result<Arc<dyn Method>> {
        let mut config = Self {
            prompt: PromptLearning::from_fields(&mut fields, Self::PEFT_TYPE)?,
            prefix_projection: fields.take("prefix_projection", false)?,
            encoder_hidden_size: fields.take("encoder_hidden_size", None)?,
            init_weights: fields.take("init_weights", None)?,
        };
        config.prompt.common.unknown = fields.rest();
        Ok(Arc::new(config))
    }
}

impl Method for PrefixTuningConfig {
    crate::method_of_prompt!("PrefixEncoder");

    fn to_json(&self) -> Map<String, Value> {
        let own = [
            ("prefix_projection", json!(self.prefix_projection)),
            ("encoder_hidden_size", json!(self.encoder_hidden_size)),
            ("init_weights", json!(self.init_weights)),
        ];
        self.prompt.to_json(Self::PEFT_TYPE, own)
    }

    fn validate(&self) -> Result<()> {
        self.prompt.validate()?;
        match self.encoder_hidden_size {
            Some(width) => within("encoder_hidden_size", width, SIDE),
            None => Ok(()),
        }
    }
}

impl AtModel for PrefixTuningConfig {
    fn model_method(&self, model: &ModelInfo) -> Result<(Arc<dyn Method>, Arc<dyn ModelMethod>)> {
        self.validate()?;
        // With grouped queries, the sizes are those of keys and values.
        let heads = model.num_key_value_heads;
        let d = heads * model.head_dim;
        let model = ModelInfo {
            token_dim: d,
            num_attention_heads: heads,
            ..model.clone()
        };
        let hidden = self.encoder_hidden_size.unwrap_or(d);
        let config = Self {
            prompt: self.prompt.fitted(&model)?,
            encoder_hidden_size: Some(hidden),
            ..self.clone()
        };
        let linear = |name, d_in, d_out| Linear { name, d_in, d_out };
        let is_projected = self.prefix_projection && !self.common().inference_mode;
        let encoder = PrefixEncoder {
            positions: self.prompt.num_virtual_tokens,
            layers: model.num_layers,
            heads,
            token_dim: d,
            transform: is_projected.then(|| {
                [
                    linear("transform.0", d, hidden),
                    linear("transform.2", hidden, 2 * model.num_layers * d),
                ]
            }),
            starts_at_zero: self.init_weights == Some(PrefixInit::Zero),
        };
        Ok((Arc::new(config), Arc::new(encoder)))
    }
}

/// Keys and values of every layer, or the network that computes them.
#[derive(Debug)]
struct PrefixEncoder {
    positions: usize,
    layers: usize,
    heads: usize,
    token_dim: usize,
    transform: Option<[Linear; 2]>,
    starts_at_zero: bool,
}

impl PrefixEncoder {
    /// All keys and values, `[positions, layers · 2 · d]`.
    fn prefix(&self, tensors: &Tensors<'_>) -> Tensor<2> {
        let embedding = tensors.matrix(EMBEDDING);
        match &self.transform {
            Some([first, second]) => {
                second.forward(tensors, tanh(first.forward(tensors, embedding)))
            }
            None => embedding,
        }
    }

    fn width(&self) -> usize {
        match self.transform {
            Some(_) => self.token_dim,
            None => 2 * self.layers * self.token_dim,
        }
    }
}

impl ModelMethod for PrefixEncoder {
    fn tensors(&self, _embeddings: &dyn Fn() -> Tensor<2>) -> Vec<TensorSpec> {
        let shape = [self.positions, self.width()];
        let Some(transform) = &self.transform else {
            let init = if self.starts_at_zero {
                Init::Zeros
            } else {
                Init::Normal(1.0)
            };
            let prefix = TensorSpec::new(EMBEDDING, PROMPT_EMBEDDINGS, shape);
            return vec![prefix.with_init(init)];
        };
        let mut tensors = vec![spec(EMBEDDING.into(), shape, Init::Normal(1.0))];
        tensors.extend(transform.iter().flat_map(Linear::tensors));
        if self.starts_at_zero {
            for (index, tensor) in tensors.iter_mut().enumerate() {
                match index {
                    0..3 => tensor.waits_for = Some("transform.2.weight"),
                    _ => tensor.init = Init::Zeros,
                }
            }
        }
        tensors
    }

    fn positions(&self) -> usize {
        self.positions
    }

    fn extra(&self, tensors: &Tensors<'_>) -> Extra {
        let (positions, d, heads) = (self.positions, self.token_dim, self.heads);
        let prefix = self.prefix(tensors);
        let part = |index: usize| {
            let part = prefix
                .clone()
                .slice([0..positions, index * d..(index + 1) * d]);
            part.reshape([positions, heads, d / heads]).swap_dims(0, 1)
        };
        let layers = 0..self.layers;
        Extra {
            embeddings: None,
            keys_and_values: layers.map(|l| (part(2 * l), part(2 * l + 1))).collect(),
        }
    }

    fn output(&self, tensors: &Tensors<'_>) -> Option<(&'static str, Tensor<2>)> {
        let is_projected = self.transform.is_some();
        is_projected.then(|| (PROMPT_EMBEDDINGS, self.prefix(tensors)))
    }

    fn describe(&self) -> Tree {
        let (positions, width) = (self.positions, self.width());
        let table = Tree::Leaf(format!("Embedding({positions}, {width})"));
        let mut children = vec![("embedding", table)];
        if let Some([first, second]) = &self.transform {
            let parts = [
                first.describe(),
                Tree::Leaf("Tanh()".into()),
                second.describe(),
            ];
            let parts = parts.into_iter().enumerate();
            let parts = parts.map(|(index, part)| (index.to_string(), part));
            let parts = Tree::node("Sequential", parts);
            children.push(("transform", parts));
        }
        Tree::node("PrefixEncoder", children)
    }
}
