//! What `[peft]` of a training file describes: the method of a new adapter.

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
    /// The method of a new adapter, as `[peft]` describes it; LoRA where it names none. `place` is
    /// how errors call the file.
    ///
    /// # Errors
    /// If a key of `[peft]` is unknown or a value cannot be used; the error names it.
    pub fn method(&self, place: &str) -> Result<Arc<dyn Method>> {
        let place = format!("{place} [peft]");
        let mut keys = self.peft.clone().unwrap_or_default();
        keys.entry("peft_type")
            .or_insert_with(|| Json::from(LoraConfig::PEFT_TYPE));
        if peft_table::wants_total_step(&keys) {
            // What it is shall be known once the data are; any number serves until then.
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
        // Another's adapter may hold keys of a newer PEFT; in one's own file they are mistakes.
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

    /// Whether the adapter's method plans over all steps of the run, and nothing says how many there
    /// are: not `total_step`, and not `max_steps`.
    pub fn wants_total_step(&self) -> bool {
        let peft = self.peft.as_ref();
        self.training.max_steps < 0 && peft.is_some_and(peft_table::wants_total_step)
    }

    /// Says how many steps the run has, where its method plans over them and does not know.
    pub fn set_total_step(&mut self, steps: usize) {
        let peft = self.peft.as_mut();
        if let Some(peft) = peft.filter(|peft| peft_table::wants_total_step(peft)) {
            peft.insert(peft_table::TOTAL_STEP.into(), steps.into());
        }
    }
}
