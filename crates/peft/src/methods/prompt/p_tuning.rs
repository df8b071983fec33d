//! P-tuning (arXiv 2103.10385), as PEFT computes it (peft/tuners/p_tuning).
//!
//! ```text
//! hidden = model([F(P); E(x)])    P [num_virtual_tokens, token_dim]
//! MLP:  F(p) = W3 relu(W2 relu(W1 p + b1) + b2) + b3
//! LSTM: F(p) = W2 relu(W1 bilstm(p) + b1) + b2
//! ```
//!
//! `P` and the encoder `F`, of width `encoder_hidden_size`, are trained. Afterwards only `F(P)` is
//! needed, which is all that PEFT saves: `num_virtual_tokens · token_dim` values. With h for
//! `encoder_hidden_size` and d for `token_dim`, an MLP trains about `2 h d + h²` parameters more
//! than prompt tuning, and is less sensitive to the learning rate. It cannot be merged.

use std::sync::Arc;

use burn::nn::DropoutConfig;
use burn::tensor::Tensor;
use burn::tensor::activation::relu;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::encoder::{BiLstm, Linear, spec};
use super::prompt_tuning::{EMBEDDING, PROMPT_EMBEDDINGS, Start, VirtualTokens};
use crate::config::check::{PROBABILITY, SIDE, within};
use crate::config::{Fields, PromptLearning};
use crate::{
    AtModel, Extra, Init, Method, ModelInfo, ModelMethod, Result, TensorSpec, Tensors, Tree,
};

/// The network that computes the virtual tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reparameterization {
    /// Three linear layers.
    #[default]
    #[serde(rename = "MLP")]
    Mlp,
    /// A bidirectional LSTM over the virtual tokens and two linear layers.
    #[serde(rename = "LSTM")]
    Lstm,
}

/// The configuration of p-tuning: PEFT's `PromptEncoderConfig`, key for key.
#[derive(Clone, Debug, PartialEq, burn_peft_derive::KeyDocs)]
pub struct PromptEncoderConfig {
    /// The keys that methods with virtual tokens share.
    pub prompt: PromptLearning,
    /// The network that computes the virtual tokens.
    pub encoder_reparameterization_type: Reparameterization,
    /// Its width; `None` means the model's.
    pub encoder_hidden_size: Option<usize>,
    /// The number of LSTM layers; an MLP always has three linear layers.
    pub encoder_num_layers: usize,
    /// The dropout between LSTM layers.
    pub encoder_dropout: f64,
}

impl PromptEncoderConfig {
    /// The value of `peft_type`.
    pub const PEFT_TYPE: &'static str = "P_TUNING";

    /// This many virtual tokens, computed by an MLP as wide as the model.
    pub fn new(num_virtual_tokens: usize) -> Self {
        Self {
            prompt: PromptLearning::new(num_virtual_tokens),
            encoder_reparameterization_type: Reparameterization::Mlp,
            encoder_hidden_size: None,
            encoder_num_layers: 2,
            encoder_dropout: 0.0,
        }
    }

    pub(in crate::methods) fn read(mut fields: Fields) -> Result<Arc<dyn Method>> {
        let prompt = PromptLearning::from_fields(&mut fields, Self::PEFT_TYPE)?;
        let mut config = Self {
            encoder_reparameterization_type: fields
                .take("encoder_reparameterization_type", Reparameterization::Mlp)?,
            encoder_hidden_size: fields.take("encoder_hidden_size", None)?,
            encoder_num_layers: fields.take("encoder_num_layers", 2)?,
            encoder_dropout: fields.take("encoder_dropout", 0.0)?,
            prompt,
        };
        config.prompt.common.unknown = fields.rest();
        Ok(Arc::new(config))
    }
}

impl Method for PromptEncoderConfig {
    crate::method_of_prompt!("PromptEncoder");

    fn to_json(&self) -> Map<String, Value> {
        let own = [
            (
                "encoder_reparameterization_type",
                json!(self.encoder_reparameterization_type),
            ),
            ("encoder_hidden_size", json!(self.encoder_hidden_size)),
            ("encoder_num_layers", json!(self.encoder_num_layers)),
            ("encoder_dropout", json!(self.encoder_dropout)),
        ];
        self.prompt.to_json(Self::PEFT_TYPE, own)
    }

    fn validate(&self) -> Result<()> {
        self.prompt.validate()?;
        if let Some(width) = self.encoder_hidden_size {
            within("encoder_hidden_size", width, SIDE)?;
        }
        within("encoder_num_layers", self.encoder_num_layers, 1..=100)?;
        within("encoder_dropout", self.encoder_dropout, PROBABILITY)
    }
}

