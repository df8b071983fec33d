//! Which evaluation was the best, which checkpoint holds it, and when early stopping ends the run.

use serde::{Deserialize, Serialize};

use crate::configuration::arguments::{IntervalStrategy, TrainingArguments};
use crate::error::{ArgumentProblem, Result, TrainError};
use crate::seeing::metrics_file::EvalLog;

/// The results of the evaluations so far; part of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Best {
    /// The best value of the metric.
    pub best_metric: Option<f64>,
    /// The step it was measured at.
    pub best_global_step: usize,
    /// The number of evaluations in a row without an improvement.
    pub early_stopping_patience_counter: usize,
    /// The best of the saved steps.
    pub best_checkpoint: Option<BestCheckpoint>,
    /// The last evaluation, until a checkpoint of its step is written.
    pub latest: Option<BestCheckpoint>,
}

/// A step with its value of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestCheckpoint {
    /// The step.
    pub step: usize,
    /// The value.
    pub metric: f64,
}

impl Best {
    /// Records an evaluation, as transformers' `EarlyStoppingCallback` and `Trainer` do.
    pub(crate) fn evaluated(&mut self, arguments: &TrainingArguments, evaluation: &EvalLog) {
        let metric = arguments.metric_for_best_model.metric();
        let metric = evaluation.get(metric.name).unwrap_or(f64::NAN);
        let step = evaluation.step;
        let better = |than: Option<f64>, by: f64| match than {
            None => !metric.is_nan(),
            Some(best) if arguments.greater_is_better() => metric - best > by,
            Some(best) => best - metric > by,
        };
        if better(self.best_metric, arguments.early_stopping_threshold) {
            self.early_stopping_patience_counter = 0;
        } else {
            self.early_stopping_patience_counter += 1;
        }
        if better(self.best_metric, 0.0) {
            (self.best_metric, self.best_global_step) = (Some(metric), step);
        }
        self.latest = Some(BestCheckpoint { step, metric });
    }

    /// Whether patience has run out.
    pub fn is_final(&self, arguments: &TrainingArguments) -> bool {
        let patience = arguments.early_stopping_patience;
        patience.is_some_and(|patience| self.early_stopping_patience_counter >= patience)
    }

    /// The step of the best checkpoint.
    pub fn checkpoint(&self) -> Option<usize> {
        self.best_checkpoint.map(|best| best.step)
    }

    /// Records that a step is saved, or about to be. If it was evaluated and is the best of those
    /// saved, it is the one to keep.
    ///
    /// transformers looks for a checkpoint of the best step of all, and has none to load if that
    /// one was not saved.
    pub(crate) fn saved(&mut self, arguments: &TrainingArguments, step: usize) {
        let Some(latest) = self.latest.take_if(|latest| latest.step == step) else {
            return;
        };
        let better = self.best_checkpoint.is_none_or(|best| {
            if arguments.greater_is_better() {
                latest.metric > best.metric
            } else {
                latest.metric < best.metric
            }
        });
        if better && !latest.metric.is_nan() {
            self.best_checkpoint = Some(latest);
        }
    }
}

