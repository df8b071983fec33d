//! From `--model`, `--adapter` and `--tokenizer` to a model and its tokenizer.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use burn::module::Module;
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use burn_peft::config::TargetModules;
use burn_peft::config::TaskType;
use burn_peft::{Adaptable, DEFAULT_ADAPTER, LayerKind, Method, PeftModel, Quantization};
use burn_peft_data::{
    DataConfig, Examples, FILE_KINDS, Limits, Shape, Tokenizer, folder_and_split,
};
use burn_peft_device::check_dtype;
use burn_peft_models::hub::{self, ModelFiles};
use burn_peft_models::{AutoModel, CausalLm, LanguageModel, ModelInput, Pretrained};
use burn_peft_train::BitsAndBytesConfig;

use crate::beside;

/// The options that choose a model.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// The model: a folder with config.json and model.safetensors, or a Hub id (gpt2,
    /// organisation/name, with @revision where wanted)
    #[arg(long, value_name = "DIR|ID")]
    pub model: String,
    /// The adapter: a folder with adapter_config.json and adapter_model.safetensors
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
}

/// The options that choose a model with any number of adapters.
#[derive(clap::Args)]
pub struct ModelsArgs {
    /// The model: a folder with config.json and model.safetensors, or a Hub id (gpt2,
    /// organisation/name, with @revision where wanted)
    #[arg(long, value_name = "DIR|ID")]
    pub model: String,
    /// The adapter: a folder with adapter_config.json and adapter_model.safetensors; several are
    /// compared
    #[arg(long, value_name = "DIR")]
    pub adapter: Vec<PathBuf>,
    /// What the model's weights are kept in
    #[arg(long, value_enum, default_value_t)]
    pub dtype: Dtype,
    /// Keep the weights of linear layers in 8 bits, by blocks
    #[arg(long = "load-in-8bit", conflicts_with = "load_in_4bit")]
    pub load_in_8bit: bool,
    /// Keep the weights of linear layers in 4 bits (NF4)
    #[arg(long = "load-in-4bit")]
    pub load_in_4bit: bool,
}

impl ModelsArgs {
    /// How the weights of linear layers are quantised, if they are.
    fn quantization(&self) -> Option<Quantization> {
        let config = BitsAndBytesConfig {
            load_in_8bit: self.load_in_8bit,
            load_in_4bit: self.load_in_4bit,
            ..BitsAndBytesConfig::default()
        };
        config.quantization(self.dtype.narrow())
    }
}

/// The types of weights, as transformers calls them.
#[derive(Clone, Copy, Debug, Default, PartialEq, clap::ValueEnum)]
pub enum Dtype {
    /// 32 bits
    #[default]
    Float32,
    /// 16 bits with the range of 32: half the memory, and on processors with AVX512-BF16 faster
    Bfloat16,
    /// 16 bits with a smaller range, for devices without bfloat16; the CPU's products are in 32 bits
    Float16,
}

impl Dtype {
    /// As Burn calls it, where it is not 32 bits.
    fn narrow(self) -> Option<FloatDType> {
        match self {
            Self::Float32 => None,
            Self::Bfloat16 => Some(FloatDType::BF16),
            Self::Float16 => Some(FloatDType::F16),
        }
    }
}

/// Where rows can come from and what they can be, for the end of a help.
pub fn rows_help() -> String {
    format!(
        "\
Rows come from a file ({FILE_KINDS}),
a folder with a file for each split (train.jsonl, valid.jsonl, test.jsonl), or a data set on the Hub
(organisation/name); with a split (reviews:test) and a slice of the rows (reviews.jsonl[:500]) where
wanted. A row has `text`; or `prompt` and `completion`; or `instruction` and `output`, and maybe
`input`; or a chat, in `messages` or `conversations`; or tokens, in `input_ids` and maybe `labels`.
Beside `prompt` or `instruction` the answer may also be called `response` or `answer`. Of other columns
data.text_field (--text-field) names the one of text; or data.template (--template) writes the prompt,
and data.completion_field (--completion-field) names the answer: rows of `question` and `answer` need
a template such as --template $'{{question}}\\n'. Of prompts and chats only the answers are trained.
docs/data.md has the exact text of each."
    )
}

