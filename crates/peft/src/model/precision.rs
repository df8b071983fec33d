//! A frozen base in half precision, or quantised.

use burn::tensor::FloatDType;
use burn_peft_kernels::Quantization;

use crate::{Adaptable, Path, Slot};

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
    if slot.kind().is_norm() {
        return;
    }
    slot.visit_base_mut(&mut |name, param| {
        if name == "weight" && !param.requires_grad() {
            param.cast(dtype);
        }
    });
}

/// Keeps the frozen weights of linear layers quantised, but the output embedding's; products
/// give 32-bit values as before. Everything else stays as it is: [`cast_frozen`] takes embeddings.
///
/// Call it once adapters are attached: those that start from the weight (PiSSA, OLoRA, LoftQ) see
/// it in full precision, and what they leave of it is quantised. Trained copies of layers are not
/// quantised.
pub fn quantize_frozen<M: Adaptable>(model: &mut M, quantization: Quantization) {
    let output = model.output_embedding().to_string();
    model.visit_slots_mut(&mut Path::default(), &mut |path, slot| {
        if path != output {
            slot.quantize(quantization);
        }
    });
}
