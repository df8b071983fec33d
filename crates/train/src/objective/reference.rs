//! The reference policy, which is the policy at the start of a run.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use burn::module::{ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use burn_peft::DEFAULT_ADAPTER;
use burn_peft_data::{Batch, Examples, IGNORE_INDEX, Sampler};
use burn_peft_models::{CausalLm, LanguageModel};

use crate::error::Result;
use crate::lock::lock;
use crate::objective::lm::on_device_sharing;
use crate::objective::read_all;
use crate::run::evaluate::batch;

/// A frozen model. It shares its weights with the trained one, and keeps its own copies of adapter
/// weights.
#[derive(Clone, Debug)]
pub struct Reference<M> {
    // A model cannot be shared among threads by itself.
    model: Arc<Mutex<M>>,
    identity: String,
    /// Log-probabilities computed before, by a hash of a text's tokens and labels.
    known: Arc<Mutex<HashMap<[u8; 32], Vec<f32>>>>,
}

impl<M: CausalLm> Reference<M> {
    /// Keeps the model as it is now, without dropout and gradients.
    pub fn new(model: &M) -> Self {
        let mut hash = Hash(blake3::Hasher::new());
        model.visit(&mut hash);
        Self::called(model, hash.0.finalize().to_string())
    }

    fn called(model: &M, identity: String) -> Self {
        Self {
            model: Arc::new(Mutex::new(model.valid())),
            identity,
            known: Arc::default(),
        }
    }

    /// A hash of what it does not share with the base of the trained model.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// The log-probability of every labelled token of a batch, text after text, `[labelled]`.
    pub fn log_probs(&self, batch: &Batch) -> Tensor<1> {
        let model = lock(&self.model);
        match self.known(batch) {
            Some(known) => {
                let count = known.len();
                Tensor::from_data(TensorData::new(known, [count]), &model.device())
            }
            None => log_probs(&*model, batch).without_autodiff(),
        }
    }

    fn known(&self, batch: &Batch) -> Option<Vec<f32>> {
        let known = lock(&self.known);
        if known.is_empty() {
            return None;
        }
        let texts = (0..batch.spans.len()).map(|text| known.get(&key(batch, text)));
        let texts = texts.collect::<Option<Vec<_>>>()?;
        Some(texts.into_iter().flatten().copied().collect())
    }

    /// Computes the log-probabilities of all examples once, this many sequences at a time.
    ///
    /// # Errors
    /// If the device fails, or if `batch_size` is 0.
    pub(crate) fn precompute(&self, examples: &Examples, batch_size: usize) -> Result<()> {
        let sampler = Sampler::new(examples.sequences(), batch_size, 0, false)?;
        for indices in sampler.batches(0) {
            let batch = batch(examples, &indices)?;
            let found = read_all(log_probs(&*lock(&self.model), &batch).without_autodiff())?;
            let mut found = found.into_iter().map(|value| value as f32);
            let mut known = lock(&self.known);
            for text in 0..batch.spans.len() {
                let labels = &batch.labels[batch.spans[text].clone()];
                let labelled = labels
                    .iter()
                    .skip(1)
                    .filter(|label| **label != IGNORE_INDEX);
                let values = found.by_ref().take(labelled.count()).collect();
                known.insert(key(&batch, text), values);
            }
        }
        Ok(())
    }
}

impl Reference<LanguageModel> {
    /// The base model without its adapter. An adapter that took a part of the weights gives it
    /// back.
    pub fn base(model: &LanguageModel) -> Self {
        let mut model = model.clone();
        if let Some(peft) = model.as_peft_mut() {
            if peft.holds_weights() {
                let names: Vec<String> = peft.peft_config().keys().cloned().collect();
                for name in names {
                    peft.delete_adapter(&name).expect("an adapter it has");
                }
            }
            peft.disable_adapter_layers();
        }
        Self::called(&model, "base".into())
    }

    /// The model before a new adapter has learnt anything, which is the model without it. An
    /// adapter that took a part of the weights restores it by being active, so it stays.
    pub fn before_training(model: &LanguageModel) -> Self {
        match model.as_peft() {
            None => Self::new(model),
            Some(peft) if peft.holds_weights() => Self::with_adapter(model),
            Some(_) => Self::base(model),
        }
    }

    /// The model with its adapter, unchanged.
    pub fn with_adapter(model: &LanguageModel) -> Self {
        let Some(peft) = model.as_peft() else {
            return Self::new(model);
        };
        let mut hasher = blake3::Hasher::new();
        let active = peft.active_adapters().first();
        for (name, data) in peft.adapter_state_dict(active.map_or(DEFAULT_ADAPTER, |name| name)) {
            hasher.update(name.as_bytes());
            hasher.update(data.as_bytes());
        }
        Self::called(model, hasher.finalize().to_string())
    }
}

/// The log-probability of every labelled token of a batch, text after text, `[labelled]`.
pub(crate) fn log_probs<M: CausalLm>(model: &M, batch: &Batch) -> Tensor<1> {
    let batch = on_device_sharing(model, batch);
    model.token_log_probs(&batch, false).log_probs
}

/// The key of a text of a batch.
fn key(batch: &Batch, text: usize) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let span = batch.spans[text].clone();
    for (id, label) in batch.input_ids[span.clone()]
        .iter()
        .zip(&batch.labels[span])
    {
        hasher.update(&id.to_le_bytes());
        hasher.update(&[u8::from(*label == IGNORE_INDEX)]);
    }
    hasher.finalize().into()
}

struct Hash(blake3::Hasher);

impl ModuleVisitor for Hash {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.update(param.val().into_data().as_bytes());
    }
}
