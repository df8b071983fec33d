//! DistilBERT's `config.json`.

use std::borrow::Cow;

use burn::nn::{Embedding, Linear};
use burn::tensor::Device;
use burn::tensor::activation::relu;
use burn_peft::config::TaskType;
use burn_peft::{LayerNorm, LoraAdapter};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::DistilBertForMaskedLM;
use crate::config::{
    CommonConfig, MAX_LAYERS, MAX_SIZE, ModelConfig, TokenIds, check_dropouts, check_heads,
    check_initializer_range, check_not_learnt, check_sizes, config_of_keys, from_keys, of_class,
};
use crate::encoder::{ClassifierNames, EncoderNames, MaskedNames, check_unsupported};
use crate::parts::{Activation, random_embedding, random_linear};
use crate::{ConfigError, Head};

/// transformers' `DistilBertConfig`: the same keys and defaults. Keys that are not used are kept in
/// [`extra`](Self::extra) and written back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct DistilBertConfig {
    /// Always `distilbert`.
    pub model_type: String,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Longest sequence, in tokens.
    pub max_position_embeddings: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Attention heads per block.
    pub n_heads: usize,
    /// Width of the hidden states.
    pub dim: usize,
    /// Width inside the feed-forward part.
    pub hidden_dim: usize,
    /// Dropout of the embeddings and of the feed-forward part's output.
    pub dropout: f64,
    /// Dropout on the attention weights.
    pub attention_dropout: f64,
    /// The activation function between the two feed-forward layers.
    pub activation: Activation,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
    /// Dropout before the scores of a text classifier.
    pub seq_classif_dropout: f64,
    /// The padding token.
    pub pad_token_id: Option<i64>,
    /// Last token of a text, if the file says so.
    pub eos_token_id: Option<TokenIds>,
    /// Whether the head that predicts tokens shares the token embedding's weight.
    pub tie_word_embeddings: bool,
    /// The head that the other keys describe.
    #[serde(skip)]
    pub head: Head,
    /// Every other key of the file.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Default for DistilBertConfig {
    fn default() -> Self {
        Self {
            model_type: "distilbert".into(),
            vocab_size: 30522,
            max_position_embeddings: 512,
            n_layers: 6,
            n_heads: 12,
            dim: 768,
            hidden_dim: 4 * 768,
            dropout: 0.1,
            attention_dropout: 0.1,
            activation: Activation::Gelu,
            initializer_range: 0.02,
            seq_classif_dropout: 0.2,
            pad_token_id: Some(0),
            eos_token_id: None,
            tie_word_embeddings: true,
            head: Head::default().judging_first(),
            extra: Map::new(),
        }
    }
}

/// The epsilon of all norms.
pub(super) const EPSILON: f64 = 1e-12;

/// The names of the head that predicts tokens.
pub(super) const MASKED: MaskedNames = MaskedNames {
    dense: "vocab_transform",
    norm: "vocab_layer_norm",
    bias: "vocab_projector",
    output: "vocab_projector",
};

/// The names in its checkpoints.
const NAMES: EncoderNames = EncoderNames {
    base: "distilbert",
    masked: &["vocab_transform.", "vocab_layer_norm.", "vocab_projector."],
};

impl DistilBertConfig {
    /// The path of everything but the head.
    pub(super) fn base(&self) -> &'static str {
        NAMES.base_of(&self.head)
    }

    /// The suffix of the whole model's class name in transformers.
    pub(super) fn class_of_head(&self) -> &'static str {
        self.head.class().unwrap_or("ForMaskedLM")
    }

    /// The names of a classifier's head.
    pub(super) fn classifier(&self) -> ClassifierNames {
        let of_texts = self.head.task == TaskType::SeqCls;
        ClassifierNames {
            dense: of_texts.then_some("pre_classifier"),
            activation: relu,
            drops_input: false,
            output: "classifier",
        }
    }

    /// Dropout before the scores of a classifier.
    pub(super) fn head_dropout(&self) -> f64 {
        if self.head.task == TaskType::SeqCls {
            self.seq_classif_dropout
        } else {
            self.dropout
        }
    }

    pub(super) fn linear(&self, d_in: usize, d_out: usize, device: &Device) -> LoraAdapter<Linear> {
        random_linear([d_in, d_out], true, self.initializer_range, device)
    }

    pub(super) fn embedding(&self, rows: usize, device: &Device) -> LoraAdapter<Embedding> {
        random_embedding([rows, self.dim], self.initializer_range, device)
    }

    pub(super) fn norm(&self, device: &Device) -> LoraAdapter<LayerNorm> {
        LoraAdapter::new(LayerNorm::new(self.dim, EPSILON, device))
    }
}

