//! What a slot asks of the layer it holds.

use burn::module::{Module, ModuleDisplay, Param};
use burn::tensor::{Device, Int, Tensor};
use burn_peft_kernels::Lora;

use crate::{Adapter, AnyParam, Base, LayerKind, Tree};

/// A layer that [`LoraAdapter`](crate::LoraAdapter) can decorate.
///
/// Implemented for Burn's `Linear`, `Embedding` and `LayerNorm`, and for [`Conv1D`](crate::Conv1D),
/// [`LayerNorm`](crate::LayerNorm), [`RmsNorm`](crate::RmsNorm) and [`Part`](crate::Part).
pub trait BaseLayer: Module + ModuleDisplay {
    /// What the layer maps to `[tokens, d_out]`: `Tensor<2>` `[tokens, d_in]`, or
    /// `Tensor<1, Int>` `[tokens]` for an embedding.
    type Input: LayerInput;

    /// The kind of the layer.
    fn kind(&self) -> LayerKind;

    /// `[d_in, d_out]`, without initialising lazy weights.
    fn dims(&self) -> [usize; 2];

    /// The layer's own output, `[tokens, d_out]`.
    fn forward_base(&self, input: Self::Input) -> Tensor<2>;

    /// The layer's output with another weight and bias, of the same shapes as its own.
    fn forward_with(
        &self,
        input: Self::Input,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Tensor<2>;

    /// The layer's output together with `residual`, `[tokens, d_out]`, and a low-rank change of
    /// the layer, in one operation; nothing where the layer is not a linear one.
    fn forward_fused(
        &self,
        _input: &Self::Input,
        _residual: Option<&Tensor<2>>,
        _lora: Option<Lora>,
    ) -> Option<Tensor<2>> {
        None
    }

    /// The weight in 32 bits as `[d_in, d_out]`; `[1, d]` for a norm.
    fn weight(&self) -> Tensor<2>;

    /// The weight as [`weight`](Self::weight), in the type it is kept in: bf16 in a frozen base
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

    /// Calls `visit` with every parameter, called as the checkpoint calls it.
    fn visit_params(&self, visit: &mut dyn FnMut(&str, &dyn AnyParam));

    /// As [`visit_params`](Self::visit_params), to change the parameters.
    fn visit_params_mut(&mut self, visit: &mut dyn FnMut(&str, &mut dyn AnyParam));

    /// The device the layer lives on.
    fn device(&self) -> Device;

    /// The layer as PyTorch prints it.
    fn describe(&self) -> Tree;
}

/// What a layer takes: activations, or the ids of an embedding.
pub trait LayerInput: Clone {
    /// The output of a layer with one adapter beside it, `[tokens, d_out]`.
    fn through(self, adapter: &Adapter, base: &Base<'_, Self>) -> Tensor<2>;

    /// The number of positions.
    fn tokens(&self) -> usize;

    /// The width of the activations, `d_in`; `None` for ids.
    fn width(&self) -> Option<usize> {
        None
    }

    /// The activations `[tokens, d_in]`; `None` for ids.
    fn activations(&self) -> Option<Tensor<2>> {
        None
    }

    /// The ids of an embedding `[tokens]`; `None` for activations.
    fn ids(&self) -> Option<Tensor<1, Int>> {
        None
    }

    /// Some of the positions, in this order.
    fn select_positions(&self, positions: &[i64]) -> Self;
}

impl LayerInput for Tensor<2> {
    fn width(&self) -> Option<usize> {
        Some(self.dims()[1])
    }

    fn activations(&self) -> Option<Tensor<2>> {
        Some(self.clone())
    }

    fn through(self, adapter: &Adapter, base: &Base<'_, Self>) -> Tensor<2> {
        adapter.forward(self, base)
    }

    fn tokens(&self) -> usize {
        self.dims()[0]
    }

    fn select_positions(&self, positions: &[i64]) -> Self {
        let positions = Tensor::from_data(positions, &self.device());
        self.clone().select(0, positions)
    }
}

impl LayerInput for Tensor<1, Int> {
    fn ids(&self) -> Option<Tensor<1, Int>> {
        Some(self.clone())
    }

    fn through(self, adapter: &Adapter, base: &Base<'_, Self>) -> Tensor<2> {
        adapter.embed(self, base)
    }

    fn tokens(&self) -> usize {
        self.dims()[0]
    }

    fn select_positions(&self, positions: &[i64]) -> Self {
        let positions = Tensor::from_data(positions, &self.device());
        self.clone().select(0, positions)
    }
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

pub(crate) use {matrix_weight, weight_alone, weight_and_bias};
