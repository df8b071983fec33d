//! The method of a new adapter, as `[peft]` in a training file describes it.

use std::sync::Arc;

use burn_peft::config::{Fields, TaskType};
use burn_peft::methods::{config_of_known_keys, peft_types};
use burn_peft::{LoraConfig, Method};
use serde_json::Value as Json;

use crate::configuration::config::TrainConfig;
use crate::configuration::keys::Known;
use crate::configuration::peft_table;
use crate::configuration::words::foreign_method;
use crate::error::{ConfigProblem, Result, TrainError};

impl TrainConfig {
    /// The method of a new adapter, as `[peft]` describes it; LoRA if it names none. `place` is the
    /// file's name in errors.
    ///
    /// # Errors
    /// If a key of `[peft]` is unknown or a value is invalid; the error names it.
    pub fn method(&self, place: &str) -> Result<Arc<dyn Method>> {
        let place = format!("{place} [peft]");
        let mut keys = self.peft.clone().unwrap_or_default();
        keys.entry("peft_type")
            .or_insert_with(|| Json::from(LoraConfig::PEFT_TYPE));
        if peft_table::wants_total_step(&keys) {
            // The real number is filled in once the data are known; until then any will do.
            let steps = u64::try_from(self.training.max_steps).unwrap_or(1 << 40);
            keys.insert(peft_table::TOTAL_STEP.into(), steps.into());
        }
        let fields = Fields::new(keys, &place);
        let peft_type: String = fields.peek("peft_type")?.unwrap_or_default();
        let known = peft_types();
        if !known.contains(&peft_type)
            && let Some(ours) = foreign_method(&peft_type, &known)
        {
            let meant = ours;
            let problem = ConfigProblem::NoMethod { peft_type, meant };
            return Err(TrainError::config(place, problem));
        }
        // A loaded adapter may have keys of a newer PEFT; in a training file they are mistakes.
        let misspelt = |key: &str| Known::new(&peft_type).misspelt("peft", key).to_string();
        let method = config_of_known_keys(fields, &misspelt)?;
        match method.common().task_type {
            None | Some(TaskType::CausalLm) => Ok(method),
            Some(task) if task == self.objective().task_type => Ok(method),
            Some(task) => {
                let problem = ConfigProblem::Task {
                    task: task.to_string(),
                    objective: self.objective().name,
                    trained: self.objective().task_type.to_string(),
                };
                Err(TrainError::config(place, problem))
            }
        }
    }

    /// Whether the adapter's method plans over all steps of the run, and their number is unknown:
    /// neither `total_step` nor `max_steps` is set.
    pub fn wants_total_step(&self) -> bool {
        let peft = self.peft.as_ref();
        self.training.max_steps < 0 && peft.is_some_and(peft_table::wants_total_step)
    }

    /// Sets the number of steps of the run, if its method needs it and does not know it.
    pub fn set_total_step(&mut self, steps: usize) {
        let peft = self.peft.as_mut();
        if let Some(peft) = peft.filter(|peft| peft_table::wants_total_step(peft)) {
            peft.insert(peft_table::TOTAL_STEP.into(), steps.into());
        }
    }
}
