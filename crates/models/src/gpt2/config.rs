//! A GPT-2 model's `config.json`, as transformers reads and writes it.

use std::collections::BTreeMap;
use std::path::Path;

use burn_peft_files::plain_words;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::attribute_map::with_own_names;
use crate::error::{ADAPTER_FOLDER, ModelError, Result};

/// The largest model this crate agrees to describe, in parameters (GPT-2's largest has 1.6e9).
const MAX_PARAMETERS: usize = 100_000_000_000;
/// The largest single size (positions, width, vocabulary, …).
const MAX_SIZE: usize = 1 << 24;
/// The largest number of blocks.
const MAX_LAYERS: usize = 1_000;

/// What transformers calls sizes in every family, and GPT-2's own names for them.
const ATTRIBUTE_MAP: [(&str, &str); 4] = [
    ("hidden_size", "n_embd"),
    ("max_position_embeddings", "n_positions"),
    ("num_attention_heads", "n_head"),
    ("num_hidden_layers", "n_layer"),
];

/// transformers' `GPT2Config`: the same keys and defaults. Keys that are not used here are kept
/// in [`extra`](Self::extra) and written back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gpt2Config {
    /// Always `gpt2`.
    pub model_type: String,
    /// Number of tokens.
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
    /// What lies between the two feed-forward layers.
    pub activation_function: Activation,
    /// Dropout on what attention and feed-forward add to the hidden states.
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
    /// Compute attention in float32 where the rest is narrower. It changes nothing here.
    pub reorder_and_upcast_attn: bool,
    /// Use the token embedding as the head's weight.
    pub tie_word_embeddings: bool,
    /// First token of a text, if any.
    pub bos_token_id: Option<i64>,
    /// Tokens that end a text.
    pub eos_token_id: Option<TokenIds>,
    /// Token that fills up short rows, if any.
    pub pad_token_id: Option<i64>,
    /// Every other key of the file.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// One token id or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected an integer or a list of integers")]
pub enum TokenIds {
    /// A single id.
    One(i64),
    /// Several ids.
    Many(Vec<i64>),
}

/// The activation functions GPT-2 checkpoints use, under transformers' names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// GELU by its tanh approximation: `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
    GeluNew,
    /// GELU by the error function.
    Gelu,
    /// PyTorch's own tanh approximation: the same formula as [`Self::GeluNew`].
    GeluPytorchTanh,
    /// `max(x, 0)`.
    Relu,
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
            extra: Map::new(),
        }
    }
}

impl Gpt2Config {
    /// The sizes that [`Self::preset`] knows.
    pub const PRESETS: [&str; 4] = ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl"];

    /// One of the four published sizes: `gpt2`, `gpt2-medium`, `gpt2-large`, `gpt2-xl`.
    ///
    /// # Errors
    /// Any other name.
    pub fn preset(name: &str) -> Result<Self> {
        let (n_embd, n_layer, n_head) = match name {
            "gpt2" => (768, 12, 12),
            "gpt2-medium" => (1024, 24, 16),
            "gpt2-large" => (1280, 36, 20),
            "gpt2-xl" => (1600, 48, 25),
            _ => {
                return Err(ModelError::Config(format!(
                    "no preset `{name}`; there are: {}",
                    Self::PRESETS.join(", ")
                )));
            }
        };
        let mut extra = Map::new();
        extra.insert("architectures".into(), vec!["GPT2LMHeadModel"].into());
        Ok(Self {
            n_embd,
            n_layer,
            n_head,
            extra,
            ..Self::default()
        })
    }

