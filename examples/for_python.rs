//! Writes a model's weights under PyTorch's names, so that Python's peft has a base for an adapter.

use std::collections::HashSet;
use std::path::Path;

use burn::module::{ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};
use burn_peft::{BaseModel, Result, tensor_file};

/// The parameters outside slots, here those of norms.
struct Outside {
    path: Vec<String>,
    known: HashSet<ParamId>,
    tensors: Vec<(String, TensorData)>,
}

impl ModuleVisitor for Outside {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
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
        if !self.known.contains(&param.id) {
            let data = param.val().into_data();
            self.tensors.push((self.path.join("."), data));
        }
    }
}

/// The transpose of a matrix.
fn transposed(data: TensorData) -> TensorData {
    let device = burn::tensor::Device::flex();
    Tensor::<2>::from_data(data, &device)
        .transpose()
        .into_data()
}

/// Writes the parameters of a plain model, and additional tensors, as a safetensors file.
///
/// # Errors
/// If the file cannot be written.
pub fn write(path: &Path, model: &impl BaseModel, more: Vec<(String, TensorData)>) -> Result<()> {
    let (mut tensors, mut known) = (more, HashSet::new());
    model.visit_slots(&mut burn_peft::Path::default(), &mut |path, slot| {
        let kind = slot.kind();
        slot.visit_base(&mut |name, param| {
            known.insert(param.id());
            let data = param.to_data();
            // PyTorch's linear layers keep their weight transposed.
            let data = if kind.is_transposed(name) {
                transposed(data)
            } else {
                data
            };
            tensors.push((format!("{path}.{name}"), data));
        });
    });
    let mut outside = Outside {
        path: Vec::new(),
        known,
        tensors,
    };
    model.visit(&mut outside);
    tensor_file::write_tensors(path, outside.tensors)
}
