//! The `config.json` of BERT, RoBERTa and XLM-RoBERTa.

use std::borrow::Cow;

use burn::nn::{Dropout, DropoutConfig, Embedding, Linear};
use burn::tensor::Device;
use burn::tensor::activation::tanh;
use burn_peft::config::TaskType;
use burn_peft::{LayerNorm, LoraAdapter};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::BertForMaskedLM;
use crate::config::{
    CommonConfig, MAX_LAYERS, MAX_SIZE, ModelConfig, TokenIds, check_dropouts, check_epsilon,
    check_heads, check_initializer_range, check_not_learnt, check_sizes, config_of_keys, from_keys,
    of_class,
};
use crate::encoder::{ClassifierNames, EncoderNames, MaskedNames, check_unsupported, padding_row};
use crate::parts::{Activation, random_embedding, random_linear};
use crate::{ConfigError, Head};

/// transformers' `BertConfig`, `RobertaConfig` and `XLMRobertaConfig`: the same keys and defaults.
/// Keys that are not used are kept in [`extra`](Self::extra) and written back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct BertConfig {
    /// `bert`, `roberta` or `xlm-roberta`.
    pub model_type: String,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Attention heads per block.
    pub num_attention_heads: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// The activation function between the two feed-forward layers.
    pub hidden_act: Activation,
    /// Dropout of the embeddings, and of the outputs of attention and feed-forward.
    pub hidden_dropout_prob: f64,
    /// Dropout on the attention weights.
    pub attention_probs_dropout_prob: f64,
    /// Rows of the position embeddings; RoBERTa's texts begin after the padding row.
    pub max_position_embeddings: usize,
    /// The number of token types: the two texts of a pair.
    pub type_vocab_size: usize,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
    /// Epsilon of the layer norms.
    pub layer_norm_eps: f64,
    /// The padding token.
    pub pad_token_id: Option<i64>,
    /// First token of a text, if the file says so.
    pub bos_token_id: Option<i64>,
    /// Last token of a text, if the file says so.
    pub eos_token_id: Option<TokenIds>,
    /// Dropout before the scores of a classifier; if missing, that of the hidden states.
    pub classifier_dropout: Option<f64>,
    /// Whether the head that predicts tokens shares the token embedding's weight.
    pub tie_word_embeddings: bool,
    /// The head that the other keys describe.
    #[serde(skip)]
    pub head: Head,
    /// Every other key of the file.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Default for BertConfig {
    fn default() -> Self {
        Self {
            model_type: BERT.into(),
            vocab_size: 30522,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            hidden_act: Activation::Gelu,
            hidden_dropout_prob: 0.1,
            attention_probs_dropout_prob: 0.1,
            max_position_embeddings: 512,
            type_vocab_size: 2,
            initializer_range: 0.02,
            layer_norm_eps: 1e-12,
            pad_token_id: Some(0),
            bos_token_id: None,
            eos_token_id: None,
            classifier_dropout: None,
            tie_word_embeddings: true,
            head: Head::default().judging_first(),
            extra: Map::new(),
        }
    }
}

const BERT: &str = "bert";

/// The names in BERT's checkpoints.
const OF_BERT: EncoderNames = EncoderNames {
    base: "bert",
    masked: &["cls."],
};

/// The names in RoBERTa's checkpoints.
const OF_ROBERTA: EncoderNames = EncoderNames {
    base: "roberta",
    masked: &["lm_head."],
};

impl BertConfig {
    pub(super) fn is_roberta(&self) -> bool {
        self.model_type != BERT
    }

