//! GPT-2's `config.json`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::GPT2LMHeadModel;
use crate::ConfigError;
use crate::Head;
use crate::config::{
    CommonConfig, MAX_LAYERS, MAX_SIZE, ModelConfig, TokenIds, check_dropouts, check_epsilon,
    check_heads, check_initializer_range, check_not_learnt, check_sizes, config_of_keys, from_keys,
    of_class,
};
use crate::parts::Activation;

/// transformers' `GPT2Config`: the same keys and defaults. Keys that are not used are kept in
/// [`extra`](Self::extra) and written back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpt2Config {
    /// Always `gpt2`.
    pub model_type: String,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Longest sequence, in tokens.
    pub n_positions: usize,
    /// Width of the hidden states.
    pub n_embd: usize,
    /// Number of blocks.
    pub n_layer: usize,
    /// Attention heads per block.
    pub n_head: usize,
    /// Width inside the feed-forward part; `None` is `4 * n_embd`, see [`Self::inner_size`].
    pub n_inner: Option<usize>,
    /// The activation function between the two feed-forward layers.
    pub activation_function: Activation,
    /// Dropout of the outputs of attention and feed-forward.
    pub resid_pdrop: f64,
    /// Dropout on the embeddings.
    pub embd_pdrop: f64,
    /// Dropout on the attention weights.
    pub attn_pdrop: f64,
    /// Epsilon of the layer norms.
    pub layer_norm_epsilon: f64,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
    /// Divide attention scores by the square root of the head's width.
    pub scale_attn_weights: bool,
    /// Divide the attention scores of block `i` by `i + 1` as well.
    pub scale_attn_by_inverse_layer_idx: bool,
    /// Whether attention is computed in float32 if the rest is narrower. It has no effect here.
    pub reorder_and_upcast_attn: bool,
    /// Whether the head shares the token embedding's weight.
    pub tie_word_embeddings: bool,
    /// First token of a text, if any.
    pub bos_token_id: Option<i64>,
    /// Tokens that end a text.
    pub eos_token_id: Option<TokenIds>,
    /// The padding token, if any.
    pub pad_token_id: Option<i64>,
    /// The head that the other keys describe.
    #[serde(skip)]
    pub head: Head,
    /// Every other key of the file.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}
impl Default for Gpt2Config {
    fn default() -> Self {
        Self {
            model_type: "gpt2".into(),
            vocab_size: 50257,
            n_positions: 1024,
            n_embd: 768,
            n_layer: 12,
            n_head: 12,
            n_inner: None,
            activation_function: Activation::GeluNew,
            resid_pdrop: 0.1,
            embd_pdrop: 0.1,
            attn_pdrop: 0.1,
            layer_norm_epsilon: 1e-5,
            initializer_range: 0.02,
            scale_attn_weights: true,
            scale_attn_by_inverse_layer_idx: false,
            reorder_and_upcast_attn: false,
            tie_word_embeddings: true,
            bos_token_id: Some(50256),
            eos_token_id: Some(TokenIds::One(50256)),
            pad_token_id: None,
            head: Head::default(),
            extra: Map::new(),
        }
    }
}

impl Gpt2Config {
    /// Width inside the feed-forward part.
    pub fn inner_size(&self) -> usize {
        self.n_inner.unwrap_or(4 * self.n_embd)
    }
}

impl ModelConfig for Gpt2Config {
    type Model = GPT2LMHeadModel;

    config_of_keys!(layers: n_layer);

    fn model_types() -> Vec<&'static str> {
        vec!["gpt2"]
    }

    fn presets() -> Vec<&'static str> {
        vec!["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"]
    }

    fn from_map(keys: Map<String, Value>) -> std::result::Result<Self, ConfigError> {
        let head = Head::of(&keys)?;
        let config: Self = from_keys(keys)?;
        Ok(Self { head, ..config })
    }

    fn prefix(&self) -> Cow<'static, str> {
        "transformer.".into()
    }

    /// Old checkpoints hold the causal mask.
    fn is_buffer(&self, name: &str) -> bool {
        name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias")
    }

    const ATTRIBUTE_MAP: &'static [(&'static str, &'static str)] = &[
        ("hidden_size", "n_embd"),
        ("max_position_embeddings", "n_positions"),
        ("num_attention_heads", "n_head"),
        ("num_hidden_layers", "n_layer"),
    ];

    fn published(name: &str) -> Option<Self> {
        let (n_embd, n_layer, n_head) = match name {
            "gpt2" => (768, 12, 12),
            "gpt2-medium" => (1024, 24, 16),
            "gpt2-large" => (1280, 36, 20),
            "gpt2-xl" => (1600, 48, 25),
            _ => return None,
        };
        Some(Self {
            n_embd,
            n_layer,
            n_head,
            extra: of_class("GPT2LMHeadModel"),
            ..Self::default()
        })
    }

    fn common(&self) -> CommonConfig {
        CommonConfig {
            model_type: self.model_type.clone(),
            vocab_size: self.vocab_size,
            max_positions: self.n_positions,
            hidden_size: self.n_embd,
            num_hidden_layers: self.n_layer,
            num_attention_heads: self.n_head,
            num_key_value_heads: self.n_head,
            head_dim: self.n_embd / self.n_head.max(1),
            has_last_position: true,
            initializer_range: self.initializer_range,
            tie_word_embeddings: self.tie_word_embeddings && self.head.predicts_tokens(),
            eos_token_id: self.eos_token_id.clone(),
        }
    }

    fn set_head(&mut self, head: Head) {
        if let Some(class) = head.class() {
            head.write_beside(
                &mut self.extra,
                &format!("GPT2{class}"),
                &mut self.pad_token_id,
            );
        }
        self.head = head;
    }

    fn language_head(&self) -> &str {
        "lm_head"
    }

    fn check(&self) -> std::result::Result<(), String> {
        check_sizes(&[
            ("vocab_size", self.vocab_size, MAX_SIZE),
            ("n_positions", self.n_positions, MAX_SIZE),
            ("n_embd", self.n_embd, MAX_SIZE),
            ("n_inner", self.n_inner.unwrap_or(1), MAX_SIZE),
            ("n_layer", self.n_layer, MAX_LAYERS),
            ("n_head", self.n_head, MAX_SIZE),
        ])?;
        check_heads(("n_embd", self.n_embd), ("n_head", self.n_head))?;
        check_dropouts(&[
            ("resid_pdrop", self.resid_pdrop),
            ("embd_pdrop", self.embd_pdrop),
            ("attn_pdrop", self.attn_pdrop),
        ])?;
        check_epsilon("layer_norm_epsilon", self.layer_norm_epsilon)?;
        check_initializer_range(self.initializer_range)?;
        check_not_learnt("activation_function", self.activation_function, "GPT-2 has")?;
        if self.extra.get("add_cross_attention") == Some(&Value::Bool(true)) {
            let problem = "is not supported: only decoders without it";
            return Err(format!("add_cross_attention = true {problem}"));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