impl ModelConfig for DistilBertConfig {
    type Model = DistilBertForMaskedLM;

    config_of_keys!(layers: n_layers);

    fn model_types() -> Vec<&'static str> {
        vec!["distilbert"]
    }

    fn presets() -> Vec<&'static str> {
        vec!["distilbert-base-uncased"]
    }

    const ATTRIBUTE_MAP: &'static [(&'static str, &'static str)] = &[
        ("hidden_size", "dim"),
        ("num_attention_heads", "n_heads"),
        ("num_hidden_layers", "n_layers"),
    ];

    fn from_map(keys: Map<String, Value>) -> std::result::Result<Self, ConfigError> {
        let head = Head::of(&keys)?.judging_first();
        let config: Self = from_keys(keys)?;
        Ok(Self { head, ..config })
    }

    fn prefix(&self) -> Cow<'static, str> {
        "distilbert.".into()
    }

    fn names_in_file(&self, name: &str) -> Vec<String> {
        NAMES.in_file(name)
    }

    fn is_buffer(&self, name: &str) -> bool {
        NAMES.is_buffer(&self.head, false, name)
    }

    fn published(name: &str) -> Option<Self> {
        (name == "distilbert-base-uncased").then(|| Self {
            extra: of_class("DistilBertForMaskedLM"),
            ..Self::default()
        })
    }

    fn common(&self) -> CommonConfig {
        CommonConfig {
            model_type: self.model_type.clone(),
            vocab_size: self.vocab_size,
            max_positions: self.max_position_embeddings,
            hidden_size: self.dim,
            num_hidden_layers: self.n_layers,
            num_attention_heads: self.n_heads,
            num_key_value_heads: self.n_heads,
            head_dim: self.dim / self.n_heads.max(1),
            has_last_position: true,
            initializer_range: self.initializer_range,
            tie_word_embeddings: self.tie_word_embeddings && self.head.predicts_tokens(),
            eos_token_id: self.eos_token_id.clone(),
        }
    }

    fn set_head(&mut self, head: Head) {
        self.head = head.judging_first();
        if self.head.class().is_some() {
            let class = format!("DistilBert{}", self.class_of_head());
            self.head
                .write_beside(&mut self.extra, &class, &mut self.pad_token_id);
        }
    }

    fn language_head(&self) -> &str {
        MASKED.output
    }

    fn is_new_head(&self, name: &str) -> bool {
        NAMES.is_new_head(&self.head, name)
    }

    fn check(&self) -> std::result::Result<(), String> {
        check_unsupported(&self.extra)?;
        check_sizes(&[
            ("vocab_size", self.vocab_size, MAX_SIZE),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                MAX_SIZE,
            ),
            ("dim", self.dim, MAX_SIZE),
            ("hidden_dim", self.hidden_dim, MAX_SIZE),
            ("n_layers", self.n_layers, MAX_LAYERS),
            ("n_heads", self.n_heads, MAX_SIZE),
        ])?;
        check_heads(("dim", self.dim), ("n_heads", self.n_heads))?;
        check_dropouts(&[
            ("dropout", self.dropout),
            ("attention_dropout", self.attention_dropout),
            ("seq_classif_dropout", self.seq_classif_dropout),
        ])?;
        check_initializer_range(self.initializer_range)?;
        check_not_learnt("activation", self.activation, "encoders have")
    }
}
