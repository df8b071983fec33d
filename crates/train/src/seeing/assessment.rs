//! The evaluation of a model before or after training.

use crate::objective::by_class::ByClass;
use crate::run::evaluate::Evaluation;
use crate::seeing::sample::Sample;

/// The evaluation of a model before or after training.
#[derive(Clone, Debug, Default)]
pub struct Assessment {
    /// The results on the validation data, if there are any.
    pub evaluation: Option<Evaluation>,
    /// The results for each label, if there are labels.
    pub by_class: Option<ByClass>,
    /// The time that it took in seconds, if known.
    pub runtime: Option<f64>,
    /// The continuations of the prompts, if there are any.
    pub samples: Vec<Sample>,
}
