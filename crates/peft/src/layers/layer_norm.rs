//! PyTorch's `LayerNorm`, whose epsilon can be read.

use burn::module::{Initializer, Module, Param};
use burn::nn;
use burn::tensor::{Device, Tensor};
use burn_peft_kernels::layer_norm;

use crate::layers::base_layer::{replace, replace_bias, row_weight, weight_and_bias};
use crate::tree::{python_bool, python_number};
use crate::{AnyParam, BaseLayer, LayerKind, Tree};

/// `(x - mean) / sqrt(variance + epsilon) · weight + bias` over the last axis (arXiv 1607.06450).
/// Burn's own `LayerNorm` does not show its epsilon, which PEFT prints and the one-pass kernel
/// needs.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// The scale, `[d]`.
    pub weight: Param<Tensor<1>>,
    /// The shift, `[d]`, if there is one.
    pub bias: Option<Param<Tensor<1>>>,
    epsilon: f64,
    /// The name of its class in transformers.
    #[module(skip)]
    class: &'static str,
}

/// The name in PyTorch.
const CLASS: &str = "LayerNorm";

impl LayerNorm {
    /// A norm of rows of `d` values with scale 1 and shift 0.
    pub fn new(d: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            weight: Initializer::Ones.init([d], device),
            bias: Some(Initializer::Zeros.init([d], device)),
            epsilon,
            class: CLASS,
        }
    }

    /// Like [`new`](Self::new), but without a shift and with the family's own class name (Cohere's
    /// `CohereLayerNorm`).
    pub fn without_bias(class: &'static str, d: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            bias: None,
            class,
            ..Self::new(d, epsilon, device)
        }
    }
}

impl BaseLayer for LayerNorm {
    type Input = Tensor<2>;

    fn kind(&self) -> LayerKind {
        LayerKind::LayerNorm
    }

    row_weight!(weight);

    fn forward_base(&self, input: Tensor<2>) -> Tensor<2> {
        layer_norm(input, self.weight.val(), self.bias(), self.epsilon)
    }

    fn forward_with(
        &self,
        input: Tensor<2>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Tensor<2> {
        layer_norm(input, weight.squeeze_dim(0), bias, self.epsilon)
    }

    fn set_weight(&mut self, weight: Tensor<2>, bias: Option<Tensor<1>>) {
        replace(&mut self.weight, weight.squeeze_dim(0));
        replace_bias(&mut self.bias, bias);
    }

    weight_and_bias!(weight, bias);

    fn describe(&self) -> Tree {
        if self.class != CLASS {
            return Tree::Leaf(format!("{}()", self.class));
        }
        let ([d, _], epsilon) = (self.dims(), python_number(self.epsilon));
        let bias = python_bool(self.bias.is_some());
        Tree::Leaf(format!(
            "{CLASS}(({d},), eps={epsilon}, elementwise_affine=True, bias={bias})"
        ))
    }
}

impl BaseLayer for nn::LayerNorm {
    type Input = Tensor<2>;

    fn kind(&self) -> LayerKind {
        LayerKind::LayerNorm
    }

    row_weight!(gamma);

    fn forward_base(&self, input: Tensor<2>) -> Tensor<2> {
        self.forward(input)
    }

    fn forward_with(
        &self,
        input: Tensor<2>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Tensor<2> {
        let mut layer = self.clone();
        // The norm's epsilon is private, so the norm is cloned. The clone's parameters need not be
        // leaves of a graph.
        layer.gamma = Param::initialized(self.gamma.id, weight.squeeze_dim(0));
        if let (Some(beta), Some(bias)) = (&mut layer.beta, bias) {
            *beta = Param::initialized(beta.id, bias);
        }
        layer.forward(input)
    }

    fn set_weight(&mut self, weight: Tensor<2>, bias: Option<Tensor<1>>) {
        replace(&mut self.gamma, weight.squeeze_dim(0));
        replace_bias(&mut self.beta, bias);
    }

    weight_and_bias!(gamma, beta);

    fn describe(&self) -> Tree {
        let ([d, _], bias) = (self.dims(), python_bool(self.beta.is_some()));
        Tree::Leaf(format!(
            "LayerNorm(({d},), elementwise_affine=True, bias={bias})"
        ))
    }
}
