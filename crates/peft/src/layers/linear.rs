//! Linear layers: torch's, and GPT-2's `Conv1D`.

use burn::module::Param;
use burn::nn::Linear;
use burn::tensor::{Device, FloatDType, Tensor};
use burn_peft_kernels::{Lora, linear};

use super::base_layer::{matrix_weight, replace, replace_bias, weight_and_bias};
use crate::{AnyParam, BaseLayer, Conv1D, LayerKind, Tree};

/// What a linear layer computes, whatever it calls its parameters.
macro_rules! linear_layer {
    () => {
        fn forward_base(&self, input: Tensor<2>) -> Tensor<2> {
            linear(input, self.weight.val(), self.bias(), None, None)
        }

        fn forward_fused(
            &self,
            input: &Tensor<2>,
            residual: Option<&Tensor<2>>,
            lora: Option<Lora>,
        ) -> Option<Tensor<2>> {
            let (input, residual) = (input.clone(), residual.cloned());
            Some(linear(
                input,
                self.weight.val(),
                self.bias(),
                residual,
                lora,
            ))
        }

        fn forward_with(
            &self,
            input: Tensor<2>,
            weight: Tensor<2>,
            bias: Option<Tensor<1>>,
        ) -> Tensor<2> {
            linear(input, weight, bias, None, None)
        }
    };
}

impl BaseLayer for Linear {
    type Input = Tensor<2>;

    fn kind(&self) -> LayerKind {
        LayerKind::Linear
    }

    matrix_weight!();

    linear_layer!();

    fn set_weight(&mut self, weight: Tensor<2>, bias: Option<Tensor<1>>) {
        replace(&mut self.weight, weight);
        replace_bias(&mut self.bias, bias);
    }

    weight_and_bias!(weight, bias);

    fn describe(&self) -> Tree {
        let [d_in, d_out] = self.dims();
        Tree::linear(d_in, d_out, self.bias.is_some())
    }
}

impl BaseLayer for Conv1D {
    type Input = Tensor<2>;

    fn kind(&self) -> LayerKind {
        LayerKind::Conv1D
    }

    matrix_weight!();

    linear_layer!();

    fn set_weight(&mut self, weight: Tensor<2>, bias: Option<Tensor<1>>) {
        replace(&mut self.weight, weight);
        if let Some(bias) = bias {
            replace(&mut self.bias, bias);
        }
    }

    weight_and_bias!();

    fn describe(&self) -> Tree {
        let [d_in, d_out] = self.dims();
        Tree::Leaf(format!("Conv1D(nf={d_out}, nx={d_in})"))
    }
}
