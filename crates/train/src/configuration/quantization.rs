//! The `[quantization_config]` table: the keys of transformers' `BitsAndBytesConfig`, and our own of
//! products in eight bits.

use burn::tensor::FloatDType;
use burn_peft::{FrozenForm, QuantType, Quantization};
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

/// How the frozen weights of a model are quantised: the keys of transformers' `BitsAndBytesConfig`, and
/// `int8_compute`, `int8_head`, which it does not have.
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
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bnb_4bit_quant_type: Option<Bnb4BitQuantType>,
    /// What products with quantised weights are made in, of 8 bits too; where it is not set,
    /// bfloat16 with `training.bf16`, float16 with `training.fp16`, or else 32 bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bnb_4bit_compute_dtype: Option<ComputeDtype>,
    /// With `load_in_8bit`, make the products of frozen weights in eight bits too, on the CPU: by
    /// squares of 64 × 64, activations by row and block of 64. What is trained stays in 32 bits.
    #[serde(skip_serializing_if = "is_off")]
    pub int8_compute: bool,
    /// With `int8_compute`, keep the output embedding so too, and the input embedding that it is tied to.
    #[serde(skip_serializing_if = "is_off")]
    pub int8_head: bool,
}

/// Whether a key need not be written: files of runs without it stay as they are.
fn is_off(value: &bool) -> bool {
    !value
}

/// Keys of `BitsAndBytesConfig` that do nothing here yet.
pub(crate) const UNSUPPORTED: &str = "
    quant_method llm_int8_threshold llm_int8_skip_modules llm_int8_enable_fp32_cpu_offload
    llm_int8_has_fp16_weight bnb_4bit_use_double_quant bnb_4bit_quant_storage
";

impl BitsAndBytesConfig {
    /// How weights are quantised, if they are; `frozen_dtype` is what other frozen weights are kept
    /// in, if not in 32 bits.
    pub fn quantization(&self, frozen_dtype: Option<FloatDType>) -> Option<FrozenForm> {
        let quant_type = match (self.load_in_4bit, self.load_in_8bit) {
            (false, false) => return None,
            (false, true) if self.int8_compute => {
                return Some(FrozenForm::Int8 {
                    head: self.int8_head,
                });
            }
            (false, true) => QuantType::Int8,
            (true, _) => match self.bnb_4bit_quant_type.unwrap_or_default() {
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
        Some(FrozenForm::Codes(Quantization {
            quant_type,
            compute_dtype,
        }))
    }

    /// Fills in what 4 bits stand for, and leaves it out of 8.
    pub(crate) fn settle(&mut self) {
        if self.load_in_4bit {
            self.bnb_4bit_quant_type.get_or_insert_default();
        } else {
            self.bnb_4bit_quant_type = None;
        }
    }

    /// What is wrong with the keys together, if anything is.
    pub(crate) fn problem(&self, is_full_training: bool) -> Option<ConfigProblem> {
        if self.int8_compute && !self.load_in_8bit {
            return Some(ConfigProblem::Int8Without("int8_compute", "load_in_8bit"));
        }
        if self.int8_head && !self.int8_compute {
            return Some(ConfigProblem::Int8Without("int8_head", "int8_compute"));
        }
        if self.int8_compute && self.bnb_4bit_compute_dtype.is_some() {
            return Some(ConfigProblem::TwoComputeTypes);
        }
        let is_fp4 = self.bnb_4bit_quant_type == Some(Bnb4BitQuantType::Fp4);
        if self.load_in_8bit && !self.load_in_4bit && is_fp4 {
            return Some(ConfigProblem::FourBitType);
        }
        match (self.load_in_4bit, self.load_in_8bit) {
            (true, true) => Some(ConfigProblem::TwoQuantizations),
            (false, false) => None,
            _ if is_full_training => Some(ConfigProblem::NothingFrozen),
            _ => None,
        }
    }
}
