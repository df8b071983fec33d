//! LoRA-FA (arXiv 2308.03303): `lora_A` stays as it is, and the gradient of `lora_B` compensates
//! for it.

use std::collections::HashMap;

use burn::module::ParamId;
use burn::optim::GradientsParams;
use burn::tensor::{Tensor, TensorData};

use crate::maths::svd::svd;
use crate::{Adapter, BaseModel, PeftError, PeftModel, Result};

/// Corrects the gradients of `lora_B` before the optimizer's step: `g ← 1/s² · g (A Aᵀ + 1e-8 I)⁺`
/// with the scaling `s` and the frozen `A`, so that the change of `s B A` is as near as possible to
/// that of the whole weight (peft/optimizers/lorafa.py).
#[derive(Clone, Debug, Default)]
pub struct LoraFa(HashMap<ParamId, Tensor<2>>);

impl LoraFa {
    /// Freezes `lora_A` of the model's active adapters, as PEFT's `create_lorafa_optimizer` does.
    /// Everything else trains as before. Create a new one whenever the values of `lora_A` are
    /// replaced.
    ///
    /// # Errors
    /// If no adapter has such factors, if an adapter uses them differently from LoRA, or if a
    /// scaling is zero.
    pub fn new<M: BaseModel>(model: &mut PeftModel<M>) -> Result<Self> {
        let active = model.active.clone();
        let mut found = HashMap::new();
        let mut result = Ok(());
        model.visit_slots_mut(|path, slot| {
            for adapter in slot.adapters_mut() {
                if result.is_ok()
                    && active.contains(&adapter.name)
                    && adapter.tensors().contains("lora_A")
                {
                    result = correction(path, adapter).map(|entry| found.extend([entry]));
                }
            }
        });
        result?;
        if found.is_empty() {
            return Err(PeftError::LoraFa {
                problem: "LoRA-FA needs LoRA on linear layers, and no active adapter has lora_A"
                    .into(),
            });
        }
        model.visit_slots_mut(|_, slot| {
            for adapter in slot.adapters_mut() {
                for tensor in &mut adapter.tensors {
                    if active.contains(&adapter.name) && tensor.spec.name == "lora_A" {
                        tensor.param_mut().set_requires_grad(false);
                    }
                }
            }
        });
        Ok(Self(found))
    }

    /// Corrects the gradients of all `lora_B`.
    pub fn correct(&self, gradients: &mut GradientsParams) {
        for (id, correction) in &self.0 {
            if let Some(gradient) = gradients.remove::<2>(*id) {
                gradients.register(*id, gradient.matmul(correction.clone()));
            }
        }
    }
}

/// The parameter `lora_B` of an adapter and `1/s² · (A Aᵀ + 1e-8 I)⁺`, `[r, r]`.
fn correction(path: &str, adapter: &Adapter) -> Result<(ParamId, Tensor<2>)> {
    let refuse = |reason: &str| {
        Err(PeftError::LoraFa {
            problem: format!("LoRA-FA at {path}: {reason}"),
        })
    };
    let tensors = adapter.tensors();
    let b = tensors.iter().find(|tensor| tensor.spec().name == "lora_B");
    let (Some(lora), Some(b)) = (adapter.method.low_rank(&tensors), b) else {
        return refuse(
            "it is for LoRA's factors at linear layers alone, without use_dora and lora_bias",
        );
    };
    if lora.scaling == 0.0 {
        return refuse("the scaling is 0, so lora_B cannot learn: set another lora_alpha");
    }
    let a = lora.a.without_autodiff();
    let device = a.device();
    let [r, _] = a.dims();
    let product = a.clone().matmul(a.transpose()).into_data();
    let mut product: Vec<f32> = product.iter::<f32>().collect();
    for i in 0..r {
        product[i * r + i] += 1e-8;
    }
    let (u, s, vt) = svd(&product, r, r)?;
    // torch's `pinv` treats singular values below this as zero.
    let smallest = r as f32 * f32::EPSILON * s[0];
    let squared = lora.scaling * lora.scaling;
    let mut inverse = vec![0.0; r * r];
    for (index, value) in inverse.iter_mut().enumerate() {
        let (row, column) = (index / r, index % r);
        let terms = (0..r)
            .filter(|&k| s[k] > smallest)
            .map(|k| f64::from(vt[k * r + row]) * f64::from(u[column * r + k]) / f64::from(s[k]));
        *value = (terms.sum::<f64>() / squared) as f32;
    }
    let inverse = Tensor::from_data(TensorData::new(inverse, [r, r]), &device);
    Ok((b.param().id(), inverse))
}
