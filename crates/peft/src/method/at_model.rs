//! Methods that act at the model and not at a layer: virtual tokens, prefixes.

use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::Tensor;

use crate::{Method, PeftError, Result, TensorSpec, Tensors, Tree};

/// What a method is told of the model that it acts at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelInfo {
    /// The width of an embedding.
    pub token_dim: usize,
    /// The number of blocks with an attention.
    pub num_layers: usize,
    /// The number of heads that queries have.
    pub num_attention_heads: usize,
    /// The number of heads that keys and values have: fewer where queries are grouped.
    pub num_key_value_heads: usize,
    /// The width of a head.
    pub head_dim: usize,
    /// The number of positions the model knows.
    pub max_positions: usize,
}

/// What a method puts before a text. A model offers both openings, once, for all methods.
///
/// Its positions are seen by every token of every text and count as positions: the text begins
/// after them.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Extra positions before the embeddings, `[positions, token_dim]`.
    pub embeddings: Option<Tensor<2>>,
    /// For each layer the keys and values of extra positions,
    /// `[num_key_value_heads, positions, head_dim]`; empty where there are none. They stand
    /// before the extra embeddings.
    pub keys_and_values: Vec<(Tensor<3>, Tensor<3>)>,
}

impl Extra {
    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.positions() == 0
    }

    /// The number of extra positions.
    pub fn positions(&self) -> usize {
        self.prefix_positions() + self.embedded_positions()
    }

    /// The number of positions with keys and values alone.
    pub fn prefix_positions(&self) -> usize {
        let first = self.keys_and_values.first();
        first.map_or(0, |(key, _)| key.dims()[1])
    }

    /// The number of positions that run through the model.
    pub fn embedded_positions(&self) -> usize {
        let embeddings = self.embeddings.as_ref();
        embeddings.map_or(0, |embeddings| embeddings.dims()[0])
    }
}

/// A method that acts at the model: what [`Method::at_model`] answers.
pub trait AtModel: Method {
    /// What the method does at a model, and the configuration with what it leaves to the model
    /// filled in.
    ///
    /// # Errors
    /// If the configuration does not fit the model.
    fn model_method(&self, model: &ModelInfo) -> Result<(Arc<dyn Method>, Arc<dyn ModelMethod>)>;

    /// The tokenizer (a folder or Hub id) and the text whose tokens a new adapter starts from, as
    /// long as their ids are not known: this crate has no tokenizers.
    fn init_text(&self) -> Option<(&str, &str)> {
        None
    }

    /// The same configuration with the ids of that text's tokens, for a method that has an
    /// [`init_text`](Self::init_text).
    fn with_init_token_ids(&self, _ids: Vec<i64>) -> Option<Arc<dyn Method>> {
        None
    }
}

/// A method at one model: what [`AtModel::model_method`] gives.
pub trait ModelMethod: Debug + Send + Sync {
    /// The tensors that the method adds. Their keys are whole keys of `adapter_model.safetensors`.
    /// `embeddings` gives the table of the model's token embeddings, `[vocab, token_dim]`.
    fn tensors(&self, embeddings: &dyn Fn() -> Tensor<2>) -> Vec<TensorSpec>;

    /// The number of positions that [`extra`](Self::extra) adds.
    fn positions(&self) -> usize;

    /// What is put before every text.
    fn extra(&self, tensors: &Tensors<'_>) -> Extra;

    /// The one tensor that the file holds in the place of all of them, under its key, for a
    /// method whose tensors only serve to make it (PEFT saves an encoder's output, not the
    /// encoder). [`AtModel::model_method`] with `inference_mode` is then a
    /// method with that tensor.
    fn output(&self, _tensors: &Tensors<'_>) -> Option<(&'static str, Tensor<2>)> {
        None
    }

    /// The module as PyTorch prints it.
    fn describe(&self) -> Tree;
}

/// The error for a method that acts at the model, where the model has no place for it.
pub(crate) fn no_place(peft_type: &str, model_type: &str) -> PeftError {
    let model = match model_type {
        "" => "this model".to_string(),
        name => format!("this model ({name})"),
    };
    PeftError::AtModel {
        names: vec![peft_type.to_string()],
        problem: format!(
            "peft_type = {peft_type:?} acts at the model, with extra positions before a \
             text, and {model} offers none (Adaptable::model_info): choose a method that \
             acts at layers, such as \"LORA\""
        ),
    }
}

/// Checks a size that a configuration gives against the model's.
pub(crate) fn same_size(key: &str, given: Option<usize>, model: usize) -> Result<usize> {
    match given {
        Some(given) if given != model => Err(PeftError::value(
            key,
            given,
            format!("the model's is {model}; leave the key out, it is filled in"),
        )),
        _ => Ok(model),
    }
}
