//! A frozen base in half precision, or quantised.

use burn::tensor::FloatDType;
use burn_peft_kernels::Quantization;

use crate::target::{SkippedModules, short_names};
use crate::{Adaptable, Path, Result, Slot};

/// Keeps the frozen weights of linear layers and embeddings in `dtype`; their products and look-ups
/// still return 32-bit values. Norms, convolutions, biases, adapters and everything that is trained
/// stay as they are.
///
/// Call it after attaching adapters, so that trained copies of layers (`modules_to_save`) are
/// copies of the 32-bit weights.
pub fn cast_frozen<M: Adaptable>(model: &mut M, dtype: FloatDType) {
    model.visit_slots_mut(&mut Path::default(), &mut |_, slot| cast_slot(slot, dtype));
}

pub(crate) fn cast_slot(slot: &mut dyn Slot, dtype: FloatDType) {
    if slot.kind().is_norm() || slot.kind().is_convolution() {
        return;
    }
    slot.visit_base_mut(&mut |name, param| {
        if name == "weight" && !param.requires_grad() {
            param.cast(dtype);
        }
    });
}

/// The form in which the frozen weights of linear layers are kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FrozenForm {
    /// Codes of 4 or 8 bits, from which a dense weight is made for each product.
    Codes(Quantization),
    /// Eight bits, in which the products are computed ([`Int8Weight`](crate::Int8Weight)), on the
    /// CPU; other devices compute a dense weight for each product.
    Int8 {
        /// Whether this includes the output embedding, and with it the input embedding that it is
        /// tied to.
        head: bool,
    },
}

impl From<Quantization> for FrozenForm {
    fn from(quantization: Quantization) -> Self {
        Self::Codes(quantization)
    }
}

/// Keeps the frozen weights of linear layers quantised, except for the output embedding's unless
/// [`FrozenForm::Int8`] includes it; products still return 32-bit values. Everything else stays as
/// it is; [`cast_frozen`] casts embeddings.
///
/// Call it after attaching adapters: those that start from the weight (PiSSA, OLoRA, LoftQ) then
/// see it in full precision, and what remains of it is quantised. Trained copies of layers are not
/// quantised.
///
/// # Errors
/// If a weight has NaN or infinite values, which rounding would hide; weights before it are already
/// quantised then.
pub fn quantize_frozen<M: Adaptable>(model: &mut M, form: impl Into<FrozenForm>) -> Result<()> {
    quantize_frozen_except(model, form, &[])
}

/// As [`quantize_frozen`], but the layers that `skip_modules` names keep their weights as they are.
///
/// The names are those of transformers' `llm_int8_skip_modules`: the end of a layer's path
/// (`v_proj`), or a regular expression for its beginning, up to a dot or to its end
/// (`model.layers.0`). A name that no layer has causes a warning, and so do names that leave nothing
/// to quantise.
///
/// # Errors
/// As [`quantize_frozen`], or if a name is empty or not a regular expression.
pub fn quantize_frozen_except<M: Adaptable>(
    model: &mut M,
    form: impl Into<FrozenForm>,
    skip_modules: &[String],
) -> Result<()> {
    let form = form.into();
    let mut skipped = SkippedModules::new(skip_modules)?;
    let output = model.output_embedding().to_string();
    let mut is_tied = true;
    model.visit_slots(&mut Path::default(), &mut |path, _| {
        is_tied &= path != output
    });
    let head = if is_tied {
        model.input_embedding().to_string()
    } else {
        output.clone()
    };
    let skips_output = skipped.contain(&output)?;
    let (mut result, mut paths, mut count) = (Ok(()), Vec::new(), 0);
    model.visit_slots_mut(&mut Path::default(), &mut |path, slot| {
        let is_head = path == head;
        if result.is_err() || !is_head && !slot.kind().is_linear() {
            return;
        }
        paths.push(path.to_string());
        result = skipped.contain(path).and_then(|is_skipped| match form {
            _ if is_skipped || is_head && skips_output => Ok(()),
            FrozenForm::Codes(quantization) if !is_head => slot.quantize(path, quantization),
            FrozenForm::Int8 { head } if head || !is_head => slot.quantize_int8(path),
            _ => Ok(()),
        });
        count += usize::from(slot.is_quantized());
    });
    result?;
    if count == 0 && !skip_modules.is_empty() {
        tracing::warn!(
            "llm_int8_skip_modules: the names match every layer, so that nothing is quantised"
        );
    }
    for name in skipped.unused() {
        let names = short_names(paths.iter().map(String::as_str));
        tracing::warn!(
            "llm_int8_skip_modules: {name:?} matches no linear layer of the model; they are: {names}"
        );
    }
    Ok(())
}