impl AtModel for PromptEncoderConfig {
    fn model_method(&self, model: &ModelInfo) -> Result<(Arc<dyn Method>, Arc<dyn ModelMethod>)> {
        self.validate()?;
        let d = model.token_dim;
        let hidden = self.encoder_hidden_size.unwrap_or(d);
        let config = Self {
            prompt: self.prompt.fitted(model)?,
            encoder_hidden_size: Some(hidden),
            ..self.clone()
        };
        let num_virtual_tokens = self.prompt.num_virtual_tokens;
        if self.common().inference_mode {
            let method = VirtualTokens {
                num_virtual_tokens,
                token_dim: d,
                class_name: "PromptEncoder",
                init: Start::Random,
            };
            return Ok((Arc::new(config), Arc::new(method)));
        }
        let linear = |name, d_in, d_out| Linear { name, d_in, d_out };
        let (lstm, mlp) = match self.encoder_reparameterization_type {
            Reparameterization::Mlp => (
                None,
                vec![
                    linear("mlp_head.0", d, hidden),
                    linear("mlp_head.2", hidden, hidden),
                    linear("mlp_head.4", hidden, d),
                ],
            ),
            Reparameterization::Lstm => (
                Some(BiLstm {
                    name: "lstm_head",
                    d_in: d,
                    hidden,
                    layers: self.encoder_num_layers,
                    dropout: DropoutConfig::new(self.encoder_dropout).init(),
                }),
                vec![
                    linear("mlp_head.0", 2 * hidden, 2 * hidden),
                    linear("mlp_head.2", 2 * hidden, d),
                ],
            ),
        };
        let encoder = PromptEncoder {
            num_virtual_tokens,
            token_dim: d,
            lstm,
            mlp,
        };
        Ok((Arc::new(config), Arc::new(encoder)))
    }
}

/// Virtual tokens with the network that computes them.
#[derive(Debug)]
struct PromptEncoder {
    num_virtual_tokens: usize,
    token_dim: usize,
    lstm: Option<BiLstm>,
    /// With a ReLU between two consecutive layers.
    mlp: Vec<Linear>,
}

impl PromptEncoder {
    /// `F(P)`, `[num_virtual_tokens, token_dim]`.
    fn prompt(&self, tensors: &Tensors<'_>) -> Tensor<2> {
        let mut hidden = tensors.matrix(EMBEDDING);
        if let Some(lstm) = &self.lstm {
            hidden = lstm.forward(tensors, hidden);
        }
        for (index, linear) in self.mlp.iter().enumerate() {
            if index > 0 {
                hidden = relu(hidden);
            }
            hidden = linear.forward(tensors, hidden);
        }
        hidden
    }
}

impl ModelMethod for PromptEncoder {
    fn tensors(&self, _embeddings: &dyn Fn() -> Tensor<2>) -> Vec<TensorSpec> {
        let shape = [self.num_virtual_tokens, self.token_dim];
        let mut tensors = vec![spec(EMBEDDING.into(), shape, Init::Normal(1.0))];
        tensors.extend(self.lstm.iter().flat_map(BiLstm::tensors));
        tensors.extend(self.mlp.iter().flat_map(Linear::tensors));
        tensors
    }

    fn positions(&self) -> usize {
        self.num_virtual_tokens
    }

    fn extra(&self, tensors: &Tensors<'_>) -> Extra {
        Extra {
            embeddings: Some(self.prompt(tensors)),
            ..Extra::default()
        }
    }

    fn output(&self, tensors: &Tensors<'_>) -> Option<(&'static str, Tensor<2>)> {
        Some((PROMPT_EMBEDDINGS, self.prompt(tensors)))
    }

    fn describe(&self) -> Tree {
        let (tokens, d) = (self.num_virtual_tokens, self.token_dim);
        let table = Tree::Leaf(format!("Embedding({tokens}, {d})"));
        let mut children = vec![("embedding", table)];
        if let Some(lstm) = &self.lstm {
            children.push(("lstm_head", lstm.describe()));
        }
        let mut head = Vec::new();
        for linear in &self.mlp {
            if !head.is_empty() {
                head.push((head.len().to_string(), Tree::Leaf("ReLU()".into())));
            }
            head.push((head.len().to_string(), linear.describe()));
        }
        children.push(("mlp_head", Tree::node("Sequential", head)));
        Tree::node("PromptEncoder", children)
    }
}
