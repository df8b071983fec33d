//! A model of any family, with or without adapters.

use std::sync::Once;

use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor};
use burn_peft::parameters::{NamedParameter, named_parameters};
use burn_peft::{Adaptable, FrozenForm, PeftModel, Tree, cast_frozen, quantize_frozen_except};

use crate::{AutoModel, CausalLm, Checkpointed, Head, KvCache, LmBatch, ModelInput, TokenLogProbs};

/// A model of any family, with or without adapters: the type for programs that handle both.
#[derive(Module, Debug)]
pub enum LanguageModel {
    /// The plain model.
    Base(AutoModel),
    /// The model with adapters.
    Peft(PeftModel<AutoModel>),
}

/// Runs an expression on either.
macro_rules! either {
    ($self:expr, $model:ident => $body:expr) => {
        match $self {
            LanguageModel::Base($model) => $body,
            LanguageModel::Peft($model) => $body,
        }
    };
}

impl LanguageModel {
    /// The model without its adapters.
    pub fn get_base_model(&self) -> &AutoModel {
        match self {
            Self::Base(model) => model,
            Self::Peft(model) => model.get_base_model(),
        }
    }

    /// The model with its adapters, if it has any.
    pub fn as_peft(&self) -> Option<&PeftModel<AutoModel>> {
        match self {
            Self::Base(_) => None,
            Self::Peft(model) => Some(model),
        }
    }

    /// The model with its adapters, mutable, if it has any.
    pub fn as_peft_mut(&mut self) -> Option<&mut PeftModel<AutoModel>> {
        match self {
            Self::Base(_) => None,
            Self::Peft(model) => Some(model),
        }
    }

    /// The model as transformers or PEFT prints it.
    pub fn tree(&self) -> Tree {
        either!(self, model => model.tree())
    }

    /// Every parameter, named as in transformers or, with adapters, as in PEFT.
    pub fn named_parameters(&self) -> Vec<NamedParameter> {
        match self {
            Self::Base(model) => named_parameters(model),
            Self::Peft(model) => model.named_parameters(),
        }
    }

    /// Stores the frozen weights of linear layers and embeddings in `dtype`; see
    /// [`burn_peft::cast_frozen`].
    pub fn cast_frozen(&mut self, dtype: FloatDType) {
        match self {
            Self::Base(model) => cast_frozen(model, dtype),
            Self::Peft(model) => model.cast_frozen(dtype),
        }
    }

    /// Stores the frozen weights of linear layers in 4 or 8 bits; see
    /// [`burn_peft::quantize_frozen`]. A model that predicts no tokens has no output layer: its
    /// embedding is left as it is.
    ///
    /// # Errors
    /// If a weight has NaN or infinite values.
    pub fn quantize_frozen(&mut self, form: impl Into<FrozenForm>) -> burn_peft::Result<()> {
        self.quantize_frozen_except(form, &[])
    }

    /// Like [`quantize_frozen`](Self::quantize_frozen), except for some layers; see
    /// [`burn_peft::quantize_frozen_except`].
    ///
    /// # Errors
    /// If a weight has NaN or infinite values, or a name is not a regular expression.
    pub fn quantize_frozen_except(
        &mut self,
        form: impl Into<FrozenForm>,
        skip_modules: &[String],
    ) -> burn_peft::Result<()> {
        let mut form = form.into();
        if let FrozenForm::Int8 { head } = &mut form
            && *head
            && !self.head().predicts_tokens()
        {
            *head = false;
            static ONCE: Once = Once::new();
            ONCE.call_once(|| {
                tracing::warn!(
                    "int8_head does nothing here: the model has no output layer that predicts tokens"
                );
            });
        }
        match self {
            Self::Base(model) => quantize_frozen_except(model, form, skip_modules),
            Self::Peft(model) => model.quantize_frozen_except(form, skip_modules),
        }
    }
}

impl From<AutoModel> for LanguageModel {
    fn from(model: AutoModel) -> Self {
        Self::Base(model)
    }
}

impl From<PeftModel<AutoModel>> for LanguageModel {
    fn from(model: PeftModel<AutoModel>) -> Self {
        Self::Peft(model)
    }
}

impl CausalLm for LanguageModel {
    fn forward(&self, input: ModelInput) -> Tensor<3> {
        either!(self, model => CausalLm::forward(model, input))
    }

    fn forward_cached(&self, input: ModelInput, cache: &mut KvCache) -> Tensor<2> {
        either!(self, model => model.forward_cached(input, cache))
    }

    fn logits_at(&self, batch: &LmBatch, places: &[usize]) -> Tensor<2> {
        either!(self, model => model.logits_at(batch, places))
    }

    fn head(&self) -> Head {
        self.get_base_model().head()
    }

    fn is_causal(&self) -> bool {
        self.get_base_model().is_causal()
    }

    fn loss(&self, batch: &LmBatch) -> Tensor<1> {
        either!(self, model => model.loss(batch))
    }

    fn token_log_probs(&self, batch: &LmBatch, statistics: bool) -> TokenLogProbs {
        either!(self, model => model.token_log_probs(batch, statistics))
    }

    fn checkpointed_backward(&self, batch: &LmBatch, weight: f64) -> Option<Checkpointed> {
        either!(self, model => model.checkpointed_backward(batch, weight))
    }

    fn checkpointed_logits_at(
        &self,
        batch: &LmBatch,
        places: &[usize],
        loss: &dyn Fn(Tensor<2>) -> Tensor<1>,
    ) -> Option<Checkpointed> {
        either!(self, model => model.checkpointed_logits_at(batch, places, loss))
    }

    fn checkpointed_log_probs(
        &self,
        batch: &LmBatch,
        statistics: bool,
        loss: &dyn Fn(TokenLogProbs) -> Tensor<1>,
    ) -> Option<Checkpointed> {
        either!(self, model => model.checkpointed_log_probs(batch, statistics, loss))
    }

    fn max_positions(&self) -> usize {
        either!(self, model => model.max_positions())
    }

    fn outgrows_cache(&self, past: usize, total: usize) -> bool {
        either!(self, model => model.outgrows_cache(past, total))
    }

    fn computes_alike(&self, a: usize, b: usize) -> bool {
        either!(self, model => model.computes_alike(a, b))
    }

    fn has_last_position(&self) -> bool {
        either!(self, model => model.has_last_position())
    }

    fn positions_key(&self) -> &'static str {
        either!(self, model => model.positions_key())
    }

    fn adapter_positions(&self) -> usize {
        either!(self, model => model.adapter_positions())
    }

    fn vocab_size(&self) -> usize {
        either!(self, model => model.vocab_size())
    }

    fn config_json(&self) -> Option<String> {
        either!(self, model => model.config_json())
    }

    fn device(&self) -> Device {
        either!(self, model => CausalLm::device(model))
    }
}
