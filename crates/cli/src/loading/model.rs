//! Opening models and adapters.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use burn_peft::config::{TargetModules, TaskType};
use burn_peft::{Adaptable, DEFAULT_ADAPTER, LayerKind, Method, PeftModel, cast_frozen};
use burn_peft_device::check_dtype;
use burn_peft_models::hub::{self, ModelFiles};
use burn_peft_models::weights::{Reading, has_blocks};
use burn_peft_models::{AutoModel, CausalLm, LanguageModel, ModelInput, Pretrained, WantedHead};

use super::args::{KeptArgs, ModelsArgs};
use super::form::check_form;
use super::head::{head_for, head_of};
use super::tokenizer::open_tokenizer;

/// A model's files, of which `config.json` is known to exist.
pub fn find_model(model: &str) -> Result<ModelFiles> {
    hub::resolve(model, &["config.json"], &[]).context("cannot load the model")
}

/// A model without an adapter whose weights are not trained: those of a GGUF file stay in its
/// blocks.
pub fn load_model(files: &ModelFiles, device: &Device) -> Result<AutoModel> {
    AutoModel::from_files_in_blocks(files, device).context("cannot load the model")
}

/// A model whose weights are all trained.
pub fn load_dense(files: &ModelFiles, device: &Device) -> Result<AutoModel> {
    AutoModel::from_files(files, device).context("cannot load the model")
}

/// A model without an adapter most of which will be stored in `narrow`, if given, or quantised; its
/// weights are then read one by one.
pub fn load_frozen(
    files: &ModelFiles,
    device: &Device,
    narrow: Option<FloatDType>,
) -> Result<AutoModel> {
    AutoModel::from_files_lazily(files, device, narrow).context("cannot load the model")
}

/// The model for these adapters, with the head that they were trained with.
pub fn load_base(files: &ModelFiles, adapters: &[PathBuf], device: &Device) -> Result<AutoModel> {
    match head_for(files, adapters)? {
        Some(head) => load_with_head(files, device, Reading::InBlocks, &head),
        None => load_model(files, device),
    }
}

/// A model with another head than in its files; see [`AutoModel::with_head`].
pub fn load_with_head(
    files: &ModelFiles,
    device: &Device,
    reading: Reading,
    head: &WantedHead,
) -> Result<AutoModel> {
    AutoModel::with_head(files, device, reading, head).context("cannot load the model")
}

/// A model with an adapter.
pub fn load_adapter(
    model: AutoModel,
    adapter: &Path,
    is_trainable: bool,
) -> Result<PeftModel<AutoModel>> {
    let model = PeftModel::from_pretrained(model, adapter, is_trainable)
        .context("cannot load the adapter")?;
    if let Some(task) = model.config(DEFAULT_ADAPTER)?.common().task_type
        && task != model.head().task
    {
        tracing::warn!(
            "{}: task_type = {task}: the adapter was trained for another kind of model, and is \
             used on a {} here ({})",
            adapter.display(),
            match model.head().task {
                TaskType::CausalLm => "causal language model",
                TaskType::FeatureExtraction => "model without a head",
                _ => "classifier",
            },
            model.head().task
        );
    }
    Ok(model)
}

/// The model with or without an adapter, stored as the options say.
pub fn open(
    files: &ModelFiles,
    adapter: Option<&Path>,
    kept: &KeptArgs,
    device: &Device,
) -> Result<LanguageModel> {
    let head = match adapter {
        Some(adapter) => head_for(files, &[adapter.to_path_buf()])?,
        None => None,
    };
    open_one(files, adapter, kept, head, device)
}

/// As [`open`], without the model's head: for its hidden states.
///
/// # Errors
/// As [`open`], or if the adapter is a classifier's, which has a head.
pub fn open_headless(
    files: &ModelFiles,
    adapter: Option<&Path>,
    kept: &KeptArgs,
    device: &Device,
) -> Result<LanguageModel> {
    if let Some(adapter) = adapter
        && let Some(head) = head_of(&[adapter.to_path_buf()])?
        && !head.is_none()
    {
        bail!(
            "{} is the adapter of a classifier (task_type = {}) and makes no vectors: `peft predict` without \
             --pooling and --normalize gives its labels",
            adapter.display(),
            head.task
        );
    }
    open_one(files, adapter, kept, Some(WantedHead::none()), device)
}

fn open_one(
    files: &ModelFiles,
    adapter: Option<&Path>,
    kept: &KeptArgs,
    head: Option<WantedHead>,
    device: &Device,
) -> Result<LanguageModel> {
    let base = load_kept(files, kept, head, device)?;
    let mut model = match adapter {
        Some(adapter) => load_adapter(base, adapter, false)?.into(),
        None => LanguageModel::from(base),
    };
    kept.keep(&mut model)?;
    Ok(model)
}

