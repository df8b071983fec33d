//! A check in the first training step that every trainable tensor has a gradient.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Gradients, Tensor, TensorData};
use std::collections::HashMap;

use crate::files::tensor_file::oriented;
use crate::model::parameters::{NamedParameter, named_parameters};
use crate::{BaseModel, Path, PeftError, PeftModel, Result, Tensors};

impl<M: BaseModel> PeftModel<M> {
    /// [`check_gradients`] with the names that PEFT gives the parameters.
    ///
    /// # Errors
    /// As [`check_gradients`].
    pub fn check_gradients(&self, gradients: &GradientsParams) -> Result<()> {
        let mut waiting = waiting_tensors(&self.base_model);
        for adapter in &self.model_adapters {
            waiting.extend(waiting_of(&adapter.tensors()));
        }
        let parameters = used(&self.base_model, self.named_parameters());
        check(self, &waiting, parameters, gradients)
    }

    /// The gradients of one adapter's trainable tensors after a backward pass, under their keys
    /// in PEFT's file.
    pub fn adapter_gradients(
        &self,
        adapter_name: &str,
        gradients: &Gradients,
    ) -> Vec<(String, Option<TensorData>)> {
        let mut found = Vec::new();
        self.clone().visit_adapter(adapter_name, |entry| {
            if entry.param.requires_grad() && !entry.repeated {
                let gradient = entry.param.gradient(gradients);
                let gradient = gradient.map(|data| oriented(data, entry.transposed));
                found.push((entry.key.to_string(), gradient));
            }
        });
        found
    }
}

/// Checks that every trainable tensor of a model has a gradient that is not all zero, except
/// tensors that have to wait: LoRA's `lora_A` has no gradient while `lora_B` is zero. A bias whose
/// gradient is all zero while others learn only causes a warning: it has no effect on a loss of
/// differences, such as that of reward models.
///
/// Parameters that the model reports as [idle](crate::Adaptable::is_idle) are skipped.
///
/// Reads each gradient once; meant for the first step of a run.
///
/// # Errors
/// If a tensor has no such gradient, so that training it would have no effect. The error names all
/// of them, and says if `.train()` was never called on the model.
pub fn check_gradients<M: BaseModel>(model: &M, gradients: &GradientsParams) -> Result<()> {
    let waiting = waiting_tensors(model);
    let parameters = used(model, named_parameters(model));
    check(model, &waiting, parameters, gradients)
}

/// The parameters among these that the model's output can depend on.
fn used(model: &impl BaseModel, mut parameters: Vec<NamedParameter>) -> Vec<NamedParameter> {
    parameters.retain(|parameter| !model.is_idle(&parameter.name));
    parameters
}

fn check(
    model: &impl Module,
    waiting: &[ParamId],
    parameters: Vec<NamedParameter>,
    gradients: &GradientsParams,
) -> Result<()> {
    let mut norms = Norms {
        gradients,
        found: HashMap::new(),
    };
    model.visit(&mut norms);
    let learns = norms.found.values().any(|norm| *norm != 0.0);
    let (mut lost, mut resting) = (Vec::new(), Vec::new());
    for parameter in parameters {
        if !parameter.requires_grad || waiting.contains(&parameter.id) {
            continue;
        }
        match norms.found.get(&parameter.id) {
            None => lost.push(format!("{} (no gradient)", parameter.name)),
            // A loss of differences is not affected by what is added to both sides.
            Some(norm) if *norm == 0.0 && learns && parameter.name.ends_with(".bias") => {
                resting.push(parameter.name);
            }
            Some(norm) if *norm == 0.0 => lost.push(format!("{} (all zero)", parameter.name)),
            Some(_) => {}
        }
    }
    if lost.is_empty() {
        if !resting.is_empty() {
            tracing::warn!(
                "the loss of the first step does not depend on {} of the trained biases, which may \
                 never learn: {}",
                resting.len(),
                resting[..resting.len().min(8)].join(", ")
            );
        }
        return Ok(());
    }
    if norms.found.is_empty() && !model.devices().iter().any(Device::is_autodiff) {
        return Err(PeftError::NotTraining);
    }
    let count = lost.len();
    lost.truncate(8);
    Err(PeftError::NoGradient { count, first: lost })
}

/// The tensors that wait for another one to become non-zero, or for a batch that needs them.
fn waiting_tensors(model: &impl BaseModel) -> Vec<ParamId> {
    let mut waiting = Vec::new();
    model.visit_slots(&mut Path::default(), &mut |_, slot| {
        for adapter in slot.adapters() {
            waiting.extend(waiting_of(&adapter.tensors()));
        }
    });
    waiting
}

/// Those of one adapter.
fn waiting_of(tensors: &Tensors<'_>) -> Vec<ParamId> {
    let mut waiting = Vec::new();
    for tensor in tensors.iter() {
        let partner = tensor.spec().waits_for;
        let partner =
            partner.and_then(|name| tensors.iter().find(|other| other.spec().name == name));
        let is_zero = partner.is_some_and(|partner| {
            let data = partner.param().to_data().convert::<f32>();
            data.iter::<f32>().all(|value| value == 0.0)
        });
        if is_zero || tensor.spec().may_rest {
            waiting.push(tensor.param().id());
        }
    }
    waiting
}

/// The largest absolute value of each parameter's gradient.
struct Norms<'a> {
    gradients: &'a GradientsParams,
    found: HashMap<ParamId, f32>,
}

impl ModuleVisitor for Norms<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let largest = gradient.abs().max().into_scalar::<f32>();
            self.found.insert(param.id, largest);
        }
    }
}
