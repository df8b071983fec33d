//! Prompt tuning (arXiv 2104.08691), as PEFT computes it (peft/tuners/prompt_tuning).
//!
//! ```text
//! hidden = model([P; E(x)])     P [num_virtual_tokens, token_dim], E(x) [seq, token_dim]
//! ```
//!
//! Only `P` is trained. It costs `num_virtual_tokens · token_dim` parameters (15,360 for 20 tokens
//! of GPT-2) and as many positions in every row, in training and afterwards. It cannot be merged.

use std::sync::Arc;

use burn::tensor::{Distribution, Int, Tensor, TensorData};
use burn_peft_kernels::random;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::{Fields, PromptLearning};
use crate::{
    AtModel, Extra, Init, Method, ModelInfo, ModelMethod, PeftError, Result, TensorSpec, Tensors,
    Tree,
};

/// How prompt tuning is initialised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PromptTuningInit {
    /// Normal random numbers, as for any new embedding in PyTorch; far from the embeddings of
    /// tokens.
    #[default]
    Random,
    /// The embeddings of the tokens of `prompt_tuning_init_text`, repeated.
    Text,
    /// The embeddings of tokens drawn from the vocabulary.
    SampleVocab,
}

/// The configuration of prompt tuning: PEFT's `PromptTuningConfig`, key for key.
#[derive(Clone, Debug, Default, PartialEq, burn_peft_derive::KeyDocs)]
pub struct PromptTuningConfig {
    /// The keys that methods with virtual tokens share.
    pub prompt: PromptLearning,
    /// How it is initialised.
    pub prompt_tuning_init: PromptTuningInit,
    /// The text that it is initialised from.
    pub prompt_tuning_init_text: Option<String>,
    /// The tokenizer of that text: a folder or a Hub id.
    pub tokenizer_name_or_path: Option<String>,
    /// Kept for PEFT, not used.
    pub tokenizer_kwargs: Option<Value>,
    /// The tokens of the text; not a key of the file.
    pub init_token_ids: Option<Vec<i64>>,
}

impl PromptTuningConfig {
    /// The value of `peft_type`.
    pub const PEFT_TYPE: &'static str = "PROMPT_TUNING";

    /// This many virtual tokens with random values.
    pub fn new(num_virtual_tokens: usize) -> Self {
        Self {
            prompt: PromptLearning::new(num_virtual_tokens),
            ..Self::default()
        }
    }

    /// Initialises from the embeddings of tokens drawn from the vocabulary.
    pub fn with_sampled_vocabulary(mut self) -> Self {
        self.prompt_tuning_init = PromptTuningInit::SampleVocab;
        self
    }

    /// Initialises from a text: `tokenizer` is written to the file, `ids` are the text's tokens.
    pub fn with_text(mut self, text: &str, tokenizer: &str, ids: Vec<i64>) -> Self {
        self.prompt_tuning_init = PromptTuningInit::Text;
        self.prompt_tuning_init_text = Some(text.into());
        self.tokenizer_name_or_path = Some(tokenizer.into());
        self.init_token_ids = Some(ids);
        self
    }

    pub(in crate::methods) fn read(mut fields: Fields) -> Result<Arc<dyn Method>> {
        let mut config = Self {
            prompt: PromptLearning::from_fields(&mut fields, Self::PEFT_TYPE)?,
            prompt_tuning_init: fields.take("prompt_tuning_init", PromptTuningInit::Random)?,
            prompt_tuning_init_text: fields.take("prompt_tuning_init_text", None)?,
            tokenizer_name_or_path: fields.take("tokenizer_name_or_path", None)?,
            tokenizer_kwargs: fields.take_value("tokenizer_kwargs"),
            init_token_ids: None,
        };
        config.prompt.common.unknown = fields.rest();
        Ok(Arc::new(config))
    }
}

impl Method for PromptTuningConfig {
    crate::method_of_prompt!("PromptEmbedding");

    fn to_json(&self) -> Map<String, Value> {
        let own = [
            ("prompt_tuning_init", json!(self.prompt_tuning_init)),
            (
                "prompt_tuning_init_text",
                json!(self.prompt_tuning_init_text),
            ),
            ("tokenizer_name_or_path", json!(self.tokenizer_name_or_path)),
            ("tokenizer_kwargs", json!(self.tokenizer_kwargs)),
        ];
        self.prompt.to_json(Self::PEFT_TYPE, own)
    }

    fn validate(&self) -> Result<()> {
        self.prompt.validate()?;
        let conflict = |keys, problem: String| Err(PeftError::conflict(keys, problem));
        let from_text = self.prompt_tuning_init == PromptTuningInit::Text;
        if from_text && self.prompt_tuning_init_text.is_none() {
            return conflict(
                &["prompt_tuning_init", "prompt_tuning_init_text"],
                "prompt_tuning_init = \"TEXT\" needs prompt_tuning_init_text, the text to start \
                 from"
                    .into(),
            );
        }
        if from_text
            && self
                .tokenizer_name_or_path
                .as_deref()
                .unwrap_or("")
                .is_empty()
        {
            return conflict(
                &["prompt_tuning_init", "tokenizer_name_or_path"],
                "prompt_tuning_init = \"TEXT\" needs tokenizer_name_or_path: a folder with \
                 tokenizer.json, or a Hub id"
                    .into(),
            );
        }
        if let (false, Some(kwargs)) = (from_text, &self.tokenizer_kwargs) {
            return conflict(
                &["tokenizer_kwargs", "prompt_tuning_init"],
                format!("tokenizer_kwargs = {kwargs} goes with prompt_tuning_init = \"TEXT\" only"),
            );
        }
        Ok(())
    }
}

