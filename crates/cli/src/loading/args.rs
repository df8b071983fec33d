//! The options that choose a model.

use std::path::PathBuf;

use anyhow::Result;
use burn::tensor::FloatDType;
use burn_peft::FrozenForm;
use burn_peft_models::LanguageModel;
use burn_peft_train::BitsAndBytesConfig;

/// The options that choose a model.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// The model: a folder with config.json and model.safetensors, a GGUF file, or a Hub id (gpt2,
    /// organisation/name, optionally with @revision)
    #[arg(long, value_name = "DIR|FILE|ID")]
    pub model: String,
    /// The adapter: a folder with adapter_config.json and adapter_model.safetensors
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
}

/// The options that choose a model with several adapters.
#[derive(clap::Args)]
pub struct ModelsArgs {
    /// The model: a folder with config.json and model.safetensors, a GGUF file, or a Hub id (gpt2,
    /// organisation/name, optionally with @revision)
    #[arg(long, value_name = "DIR|FILE|ID")]
    pub model: String,
    /// The adapter: a folder with adapter_config.json and adapter_model.safetensors; can be
    /// given several times
    #[arg(long, value_name = "DIR")]
    pub adapter: Vec<PathBuf>,
    #[command(flatten)]
    pub kept: KeptArgs,
}

/// The options for storing a model's weights.
#[derive(Default, clap::Args)]
pub struct KeptArgs {
    /// The type of the model's weights in memory [default: float32; for a GGUF file, as in the
    /// file]
    #[arg(long, value_enum)]
    pub dtype: Option<Dtype>,
    /// Store the weights of linear layers in 8 bits, in blocks
    #[arg(long = "load-in-8bit", group = "bits", conflicts_with = "load_in_4bit")]
    pub load_in_8bit: bool,
    /// Store the weights of linear layers in 4 bits (NF4)
    #[arg(long = "load-in-4bit", group = "bits")]
    pub load_in_4bit: bool,
    /// With --load-in-8bit, also compute the products of linear layers in eight bits (on the CPU)
    #[arg(
        long = "int8-compute",
        requires = "load_in_8bit",
        conflicts_with = "load_in_4bit"
    )]
    pub int8_compute: bool,
    /// With --int8-compute, store the output layer in this form too
    #[arg(
        long = "int8-head",
        requires = "int8_compute",
        conflicts_with = "load_in_4bit"
    )]
    pub int8_head: bool,
    /// With --load-in-8bit or --load-in-4bit, layers to leave as they are: the ends of their paths
    /// (v_proj,down_proj), or regular expressions for the beginnings (model.layers.0)
    #[arg(
        long = "llm-int8-skip-modules",
        value_name = "NAMES",
        value_delimiter = ',',
        requires = "bits"
    )]
    pub llm_int8_skip_modules: Option<Vec<String>>,
}

impl KeptArgs {
    /// The type of the weights, if it is not 32 bits.
    pub(super) fn narrow(&self) -> Option<FloatDType> {
        self.dtype.and_then(Dtype::narrow)
    }

    /// Whether the weights of a GGUF file stay in its blocks.
    pub(super) fn keeps_blocks(&self) -> bool {
        let dense = matches!(self.dtype, Some(Dtype::Float32 | Dtype::Float16));
        let is_made_dense = matches!(self.quantization(), Some(FrozenForm::Codes(_)));
        !dense && !is_made_dense
    }

    /// How the weights of linear layers are quantised, if they are.
    pub(super) fn quantization(&self) -> Option<FrozenForm> {
        let config = BitsAndBytesConfig {
            load_in_8bit: self.load_in_8bit,
            load_in_4bit: self.load_in_4bit,
            int8_compute: self.int8_compute,
            int8_head: self.int8_head,
            ..BitsAndBytesConfig::default()
        };
        config.quantization(self.narrow())
    }

    /// Quantises the model, with its adapters or without, if the options say so.
    pub fn keep(&self, model: &mut LanguageModel) -> Result<()> {
        let Some(form) = self.quantization() else {
            return Ok(());
        };
        let skip_modules = self.llm_int8_skip_modules.as_deref().unwrap_or_default();
        model.quantize_frozen_except(form, skip_modules)?;
        if let Some(dtype) = self.narrow() {
            model.cast_frozen(dtype);
        }
        Ok(())
    }
}

/// The types of weights, with transformers' names.
#[derive(Clone, Copy, Debug, PartialEq, clap::ValueEnum)]
pub enum Dtype {
    /// 32 bits
    Float32,
    /// 16 bits with the range of 32: half the memory, and faster on processors with AVX512-BF16
    Bfloat16,
    /// 16 bits with a smaller range, for devices without bfloat16; products on the CPU are in 32
    /// bits
    Float16,
}

impl Dtype {
    /// Burn's name, if it is not 32 bits.
    fn narrow(self) -> Option<FloatDType> {
        match self {
            Self::Float32 => None,
            Self::Bfloat16 => Some(FloatDType::BF16),
            Self::Float16 => Some(FloatDType::F16),
        }
    }
}

/// Parses a number of tokens or rows.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or("it has to be a whole number, 1 or greater".into())
}
