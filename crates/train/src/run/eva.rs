//! EVA's initial values, from the training examples.

use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_peft::config::{EvaConfig, Fields, InitLoraWeights};
use burn_peft::{BaseModel, DEFAULT_ADAPTER, LoraConfig, PeftModel};
use burn_peft_data::{Batch, Examples};
use burn_peft_models::{CausalLm, LmBatch};

use crate::error::Result;
use crate::objective::lm::on_device;
use crate::run::evaluate::batch;

/// The most batches that are used; EVA goes over them again if they are not enough.
const MAX_BATCHES: usize = 256;

/// Initialises a new adapter with `init_lora_weights = "eva"` from batches of the examples
/// ([`PeftModel::initialize_lora_eva_weights`]) and returns true. Leaves any other adapter as it is
/// and returns false.
///
/// # Errors
/// As that function.
pub fn initialize_lora_eva_weights<M: CausalLm + BaseModel + 'static>(
    model: &mut PeftModel<M>,
    examples: &Examples,
    batch_size: usize,
) -> Result<bool> {
    let config = model.config(DEFAULT_ADAPTER)?;
    if config.peft_type() != LoraConfig::PEFT_TYPE {
        return Ok(false);
    }
    let config = LoraConfig::from_fields(Fields::new(config.to_json(), DEFAULT_ADAPTER))?;
    if config.init_lora_weights != InitLoraWeights::Eva {
        return Ok(false);
    }
    let (eva, device) = (config.eva_config.unwrap_or_default(), model.device());
    let mut batches = Vec::new();
    for indices in examples
        .spread()
        .chunks(batch_size.max(1))
        .take(MAX_BATCHES)
    {
        let host = batch(examples, indices)?;
        let chosen = chosen(&host, &eva, &device);
        batches.push((on_device(&host, &device).as_matrix().clone(), chosen));
    }
    model.initialize_lora_eva_weights(
        DEFAULT_ADAPTER,
        &batches,
        |model, (batch, _): &(LmBatch, _)| drop(model.forward(batch.input.clone())),
        |(_, chosen)| chosen.clone(),
    )?;
    Ok(true)
}

/// The positions that EVA uses, as indices into the flattened matrix `[batch * seq]`.
fn chosen(host: &Batch, eva: &EvaConfig, device: &Device) -> Tensor<1, Int> {
    let mut chosen: Vec<i64> = Vec::new();
    for (row, span) in host.row_spans().enumerate() {
        let start = row * host.width;
        let labels = host.labels[span].iter().enumerate();
        let labels =
            labels.filter(|(_, label)| !(eva.use_label_mask && **label == eva.label_mask_value));
        chosen.extend(labels.map(|(column, _)| (start + column) as i64));
    }
    let count = chosen.len();
    Tensor::from_data(TensorData::new(chosen, [count]), device)
}
