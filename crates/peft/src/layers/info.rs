//! What a slot reports about the layer it holds, as plain data.

use std::fmt;

use crate::ConvInfo;

/// The kind of a layer, by the name PEFT prints for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LayerKind {
    /// `torch.nn.Linear`: the file holds its weight as `[d_out, d_in]`.
    Linear,
    /// transformers' `Conv1D` (GPT-2): the file holds its weight as `[d_in, d_out]`.
    Conv1D,
    /// `torch.nn.Conv1d`: weight `[d_out, channels_in / groups, kernel]`.
    Conv1d,
    /// `torch.nn.Conv2d`: weight `[d_out, channels_in / groups, kernel, kernel]`.
    Conv2d,
    /// `torch.nn.Embedding`: weight `[vocab, d]`.
    Embedding,
    /// `torch.nn.LayerNorm`.
    LayerNorm,
    /// A root-mean-square norm; its class has a different name in every family.
    RmsNorm,
    /// A whole part of a model that holds layers, such as an attention or a feed-forward network.
    /// It has no weight of its own.
    Module,
}

impl LayerKind {
    /// Whether it is a norm: its weight is a vector, which stays in 32 bits.
    pub fn is_norm(self) -> bool {
        matches!(self, Self::LayerNorm | Self::RmsNorm)
    }

    /// Whether files hold the layer's parameter `name` transposed: `torch.nn.Linear` has its weight
    /// as `[d_out, d_in]`, a layer in memory as `[d_in, d_out]`.
    pub fn is_transposed(self, name: &str) -> bool {
        self == Self::Linear && name == "weight"
    }

    /// Whether it is a convolution: its input has channels, and [`LayerInfo::conv`] says more.
    pub fn is_convolution(self) -> bool {
        matches!(self, Self::Conv1d | Self::Conv2d)
    }

    /// Whether the layer multiplies its input by a weight `[d_in, d_out]`.
    pub fn is_linear(self) -> bool {
        matches!(self, Self::Linear | Self::Conv1D)
    }
}

impl fmt::Display for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RmsNorm => f.write_str("RMSNorm"),
            kind => fmt::Debug::fmt(kind, f),
        }
    }
}

/// One adaptable layer of a model, as targeting and methods see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerInfo {
    /// The path of the slot, which is the Hugging Face name of the layer:
    /// `transformer.h.0.attn.c_attn`.
    pub path: String,
    /// The kind of the layer.
    pub kind: LayerKind,
    /// Features in; for an embedding the rows of the table, for a convolution the number of inputs
    /// to one output value, `channels_in / groups · kernel`.
    pub d_in: usize,
    /// Features out.
    pub d_out: usize,
    /// The parameters of a convolution; `None` for other layers.
    pub conv: Option<ConvInfo>,
    /// Whether the layer has a bias.
    pub has_bias: bool,
    /// Whether this is the model's input embedding (`wte`).
    pub is_input: bool,
    /// Whether this is the model's output embedding (`lm_head`), which `all-linear` leaves out.
    pub is_output: bool,
}
