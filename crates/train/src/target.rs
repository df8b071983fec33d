//! What can be trained, and what of it is saved.

use std::collections::HashSet;
use std::path::Path;

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn_peft::parameters::named_parameters;
use burn_peft::{BaseModel, PeftError, PeftModel};
use burn_peft_models::{CausalLm, GPT2LMHeadModel};

use crate::error::Result;

/// A language model that can be trained: one with adapters, or one whose own weights are trained.
pub trait TrainTarget: CausalLm + 'static {
    /// Writes what training changes into a folder that is there.
    ///
    /// # Errors
    /// If a file cannot be written.
    fn save(&self, dir: &Path) -> Result<()>;

    /// Checks after the first backward pass that every trainable tensor learns.
    ///
    /// # Errors
    /// If one does not; the error names it.
    fn check_gradients(&self, gradients: &GradientsParams) -> Result<()>;
}

/// The adapters are trained and saved, never the base.
impl<M: CausalLm + BaseModel + 'static> TrainTarget for PeftModel<M> {
    fn save(&self, dir: &Path) -> Result<()> {
        Ok(self.save_pretrained(dir)?)
    }

    fn check_gradients(&self, gradients: &GradientsParams) -> Result<()> {
        Ok(PeftModel::check_gradients(self, gradients)?)
    }
}

/// All weights are trained and saved (`peft_type = "NONE"`).
impl TrainTarget for GPT2LMHeadModel {
    fn save(&self, dir: &Path) -> Result<()> {
        Ok(self.save_pretrained(dir)?)
    }

    fn check_gradients(&self, gradients: &GradientsParams) -> Result<()> {
        let mut found = WithGradient {
            gradients,
            ids: HashSet::new(),
        };
        self.visit(&mut found);
        let parameters = named_parameters(self).into_iter();
        let lost: Vec<String> = parameters
            .filter(|parameter| parameter.requires_grad && !found.ids.contains(&parameter.id))
            .map(|parameter| parameter.name)
            .collect();
        match lost.is_empty() {
            true => Ok(()),
            false => Err(PeftError::Adapter(format!(
                "{} trainable tensors got no gradient and would not learn: {}",
                lost.len(),
                lost.join(", ")
            ))
            .into()),
        }
    }
}

/// The parameters there is a gradient for.
struct WithGradient<'a> {
    gradients: &'a GradientsParams,
    ids: HashSet<ParamId>,
}

impl ModuleVisitor for WithGradient<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if self.gradients.get::<D>(param.id).is_some() {
            self.ids.insert(param.id);
        }
    }
}
