//! A model of any family, with or without adapters.

use std::sync::Once;

use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor};
use burn_peft::parameters::{NamedParameter, named_parameters};
use burn_peft::{Adaptable, FrozenForm, PeftModel, Tree, cast_frozen, quantize_frozen_except};

use crate::causal_lm::forward_causal_lm;
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
    forward_causal_lm!(either);
}
