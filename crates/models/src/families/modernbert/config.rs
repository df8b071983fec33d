//! ModernBERT's `config.json`.

use std::borrow::Cow;

use burn::nn::{Embedding, Linear};
use burn::tensor::Device;
use burn_peft::config::TaskType;
use burn_peft::{LayerNorm, LoraAdapter};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::ModernBertForMaskedLM;
use crate::config::{
    CommonConfig, MAX_LAYERS, MAX_SIZE, ModelConfig, TokenIds, check_dropouts, check_epsilon,
    check_heads, check_initializer_range, check_not_learnt, check_sizes, config_of_keys, from_keys,
    of_class,
};
use crate::dense::{Keys, ROPE_KEYS, RopeKeys, rope};
use crate::parts::{Activation, Rope, Scaling, random_embedding, random_linear};
use crate::{ConfigError, Head};

/// transformers' `ModernBertConfig`: the same keys and defaults. Keys that are not used are kept in
/// [`extra`](Self::extra) and written back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ModernBertConfig {
    /// Always `modernbert`.
    pub model_type: String,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Attention heads per block.
    pub num_attention_heads: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// The activation of the feed-forward part.
    pub hidden_activation: Activation,
    /// Whether the projections of attention have biases.
    pub attention_bias: bool,
    /// Dropout of the attention weights and of the attention's output.
    pub attention_dropout: f64,
    /// Which blocks see the whole text (`full_attention`), and which see a window
    /// (`sliding_attention`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer_types: Option<Vec<LayerType>>,
    /// Without `layer_types`: one of this many blocks sees the whole text, starting with the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_attn_every_n_layers: Option<usize>,
    /// The size of a window in tokens, half of it to each side.
    pub local_attention: usize,
    /// Whether the layers of the feed-forward part have biases.
    pub mlp_bias: bool,
    /// Dropout inside the feed-forward part.
    pub mlp_dropout: f64,
    /// Dropout on the embeddings.
    pub embedding_dropout: f64,
    /// Epsilon of the norms.
    pub norm_eps: f64,
    /// Whether the norms have biases.
    pub norm_bias: bool,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
    /// Whether the output of the head that predicts tokens has a bias.
    pub decoder_bias: bool,
    /// Which hidden state a classifier uses.
    pub classifier_pooling: ClassifierPooling,
    /// Whether the layer before the output of every head has a bias.
    pub classifier_bias: bool,
    /// The activation after that layer.
    pub classifier_activation: Activation,
    /// Dropout before the scores of a classifier.
    pub classifier_dropout: f64,
    /// The padding token.
    pub pad_token_id: Option<i64>,
    /// Last token of a text, if the file says so.
    pub eos_token_id: Option<TokenIds>,
    /// Whether the head that predicts tokens shares the token embedding's weight.
    pub tie_word_embeddings: bool,
    /// The rotary embeddings of blocks that see the whole text, and of the others.
    #[serde(skip)]
    pub ropes: [Rope; 2],
    /// The head that the other keys describe.
    #[serde(skip)]
    pub head: Head,
    /// Every other key of the file.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// What the attention of a block sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayerType {
    /// The whole text.
    FullAttention,
    /// A window.
    SlidingAttention,
}

/// Which hidden state a classifier uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassifierPooling {
    /// The first token's.
    Cls,
    /// The mean of all tokens'.
    Mean,
}

/// The bases of the wavelengths in blocks without and with a window, and the longest text.
const DEFAULTS: &str = r#"{
    "global_rope_theta": 160000.0, "local_rope_theta": 10000.0, "max_position_embeddings": 8192
}"#;