/// Checks the keys about the best model for consistency, as transformers does.
///
/// # Errors
/// [`TrainError::Argument`] names the key.
pub(crate) fn validate(arguments: &TrainingArguments) -> Result<()> {
    let argument = |key, problem| Err(TrainError::argument(key, problem));
    let out_of_range = |value: String, must| ArgumentProblem::OutOfRange { value, must };
    let threshold = arguments.early_stopping_threshold;
    if !(threshold >= 0.0 && threshold.is_finite()) {
        let problem = out_of_range(threshold.to_string(), "it must be 0 or more");
        return argument("early_stopping_threshold", problem);
    }
    if arguments.early_stopping_patience == Some(0) {
        return argument(
            "early_stopping_patience",
            out_of_range("0".into(), "it must be 1 or more"),
        );
    }
    if arguments.early_stopping_patience.is_none() && threshold > 0.0 {
        let problem = ArgumentProblem::WithPatienceOnly(threshold);
        return argument("early_stopping_threshold", problem);
    }
    let (eval, save) = (arguments.eval_strategy, arguments.save_strategy);
    if arguments.early_stopping_patience.is_some() && eval == IntervalStrategy::No {
        let problem = ArgumentProblem::NoEvaluations;
        return argument("early_stopping_patience", problem);
    }
    if !arguments.load_best_model_at_end {
        return Ok(());
    }
    let key = "load_best_model_at_end";
    if eval != save || eval == IntervalStrategy::No {
        let problem = ArgumentProblem::OtherStrategies {
            eval: eval.as_str(),
            save: save.as_str(),
        };
        return argument(key, problem);
    }
    let (eval_steps, save_steps) = (arguments.eval_steps(), arguments.save_steps);
    if eval == IntervalStrategy::Steps && !save_steps.is_multiple_of(eval_steps) {
        let problem = ArgumentProblem::NoMultiple {
            save_steps,
            eval_steps,
        };
        return argument(key, problem);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objective::lm;
    use crate::objective::metric::Sums;
    use crate::run::evaluate::Evaluation;

    fn arguments() -> TrainingArguments {
        TrainingArguments {
            eval_strategy: IntervalStrategy::Steps,
            eval_steps: Some(5),
            save_steps: 10,
            load_best_model_at_end: true,
            early_stopping_patience: Some(2),
            early_stopping_threshold: 0.1,
            ..TrainingArguments::new("out")
        }
    }

    fn evaluation(step: usize, eval_loss: f64) -> EvalLog {
        let sums = Sums {
            loss: eval_loss,
            count: 1,
            sums: Vec::new(),
            ..Sums::default()
        };
        let measures = &lm::MEASURES;
        EvalLog::new(step, 0.0, &Evaluation { measures, sums }, 0.0)
    }

    #[test]
    fn patience_runs_out_as_in_transformers() {
        let arguments = arguments();
        let mut best = Best::default();
        // 2.95 is better, but by less than 0.1; 2.7 is better by more. The last two are not.
        let losses = [3.0, 2.95, 2.7, 2.65, f64::NAN];
        let stops = (1..).zip(losses).map(|(i, loss)| {
            best.evaluated(&arguments, &evaluation(5 * i, loss));
            best.is_final(&arguments)
        });
        assert_eq!(
            stops.collect::<Vec<_>>(),
            [false, false, false, false, true]
        );
        assert_eq!((best.best_metric, best.best_global_step), (Some(2.65), 20));
    }

    #[test]
    fn the_best_checkpoint_is_the_best_of_those_saved() {
        let mut arguments = arguments();
        arguments.early_stopping_patience = None;
        let mut best = Best::default();
        let mut kept = Vec::new();
        for (step, loss) in [
            (5, 2.0),
            (10, 3.0),
            (15, 2.5),
            (20, 2.6),
            (30, 2.8),
            (35, 9.0),
        ] {
            best.evaluated(&arguments, &evaluation(step, loss));
            if step % 10 == 0 {
                best.saved(&arguments, step);
                kept.push(best.checkpoint().unwrap());
            }
        }
        // A last checkpoint that was not evaluated.
        best.saved(&arguments, 37);
        assert_eq!(kept, [10, 20, 20]);
        assert_eq!(
            best.best_checkpoint,
            Some(BestCheckpoint {
                step: 20,
                metric: 2.6
            })
        );
        assert_eq!(best.best_global_step, 5);
        let text = serde_json::to_string(&best).unwrap();
        assert_eq!(serde_json::from_str::<Best>(&text).unwrap(), best);
    }

    #[test]
    fn keys_that_do_not_fit_are_named() {
        assert!(validate(&arguments()).is_ok());
        type Change = fn(&mut TrainingArguments);
        let cases: [(Change, &str); 5] = [
            (
                |a| a.save_strategy = IntervalStrategy::Epoch,
                "training.load_best_model_at_end needs evaluations and checkpoints at the same \
                 steps, but eval_strategy is \"steps\" and save_strategy \"epoch\"; set both to \
                 \"steps\" or both to \"epoch\"",
            ),
            (
                |a| a.eval_steps = Some(3),
                "training.load_best_model_at_end needs an evaluation at every checkpoint, but \
                 save_steps is 10, which is not a multiple of eval_steps 3",
            ),
            (
                |a| a.eval_strategy = IntervalStrategy::No,
                "training.early_stopping_patience needs evaluations; set eval_strategy to \
                 \"steps\" or \"epoch\"",
            ),
            (
                |a| a.early_stopping_patience = Some(0),
                "training.early_stopping_patience is 0; it must be 1 or more",
            ),
            (
                |a| a.early_stopping_patience = None,
                "training.early_stopping_threshold is 0.1, but is used with \
                 early_stopping_patience only",
            ),
        ];
        for (change, expected) in cases {
            let mut arguments = arguments();
            change(&mut arguments);
            assert_eq!(validate(&arguments).unwrap_err().to_string(), expected);
        }
    }
}
