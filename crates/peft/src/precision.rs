//! A frozen base in half precision.

use burn::tensor::FloatDType;

use crate::{Adaptable, LayerKind, Path, Slot};

/// Keeps the frozen weights of linear layers and embeddings in `dtype`: their products and
/// look-ups give 32-bit values as before. Norms, biases, adapters and whatever is trained stay as
/// they are.
///
/// Call it when adapters are attached, so that trained copies of layers
/// (`modules_to_save`) are copies of the 32-bit weights.
pub fn cast_frozen<M: Adaptable>(model: &mut M, dtype: FloatDType) {
    model.visit_slots_mut(&mut Path::default(), &mut |_, slot| cast_slot(slot, dtype));
}

pub(crate) fn cast_slot(slot: &mut dyn Slot, dtype: FloatDType) {
    if slot.kind() == LayerKind::LayerNorm {
        return;
    }
    slot.visit_base_mut(&mut |name, param| {
        if name == "weight" && !param.requires_grad() {
            param.cast(dtype);
        }
    });
}