impl Default for ModernBertConfig {
    fn default() -> Self {
        let rope = |theta| Rope {
            dim: 64,
            theta,
            scaling: Scaling::None,
            attention_factor: 1.0,
        };
        Self {
            model_type: "modernbert".into(),
            vocab_size: 50368,
            max_position_embeddings: 8192,
            num_hidden_layers: 22,
            num_attention_heads: 12,
            hidden_size: 768,
            intermediate_size: 1152,
            hidden_activation: Activation::Gelu,
            attention_bias: false,
            attention_dropout: 0.0,
            layer_types: None,
            global_attn_every_n_layers: None,
            local_attention: 128,
            mlp_bias: false,
            mlp_dropout: 0.0,
            embedding_dropout: 0.0,
            norm_eps: 1e-5,
            norm_bias: false,
            initializer_range: 0.02,
            decoder_bias: true,
            classifier_pooling: ClassifierPooling::Cls,
            classifier_bias: false,
            classifier_activation: Activation::Gelu,
            classifier_dropout: 0.0,
            pad_token_id: Some(50283),
            eos_token_id: Some(TokenIds::One(50282)),
            tie_word_embeddings: true,
            ropes: [rope(160_000.0), rope(10_000.0)],
            head: Head::default().judging_first(),
            extra: Map::new(),
        }
    }
}

impl ModernBertConfig {
    /// The path of everything but the head.
    pub(super) fn base(&self) -> &'static str {
        if self.head.is_none() { "" } else { "model" }
    }

    /// The whole model's class in transformers.
    pub(super) fn class(&self) -> String {
        format!("ModernBert{}", self.head.class().unwrap_or("ForMaskedLM"))
    }

    /// The window of a block with local attention, in the kernel's terms: half of `local_attention`
    /// to each side of a token, and the token itself.
    pub(super) fn window(&self, layer: usize) -> Option<usize> {
        let sliding = self.layer_type(layer) == LayerType::SlidingAttention;
        sliding.then_some(self.local_attention / 2 + 1)
    }

    fn layer_type(&self, layer: usize) -> LayerType {
        let given = self.layer_types.as_ref();
        if let Some(&given) = given.and_then(|types| types.get(layer)) {
            return given;
        }
        let every = self.global_attn_every_n_layers.unwrap_or(3).max(1);
        if layer.is_multiple_of(every) {
            LayerType::FullAttention
        } else {
            LayerType::SlidingAttention
        }
    }

    pub(super) fn linear(
        &self,
        dims: [usize; 2],
        bias: bool,
        device: &Device,
    ) -> LoraAdapter<Linear> {
        random_linear(dims, bias, self.initializer_range, device)
    }

    pub(super) fn embedding(&self, device: &Device) -> LoraAdapter<Embedding> {
        let dims = [self.vocab_size, self.hidden_size];
        random_embedding(dims, self.initializer_range, device)
    }

    pub(super) fn norm(&self, device: &Device) -> LoraAdapter<LayerNorm> {
        let (d, epsilon) = (self.hidden_size, self.norm_eps);
        LoraAdapter::new(if self.norm_bias {
            LayerNorm::new(d, epsilon, device)
        } else {
            LayerNorm::without_bias("LayerNorm", d, epsilon, device)
        })
    }
}

impl ModelConfig for ModernBertConfig {
    type Model = ModernBertForMaskedLM;

    config_of_keys!();

