//! Checking the values of the `[training]` table.

use crate::checkpoint::best;
use crate::configuration::arguments::{IntervalStrategy, TrainingArguments};
use crate::error::{ArgumentProblem, Result, TrainError};
use crate::objective::metric::Measures;
use crate::optimizer;
use crate::optimizer::schedule::SchedulerType;

impl TrainingArguments {
    /// Checks that there is something to evaluate on, if evaluations are requested.
    ///
    /// # Errors
    /// [`TrainError::Argument`] names `eval_strategy`, and what to set.
    pub fn check_validation(&self, has_validation: bool) -> Result<()> {
        if self.eval_strategy == IntervalStrategy::No || has_validation {
            return Ok(());
        }
        Err(TrainError::argument(
            "eval_strategy",
            ArgumentProblem::NoValidation,
        ))
    }

    /// Checks that the metric for the best model is measured.
    ///
    /// # Errors
    /// [`TrainError::Argument`] names `metric_for_best_model`, and what is measured.
    pub(crate) fn check_metric(&self, measures: &Measures) -> Result<()> {
        let metric = self.metric_for_best_model.metric().name;
        let measured: Vec<_> = measures.metrics.iter().map(|metric| metric.name).collect();
        if measured.contains(&metric) {
            return Ok(());
        }
        let problem = ArgumentProblem::NotMeasured { metric, measured };
        Err(TrainError::argument("metric_for_best_model", problem))
    }

