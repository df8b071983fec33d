//! The `[quantization_config]` table: the keys of transformers' `BitsAndBytesConfig`, and our own
//! for eight-bit products.

use burn::tensor::FloatDType;
use burn_peft::{FrozenForm, QuantType, Quantization};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::ConfigProblem;

/// The 4-bit types, as in `bnb_4bit_quant_type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bnb4BitQuantType {
    /// 4-bit NormalFloat.
    #[default]
    Nf4,
    /// 4-bit floating point.
    Fp4,
}

/// The type in which products with a quantised weight are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComputeDtype {
    /// 32 bits.
    Float32,
    /// 16 bits with the range of 32.
    Bfloat16,
    /// 16 bits with a smaller range, for which products compensate.
    Float16,
}

/// How the frozen weights of a model are quantised: the keys of transformers' `BitsAndBytesConfig`,
/// and `int8_compute` and `int8_head`, which it does not have.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BitsAndBytesConfig {
    /// Store the frozen weights of linear layers in 8 bits: in blocks of 64, as multiples of 1/127
    /// of the block's largest magnitude. (bitsandbytes' own 8 bits, LLM.int8(), has a scale for
    /// every row, quantises activations too, and treats outliers separately.)
    pub load_in_8bit: bool,
    /// Store the frozen weights of linear layers in 4 bits.
    pub load_in_4bit: bool,
    /// The 4-bit type; `nf4` unless set (`fp4` in transformers).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bnb_4bit_quant_type: Option<Bnb4BitQuantType>,
    /// The type in which products with quantised weights are computed, also for 8 bits. Unless set,
    /// bfloat16 with `training.bf16`, float16 with `training.fp16`, otherwise 32 bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bnb_4bit_compute_dtype: Option<ComputeDtype>,
    /// With `load_in_8bit`, make the products of frozen weights in eight bits too, on the CPU: both
    /// sides by blocks of 32. What is trained stays in 32 bits.
    #[serde(skip_serializing_if = "is_off")]
    pub int8_compute: bool,
    /// With `int8_compute`, store the output embedding in this form too, and the input embedding
    /// tied to it.
    #[serde(skip_serializing_if = "is_off")]
    pub int8_head: bool,
    /// The layers whose weights are not quantised, neither in 8 bits nor in 4: the ends of their
    /// paths (`v_proj`), or regular expressions for the beginnings (`model.layers.0`). `int8_head`
    /// alone decides about the output layer; in transformers this list replaces `lm_head`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub llm_int8_skip_modules: Option<Vec<String>>,
}

/// Whether a key can be left out, so that the files of runs without it do not change.
fn is_off(value: &bool) -> bool {
    !value
}

/// Keys of `BitsAndBytesConfig` that have no effect here yet.
pub(crate) const UNSUPPORTED: &str = "
    quant_method llm_int8_threshold llm_int8_enable_fp32_cpu_offload llm_int8_has_fp16_weight
    bnb_4bit_use_double_quant bnb_4bit_quant_storage
";

impl BitsAndBytesConfig {
    /// How weights are quantised, if they are; `frozen_dtype` is the type of other frozen weights,
    /// if not 32 bits.
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

    /// The layers that are not quantised.
    pub fn skip_modules(&self) -> &[String] {
        self.llm_int8_skip_modules.as_deref().unwrap_or_default()
    }

    /// Fills in the default 4-bit type, and removes it for 8 bits; removes an empty list.
    pub(crate) fn settle(&mut self) {
        self.llm_int8_skip_modules.take_if(|names| names.is_empty());
        if self.load_in_4bit {
            self.bnb_4bit_quant_type.get_or_insert_default();
        } else {
            self.bnb_4bit_quant_type = None;
        }
    }

    /// What is wrong with the combination of keys, if anything.
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
            (false, false) if !self.skip_modules().is_empty() => Some(ConfigProblem::SkipsNothing),
            (false, false) => None,
            _ if is_full_training => Some(ConfigProblem::NothingFrozen),
            _ => None,
        }
    }
}