/// The options that say how rows are read and batched, in the words of a training file.
#[derive(clap::Args)]
pub struct RowArgs {
    /// The tokenizer where it does not lie with the model: a folder, a file or a Hub id
    #[arg(long, value_name = "PATH|ID")]
    pub tokenizer: Option<String>,
    /// Cut every row to this many tokens (data.max_length in a training file)
    #[arg(long, value_name = "N")]
    pub max_length: Option<usize>,
    /// The prompt of a row, with {column} for a column's value (data.template in a training file)
    #[arg(long, value_name = "TEXT")]
    pub template: Option<String>,
    /// The column of text (data.text_field in a training file)
    #[arg(long, value_name = "NAME")]
    pub text_field: Option<String>,
    /// The column of the completion (data.completion_field in a training file)
    #[arg(long, value_name = "NAME")]
    pub completion_field: Option<String>,
    /// Rows of one batch
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub batch_size: usize,
}

impl RowArgs {
    /// The `[data]` table that says the same, for the rows of `data`.
    pub fn config(&self, data: &str) -> DataConfig {
        DataConfig {
            max_length: self.max_length,
            text_field: self.text_field.clone(),
            template: self.template.clone(),
            completion_field: self.completion_field.clone(),
            ..DataConfig::new(data)
        }
    }
}

/// Says what of the settings may not be what was meant.
pub fn warn_of_template(config: &DataConfig) {
    if let Some(warning) = config.template_warning() {
        tracing::warn!("{warning}");
    }
}

/// Says where the answers of a template begin with tokens that are rare there.
pub fn warn_of_space(examples: &Examples, tokenizer: Option<&Tokenizer>) {
    let Shape::Template(template, Some(_)) = &examples.shape else {
        return;
    };
    let has_spaced_words = |tokenizer: &Tokenizer| {
        let last = tokenizer.encode("a a").ok()?.last().copied()?;
        Some(tokenizer.decode(&[last]).ok()? == " a")
    };
    if template.ends_with(' ') && tokenizer.and_then(has_spaced_words) == Some(true) {
        tracing::warn!(
            "data.template ends with a space, and this tokenizer's words begin with theirs (\" a\"): the \
             space becomes a token of its own, which a model has rarely seen before a word; end the \
             template with a line break, or leave the space out there and begin every answer with one"
        );
    }
}

/// A model's files, of which `config.json` is known to be there.
pub fn find_model(model: &str) -> Result<ModelFiles> {
    hub::resolve(model, &["config.json"], &[]).context("cannot load the model")
}

/// A model without adapter.
pub fn load_model(files: &ModelFiles, device: &Device) -> Result<AutoModel> {
    AutoModel::from_files(files, device).context("cannot load the model")
}

/// A model without adapter of which most will be kept in `narrow`, if that is given, or quantised:
/// its weights are read one by one then.
pub fn load_frozen(
    files: &ModelFiles,
    device: &Device,
    narrow: Option<FloatDType>,
) -> Result<AutoModel> {
    AutoModel::from_files_lazily(files, device, narrow).context("cannot load the model")
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
        && task != TaskType::CausalLm
    {
        tracing::warn!(
            "{}: task_type = {task}: the adapter was trained for another kind of model, and is \
             used on a causal language model here (\"CAUSAL_LM\")",
            adapter.display()
        );
    }
    Ok(model)
}

/// The model that the options name, with an adapter or without.
pub fn open(files: &ModelFiles, adapter: Option<&Path>, device: &Device) -> Result<LanguageModel> {
    let model = load_model(files, device)?;
    Ok(match adapter {
        Some(adapter) => load_adapter(model, adapter, false)?.into(),
        None => model.into(),
    })
}

