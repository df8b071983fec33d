//! Printing the evaluation of a model before and after its training.

use anyhow::Result;
use burn_peft_models::LanguageModel;
use burn_peft_train::{Assessment, Evaluation, clock, paragraph};

use super::Job;
use crate::commands::eval::measure;
use crate::output::{columns, say};
use crate::ranks::is_first;

impl Job {
    /// Whether [`assess`](Self::assess) has something to print.
    pub(super) fn assesses(&self, evaluates: bool) -> bool {
        self.prompts.is_some() || evaluates && self.data.validation.is_some()
    }

    /// Prints the loss on the validation data and the continuations of the prompts, if there are
    /// any.
    pub(super) fn assess(&self, model: &LanguageModel, evaluate: Evaluate) -> Result<Assessment> {
        let mut found = Assessment::default();
        let known = match evaluate {
            Evaluate::No => None,
            Evaluate::Known(result) => Some((result, None)),
            Evaluate::Now(label) => self
                .data
                .validation
                .as_ref()
                .map(|validation| {
                    let batch_size = self.config.training.per_device_eval_batch_size;
                    measure(&*self.objective, model, validation, batch_size, label)
                        .map(|(result, time)| (result, Some(time)))
                })
                .transpose()?,
        };
        if let Some((result, time)) = known {
            say(paragraph("  evaluation: ", &result.to_string(), columns()))?;
            if let Some(time) = time {
                say(format!("  evaluated in {}", clock(time)))?;
            }
            found.by_class = self.objective.by_class(&result.sums);
            found.evaluation = Some(result);
            found.runtime = time.map(|time| time.as_secs_f64());
        }
        if let Some(prompts) = &self.prompts {
            if !is_first() {
                return Ok(found);
            }
            found.samples = prompts.continued(model)?;
            for sample in prompts.shown(&found.samples) {
                say(paragraph("  sample: ", &sample, columns()))?;
            }
        }
        Ok(found)
    }
}

/// Where a model's evaluation comes from.
pub(super) enum Evaluate {
    /// There is none.
    No,
    /// It is evaluated now, with a progress bar of this label.
    Now(&'static str),
    /// The run has ended with it.
    Known(Evaluation),
}
