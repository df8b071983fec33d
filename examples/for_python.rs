//! A model's weights as PyTorch calls them, so that Python's peft has a base for an adapter.

use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use burn_peft::{Result, tensor_file};

struct Named {
    path: Vec<String>,
    tensors: Vec<(String, TensorData)>,
}

impl ModuleVisitor for Named {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        // The norms of Burn have other names.
        let name = match name {
            "gamma" => "weight",
            "beta" => "bias",
            name => name,
        };
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let mut value = param.val();
        if D == 2 {
            // All matrices here are of linear layers, which PyTorch has the other way round.
            value = value.swap_dims(0, 1);
        }
        self.tensors.push((self.path.join("."), value.into_data()));
    }
}

/// Writes the parameters of a plain model, and further tensors beside them, as a safetensors file.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, model: &impl Module, more: Vec<(String, TensorData)>) -> Result<()> {
    let mut named = Named {
        path: Vec::new(),
        tensors: more,
    };
    model.visit(&mut named);
    tensor_file::write_tensors(path, named.tensors)
}
