//! Which weights a run is based on, by hash.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Int, Tensor, TensorData};

/// The BLAKE3 hash of all tensors of a model in training that training does not change, with
/// their shapes, in hexadecimal. None where it changes all.
pub(crate) fn frozen_hash(model: &impl Module) -> Option<String> {
    let mut visitor = Frozen {
        hasher: blake3::Hasher::new(),
        any: false,
    };
    model.visit(&mut visitor);
    visitor.any.then(|| visitor.hasher.finalize().to_string())
}

struct Frozen {
    hasher: blake3::Hasher,
    any: bool,
}

impl Frozen {
    fn add(&mut self, data: &TensorData) {
        self.any = true;
        self.hasher
            .update(format!("{:?}", data.shape().to_vec()).as_bytes());
        self.hasher.update(data.as_bytes());
    }
}

impl ModuleVisitor for Frozen {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let tensor = param.val();
        if !tensor.is_require_grad() {
            self.add(&tensor.into_data());
        }
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.add(&param.val().into_data());
    }
}