    fn model_types() -> Vec<&'static str> {
        vec!["modernbert"]
    }

    fn presets() -> Vec<&'static str> {
        vec!["modernbert-base", "modernbert-large"]
    }

    fn from_map(keys: Map<String, Value>) -> std::result::Result<Self, ConfigError> {
        let head = Head::of(&keys)?.judging_first();
        let config: Self = from_keys(keys.clone())?;
        let head_dim = config.hidden_size / config.num_attention_heads.max(1);
        let keys = Keys::new(&keys, DEFAULTS);
        let read = |theta, kind| {
            let names = RopeKeys { theta, ..ROPE_KEYS };
            rope(&keys, names, kind, head_dim)
        };
        let ropes = [
            read("global_rope_theta", "full_attention")?,
            read("local_rope_theta", "sliding_attention")?,
        ];
        Ok(Self {
            head,
            ropes,
            ..config
        })
    }

    fn prefix(&self) -> Cow<'static, str> {
        "model.".into()
    }

    /// Of another head.
    fn is_buffer(&self, name: &str) -> bool {
        let others: &[&str] = match self.head.task {
            _ if self.head.is_none() => &["head.", "decoder.", "classifier."],
            TaskType::CausalLm => &["classifier."],
            _ => &["decoder."],
        };
        others.iter().any(|head| name.starts_with(head))
    }

    fn is_new_head(&self, name: &str) -> bool {
        let mut new = ["classifier.", "head."].iter();
        self.head.classifies() && new.any(|head| name.starts_with(head))
    }

    fn published(name: &str) -> Option<Self> {
        let (hidden_size, layers, heads, inner) = match name {
            "modernbert-base" => (768, 22, 12, 1152),
            "modernbert-large" => (1024, 28, 16, 2624),
            _ => return None,
        };
        Some(Self {
            hidden_size,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            intermediate_size: inner,
            classifier_pooling: ClassifierPooling::Mean,
            extra: of_class("ModernBertForMaskedLM"),
            ..Self::default()
        })
    }

    fn common(&self) -> CommonConfig {
        CommonConfig {
            model_type: self.model_type.clone(),
            vocab_size: self.vocab_size,
            max_positions: self.max_position_embeddings,
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_attention_heads,
            head_dim: self.hidden_size / self.num_attention_heads.max(1),
            has_last_position: false,
            initializer_range: self.initializer_range,
            tie_word_embeddings: self.tie_word_embeddings && self.head.predicts_tokens(),
            eos_token_id: self.eos_token_id.clone(),
        }
    }

    fn set_head(&mut self, head: Head) {
        self.head = head.judging_first();
        if self.head.class().is_some() {
            let class = self.class();
            self.head
                .write_beside(&mut self.extra, &class, &mut self.pad_token_id);
        }
    }

    fn language_head(&self) -> &str {
        "decoder"
    }

    fn with_layers(&self, layers: usize) -> Self {
        let types = |_: &Vec<LayerType>| (0..layers).map(|layer| self.layer_type(layer)).collect();
        Self {
            num_hidden_layers: layers,
            layer_types: self.layer_types.as_ref().map(types),
            ..self.clone()
        }
    }

    fn check(&self) -> std::result::Result<(), String> {
        check_sizes(&[
            ("vocab_size", self.vocab_size, MAX_SIZE),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                MAX_SIZE,
            ),
            ("hidden_size", self.hidden_size, MAX_SIZE),
            ("intermediate_size", self.intermediate_size, MAX_SIZE),
            ("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MAX_SIZE),
            ("local_attention", self.local_attention, MAX_SIZE),
        ])?;
        let every = self.global_attn_every_n_layers.unwrap_or(1);
        check_sizes(&[("global_attn_every_n_layers", every, MAX_SIZE)])?;
        let heads = ("num_attention_heads", self.num_attention_heads);
        check_heads(("hidden_size", self.hidden_size), heads)?;
        if let Some(types) = &self.layer_types
            && types.len() != self.num_hidden_layers
        {
            return Err(format!(
                "layer_types has {} entries, and num_hidden_layers is {}",
                types.len(),
                self.num_hidden_layers
            ));
        }
        check_dropouts(&[
            ("attention_dropout", self.attention_dropout),
            ("mlp_dropout", self.mlp_dropout),
            ("embedding_dropout", self.embedding_dropout),
            ("classifier_dropout", self.classifier_dropout),
        ])?;
        check_epsilon("norm_eps", self.norm_eps)?;
        check_initializer_range(self.initializer_range)?;
        let has = "ModernBERT has";
        check_not_learnt("hidden_activation", self.hidden_activation, has)?;
        check_not_learnt("classifier_activation", self.classifier_activation, has)
    }
}
