//! What can be trained, and which parts of it are saved.

use std::path::Path;

use burn::module::ParamId;
use burn::optim::GradientsParams;
use burn::tensor::FloatDType;
use burn::tensor::Tensor;
use burn_peft::files::CONFIG_NAME;
use burn_peft::parameters::NamedParameter;
use burn_peft::{Adaptable, BaseModel, DEFAULT_ADAPTER, LoraFa, PeftModel, Slot, StepGradients};
use burn_peft_files::read_text;
use burn_peft_models::weights::SaveOptions;
use burn_peft_models::{CausalLm, LanguageModel, Pretrained};
use serde_json::{Map, Value};

use crate::error::{ArgumentProblem, Result, ResumeProblem, TrainError};

/// A language model that can be trained: one with adapters, or one whose own weights are trained.
pub trait TrainTarget: CausalLm + 'static {
    /// Writes what training changes into an existing folder.
    ///
    /// # Errors
    /// If a file cannot be written.
    fn save(&self, dir: &Path) -> Result<()>;

    /// Restores what training changes from the files that
    /// [`save_checkpoint`](Self::save_checkpoint) wrote for this very model.
    ///
    /// # Errors
    /// If a file is missing or broken, or if it is another model's.
    fn restore(&mut self, dir: &Path) -> Result<()>;

    /// Every parameter, under a name that is the same in every process.
    fn parameters(&self) -> Vec<NamedParameter>;

    /// Keeps the frozen weights of linear layers and embeddings in `dtype`; see
    /// [`burn_peft::cast_frozen`].
    fn cast_frozen(&mut self, dtype: FloatDType);

    /// Checks after the first backward pass that every trainable tensor learns.
    ///
    /// # Errors
    /// If one does not; the error names it.
    fn check_gradients(&self, gradients: &GradientsParams) -> Result<()>;

    /// Freezes `lora_A` for `optim = "lorafa"`.
    ///
    /// # Errors
    /// If there are no such factors.
    fn lora_fa(&mut self) -> Result<LoraFa> {
        Err(TrainError::argument("optim", ArgumentProblem::NoLora))
    }

    /// Calls `visit` with every slot whose frozen weight is kept in the blocks of a file or in the
    /// eight bits that its products use, and with the id of the parameter that stands for this
    /// weight.
    fn visit_kept(&self, _visit: &mut dyn FnMut(ParamId, &dyn Slot)) {}

    /// What training adds to the mean loss, `[1]`.
    fn regularizer(&self) -> Option<Tensor<1>> {
        None
    }

    /// What [`after_step`](Self::after_step) needs from the gradients, which the optimizer uses up.
    fn step_gradients(&self, _gradients: &GradientsParams) -> StepGradients {
        StepGradients::default()
    }

    /// Runs after the `step`th optimizer step, from 1.
    fn after_step(&mut self, _step: usize, _gradients: &StepGradients) {}

    /// Writes everything that [`restore`](Self::restore) needs to continue exactly, to the last
    /// bit, into a folder.
    ///
    /// # Errors
    /// If a file cannot be written.
    fn save_checkpoint(&self, dir: &Path) -> Result<()> {
        self.save(dir)
    }
}

/// The adapters are trained and saved, the base never is.
impl<M: CausalLm + BaseModel + 'static> TrainTarget for PeftModel<M> {
    fn save(&self, dir: &Path) -> Result<()> {
        Ok(self.save_pretrained(dir)?)
    }

    fn restore(&mut self, dir: &Path) -> Result<()> {
        for (name, config) in self.peft_config() {
            let folder = match name.as_str() {
                DEFAULT_ADAPTER => dir.to_path_buf(),
                name => dir.join(name),
            };
            let path = folder.join(CONFIG_NAME);
            compare(&config.to_json(), config.learnt_keys(), &path)?;
        }
        Ok(self.restore_pretrained(dir)?)
    }

    fn parameters(&self) -> Vec<NamedParameter> {
        self.named_parameters()
    }

    fn cast_frozen(&mut self, dtype: FloatDType) {
        PeftModel::cast_frozen(self, dtype);
    }

    fn check_gradients(&self, gradients: &GradientsParams) -> Result<()> {
        Ok(PeftModel::check_gradients(self, gradients)?)
    }

    fn lora_fa(&mut self) -> Result<LoraFa> {
        Ok(LoraFa::new(self)?)
    }

    fn visit_kept(&self, visit: &mut dyn FnMut(ParamId, &dyn Slot)) {
        self.get_base_model()
            .visit_slots(&mut burn_peft::Path::default(), &mut |_, slot| {
                if slot.blocks().is_some() || slot.int8().is_some() {
                    slot.visit_base(&mut |name, param| {
                        if name == "weight" {
                            visit(param.id(), slot);
                        }
                    });
                }
            });
    }

    fn regularizer(&self) -> Option<Tensor<1>> {
        PeftModel::regularizer(self)
    }

    fn step_gradients(&self, gradients: &GradientsParams) -> StepGradients {
        PeftModel::step_gradients(self, gradients)
    }

    fn after_step(&mut self, step: usize, gradients: &StepGradients) {
        PeftModel::after_step(self, step, gradients);
    }

    fn save_checkpoint(&self, dir: &Path) -> Result<()> {
        self.save(dir)?;
        Ok(self.save_step_state(dir)?)
    }
}