/// The model with each of the adapters in turn; before them, where there are none or `with_base`
/// says so, the model alone. The model's weights are there once, unless they are quantised: that
/// comes after an adapter took its part of them. The name is the adapter's folder, or `base`.
pub fn open_each(
    files: &ModelFiles,
    args: &ModelsArgs,
    with_base: bool,
    device: &Device,
) -> Result<Vec<(String, LanguageModel)>> {
    let quantization = args.quantization();
    let dtype = args.dtype.narrow();
    if let Some(dtype) = dtype {
        check_dtype(device, dtype.into()).context("--dtype")?;
    }
    let mut base = LanguageModel::from(load_frozen(files, device, dtype)?.no_grad());
    if let (Some(dtype), None) = (dtype, quantization) {
        base.cast_frozen(dtype);
    }
    let quantized = |mut model: LanguageModel| {
        if let Some(quantization) = quantization {
            model.quantize_frozen(quantization);
            if let Some(dtype) = dtype {
                model.cast_frozen(dtype);
            }
        }
        model
    };
    let mut each = Vec::new();
    for adapter in &args.adapter {
        let loaded = load_adapter(base.get_base_model().clone(), adapter, false)?;
        each.push((adapter.display().to_string(), quantized(loaded.into())));
    }
    if with_base || each.is_empty() {
        each.insert(0, ("base".to_string(), quantized(base)));
    }
    Ok(each)
}

/// The tokenizer of a model, or the one `given` in its place: a folder, a file or a Hub id. None
/// where the model has none.
pub fn find_tokenizer(files: &ModelFiles, given: Option<&str>) -> Result<Option<Tokenizer>> {
    if let Some(given) = given {
        return open_tokenizer(given).map(Some);
    }
    match beside::tokenizer_files(files)?.is_empty() {
        true => Ok(None),
        false => read_tokenizer(files.path()).map(Some),
    }
}

/// A tokenizer on its own: a folder, a file or a Hub id.
pub fn open_tokenizer(given: &str) -> Result<Tokenizer> {
    if Path::new(given).is_file() {
        return read_tokenizer(Path::new(given));
    }
    read_tokenizer(beside::resolve(given)?.path())
}

fn read_tokenizer(path: &Path) -> Result<Tokenizer> {
    Tokenizer::load(path).context("cannot load the tokenizer")
}

/// The files of a folder or of a data set on the Hub, for [`burn_peft_data::Finder`].
pub fn find_data(name: &str) -> Result<Option<Vec<PathBuf>>, String> {
    let found = match folder_and_split(name) {
        Some((folder, split)) => hub::folder_dataset(folder, split).map(Some),
        None => hub::dataset(name),
    };
    found.map_err(|error| error.to_string())
}

/// As [`find_tokenizer`], where nothing can be done without.
pub fn load_tokenizer(files: &ModelFiles, given: Option<&str>) -> Result<Tokenizer> {
    find_tokenizer(files, given)?.with_context(|| {
        format!(
            "{} has no {}: name the tokenizer's folder or file with --tokenizer",
            files.path().display(),
            beside::tokenizer_names()
        )
    })
}

/// The sequences that a model can take.
pub fn limits(model: &impl CausalLm) -> Limits {
    Limits {
        max_positions: model.max_positions(),
        has_last_position: model.has_last_position(),
        positions_key: model.positions_key(),
        adapter_positions: model.adapter_positions(),
        vocab_size: model.vocab_size(),
    }
}

/// The configuration of a new adapter on a model: with the tokens of the text it starts from, if it
/// does, and with all linear layers where nothing says which and PEFT has no default for the family.
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
        "target_modules is not given, and PEFT has no default for {family}: all linear layers but \
         the output layer are adapted (\"all-linear\")"
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
