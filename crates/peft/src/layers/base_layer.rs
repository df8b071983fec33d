//! The interface between a slot and the layer that it holds.

use burn::module::{Module, ModuleDisplay, Param};
use burn::tensor::{Device, Tensor};
use burn_peft_kernels::Lora;

use crate::{AnyParam, ConvInfo, LayerInput, LayerKind, OutputOf, Tree};

/// A layer that [`LoraAdapter`](crate::LoraAdapter) can decorate.
///
/// Implemented for Burn's `Linear`, `Conv1d`, `Conv2d`, `Embedding` and `LayerNorm`, and for
/// [`Conv1D`](crate::Conv1D), [`LayerNorm`](crate::LayerNorm), [`RmsNorm`](crate::RmsNorm) and
/// [`Part`](crate::Part).
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot stand in a slot",
    label = "does not implement `BaseLayer`",
    note = "a slot holds `Linear`, `Conv1d`, `Conv2d`, `Embedding`, `LayerNorm`, or `burn_peft`'s `Conv1D`, `LayerNorm` or `RmsNorm`",
    note = "leave the field a `{Self}`, and mark it `#[adaptable(skip)]`: no method adapts it"
)]
pub trait BaseLayer: Module + ModuleDisplay {
    /// The input: `Tensor<2>` `[tokens, d_in]`, for an embedding `Tensor<1, Int>` `[tokens]`, for a
    /// convolution `[batch, channels, …]`. It determines the output: `[tokens, d_out]`, or for a
    /// convolution `[batch, channels, …]`.
    type Input: LayerInput;

    /// The kind of the layer.
    fn kind(&self) -> LayerKind;

    /// `[d_in, d_out]`, the shape of [`weight`](Self::weight), without initialising lazy weights.
    fn dims(&self) -> [usize; 2];

    /// A convolution's kernel, stride and so on; `None` for other layers.
    fn convolution(&self) -> Option<ConvInfo> {
        None
    }

    /// The layer's own output.
    fn forward_base(&self, input: Self::Input) -> OutputOf<Self>;

    /// The layer's output with another weight and bias, of the same shapes as its own.
    fn forward_with(
        &self,
        input: Self::Input,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> OutputOf<Self>;

    /// The layer's output plus `residual`, which has the same shape, plus a low-rank change of the
    /// layer, in one operation; `None` if the layer is not linear.
    fn forward_fused(
        &self,
        _input: &Self::Input,
        _residual: Option<&OutputOf<Self>>,
        _lora: Option<Lora>,
    ) -> Option<OutputOf<Self>> {
        None
    }

    /// The weight in 32 bits as `[d_in, d_out]`; `[1, d]` for a norm. For a convolution `d_in` is
    /// `channels_in / groups · kernel`, in the order of the weight's axes.
    fn weight(&self) -> Tensor<2>;

    /// Like [`weight`](Self::weight), but in the type in which it is kept: bf16 in a frozen base
    /// that was cast to it.
    fn stored_weight(&self) -> Tensor<2> {
        self.weight()
    }

    /// The bias `[d_out]`, if the layer has one.
    fn bias(&self) -> Option<Tensor<1>> {
        None
    }

    /// Replaces weight and bias by others of the same shapes; a missing bias stays missing.
    fn set_weight(&mut self, weight: Tensor<2>, bias: Option<Tensor<1>>);

    /// Calls `visit` with every parameter, under the name it has in the checkpoint.
    fn visit_params(&self, visit: &mut dyn FnMut(&str, &dyn AnyParam));

    /// Like [`visit_params`](Self::visit_params), but the parameters can be changed.
    fn visit_params_mut(&mut self, visit: &mut dyn FnMut(&str, &mut dyn AnyParam));

    /// The device the layer lives on.
    fn device(&self) -> Device;

    /// The layer as PyTorch prints it.
    fn describe(&self) -> Tree;
}

pub(crate) fn replace<const D: usize>(param: &mut Param<Tensor<D>>, value: Tensor<D>) {
    *param = param.clone().map(|old| {
        let value = if old.is_autodiff() {
            value.without_autodiff().autodiff()
        } else {
            value.without_autodiff()
        };
        let value = value.cast(old.dtype());
        value.set_require_grad(old.is_require_grad())
    });
}

/// Replaces a bias; a missing one stays missing.
pub(crate) fn replace_bias(param: &mut Option<Param<Tensor<1>>>, value: Option<Tensor<1>>) {
    if let (Some(param), Some(value)) = (param, value) {
        replace(param, value);
    }
}

/// What layers with a weight and a bias have in common. The bias may be optional, and the fields
/// may have other names.
macro_rules! weight_and_bias {
    () => {
        fn bias(&self) -> Option<Tensor<1>> {
            Some(self.bias.val())
        }

        fn visit_params(&self, visit: &mut dyn FnMut(&str, &dyn AnyParam)) {
            visit("weight", &self.weight);
            visit("bias", &self.bias);
        }

        fn visit_params_mut(&mut self, visit: &mut dyn FnMut(&str, &mut dyn AnyParam)) {
            visit("weight", &mut self.weight);
            visit("bias", &mut self.bias);
        }

        fn device(&self) -> Device {
            self.weight.lazy_device()
        }
    };
    ($weight:ident, $bias:ident) => {
        fn visit_params(&self, visit: &mut dyn FnMut(&str, &dyn AnyParam)) {
            visit("weight", &self.$weight);
            if let Some(bias) = &self.$bias {
                visit("bias", bias);
            }
        }

        fn visit_params_mut(&mut self, visit: &mut dyn FnMut(&str, &mut dyn AnyParam)) {
            visit("weight", &mut self.$weight);
            if let Some(bias) = &mut self.$bias {
                visit("bias", bias);
            }
        }

        fn bias(&self) -> Option<Tensor<1>> {
            self.$bias.as_ref().map(Param::val)
        }

        fn device(&self) -> Device {
            self.$weight.lazy_device()
        }
    };
}

/// The same for layers that have only a weight.
macro_rules! weight_alone {
    () => {
        fn visit_params(&self, visit: &mut dyn FnMut(&str, &dyn AnyParam)) {
            visit("weight", &self.weight);
        }

        fn visit_params_mut(&mut self, visit: &mut dyn FnMut(&str, &mut dyn AnyParam)) {
            visit("weight", &mut self.weight);
        }

        fn device(&self) -> Device {
            self.weight.lazy_device()
        }
    };
}

/// What layers whose weight is a matrix `[d_in, d_out]` have in common.
macro_rules! matrix_weight {
    () => {
        fn dims(&self) -> [usize; 2] {
            self.weight.lazy_shape().dims()
        }

        fn weight(&self) -> Tensor<2> {
            self.weight.val().cast(FloatDType::F32)
        }

        fn stored_weight(&self) -> Tensor<2> {
            self.weight.val()
        }
    };
}

/// The same for norms, whose weight is a row of `d` values.
macro_rules! row_weight {
    ($weight:ident) => {
        fn dims(&self) -> [usize; 2] {
            let [d] = self.$weight.lazy_shape().dims();
            [d, d]
        }

        fn weight(&self) -> Tensor<2> {
            self.$weight.val().unsqueeze()
        }
    };
}

pub(crate) use {matrix_weight, row_weight, weight_alone, weight_and_bias};
