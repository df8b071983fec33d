//! An objective with one class for each row, read from a language model's logits at the row's last
//! token.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor};
use burn_peft_data::{
    Batch, Content, DataError, Encoder, IGNORE_INDEX, Labelled, Result as DataResult, Task,
};
use burn_peft_models::CausalLm;

use crate::{Measures, Metric, Objective, Result, Sums, on_device, read};

/// Which class a row belongs to. A row is a prompt whose completion is the name of its class; class
/// `c` is read from the logit of token `c`.
#[derive(Debug)]
pub struct RowClass {
    /// The names of the classes.
    pub classes: Vec<String>,
}

/// What an evaluation measures.
pub static MEASURES: Measures = Measures {
    unit: "example",
    sums: &["Accuracy"],
    metrics: &[
        Metric::loss("loss (nats per example)"),
        Metric {
            name: "accuracy",
            title: "accuracy",
            heading: "accuracy",
            greater_is_better: true,
            of: |sums| sums.mean(sums.sums[0]),
            text: |share| format!("{share:.3}"),
            short: |share| format!("{share:.3}"),
        },
    ],
};

/// The class is stored at the first token, where it survives cutting a row.
impl Task for RowClass {
    fn encode(&self, content: Content, encoder: &Encoder<'_>) -> DataResult<Vec<Labelled>> {
        let bad = |problem: String| DataError::row(encoder.place, problem);
        let Content::Prompted { prompt, completion } = content else {
            return Err(bad("has no completion that names its class".into()));
        };
        let class = self.classes.iter().position(|name| *name == completion);
        let class = class.ok_or_else(|| bad(format!("is of an unknown class: {completion}")))?;
        let mut labelled = encoder.text(&prompt)?;
        labelled.labels.fill(IGNORE_INDEX);
        labelled.labels[0] = class as i64;
        Ok(vec![labelled])
    }

    fn supervised(&self, labels: &[i64]) -> usize {
        usize::from(labels.first().is_some_and(|&label| label != IGNORE_INDEX))
    }

    fn cache_key(&self) -> Option<String> {
        Some(format!("row class {:?}", self.classes))
    }
}

impl<M: CausalLm> Objective<M> for RowClass {
    fn measures(&self) -> &'static Measures {
        &MEASURES
    }

    fn loss(&self, model: &M, batch: &Batch) -> Tensor<1> {
        let of_class = self
            .log_probs(model, batch)
            .gather(1, classes(batch, &model.device()));
        of_class.sum().neg()
    }

    fn measure(&self, model: &M, batch: &Batch) -> Result<Sums> {
        let log_probs = self.log_probs(model, batch);
        let classes = classes(batch, &model.device());
        let right = log_probs.clone().argmax(1).equal(classes.clone());
        Ok(Sums {
            loss: read(log_probs.gather(1, classes).sum().neg())?,
            count: batch.len(),
            sums: vec![read(right.float().sum())?],
            ..Sums::default()
        })
    }
}

impl RowClass {
    /// The log-probability of each class for each row, `[rows, classes]`.
    fn log_probs<M: CausalLm>(&self, model: &M, batch: &Batch) -> Tensor<2> {
        let device = model.device();
        let logits = model.forward(on_device(batch, &device).as_matrix().input.clone());
        let [rows, seq, vocab] = logits.dims();
        let spans = batch.spans.iter().enumerate();
        let last: Vec<i64> = spans
            .map(|(row, span)| (row * seq + span.len() - 1) as i64)
            .collect();
        let last = Tensor::<1, Int>::from_data(last.as_slice(), &device);
        let logits = logits.reshape([rows * seq, vocab]).select(0, last);
        log_softmax(logits.slice([0..rows, 0..self.classes.len()]), 1)
    }
}

/// The class of each row, `[rows, 1]`.
fn classes(batch: &Batch, device: &Device) -> Tensor<2, Int> {
    let classes: Vec<i64> = batch.example_labels().map(|labels| labels[0]).collect();
    Tensor::<1, Int>::from_data(classes.as_slice(), device).unsqueeze_dim(1)
}
