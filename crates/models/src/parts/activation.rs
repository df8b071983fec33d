//! Activation functions of feed-forward networks.

use burn::tensor::{DType, Tensor};
use burn_peft::Tree;
use burn_peft_kernels::{ActivationKind, activate};
use serde::{Deserialize, Serialize};

/// An activation function, under transformers' name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// GELU by its tanh approximation: `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`.
    GeluNew,
    /// GELU by the error function.
    Gelu,
    /// PyTorch's own tanh approximation: the same formula as [`Self::GeluNew`].
    GeluPytorchTanh,
    /// `max(x, 0)`.
    Relu,
    /// `max(x, 0)²`.
    Relu2,
    /// `x · sigmoid(x)`.
    Silu,
    /// Another name of [`Self::Silu`].
    Swish,
    /// [`Xielu`](super::Xielu), which is learnt.
    Xielu,
}

impl Activation {
    /// The function of every value; see [`activate`] for the meaning of `next`.
    pub fn forward(self, hidden: Tensor<2>, next: DType) -> Tensor<2> {
        activate(hidden, self.kind(), next)
    }

    /// The kernels' name for it.
    pub fn kind(self) -> ActivationKind {
        match self {
            Self::GeluNew | Self::GeluPytorchTanh => ActivationKind::GeluTanh,
            Self::Gelu => ActivationKind::Gelu,
            Self::Relu => ActivationKind::Relu,
            Self::Relu2 => ActivationKind::ReluSquared,
            // xIELU is a layer of its own, since it is learnt.
            Self::Silu | Self::Swish | Self::Xielu => ActivationKind::Silu,
        }
    }
}

burn_peft::no_slots! {
    Activation => |this| Tree::Leaf(match this {
        Activation::GeluNew => "NewGELUActivation()",
        Activation::Gelu => "GELUActivation()",
        Activation::GeluPytorchTanh => "GELUTanh()",
        Activation::Relu => "ReLU()",
        Activation::Relu2 => "ReLUSquaredActivation()",
        Activation::Silu => "SiLUActivation()",
        Activation::Swish => "SiLU()",
        Activation::Xielu => "XIELUActivation()",
    }.to_string()),
}
