//! The root-mean-square norm of Llama and its relatives.

use burn::module::{Initializer, Module, Param};
use burn::tensor::{Device, Tensor};
use burn_peft_kernels::rms_norm;

use super::base_layer::{replace, row_weight, weight_alone};
use crate::tree::python_number;
use crate::{AnyParam, BaseLayer, LayerKind, Tree};

/// `x / sqrt(mean(x²) + epsilon) · (offset + weight)` over the last axis (arXiv 1910.07467). Burn's
/// own `RmsNorm` has no offset, another name for its parameter, and no one-pass kernel.
#[derive(Module, Debug)]
pub struct RmsNorm {
    /// The scale, less the offset, `[d]`.
    pub weight: Param<Tensor<1>>,
    epsilon: f64,
    offset: f64,
    /// The name of its class in transformers.
    #[module(skip)]
    class: &'static str,
}

impl RmsNorm {
    /// A norm of rows of `d` values whose scale is one. `class` is the name of its class in
    /// transformers for this family (`LlamaRMSNorm`), which is printed.
    pub fn new(class: &'static str, d: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            weight: Initializer::Ones.init([d], device),
            epsilon,
            offset: 0.0,
            class,
        }
    }

    /// Like [`new`](Self::new), but the weight is the scale minus one, so it starts at zero
    /// (Gemma).
    pub fn around_one(class: &'static str, d: usize, epsilon: f64, device: &Device) -> Self {
        Self {
            weight: Initializer::Zeros.init([d], device),
            offset: 1.0,
            ..Self::new(class, d, epsilon, device)
        }
    }
}

impl BaseLayer for RmsNorm {
    type Input = Tensor<2>;

    fn kind(&self) -> LayerKind {
        LayerKind::RmsNorm
    }

    row_weight!(weight);

    fn forward_base(&self, input: Tensor<2>) -> Tensor<2> {
        rms_norm(input, self.weight.val(), self.epsilon, self.offset)
    }

    fn forward_with(&self, input: Tensor<2>, weight: Tensor<2>, _: Option<Tensor<1>>) -> Tensor<2> {
        rms_norm(input, weight.squeeze_dim(0), self.epsilon, self.offset)
    }

    fn set_weight(&mut self, weight: Tensor<2>, _: Option<Tensor<1>>) {
        replace(&mut self.weight, weight.squeeze_dim(0));
    }

    weight_alone!();

    fn describe(&self) -> Tree {
        let ([d, _], class) = (self.dims(), self.class);
        Tree::Leaf(format!(
            "{class}(({d},), eps={})",
            python_number(self.epsilon)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LoraAdapter, Slot};
    use burn::tensor::{DType, FloatDType};

    /// What transformers 5 prints of SmolLM2's and Gemma's norms.
    #[test]
    fn prints_as_transformers_does() {
        let device = Device::flex();
        let print = |norm: RmsNorm| norm.describe().to_string();
        let norm = RmsNorm::new("LlamaRMSNorm", 576, 1e-5, &device);
        assert_eq!(print(norm), "LlamaRMSNorm((576,), eps=1e-05)");
        let norm = RmsNorm::around_one("Gemma2RMSNorm", 64, 1e-6, &device);
        assert_eq!(print(norm), "Gemma2RMSNorm((64,), eps=1e-06)");
    }

    /// A fresh norm leaves rows whose mean square is one as they are, with an offset or without;
    /// another weight counts from the offset.
    #[test]
    fn starts_at_one() {
        let device = Device::flex();
        let x = Tensor::<2>::from_data([[1.0, -1.0, 1.0, 1.0]], &device);
        for (norm, zeros) in [
            (RmsNorm::new("LlamaRMSNorm", 4, 0.0, &device), 0.0),
            (RmsNorm::around_one("GemmaRMSNorm", 4, 0.0, &device), 1.0),
        ] {
            let output = norm.forward_base(x.clone()).into_data();
            output.assert_eq(&x.to_data(), true);
            let output = norm.forward_with(x.clone(), Tensor::zeros([1, 4], &device), None);
            output
                .into_data()
                .assert_eq(&(x.clone() * zeros).into_data(), true);
        }
    }

    /// It stays in 32 bits where the base is kept in 16.
    #[test]
    fn is_not_rounded() {
        let mut slot = LoraAdapter::new(RmsNorm::new("LlamaRMSNorm", 4, 1e-6, &Device::flex()));
        crate::cast_frozen(&mut slot, FloatDType::BF16);
        assert_eq!(slot.weight().dtype(), DType::F32);
        assert!(!slot.has_bias());
    }
}
