//! The model of a run: its base, and the adapter to train.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, FloatDType};
use burn_peft::config::TaskType;
use burn_peft::{
    Adaptable, BlockCounts, DEFAULT_ADAPTER, FrozenForm, LoraFa, Method, PeftModel, StateDict,
    int8_body,
};
use burn_peft_device::{check_dtype, check_size};
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::weights::{Reading, has_blocks};
use burn_peft_models::{AutoModel, CausalLm, LanguageModel, WantedHead};
use burn_peft_train::{OptimizerName, TrainConfig};

use crate::loading::{
    check_form, completed, load_adapter, load_dense, load_frozen, load_model, load_with_head,
};
use crate::output::say;

/// The model for an adapter, once the device is known to support the requested computation.
pub(super) fn load_base(
    config: &TrainConfig,
    files: &ModelFiles,
    head: Option<&WantedHead>,
    device: &Device,
) -> Result<AutoModel> {
    if let Some(quantization) = config.quantization() {
        check_form(quantization, device).context(match quantization {
            FrozenForm::Codes(_) => {
                "training.bf16, training.fp16 or quantization_config.bnb_4bit_compute_dtype"
            }
            FrozenForm::Int8 { .. } => "quantization_config.int8_compute",
        })?;
    }
    let frozen_dtype = config.training.frozen_dtype();
    if let Some(dtype) = frozen_dtype {
        let key = if config.training.bf16 {
            "training.bf16 = true"
        } else {
            "training.fp16 = true"
        };
        check_dtype(device, dtype.into()).context(key)?;
        if config.is_full_training() {
            bail!(
                "{key} keeps frozen weights in 16 bits, and with peft.peft_type = \"NONE\" none is \
                 frozen: remove one of the two"
            );
        }
    }
    let keeps_blocks = has_blocks(files, device) && frozen_dtype != Some(FloatDType::F16);
    let is_quantized = match config.quantization() {
        None => false,
        Some(FrozenForm::Codes(_)) => true,
        Some(FrozenForm::Int8 { .. }) => !keeps_blocks,
    };
    let reading = if config.is_full_training() {
        Reading::Now
    } else if frozen_dtype.is_some() && !keeps_blocks || is_quantized {
        Reading::Lazily(frozen_dtype)
    } else {
        Reading::InBlocks
    };
    let model = match (head, reading) {
        (Some(head), _) => load_with_head(files, device, reading, head)?,
        (None, Reading::Now) => load_dense(files, device)?,
        (None, Reading::Lazily(dtype)) => load_frozen(files, device, dtype)?,
        (None, Reading::InBlocks) => load_model(files, device)?,
    };
    super::head::check(&model, config)?;
    Ok(model)
}

/// The model with the adapter to train: a new one, or a saved one.
pub(super) fn attach(
    model: AutoModel,
    config: &TrainConfig,
    file: &Path,
) -> Result<PeftModel<AutoModel>> {
    let mut model = match &config.adapter {
        Some(adapter) => load_adapter(model, Path::new(adapter), true)?,
        None => {
            let method = config.method(&file.display().to_string())?;
            let method = for_task(method, &model)?;
            let method = completed(method, &model)?;
            PeftModel::new(model, DEFAULT_ADAPTER, method)?
        }
    };
    let is_new = config.adapter.is_none();
    let task = model.head().task;
    if config.training.optim == OptimizerName::Lorafa {
        // Before trained parameters are counted.
        LoraFa::new(&mut model)?;
    }
    model.update_config(DEFAULT_ADAPTER, |common| {
        common.task_type.get_or_insert(task);
        if is_new || common.base_model_name_or_path.is_none() {
            common.base_model_name_or_path = Some(config.model.clone());
        }
    })?;
    let parameters = model.named_parameters();
    for parameter in parameters.iter().filter(|p| p.requires_grad) {
        // Trained weights have 32 bits, even if the rest of the model is frozen in 16.
        let bytes = 4 * parameter.numel() as u64;
        check_size(&model.device(), &parameter.name, bytes)?;
    }
    Ok(model)
}

/// Stores the frozen weights as the configuration says.
pub(super) fn keep(model: &mut LanguageModel, config: &TrainConfig) -> Result<()> {
    if model.as_peft().is_none() {
        return Ok(());
    }
    if let Some(quantization) = config.quantization() {
        model.quantize_frozen_except(quantization, config.skip_modules())?;
    }
    if let Some(dtype) = config.training.frozen_dtype() {
        model.cast_frozen(dtype);
    }
    Ok(())
}

/// Prints the number of bits of the base, if it is quantised, and which layers are not.
pub(super) fn say_of_base(config: &TrainConfig, model: &PeftModel<AutoModel>) -> Result<()> {
    let Some(form) = config.quantization() else {
        return Ok(());
    };
    let form = match form {
        FrozenForm::Codes(codes) => {
            format!("base in {} bits", codes.quant_type.bits())
        }
        FrozenForm::Int8 { .. } => {
            let head = if has_int8_head(model.get_base_model()) {
                ", the output layer too"
            } else {
                ""
            };
            format!("base in 8 bits, products in 8 bits{head}")
        }
    };
    let skipped = match config.skip_modules() {
        [] => String::new(),
        names => format!(", except for {}", names.join(", ")),
    };
    say(format!("{form}{skipped}"))
}

/// Whether the output layer, or the embedding tied to it, is stored in eight bits: `int8_head` asks
/// for it, but a classifier has none, and it may be skipped.
fn has_int8_head(model: &AutoModel) -> bool {
    let ends = [model.output_embedding(), model.input_embedding()];
    let mut found = false;
    model.visit_slots(&mut Default::default(), &mut |path, slot| {
        found |= ends.contains(&path) && slot.int8().is_some();
    });
    found
}

/// Prints what share of the inputs of eight-bit products had 16 bits, if there were such products.
pub(super) fn say_of_int8(blocks: BlockCounts) -> Result<()> {
    if blocks.all > 0 {
        let share = 100.0 * blocks.outliers as f64 / blocks.all as f64;
        let body = int8_body();
        say(format!(
            "int8_compute ({body}): {share:.2} % of the blocks of 32 inputs are far above the others of \
             their row, and were rounded to 16 bits"
        ))?;
    }
    Ok(())
}

/// The configuration of a new adapter with the task of its model, if that is a classifier.
fn for_task(method: Arc<dyn Method>, model: &AutoModel) -> Result<Arc<dyn Method>> {
    let task = model.head().task;
    let mut common = method.common().clone();
    match common.task_type {
        _ if task == TaskType::CausalLm => return Ok(method),
        Some(given) if given != task => {
            bail!("peft.task_type = {given}, and training.objective trains {task}: leave it out")
        }
        _ => common.task_type = Some(task),
    }
    Ok(method.with_common(common))
}

/// The initial values of an adapter that took a part of the weights.
pub(super) fn initial_values(model: &PeftModel<AutoModel>) -> Result<StateDict> {
    let initial = model.adapter_state_dict(DEFAULT_ADAPTER);
    // A failing conversion is noticed before training.
    let config = model.config(DEFAULT_ADAPTER)?;
    config.subtract_initial(initial.clone(), initial.iter().cloned().collect())?;
    Ok(initial)
}
