//! The tensors of an adapter, as its method reads them.

use burn::tensor::Tensor;

use crate::{AdapterParam, AdapterTensor};

/// The tensors of an adapter by name, as its method reads them.
pub struct Tensors<'a>(&'a [AdapterTensor]);

impl<'a> Tensors<'a> {
    pub(crate) fn new(tensors: &'a [AdapterTensor]) -> Self {
        Self(tensors)
    }

    /// All tensors, in the method's order.
    pub fn iter(&self) -> impl Iterator<Item = &'a AdapterTensor> {
        self.0.iter()
    }

    fn find(&self, name: &str) -> &'a AdapterParam {
        let tensor = self.0.iter().find(|tensor| tensor.spec.name == name);
        &tensor
            .unwrap_or_else(|| panic!("LayerMethod::tensors names no tensor `{name}`"))
            .value
    }

    /// Whether there is a tensor of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.0.iter().any(|tensor| tensor.spec.name == name)
    }

    /// The tensor of this name with one axis.
    ///
    /// # Panics
    /// If the method did not ask for such a tensor.
    pub fn vector(&self, name: &str) -> Tensor<1> {
        match self.find(name) {
            AdapterParam::D1(param) => param.val(),
            _ => panic!("the tensor `{name}` is not a vector"),
        }
    }

    /// The tensor of this name with two axes.
    ///
    /// # Panics
    /// If the method did not ask for such a tensor.
    pub fn matrix(&self, name: &str) -> Tensor<2> {
        match self.find(name) {
            AdapterParam::D2(param) => param.val(),
            AdapterParam::Shared(shared) => shared.param().val(),
            _ => panic!("the tensor `{name}` is not a matrix"),
        }
    }

    /// The tensor of this name with three axes.
    ///
    /// # Panics
    /// If the method did not ask for such a tensor.
    pub fn tensor3(&self, name: &str) -> Tensor<3> {
        match self.find(name) {
            AdapterParam::D3(param) => param.val(),
            _ => panic!("the tensor `{name}` has not three axes"),
        }
    }

    /// The tensor of this name as a kernel, `[out, in, height, width]`; one with three axes gets
    /// the width 1.
    ///
    /// # Panics
    /// If the method did not ask for such a tensor.
    pub fn kernel(&self, name: &str) -> Tensor<4> {
        match self.find(name) {
            AdapterParam::D3(param) => param.val().unsqueeze_dim(3),
            AdapterParam::D4(param) => param.val(),
            _ => panic!("the tensor `{name}` is not a kernel"),
        }
    }

    /// The tensor of this name with four axes.
    ///
    /// # Panics
    /// If the method did not ask for such a tensor.
    pub fn tensor4(&self, name: &str) -> Tensor<4> {
        match self.find(name) {
            AdapterParam::D4(param) => param.val(),
            _ => panic!("the tensor `{name}` has not four axes"),
        }
    }
}