impl AtModel for PromptTuningConfig {
    fn model_method(&self, model: &ModelInfo) -> Result<(Arc<dyn Method>, Arc<dyn ModelMethod>)> {
        let config = Self {
            prompt: self.prompt.fitted(model)?,
            ..self.clone()
        };
        // A saved adapter already has its values.
        let init = match self.prompt_tuning_init {
            _ if self.common().inference_mode => Start::Random,
            PromptTuningInit::Random => Start::Random,
            PromptTuningInit::SampleVocab => Start::Sampled,
            PromptTuningInit::Text => {
                let ids = self.init_token_ids.as_deref().unwrap_or_default();
                if ids.is_empty() {
                    return Err(PeftError::value(
                        "prompt_tuning_init_text",
                        format!(
                            "{:?}",
                            self.prompt_tuning_init_text.as_deref().unwrap_or_default()
                        ),
                        "its tokens are not known here, or there are none; give them with \
                         PromptTuningConfig::with_text",
                    ));
                }
                Start::Tokens(ids.to_vec())
            }
        };
        let method = VirtualTokens {
            num_virtual_tokens: self.prompt.num_virtual_tokens,
            token_dim: model.token_dim,
            class_name: "PromptEmbedding",
            init,
        };
        Ok((Arc::new(config), Arc::new(method)))
    }

    fn init_text(&self) -> Option<(&str, &str)> {
        let is_new = !self.common().inference_mode && self.init_token_ids.is_none();
        if self.prompt_tuning_init != PromptTuningInit::Text || !is_new {
            return None;
        }
        let tokenizer = self.tokenizer_name_or_path.as_deref()?;
        Some((tokenizer, self.prompt_tuning_init_text.as_deref()?))
    }

    fn with_init_token_ids(&self, ids: Vec<i64>) -> Option<Arc<dyn Method>> {
        let mut config = self.clone();
        config.init_token_ids = Some(ids);
        Some(Arc::new(config))
    }
}

/// The initial values of virtual tokens.
#[derive(Clone, Debug)]
pub(super) enum Start {
    /// Normal random numbers.
    Random,
    /// The embeddings of tokens drawn at random.
    Sampled,
    /// The embeddings of these tokens, repeated.
    Tokens(Vec<i64>),
}

/// Virtual tokens stored as one table: prompt tuning, and saved p-tuning.
#[derive(Debug)]
pub(super) struct VirtualTokens {
    pub num_virtual_tokens: usize,
    pub token_dim: usize,
    pub class_name: &'static str,
    pub init: Start,
}

/// The name of the table, as PEFT has it in memory.
pub(super) const EMBEDDING: &str = "embedding.weight";
/// The key under which PEFT saves virtual tokens.
pub(super) const PROMPT_EMBEDDINGS: &str = "prompt_embeddings";

impl ModelMethod for VirtualTokens {
    fn tensors(&self, embeddings: &dyn Fn() -> Tensor<2>) -> Vec<TensorSpec> {
        let tokens = self.num_virtual_tokens;
        let rows = |ids: Tensor<1, Int>, table: Tensor<2>| -> TensorData {
            table.select(0, ids).into_data().convert::<f32>()
        };
        let init = match &self.init {
            Start::Random => Init::Normal(1.0),
            Start::Sampled => {
                let table = embeddings();
                let [count, _] = table.dims();
                let all = Distribution::Uniform(0.0, count as f64);
                let ids = random::<1>([tokens], all, &table.device()).int();
                let ids = ids.clamp_max(count as i64 - 1);
                Init::Data(rows(ids, table))
            }
            Start::Tokens(ids) => {
                let table = embeddings();
                let ids: Vec<i64> = ids.iter().copied().cycle().take(tokens).collect();
                let ids = Tensor::from_data(ids.as_slice(), &table.device());
                Init::Data(rows(ids, table))
            }
        };
        let table = TensorSpec::new(EMBEDDING, PROMPT_EMBEDDINGS, [tokens, self.token_dim]);
        vec![table.with_init(init)]
    }

    fn positions(&self) -> usize {
        self.num_virtual_tokens
    }

    fn extra(&self, tensors: &Tensors<'_>) -> Extra {
        Extra {
            embeddings: Some(tensors.matrix(EMBEDDING)),
            ..Extra::default()
        }
    }

    fn describe(&self) -> Tree {
        let (tokens, d) = (self.num_virtual_tokens, self.token_dim);
        let table = Tree::Leaf(format!("Embedding({tokens}, {d})"));
        Tree::node(self.class_name, [("embedding", table)])
    }
}