/// The frozen model without adapters, whose weights the options may store in fewer bits. Weights to
/// be quantised stay exact until [`KeptArgs::keep`], for adapters that take a part of them.
pub fn load_kept(
    files: &ModelFiles,
    kept: &KeptArgs,
    head: Option<WantedHead>,
    device: &Device,
) -> Result<AutoModel> {
    let (quantization, dtype) = (kept.quantization(), kept.narrow());
    if let Some(dtype) = dtype {
        check_dtype(device, dtype.into()).context("--dtype")?;
    }
    if let Some(form) = quantization {
        check_form(form, device).context("--int8-compute")?;
    }
    let reading = if kept.keeps_blocks() && has_blocks(files, device) {
        Reading::InBlocks
    } else {
        Reading::Lazily(dtype)
    };
    let base = match (head, reading) {
        (Some(head), _) => load_with_head(files, device, reading, &head)?,
        (None, Reading::InBlocks) => load_model(files, device)?,
        (None, _) => load_frozen(files, device, dtype)?,
    };
    let mut base = base.no_grad();
    if let (Some(dtype), None) = (dtype, quantization) {
        cast_frozen(&mut base, dtype);
    }
    Ok(base)
}

/// Calls with the model and each of the adapters in turn; first, if there are none or `with_base`
/// is set, with the model alone. The model's weights are in memory once, unless they are quantised,
/// which happens after an adapter took its part of them. The name is the adapter's folder, or
/// `base`.
pub fn open_each(
    files: &ModelFiles,
    args: &ModelsArgs,
    with_base: bool,
    device: &Device,
) -> Result<Vec<(String, LanguageModel)>> {
    open_each_as(files, args, with_base, None, device)
}

/// As [`open_each`], with another head if the adapters name none.
pub fn open_each_as(
    files: &ModelFiles,
    args: &ModelsArgs,
    with_base: bool,
    head: Option<WantedHead>,
    device: &Device,
) -> Result<Vec<(String, LanguageModel)>> {
    let head = head_for(files, &args.adapter)?.or(head);
    let base = load_kept(files, &args.kept, head, device)?;
    let mut each: Vec<(String, LanguageModel)> = Vec::new();
    for adapter in &args.adapter {
        let loaded = load_adapter(base.clone(), adapter, false)?;
        let mut loaded = LanguageModel::from(loaded);
        args.kept.keep(&mut loaded)?;
        each.push((adapter.display().to_string(), loaded));
    }
    if with_base || each.is_empty() {
        let mut base = LanguageModel::from(base);
        args.kept.keep(&mut base)?;
        each.insert(0, ("base".to_string(), base));
    }
    Ok(each)
}

/// The configuration of a new adapter on a model: with the tokens of its initial text, if it has
/// one, and with all linear layers if it names none and PEFT has no default for the family.
pub fn completed(method: Arc<dyn Method>, model: &AutoModel) -> Result<Arc<dyn Method>> {
    let method = with_init_text(method)?;
    let family = model.model_type();
    let is_said = method.common().target_modules.is_some() || method.at_model().is_some();
    if is_said || method.default_target_modules(family).is_some() {
        return Ok(method);
    }
    let mut takes_linear = false;
    model.visit_slots(&mut Default::default(), &mut |path, slot| {
        let layer = slot.info(path, model);
        takes_linear |= layer.kind == LayerKind::Linear && method.supports(&layer);
    });
    if !takes_linear {
        return Ok(method);
    }
    tracing::info!(
        "target_modules is not given, and PEFT has no default for {family}: all linear layers \
         except the output layer are adapted (\"all-linear\")"
    );
    let mut common = method.common().clone();
    common.target_modules = Some(TargetModules::Pattern("all-linear".into()));
    Ok(method.with_common(common))
}

fn with_init_text(method: Arc<dyn Method>) -> Result<Arc<dyn Method>> {
    let Some(at_model) = method.at_model() else {
        return Ok(method);
    };
    let Some((tokenizer, text)) = at_model.init_text() else {
        return Ok(method);
    };
    let ids = open_tokenizer(tokenizer)?.encode(text)?;
    let ids = ids.into_iter().map(i64::from).collect();
    let with_ids = at_model.with_init_token_ids(ids);
    Ok(with_ids.unwrap_or(method))
}

/// Rows of token ids for a forward pass: `input_ids` and `attention_mask` are `[batch, seq]`, row
/// after row.
pub fn model_input(
    input_ids: Vec<i64>,
    attention_mask: Option<Vec<i64>>,
    shape: [usize; 2],
    device: &Device,
) -> ModelInput {
    let matrix = |values| Tensor::from_data(TensorData::new(values, shape), device);
    ModelInput {
        attention_mask: attention_mask.map(matrix),
        ..ModelInput::new(matrix(input_ids))
    }
}
