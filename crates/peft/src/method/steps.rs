//! What a method sees of an adapted layer after an optimizer step.

use std::collections::HashMap;

use burn::module::ParamId;
use burn::tensor::Tensor;

use crate::{AdapterParam, AdapterTensor};

/// The gradients of one optimizer step, flattened, of adapters whose method asks for them.
#[derive(Debug, Default)]
pub struct StepGradients(pub(crate) HashMap<ParamId, Tensor<1>>);

/// An adapted layer after an optimizer step.
#[derive(Debug)]
pub struct StepLayer<'a> {
    pub(crate) path: String,
    pub(crate) tensors: Vec<AdapterTensor>,
    pub(crate) gradients: &'a StepGradients,
}

impl StepLayer<'_> {
    /// The path of the layer.
    pub fn path(&self) -> &str {
        &self.path
    }

    fn find(&self, name: &str) -> &AdapterTensor {
        let tensor = self.tensors.iter().find(|tensor| tensor.spec.name == name);
        tensor.unwrap_or_else(|| panic!("LayerMethod::tensors names no tensor `{name}`"))
    }

    /// The shape of a tensor of the adapter.
    ///
    /// # Panics
    /// If the method has no such tensor.
    pub fn dims(&self, name: &str) -> Vec<usize> {
        self.find(name).param().dims()
    }

    /// The values of a tensor of the adapter, flattened and without a graph.
    ///
    /// # Panics
    /// If the method has no such tensor.
    pub fn values(&self, name: &str) -> Tensor<1> {
        match &self.find(name).value {
            AdapterParam::D1(param) => param.val().without_autodiff(),
            AdapterParam::D2(param) => param.val().without_autodiff().flatten(0, 1),
            AdapterParam::Shared(shared) => shared.param().val().without_autodiff().flatten(0, 1),
            AdapterParam::D3(param) => param.val().without_autodiff().flatten(0, 2),
            AdapterParam::D4(param) => param.val().without_autodiff().flatten(0, 3),
        }
    }

    /// The gradient of the step, flattened, of a tensor that had one.
    ///
    /// # Panics
    /// If the method has no such tensor.
    pub fn gradient(&self, name: &str) -> Option<Tensor<1>> {
        let id = self.find(name).param().id();
        self.gradients.0.get(&id).cloned()
    }

    /// Replaces the values of a tensor of the adapter by as many others.
    ///
    /// # Panics
    /// If the method has no such tensor, or the number of values differs.
    pub fn set_values(&mut self, name: &str, values: Tensor<1>) {
        let found = self
            .tensors
            .iter_mut()
            .find(|other| other.spec.name == name);
        let tensor = found.unwrap_or_else(|| panic!("there is no tensor `{name}`"));
        tensor.value.set(values);
    }
}
