//! What all objectives that compare answers have in common, around the losses of
//! [`preference`](super::preference).

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt::Debug;

use burn::tensor::Tensor;
use burn_peft_data::{Batch, Examples, Task, forward_task};
use burn_peft_models::{CausalLm, Checkpointed, TokenLogProbs};

use crate::error::Result;
use crate::objective::lm::on_device_sharing;
use crate::objective::metric::Measures;
use crate::objective::preference::{Mismatched, PreferenceLoss};
use crate::objective::reference::{Reference, log_probs};
use crate::objective::{MeasuredLoss, Objective};

/// A loss over answers, as its table configures it.
pub trait Comparison: Debug + Send + Sync {
    /// The task that turns rows into examples.
    type Task: Task;

    /// The task that turns rows into examples.
    fn task(&self) -> Self::Task;

    /// What is measured.
    fn measures(&self) -> &'static Measures;

    /// The number of [units](Measures::unit) in a batch.
    fn count(&self, batch: &Batch) -> usize {
        batch.spans.len() / 2
    }

    /// The fewest rows of a batch that the loss can be computed from.
    fn least_batch(&self) -> usize {
        1
    }

    /// Whether the loss wants the statistics of the policy's log-probabilities.
    fn needs_statistics(&self) -> bool {
        false
    }

    /// Whether training leaves out dropout.
    fn disables_dropout(&self) -> bool;

    /// Whether the reference is computed once for each text, before training, and the batch size
    /// for that, if given.
    fn precomputes(&self) -> Option<Option<usize>> {
        None
    }

    /// The batch, labelled at the tokens whose log-probabilities the policy computes: by default
    /// the answers'.
    fn labelled<'a>(&self, batch: &'a Batch) -> Cow<'a, Batch> {
        Cow::Borrowed(batch)
    }

    /// Answers to other prompts, if the loss needs them, in texts of at most this many positions.
    fn mismatched(&self, _batch: &Batch, _positions: usize) -> Option<Batch> {
        None
    }

    /// The loss of a batch; `lengths` are the numbers of answer tokens of its texts.
    fn loss(&self, batch: &Batch, policy: &TokenLogProbs, others: Others<'_>) -> PreferenceLoss;
}

/// What a loss needs apart from the policy's log-probabilities.
#[derive(Clone, Debug)]
pub struct Others<'a> {
    /// The reference's log-probabilities of the answers' tokens, `[tokens]`; `None` without a
    /// reference.
    pub reference: Option<Tensor<1>>,
    /// The number of tokens of each answer.
    pub lengths: &'a [usize],
    /// The log-probabilities of [answers to other prompts](Comparison::mismatched).
    pub mismatched: Option<Mismatched<'a>>,
}

impl Others<'_> {
    pub(crate) fn reference(&self) -> Tensor<1> {
        let reference = self.reference.clone();
        reference.expect("an objective with a reference is given one")
    }
}

/// An objective that compares answers: a [`Comparison`], with its reference policy if it needs one.
#[derive(Debug)]
pub struct Preference<C, M> {
    comparison: C,
    reference: Option<Reference<M>>,
}

impl<C: Comparison, M: CausalLm> Preference<C, M> {
    /// With this reference policy, which DPO and KTO need.
    pub fn new(comparison: C, reference: Option<Reference<M>>) -> Self {
        Self {
            comparison,
            reference,
        }
    }

    /// Everything the loss is computed from, except the policy's own log-probabilities.
    fn others(&self, model: &M, batch: &Batch) -> Found {
        let task = self.comparison.task();
        let lengths = |batch: &Batch| -> Vec<usize> {
            let labels = batch.example_labels();
            labels.map(|labels| task.supervised(labels)).collect()
        };
        let reference = self.reference.as_ref();
        let positions = if model.has_last_position() {
            model.max_positions()
        } else {
            usize::MAX
        };
        let mismatched = reference.and_then(|reference| {
            let batch = self.comparison.mismatched(batch, positions)?;
            let policy = log_probs(&model.valid(), &batch);
            let reference = reference.log_probs(&batch);
            Some((policy.without_autodiff(), reference, lengths(&batch)))
        });
        Found {
            reference: reference.map(|reference| reference.log_probs(batch)),
            lengths: lengths(batch),
            mismatched,
        }
    }
}

/// What [`Others`] borrows.
struct Found {
    reference: Option<Tensor<1>>,
    lengths: Vec<usize>,
    mismatched: Option<(Tensor<1>, Tensor<1>, Vec<usize>)>,
}

impl Found {
    fn others(&self) -> Others<'_> {
        Others {
            reference: self.reference.clone(),
            lengths: &self.lengths,
            mismatched: (self.mismatched.as_ref()).map(|(policy, reference, lengths)| Mismatched {
                policy: policy.clone(),
                reference: reference.clone(),
                lengths,
            }),
        }
    }
}

impl<C: Comparison, M: CausalLm> Task for Preference<C, M> {
    forward_task!(self => self.comparison.task());
}

impl<C: Comparison, M: CausalLm> Objective<M> for Preference<C, M> {
    fn measures(&self) -> &'static Measures {
        self.comparison.measures()
    }

    fn count(&self, batch: &Batch) -> usize {
        self.comparison.count(batch)
    }

    fn least_batch(&self) -> usize {
        self.comparison.least_batch()
    }

    fn loss(&self, model: &M, batch: &Batch) -> Tensor<1> {
        self.measured_loss(model, batch).loss
    }

    fn measured_loss(&self, model: &M, batch: &Batch) -> MeasuredLoss {
        let found = self.others(model, batch);
        let labelled = self.comparison.labelled(batch);
        let labelled = on_device_sharing(model, &labelled);
        let policy = model.token_log_probs(&labelled, self.comparison.needs_statistics());
        let PreferenceLoss { loss, sums } = self.comparison.loss(batch, &policy, found.others());
        MeasuredLoss {
            loss,
            sums: Some(sums),
        }
    }

    fn measured_backward(
        &self,
        model: &M,
        batch: &Batch,
        weight: f64,
    ) -> Option<(Checkpointed, Option<Tensor<1>>)> {
        let found = self.others(model, batch);
        let labelled = self.comparison.labelled(batch);
        let labelled = on_device_sharing(model, &labelled);
        let measured = Cell::new(None);
        let loss = |policy: TokenLogProbs| {
            let PreferenceLoss { loss, sums } =
                self.comparison.loss(batch, &policy, found.others());
            measured.set(Some(sums));
            loss * weight
        };
        let statistics = self.comparison.needs_statistics();
        let result = model.checkpointed_log_probs(&labelled, statistics, &loss)?;
        Some((result, measured.take()))
    }

    fn disables_dropout(&self) -> bool {
        self.comparison.disables_dropout()
    }

    fn prepare(&self, data: &[&Examples], batch_size: usize) -> Result<()> {
        let (Some(said), Some(reference)) = (self.comparison.precomputes(), &self.reference) else {
            return Ok(());
        };
        for examples in data {
            reference.precompute(examples, said.unwrap_or(batch_size))?;
        }
        Ok(())
    }

    fn identity(&self) -> Option<String> {
        Some(self.reference.as_ref()?.identity().to_string())
    }
}