    /// Checks every value.
    ///
    /// # Errors
    /// [`TrainError::Argument`] names the first key with an invalid value, and the value.
    pub fn validate(&self) -> Result<()> {
        let check = |fine: bool, key, value: &dyn std::fmt::Display, must| {
            if fine {
                return Ok(());
            }
            let value = value.to_string();
            let problem = ArgumentProblem::OutOfRange { value, must };
            Err(TrainError::argument(key, problem))
        };
        let one_or_more = |key, value: usize| check(value > 0, key, &value, "it must be 1 or more");
        let not_negative = |key, value: f64| {
            check(value.is_finite(), key, &value, "it must be a finite number")?;
            check(value >= 0.0, key, &value, "it must be 0 or more")
        };
        let below_one = |key, value: f64| {
            check(
                (0.0..1.0).contains(&value),
                key,
                &value,
                "it must be 0 or more and below 1",
            )
        };

        if self.output_dir.as_os_str().is_empty() {
            return Err(TrainError::argument(
                "output_dir",
                ArgumentProblem::NoFolder,
            ));
        }
        check(
            self.max_steps > 0 || self.max_steps == -1,
            "max_steps",
            &self.max_steps,
            "give a number of steps, or -1 to go by num_train_epochs",
        )?;
        check(
            self.num_train_epochs.is_finite(),
            "num_train_epochs",
            &self.num_train_epochs,
            "it must be a finite number",
        )?;
        check(
            self.num_train_epochs > 0.0,
            "num_train_epochs",
            &self.num_train_epochs,
            "it must be more than 0",
        )?;
        one_or_more(
            "per_device_train_batch_size",
            self.per_device_train_batch_size,
        )?;
        one_or_more(
            "per_device_eval_batch_size",
            self.per_device_eval_batch_size,
        )?;
        one_or_more(
            "gradient_accumulation_steps",
            self.gradient_accumulation_steps,
        )?;
        not_negative("learning_rate", self.learning_rate)?;
        not_negative("weight_decay", self.weight_decay)?;
        below_one("adam_beta1", self.adam_beta1)?;
        below_one("adam_beta2", self.adam_beta2)?;
        not_negative("adam_epsilon", self.adam_epsilon)?;
        not_negative("max_grad_norm", self.max_grad_norm)?;
        check(
            (0.0..=1.0).contains(&self.warmup_ratio),
            "warmup_ratio",
            &self.warmup_ratio,
            "it must be between 0 and 1",
        )?;
        one_or_more("logging_steps", self.logging_steps)?;
        one_or_more("eval_steps", self.eval_steps())?;
        one_or_more("save_steps", self.save_steps)?;
        one_or_more(
            "save_total_limit",
            self.save_total_limit.unwrap_or(usize::MAX),
        )?;
        if self.bf16 && self.fp16 {
            return Err(TrainError::argument("fp16", ArgumentProblem::TwoPrecisions));
        }
        let warm_up = match (self.warmup_steps, self.warmup_ratio) {
            (0, ratio) => (ratio > 0.0).then_some(("warmup_ratio", ratio)),
            (steps, _) => Some(("warmup_steps", steps as f64)),
        };
        if let (SchedulerType::Constant, Some((key, value))) = (self.lr_scheduler_type, warm_up) {
            let problem = ArgumentProblem::NoWarmUp { key, value };
            return Err(TrainError::argument("lr_scheduler_type", problem));
        }
        let key = "lr_scheduler_kwargs";
        let kwargs = self.schedule(1).validate();
        kwargs.map_err(|problem| TrainError::argument(key, problem))?;
        optimizer::validate(self)?;
        best::validate(self)
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn defaults_are_valid_and_every_bad_value_is_named() {
        assert!(TrainingArguments::new("out").validate().is_ok());
        let error = |change: &dyn Fn(&mut TrainingArguments)| {
            let mut arguments = TrainingArguments::new("out");
            change(&mut arguments);
            arguments.validate().unwrap_err().to_string()
        };
        assert_eq!(
            error(&|a| a.max_steps = 0),
            "training.max_steps is 0; give a number of steps, or -1 to go by num_train_epochs"
        );
        assert_eq!(
            error(&|a| a.adam_beta2 = 1.0),
            "training.adam_beta2 is 1; it must be 0 or more and below 1"
        );
        assert_eq!(
            error(&|a| (a.lr_scheduler_type, a.warmup_ratio) = (SchedulerType::Constant, 0.03)),
            "training.lr_scheduler_type is \"constant\", which has no warm-up, and warmup_ratio is \
             0.03; set lr_scheduler_type = \"constant_with_warmup\", or warmup_ratio = 0"
        );
        assert_eq!(
            error(&|a| a.learning_rate = f64::INFINITY),
            "training.learning_rate is inf; it must be a finite number"
        );
        for (key, message) in [
            ("output_dir", error(&|a| a.output_dir = PathBuf::new())),
            ("max_steps", error(&|a| a.max_steps = -2)),
            (
                "num_train_epochs",
                error(&|a| a.num_train_epochs = f64::NAN),
            ),
            (
                "per_device_train_batch_size",
                error(&|a| a.per_device_train_batch_size = 0),
            ),
            (
                "per_device_eval_batch_size",
                error(&|a| a.per_device_eval_batch_size = 0),
            ),
            (
                "gradient_accumulation_steps",
                error(&|a| a.gradient_accumulation_steps = 0),
            ),
            ("learning_rate", error(&|a| a.learning_rate = -1e-4)),
            ("learning_rate", error(&|a| a.learning_rate = f64::NAN)),
            ("max_grad_norm", error(&|a| a.max_grad_norm = f64::NAN)),
            ("warmup_ratio", error(&|a| a.warmup_ratio = 1.5)),
            ("logging_steps", error(&|a| a.logging_steps = 0)),
            ("eval_steps", error(&|a| a.eval_steps = Some(0))),
            (
                "lr_scheduler_type",
                error(&|a| {
                    (a.lr_scheduler_type, a.warmup_steps) = (SchedulerType::Constant, 5);
                }),
            ),
            ("fp16", error(&|a| (a.bf16, a.fp16) = (true, true))),
            ("save_steps", error(&|a| a.save_steps = 0)),
            ("save_total_limit", error(&|a| a.save_total_limit = Some(0))),
        ] {
            assert!(
                message.starts_with(&format!("training.{key} is ")),
                "{message}"
            );
        }
    }
}