    /// The prefix of transformers' class names.
    pub(super) fn class(&self) -> &'static str {
        match self.model_type.as_str() {
            "roberta" => "Roberta",
            "xlm-roberta" => "XLMRoberta",
            _ => "Bert",
        }
    }

    /// The suffix of the whole model's class name in transformers.
    pub(super) fn class_of_head(&self) -> &'static str {
        self.head.class().unwrap_or(match self.head.task {
            TaskType::CausalLm => "ForMaskedLM",
            _ => "Model",
        })
    }

    fn names(&self) -> EncoderNames {
        if self.is_roberta() {
            OF_ROBERTA
        } else {
            OF_BERT
        }
    }

    /// The path of everything but the head.
    pub(super) fn base(&self) -> &'static str {
        self.names().base_of(&self.head)
    }

    /// The path of the token embeddings.
    pub(super) fn input_embedding(&self) -> &'static str {
        match self.base() {
            "" => "embeddings.word_embeddings",
            "bert" => "bert.embeddings.word_embeddings",
            _ => "roberta.embeddings.word_embeddings",
        }
    }

    /// The names of the head that predicts tokens.
    pub(super) fn masked(&self) -> MaskedNames {
        if self.is_roberta() {
            MaskedNames {
                dense: "lm_head.dense",
                norm: "lm_head.layer_norm",
                bias: "lm_head",
                output: "lm_head.decoder",
            }
        } else {
            MaskedNames {
                dense: "cls.predictions.transform.dense",
                norm: "cls.predictions.transform.LayerNorm",
                bias: "cls.predictions",
                output: "cls.predictions.decoder",
            }
        }
    }

    /// What that head computes after its first layer.
    pub(super) fn masked_activation(&self) -> Activation {
        if self.is_roberta() {
            Activation::Gelu
        } else {
            self.hidden_act
        }
    }

    /// The names of a classifier's head.
    pub(super) fn classifier(&self) -> ClassifierNames {
        let has_two = self.is_roberta() && self.head.task == TaskType::SeqCls;
        ClassifierNames {
            dense: has_two.then_some("classifier.dense"),
            activation: tanh,
            drops_input: true,
            output: if has_two {
                "classifier.out_proj"
            } else {
                "classifier"
            },
        }
    }

    /// Dropout before the scores of a classifier.
    pub(super) fn head_dropout(&self) -> f64 {
        self.classifier_dropout.unwrap_or(self.hidden_dropout_prob)
    }

    /// Whether the model has a pooler; RoBERTa's classifiers have a layer in its place.
    pub(super) fn has_pooler(&self) -> bool {
        match self.head.task {
            TaskType::FeatureExtraction => true,
            TaskType::SeqCls => !self.is_roberta(),
            _ => false,
        }
    }

    /// The padding token, which takes no position in RoBERTa.
    pub(super) fn padding_position(&self) -> Option<i64> {
        self.pad_token_id.filter(|_| self.is_roberta())
    }

    /// The row of the position embeddings for the first token of a text.
    pub(super) fn first_position(&self) -> usize {
        let padding = self.padding_position();
        padding.map_or(0, |id| usize::try_from(id).map_or(0, |id| id + 1))
    }

    /// The row of a weight that is initialised to zero.
    pub(super) fn empty_row(&self, name: &str) -> Option<usize> {
        let is_padded = name.ends_with("embeddings.word_embeddings.weight")
            || (self.is_roberta() && name.ends_with("embeddings.position_embeddings.weight"));
        padding_row(self.pad_token_id.filter(|_| is_padded))
    }

    pub(super) fn linear(&self, d_in: usize, d_out: usize, device: &Device) -> LoraAdapter<Linear> {
        random_linear([d_in, d_out], true, self.initializer_range, device)
    }

    pub(super) fn embedding(&self, rows: usize, device: &Device) -> LoraAdapter<Embedding> {
        random_embedding([rows, self.hidden_size], self.initializer_range, device)
    }

    pub(super) fn norm(&self, device: &Device) -> LoraAdapter<LayerNorm> {
        LoraAdapter::new(LayerNorm::new(
            self.hidden_size,
            self.layer_norm_eps,
            device,
        ))
    }

    pub(super) fn dropout(&self) -> Dropout {
        DropoutConfig::new(self.hidden_dropout_prob).init()
    }
}

impl ModelConfig for BertConfig {
    type Model = BertForMaskedLM;

    config_of_keys!(layers: num_hidden_layers);