    /// Reads a `config.json`.
    ///
    /// # Errors
    /// A file that is missing, is not JSON, is not GPT-2's (an adapter's, another `model_type`) or
    /// holds values that make no model; the message names the key.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        if !path.exists() && path.with_file_name("adapter_config.json").exists() {
            let folder = path.parent().unwrap_or(path);
            return Err(ModelError::file(folder, ADAPTER_FOLDER));
        }
        let text = burn_peft_files::read_text(path)?;
        parse(&text).map_err(|reason| ModelError::file(path, reason))
    }

    /// Reads the text of a `config.json`; errors as for [`Self::from_file`].
    pub fn from_json(text: &str) -> Result<Self> {
        parse(text).map_err(ModelError::Config)
    }

    /// The text of a `config.json`, keys sorted as transformers sorts them. `dtype`, where the
    /// file had it, becomes `float32`: the type of the weights this crate writes.
    pub fn to_json(&self) -> String {
        let Ok(Value::Object(map)) = serde_json::to_value(self) else {
            unreachable!("a struct of plain values is a JSON object");
        };
        let mut map: BTreeMap<_, _> = map.into_iter().collect();
        for key in ["dtype", "torch_dtype"] {
            if let Some(dtype) = map.get_mut(key) {
                *dtype = "float32".into();
            }
        }
        format!("{:#}\n", Value::Object(map.into_iter().collect()))
    }

    /// Width inside the feed-forward part.
    pub fn inner_size(&self) -> usize {
        self.n_inner.unwrap_or(4 * self.n_embd)
    }

    /// The tokens that end a text (ids outside the vocabulary left out).
    pub fn eos_token_ids(&self) -> Vec<usize> {
        let ids = match &self.eos_token_id {
            None => &[][..],
            Some(TokenIds::One(id)) => std::slice::from_ref(id),
            Some(TokenIds::Many(ids)) => ids,
        };
        ids.iter()
            .filter_map(|&id| usize::try_from(id).ok())
            .filter(|&id| id < self.vocab_size)
            .collect()
    }

    /// Every parameter of `GPT2LMHeadModel` with its shape, in the order of the model and under
    /// the names of its `model.safetensors` (a tied head is not listed).
    pub fn parameter_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (n, inner) = (self.n_embd, self.inner_size());
        let mut list = vec![
            (
                "transformer.wte.weight".to_string(),
                vec![self.vocab_size, n],
            ),
            (
                "transformer.wpe.weight".to_string(),
                vec![self.n_positions, n],
            ),
        ];
        for layer in 0..self.n_layer {
            // Conv1D keeps its weight as [in, out].
            let block: [(&str, Vec<usize>); 12] = [
                ("ln_1.weight", vec![n]),
                ("ln_1.bias", vec![n]),
                ("attn.c_attn.weight", vec![n, 3 * n]),
                ("attn.c_attn.bias", vec![3 * n]),
                ("attn.c_proj.weight", vec![n, n]),
                ("attn.c_proj.bias", vec![n]),
                ("ln_2.weight", vec![n]),
                ("ln_2.bias", vec![n]),
                ("mlp.c_fc.weight", vec![n, inner]),
                ("mlp.c_fc.bias", vec![inner]),
                ("mlp.c_proj.weight", vec![inner, n]),
                ("mlp.c_proj.bias", vec![n]),
            ];
            list.extend(
                block.map(|(name, shape)| (format!("transformer.h.{layer}.{name}"), shape)),
            );
        }
        list.push(("transformer.ln_f.weight".into(), vec![n]));
        list.push(("transformer.ln_f.bias".into(), vec![n]));
        if !self.tie_word_embeddings {
            list.push(("lm_head.weight".into(), vec![self.vocab_size, n]));
        }
        list
    }

    /// Number of parameters, a tied head counted once.
    pub fn num_parameters(&self) -> usize {
        let shapes = self.parameter_shapes();
        shapes
            .iter()
            .map(|(_, shape)| shape.iter().product::<usize>())
            .sum()
    }

    /// Checks that the values make a model.
    ///
    /// # Errors
    /// The first key that does not, with its value.
    pub fn validate(&self) -> Result<()> {
        self.check().map_err(ModelError::Config)
    }

    fn check(&self) -> std::result::Result<(), String> {
        let sizes = [
            ("vocab_size", self.vocab_size, MAX_SIZE),
            ("n_positions", self.n_positions, MAX_SIZE),
            ("n_embd", self.n_embd, MAX_SIZE),
            ("n_inner", self.n_inner.unwrap_or(1), MAX_SIZE),
            ("n_layer", self.n_layer, MAX_LAYERS),
            ("n_head", self.n_head, MAX_SIZE),
        ];
        for (key, value, largest) in sizes {
            if value == 0 || value > largest {
                return Err(format!("{key} = {value} is not between 1 and {largest}"));
            }
        }
        if !self.n_embd.is_multiple_of(self.n_head) {
            return Err(format!(
                "n_embd = {} is not a multiple of n_head = {}",
                self.n_embd, self.n_head
            ));
        }
        let dropouts = [
            ("resid_pdrop", self.resid_pdrop),
            ("embd_pdrop", self.embd_pdrop),
            ("attn_pdrop", self.attn_pdrop),
        ];
        for (key, value) in dropouts {
            if !(0.0..1.0).contains(&value) {
                return Err(format!("{key} = {value} is not a probability below 1"));
            }
        }
        if !(self.layer_norm_epsilon > 0.0 && self.layer_norm_epsilon.is_finite()) {
            return Err(format!(
                "layer_norm_epsilon = {} is not above 0",
                self.layer_norm_epsilon
            ));
        }
        if !(self.initializer_range >= 0.0 && self.initializer_range.is_finite()) {
            return Err(format!(
                "initializer_range = {} is negative",
                self.initializer_range
            ));
        }
        let parameters = self.num_parameters();
        if parameters > MAX_PARAMETERS {
            return Err(format!(
                "these sizes make {parameters} parameters, more than {MAX_PARAMETERS}: \
                 check n_embd = {}, n_layer = {}, n_inner = {}, vocab_size = {}",
                self.n_embd,
                self.n_layer,
                self.inner_size(),
                self.vocab_size
            ));
        }
        Ok(())
    }
}

fn parse(text: &str) -> std::result::Result<Gpt2Config, String> {
    let map: Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("is not a JSON object: {error}"))?;
    if let Some(method) = map.get("peft_type") {
        return Err(format!(
            "this is the configuration of an adapter (peft_type {method}), not of a model"
        ));
    }
    match map.get("model_type") {
        Some(Value::String(family)) if family == "gpt2" => {}
        Some(family) => {
            return Err(format!(
                "model_type {family} is not supported; supported: \"gpt2\""
            ));
        }
        None => return Err("has no model_type; supported: \"gpt2\"".into()),
    }
    if map.get("add_cross_attention") == Some(&Value::Bool(true)) {
        return Err("add_cross_attention = true is not supported: only decoders without it".into());
    }
    let mut map = map;
    with_own_names(&mut map, &ATTRIBUTE_MAP)?;
    let config: Gpt2Config = serde_json::from_value(Value::Object(map.clone()))
        .map_err(|error| culprit(map).unwrap_or_else(|| plain_words(&error.to_string())))?;
    config.check()?;
    Ok(config)
}

/// serde does not say which key had the wrong type: the one that fails on its own.
fn culprit(map: Map<String, Value>) -> Option<String> {
    map.into_iter().find_map(|(key, value)| {
        let shown = format!("{key} = {value}");
        let alone = Value::Object(Map::from_iter([(key, value)]));
        let error = serde_json::from_value::<Gpt2Config>(alone).err()?;
        Some(format!("{shown}: {}", plain_words(&error.to_string())))
    })
}

#[cfg(test)]
mod tests;
