//! The objective of a run, with its reference policy.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use burn_peft::DEFAULT_ADAPTER;
use burn_peft_models::LanguageModel;
use burn_peft_train::{Objective, Reference, TrainConfig};

/// The name of a reference adapter that is neither the run's own nor the model alone.
const REFERENCE: &str = "reference";
/// The word for the model alone.
const BASE: &str = "base";

/// The objective of the training file. `model` is the model to train, as it is at the start of the
/// run.
pub(super) fn objective(
    model: &LanguageModel,
    config: &TrainConfig,
) -> Result<Arc<dyn Objective<LanguageModel>>> {
    let kind = config.objective();
    let reference = (kind.reference)(config)
        .then(|| reference(model, config))
        .transpose()?;
    Ok((kind.build)(config, reference)?)
}

/// The reference policy, which shares the weights of the model.
fn reference(model: &LanguageModel, config: &TrainConfig) -> Result<Reference<LanguageModel>> {
    let named = config.reference.as_deref();
    Ok(match (named, model.as_peft()) {
        (Some(BASE), _) => Reference::base(model),
        (None, _) if config.adapter.is_some() => Reference::with_adapter(model),
        (None, _) => Reference::before_training(model),
        (Some(adapter), None) => bail!(
            "reference = \"{adapter}\" is an adapter, and with peft.peft_type = \"NONE\" all weights \
             are trained: leave it out, and the model as it is at the start is the reference"
        ),
        (Some(adapter), Some(peft)) => {
            let mut peft = peft.clone();
            // First, since it may hold a part of the weights.
            peft.delete_adapter(DEFAULT_ADAPTER)?;
            peft.load_adapter(Path::new(adapter), REFERENCE, false)
                .context("cannot load the adapter of `reference`")?;
            peft.set_adapter(&[REFERENCE])?;
            Reference::with_adapter(&peft.into())
        }
    })
}
