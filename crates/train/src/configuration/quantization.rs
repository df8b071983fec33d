//! The `[quantization_config]` table: transformers' `BitsAndBytesConfig`, with its keys.

use burn::tensor::FloatDType;
use burn_peft::{QuantType, Quantization};
use serde::{Deserialize, Serialize};

use crate::error::ConfigProblem;

/// The 4-bit types, as `bnb_4bit_quant_type` calls them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bnb4BitQuantType {
    /// 4-bit NormalFloat.
    #[default]
    Nf4,
    /// 4-bit floating point.
    Fp4,
}

/// What products with a quantised weight are made in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    /// 32 bits.
    Float32,
    /// 16 bits with the range of 32.
    Bfloat16,
    /// 16 bits with a smaller range, which products make up for.
    Float16,
}

/// How the frozen weights of a model are quantised: the keys of transformers' `BitsAndBytesConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BitsAndBytesConfig {
    /// Keep the frozen weights of linear layers in 8 bits: by blocks of 64, as whole numbers of
    /// 127ths of the block's largest magnitude. (bitsandbytes' own 8 bits, LLM.int8(), has a scale
    /// for every row, quantises activations too, and keeps outliers apart.)
    pub load_in_8bit: bool,
    /// Keep the frozen weights of linear layers in 4 bits.
    pub load_in_4bit: bool,
    /// What 4 bits stand for; `nf4` where it is not set (`fp4` in transformers).
    pub bnb_4bit_quant_type: Bnb4BitQuantType,
    /// What products with quantised weights are made in, of 8 bits too; where it is not set,
    /// bfloat16 with `training.bf16`, float16 with `training.fp16`, or else 32 bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bnb_4bit_compute_dtype: Option<ComputeDtype>,
}

/// Keys of `BitsAndBytesConfig` that do nothing here yet.
pub(crate) const UNSUPPORTED: &str = "
    quant_method llm_int8_threshold llm_int8_skip_modules llm_int8_enable_fp32_cpu_offload
    llm_int8_has_fp16_weight bnb_4bit_use_double_quant bnb_4bit_quant_storage
";

impl BitsAndBytesConfig {
    /// How weights are quantised, if they are; `frozen_dtype` is what other frozen weights are kept
    /// in, if not in 32 bits.
    pub fn quantization(&self, frozen_dtype: Option<FloatDType>) -> Option<Quantization> {
        let quant_type = match (self.load_in_4bit, self.load_in_8bit) {
            (false, false) => return None,
            (false, true) => QuantType::Int8,
            (true, _) => match self.bnb_4bit_quant_type {
                Bnb4BitQuantType::Nf4 => QuantType::Nf4,
                Bnb4BitQuantType::Fp4 => QuantType::Fp4,
            },
        };
        let compute_dtype = match self.bnb_4bit_compute_dtype {
            Some(ComputeDtype::Bfloat16) => FloatDType::BF16,
            Some(ComputeDtype::Float16) => FloatDType::F16,
            Some(ComputeDtype::Float32) => FloatDType::F32,
            None => frozen_dtype.unwrap_or(FloatDType::F32),
        };
        Some(Quantization {
            quant_type,
            compute_dtype,
        })
    }

    /// What is wrong with the keys together, if anything is.
    pub(crate) fn problem(&self, is_full_training: bool) -> Option<ConfigProblem> {
        match (self.load_in_4bit, self.load_in_8bit) {
            (true, true) => Some(ConfigProblem::TwoQuantizations),
            (false, false) => None,
            _ if is_full_training => Some(ConfigProblem::NothingFrozen),
            _ => None,
        }
    }
}
