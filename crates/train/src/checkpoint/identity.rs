//! Identifying the weights that a run is based on, by hash.

use std::collections::HashSet;

use burn::module::{ModuleVisitor, Param, ParamId};
use burn::tensor::{Int, Tensor, TensorData};

use crate::run::target::TrainTarget;

/// The BLAKE3 hash of all frozen parameters of a model in training, with their shapes, in
/// hexadecimal; for weights stored as bytes, of the bytes. `None` if all are trained. Buffers of
/// adapters are not parameters.
pub(crate) fn frozen_hash(model: &impl TrainTarget) -> Option<String> {
    let parameters = model.parameters().into_iter();
    let mut visitor = Frozen {
        known: parameters.map(|parameter| parameter.id).collect(),
        hasher: blake3::Hasher::new(),
        any: false,
    };
    let mut kept = blake3::Hasher::new();
    model.visit_kept(&mut |id, slot| {
        // The parameter itself holds nothing.
        visitor.known.remove(&id);
        if let Some(weight) = slot.blocks() {
            let of = weight.block_type().name();
            kept.update(format!("{of} {:?}", weight.dims()).as_bytes());
            kept.update(weight.bytes());
        } else if let Some(weight) = slot.int8() {
            kept.update(format!("int8 {:?}", weight.dims()).as_bytes());
            weight.visit_bytes(&mut |bytes| {
                kept.update(bytes);
            });
        }
    });
    model.visit(&mut visitor);
    if kept.count() > 0 {
        visitor.any = true;
        visitor.hasher.update(kept.finalize().as_bytes());
    }
    visitor.any.then(|| visitor.hasher.finalize().to_string())
}

struct Frozen {
    known: HashSet<ParamId>,
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
        if !tensor.is_require_grad() && self.known.contains(&param.id) {
            self.add(&tensor.into_data());
        }
    }

    fn visit_int<const D: usize>(&mut self, param: &Param<Tensor<D, Int>>) {
        self.add(&param.val().into_data());
    }
}
