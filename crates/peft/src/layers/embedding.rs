//! The embedding of tokens or positions.

use burn::nn::Embedding;
use burn::tensor::{Device, FloatDType, Int, Tensor};

use super::base_layer::{matrix_weight, replace, weight_alone};
use crate::{AnyParam, BaseLayer, LayerKind, Tree};

impl BaseLayer for Embedding {
    type Input = Tensor<1, Int>;

    fn kind(&self) -> LayerKind {
        LayerKind::Embedding
    }

    matrix_weight!();

    fn forward_base(&self, input: Tensor<1, Int>) -> Tensor<2> {
        self.weight.val().select(0, input).cast(FloatDType::F32)
    }

    fn forward_with(
        &self,
        input: Tensor<1, Int>,
        weight: Tensor<2>,
        _: Option<Tensor<1>>,
    ) -> Tensor<2> {
        weight.select(0, input)
    }

    fn set_weight(&mut self, weight: Tensor<2>, _: Option<Tensor<1>>) {
        replace(&mut self.weight, weight);
    }

    weight_alone!();

    fn describe(&self) -> Tree {
        let [rows, d] = self.dims();
        Tree::Leaf(format!("Embedding({rows}, {d})"))
    }
}
