//! Methods that act at the model instead of at layers: virtual tokens, prefixes.

use std::fmt::Debug;
use std::sync::Arc;

use burn::tensor::Tensor;

use crate::{Method, PeftError, Result, TensorSpec, Tensors, Tree};

/// What a method needs to know about the model that it acts at.
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

/// What a method prepends to a text. A model supports both kinds once, for all methods.
///
/// The extra positions are visible to every token of every text and count as positions: the text
/// begins after them.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Embeddings of extra positions, `[positions, token_dim]`.
    pub embeddings: Option<Tensor<2>>,
    /// For each layer, keys and values of extra positions, `[num_key_value_heads, positions,
    /// head_dim]`; empty if there are none. They come before the extra embeddings.
    pub keys_and_values: Vec<(Tensor<3>, Tensor<3>)>,
}

impl Extra {
    /// Whether nothing is prepended.
    pub fn is_empty(&self) -> bool {
        self.positions() == 0
    }

    /// The number of extra positions.
    pub fn positions(&self) -> usize {
        self.prefix_positions() + self.embedded_positions()
    }

    /// The number of positions that have only keys and values.
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

/// A method that acts at the model; returned by [`Method::at_model`].
pub trait AtModel: Method {
    /// What the method does at a model, and the configuration with the missing values filled in
    /// from the model.
    ///
    /// # Errors
    /// If the configuration does not fit the model.
    fn model_method(&self, model: &ModelInfo) -> Result<(Arc<dyn Method>, Arc<dyn ModelMethod>)>;

    /// The tokenizer (a folder or Hub id) and the text whose tokens a new adapter starts from, if
    /// their ids are not known yet: this crate has no tokenizers.
    fn init_text(&self) -> Option<(&str, &str)> {
        None
    }

    /// The same configuration with the ids of that text's tokens, for a method with an
    /// [`init_text`](Self::init_text).
    fn with_init_token_ids(&self, _ids: Vec<i64>) -> Option<Arc<dyn Method>> {
        None
    }
}

/// A method at one model; returned by [`AtModel::model_method`].
pub trait ModelMethod: Debug + Send + Sync {
    /// The tensors that the method adds. Their keys are whole keys of `adapter_model.safetensors`.
    /// `embeddings` returns the model's token embeddings, `[vocab, token_dim]`.
    fn tensors(&self, embeddings: &dyn Fn() -> Tensor<2>) -> Vec<TensorSpec>;

    /// The number of positions that [`extra`](Self::extra) adds.
    fn positions(&self) -> usize;

    /// What is prepended to every text.
    fn extra(&self, tensors: &Tensors<'_>) -> Extra;

    /// The single tensor, with its key, that the file holds instead of the method's tensors, for a
    /// method whose tensors only serve to compute it (PEFT saves an encoder's output, not the
    /// encoder). With `inference_mode`, [`AtModel::model_method`] then returns a method that has
    /// just this tensor.
    fn output(&self, _tensors: &Tensors<'_>) -> Option<(&'static str, Tensor<2>)> {
        None
    }

    /// The module as PyTorch prints it.
    fn describe(&self) -> Tree;
}

/// The error for a method that acts at the model, if the model does not support it.
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
