//! What a method does around training steps, and its view of an adapted layer.

use std::collections::HashMap;
use std::sync::Arc;

use burn::module::ParamId;
use burn::tensor::{Tensor, TensorData};

use crate::{AdapterParam, AdapterTensor, Method, Tensors};

/// A method that takes part in training steps; returned by [`Method::steps`].
pub trait Steps: Method {
    /// A term added to the mean loss in training, `[1]`, computed from the tensors of all adapted
    /// layers.
    fn regularizer(&self, _layers: &[Tensors<'_>]) -> Option<Tensor<1>> {
        None
    }

    /// The keys of the configuration that [`after_step`](Self::after_step) may change.
    fn learnt_keys(&self) -> &[&str] {
        &[]
    }

    /// Called after optimizer step `step` (counted from 1), with all adapted layers and the
    /// gradients of the step. Returns the new configuration if the step has changed it.
    fn after_step(&self, step: usize, layers: &mut [StepLayer<'_>]) -> Option<Arc<dyn Method>>;

    /// The part of a tensor that is saved, if steps have removed some of it. `tensor` is the tensor
    /// with the method's `name` at the layer `path`.
    fn to_file(&self, _path: &str, _name: &str, tensor: TensorData) -> TensorData {
        tensor
    }
}

/// The gradients of one optimizer step, flattened, of adapters whose method needs them.
#[derive(Debug, Default)]
pub struct StepGradients(pub(crate) HashMap<ParamId, Tensor<1>>);

impl StepGradients {
    /// Whether no method asks for gradients.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

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

    /// The gradient of this step, flattened, if the tensor had one.
    ///
    /// # Panics
    /// If the method has no such tensor.
    pub fn gradient(&self, name: &str) -> Option<Tensor<1>> {
        let id = self.find(name).param().id();
        self.gradients.0.get(&id).cloned()
    }

    /// Replaces the values of a tensor of the adapter by the same number of others.
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