    fn model_types() -> Vec<&'static str> {
        vec![BERT, "roberta", "xlm-roberta"]
    }

    fn presets() -> Vec<&'static str> {
        vec!["bert-base-uncased", "roberta-base"]
    }

    fn from_map(mut keys: Map<String, Value>) -> std::result::Result<Self, ConfigError> {
        if keys.get("model_type").is_some_and(|family| family != BERT) {
            // Where it differs from BERT.
            for (key, id) in [
                ("pad_token_id", 1),
                ("bos_token_id", 0),
                ("eos_token_id", 2),
            ] {
                keys.entry(key).or_insert(json!(id));
            }
        }
        let head = Head::of(&keys)?.judging_first();
        let config: Self = from_keys(keys)?;
        Ok(Self { head, ..config })
    }

    fn prefix(&self) -> Cow<'static, str> {
        format!("{}.", self.names().base).into()
    }

    fn names_in_file(&self, name: &str) -> Vec<String> {
        let mut names = self.names().in_file(name);
        let MaskedNames { bias, output, .. } = self.masked();
        // One parameter under two names.
        let twins = [format!("{bias}.bias"), format!("{output}.bias")];
        if twins.iter().any(|twin| twin == name) {
            names.extend(twins.into_iter().filter(|twin| twin != name));
        }
        names
    }

    fn is_buffer(&self, name: &str) -> bool {
        self.names().is_buffer(&self.head, self.has_pooler(), name)
    }

    fn published(name: &str) -> Option<Self> {
        let bert = Self::default();
        let (class, config) = match name {
            "bert-base-uncased" => ("BertForMaskedLM", bert),
            "roberta-base" => {
                let config = Self {
                    model_type: "roberta".into(),
                    vocab_size: 50265,
                    max_position_embeddings: 514,
                    type_vocab_size: 1,
                    layer_norm_eps: 1e-5,
                    pad_token_id: Some(1),
                    bos_token_id: Some(0),
                    eos_token_id: Some(TokenIds::One(2)),
                    ..bert
                };
                ("RobertaForMaskedLM", config)
            }
            _ => return None,
        };
        let extra = of_class(class);
        Some(Self { extra, ..config })
    }

    fn common(&self) -> CommonConfig {
        let heads = self.num_attention_heads;
        let max_positions = self.max_position_embeddings;
        CommonConfig {
            model_type: self.model_type.clone(),
            vocab_size: self.vocab_size,
            max_positions: max_positions.saturating_sub(self.first_position()),
            hidden_size: self.hidden_size,
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: heads,
            head_dim: self.hidden_size / heads.max(1),
            has_last_position: true,
            initializer_range: self.initializer_range,
            tie_word_embeddings: self.tie_word_embeddings && self.head.predicts_tokens(),
            eos_token_id: self.eos_token_id.clone(),
        }
    }

    fn set_head(&mut self, head: Head) {
        self.head = head.judging_first();
        if self.head.class().is_some() {
            let class = format!("{}{}", self.class(), self.class_of_head());
            self.head
                .write_beside(&mut self.extra, &class, &mut self.pad_token_id);
        }
    }

    fn language_head(&self) -> &str {
        self.masked().output
    }

    fn is_new_head(&self, name: &str) -> bool {
        self.names().is_new_head(&self.head, name)
    }

    fn is_optional(&self, name: &str) -> bool {
        name.contains("pooler.dense.")
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
            ("hidden_size", self.hidden_size, MAX_SIZE),
            ("intermediate_size", self.intermediate_size, MAX_SIZE),
            ("type_vocab_size", self.type_vocab_size, MAX_SIZE),
            ("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MAX_SIZE),
        ])?;
        let heads = ("num_attention_heads", self.num_attention_heads);
        check_heads(("hidden_size", self.hidden_size), heads)?;
        let padding = self.pad_token_id;
        let is_token = |id: i64| usize::try_from(id).is_ok_and(|id| id < self.vocab_size);
        if self.is_roberta() && padding.is_none_or(|id| !is_token(id)) {
            let id = padding.map_or("null".into(), |id| id.to_string());
            return Err(format!(
                "pad_token_id = {id} is not a token: {} counts positions from the one after it",
                self.model_type
            ));
        }
        if self.max_position_embeddings <= self.first_position() {
            return Err(format!(
                "max_position_embeddings = {} leaves none for a text, which begins after \
                 pad_token_id = {}",
                self.max_position_embeddings,
                padding.unwrap_or_default()
            ));
        }
        check_dropouts(&[
            ("hidden_dropout_prob", self.hidden_dropout_prob),
            (
                "attention_probs_dropout_prob",
                self.attention_probs_dropout_prob,
            ),
            ("classifier_dropout", self.classifier_dropout.unwrap_or(0.0)),
        ])?;
        check_epsilon("layer_norm_eps", self.layer_norm_eps)?;
        check_initializer_range(self.initializer_range)?;
        check_not_learnt("hidden_act", self.hidden_act, "encoders have")
    }
}
