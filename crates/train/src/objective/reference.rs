//! The policy as it stood at the start of a run, which preferences are measured against.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::Tensor;
use burn_peft_data::Batch;
use burn_peft_models::{CausalLm, LanguageModel};

use crate::objective::lm::on_device;

/// A model that is not trained. It shares its weights with the one that is: of an adapter it keeps
/// the first values.
#[derive(Clone, Debug)]
pub struct Reference<M> {
    // A model may not be shared among threads by itself.
    model: Arc<Mutex<M>>,
}

impl<M: CausalLm> Reference<M> {
    /// Keeps a model as it is now, without dropout and gradients.
    pub fn new(model: &M) -> Self {
        let model = Arc::new(Mutex::new(model.valid()));
        Self { model }
    }

    /// Runs something on the model.
    pub fn with<R>(&self, job: impl FnOnce(&M) -> R) -> R {
        job(&self.model.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Reference<LanguageModel> {
    /// The model alone, whatever its adapter.
    pub fn base(model: &LanguageModel) -> Self {
        let mut model = model.clone();
        if let Some(peft) = model.as_peft_mut() {
            peft.disable_adapter_layers();
        }
        Self::new(&model)
    }

    /// The model without what a new adapter adds: the model it was made for. An adapter that took a
    /// part of the weights gives them back by acting, so it stays as it is.
    pub fn without_adapter(model: &LanguageModel) -> Self {
        let mut model = model.clone();
        if let Some(peft) = model.as_peft_mut()
            && !peft.holds_weights()
        {
            peft.disable_adapter_layers();
        }
        Self::new(&model)
    }
}

/// The log-probability of every token of a batch that is labelled, text after text, `[labelled]`.
pub(crate) fn log_probs<M: CausalLm>(model: &M, batch: &Batch) -> Tensor<1> {
    let batch = on_device(batch, &model.device());
    model.token_log_probs(&batch, false).log_probs
}
