//! What was found of a model at either end of a run.

use crate::objective::by_class::ByClass;
use crate::run::evaluate::Evaluation;
use crate::seeing::sample::Sample;

/// What was found of a model before or after training.
#[derive(Clone, Debug, Default)]
pub struct Assessment {
    /// How it does on the validation data, where there are any.
    pub evaluation: Option<Evaluation>,
    /// The same label by label, where there are labels.
    pub by_class: Option<ByClass>,
    /// The time that took, in seconds, where it is known.
    pub runtime: Option<f64>,
    /// What it goes on with after the prompts, where there are some.
    pub samples: Vec<Sample>,
}