/// With adapters, the adapters are trained and saved; without, all weights are
/// (`peft_type = "NONE"`).
impl TrainTarget for LanguageModel {
    fn save(&self, dir: &Path) -> Result<()> {
        match self {
            Self::Base(model) => Ok(model.save_pretrained(dir)?),
            Self::Peft(model) => model.save(dir),
        }
    }

    fn restore(&mut self, dir: &Path) -> Result<()> {
        match self {
            Self::Base(model) => {
                model.reload(dir)?;
                let path = &mut burn_peft::Path::default();
                model.visit_slots_mut(path, &mut |_, slot| {
                    slot.visit_base_mut(&mut |_, param| param.lay_in_order());
                });
                Ok(())
            }
            Self::Peft(model) => model.restore(dir),
        }
    }

    fn parameters(&self) -> Vec<NamedParameter> {
        self.named_parameters()
    }

    fn cast_frozen(&mut self, dtype: FloatDType) {
        LanguageModel::cast_frozen(self, dtype);
    }

    fn check_gradients(&self, gradients: &GradientsParams) -> Result<()> {
        match self {
            Self::Base(model) => Ok(burn_peft::check_gradients(model, gradients)?),
            Self::Peft(model) => TrainTarget::check_gradients(model, gradients),
        }
    }

    fn lora_fa(&mut self) -> Result<LoraFa> {
        let Self::Peft(model) = self else {
            return Err(TrainError::argument("optim", ArgumentProblem::NoLora));
        };
        model.lora_fa()
    }

    fn visit_kept(&self, visit: &mut dyn FnMut(ParamId, &dyn Slot)) {
        if let Some(model) = self.as_peft() {
            model.visit_kept(visit);
        }
    }

    fn regularizer(&self) -> Option<Tensor<1>> {
        self.as_peft()?.regularizer()
    }

    fn step_gradients(&self, gradients: &GradientsParams) -> StepGradients {
        let model = self.as_peft();
        model.map_or_else(StepGradients::default, |model| {
            model.step_gradients(gradients)
        })
    }

    fn after_step(&mut self, step: usize, gradients: &StepGradients) {
        if let Some(model) = self.as_peft_mut() {
            model.after_step(step, gradients);
        }
    }

    fn save_checkpoint(&self, dir: &Path) -> Result<()> {
        match self {
            // In 32 bits, as it is trained, whatever the base was stored in.
            Self::Base(model) => Ok(model.save_with(dir, &SaveOptions::default())?),
            Self::Peft(model) => model.save_checkpoint(dir),
        }
    }
}

/// Checks that an adapter's configuration matches the one in a file, except for keys that do not
/// change what it computes, and those that training has `learnt`.
fn compare(config: &Map<String, Value>, learnt: &[&str], path: &Path) -> Result<()> {
    const FREE: [&str; 6] = [
        "base_model_name_or_path",
        "revision",
        "task_type",
        "auto_mapping",
        "inference_mode",
        "peft_version",
    ];
    let broken = |error: serde_json::Error| TrainError::io(path)(error.into());
    let text = read_text(path)?;
    let then: Map<String, Value> = serde_json::from_str(&text).map_err(broken)?;
    // The file's floats went through text, in which they may lose their last bit.
    let now = serde_json::to_string(config).map_err(broken)?;
    let now: Map<String, Value> = serde_json::from_str(&now).map_err(broken)?;
    let is_free = |key: &str| FREE.contains(&key) || learnt.contains(&key);
    let different = |key: &&String| !is_free(key) && then.get(*key) != now.get(*key);
    let Some(key) = now.keys().find(different) else {
        return Ok(());
    };
    let show = |value: Option<&Value>| value.map_or("nothing".into(), ToString::to_string);
    let problem = ResumeProblem::OtherAdapter {
        key: key.clone(),
        then: show(then.get(key)),
        now: show(now.get(key)),
    };
    Err(TrainError::resume(path, problem))
}
