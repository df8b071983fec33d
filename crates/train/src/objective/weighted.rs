//! Losses in which labels have different weights, and the weights of a run.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_peft_data::{Classes, Examples, LabelKind};

use crate::configuration::config::TrainConfig;
use crate::error::{ConfigProblem, Result, TrainError};
use crate::objective::label_weights::{LabelWeights, balanced, balanced_pos};

/// The sum of the losses, `[1]`, for scores `[texts, labels]`, each multiplied by the weight of its
/// label: the sum in torch's `CrossEntropyLoss(weight = …)`, whose mean divides by the
/// [sum](sum_of) of the weights.
pub(crate) fn cross_entropy(
    scores: Tensor<2>,
    labels: &[i64],
    weights: Option<&[f64]>,
) -> Tensor<1> {
    let device = scores.device();
    let ids = Tensor::<1, Int>::from_data(labels, &device).unsqueeze_dim(1);
    let mut each = log_softmax(scores, 1).gather(1, ids);
    if let Some(weights) = weights {
        let weights = labels.iter().map(|&label| weight(weights, label) as f32);
        let weights = TensorData::new(weights.collect(), [labels.len(), 1]);
        each = each * Tensor::from_data(weights, &device);
    }
    each.sum().neg()
}

/// The total weight of these labels.
pub(crate) fn sum_of(weights: &[f64], labels: &[i64]) -> f64 {
    labels.iter().map(|&label| weight(weights, label)).sum()
}

fn weight(weights: &[f64], label: i64) -> f64 {
    let index = usize::try_from(label).ok();
    index.and_then(|at| weights.get(at)).copied().unwrap_or(1.0)
}

/// Weights as a row, `[1, labels]`.
pub(crate) fn row_of(weights: &[f64], device: &Device) -> Tensor<2> {
    let row: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
    Tensor::from_data(TensorData::new(row, [1, weights.len()]), device)
}

/// Checks weights from a training file.
pub(crate) fn check_weights(
    key: &str,
    weights: Option<&LabelWeights>,
    names: Option<&[String]>,
) -> std::result::Result<(), String> {
    weights.map_or(Ok(()), |weights| weights.check(key, names))
}

/// The weight of each label.
///
/// # Errors
/// If they are computed from the rows, which
/// [`settle_label_weights`](TrainConfig::settle_label_weights) does.
pub(crate) fn known_weights(
    key: &str,
    weights: Option<&LabelWeights>,
    names: &[String],
) -> Result<Option<Vec<f64>>> {
    let Some(weights) = weights else {
        return Ok(None);
    };
    let known = weights.of_labels(names);
    known.map(Some).ok_or_else(|| {
        let problem = format!(
            "{key} is \"balanced\", and the rows were not counted: call settle_label_weights first"
        );
        TrainError::config("the configuration", ConfigProblem::Objective(problem))
    })
}

impl TrainConfig {
    /// Replaces "balanced" by the weights that labels have in these rows. The labels have to be
    /// known.
    pub fn settle_label_weights(&mut self, train: &Examples) {
        let is_found =
            |weights: &Option<LabelWeights>| matches!(weights, Some(LabelWeights::Rule(_)));
        if let Some(table) = &mut self.classify {
            let task = table.task();
            let counts = || {
                counts(train, task.names.len(), |labels, id| match task.kind {
                    LabelKind::Several => Classes::has(labels, id),
                    _ => labels.first() == Some(&(id as i64)),
                })
            };
            if is_found(&table.class_weights) {
                table.class_weights = Some(LabelWeights::List(balanced(&counts())));
            }
            if is_found(&table.pos_weight) {
                let weights = balanced_pos(&counts(), train.len());
                table.pos_weight = Some(LabelWeights::List(weights));
            }
        }
        if let Some(table) = &mut self.tag
            && is_found(&table.class_weights)
        {
            let mut counts = vec![0; table.labels.as_ref().map_or(0, Vec::len)];
            for label in train.iter().flat_map(|example| example.labels) {
                let index = usize::try_from(label).ok();
                if let Some(count) = index.and_then(|index| counts.get_mut(index)) {
                    *count += 1;
                }
            }
            table.class_weights = Some(LabelWeights::List(balanced(&counts)));
        }
    }
}

/// The number of rows with each of these labels.
fn counts(rows: &Examples, labels: usize, has: impl Fn(&[i64], usize) -> bool) -> Vec<usize> {
    let mut counts = vec![0; labels];
    for row in rows.iter() {
        let ids = (0..labels).filter(|&id| has(&row.labels, id));
        ids.for_each(|id| counts[id] += 1);
    }
    counts
}

#[cfg(test)]
mod tests {
    use burn_peft_data::{Batch, Example, IGNORE_INDEX};

    use super::*;
    use crate::objective::classify::Classify;

    const SCORES: [[f32; 3]; 4] = [
        [1.0, -0.5, 0.25],
        [0.0, 2.0, -1.0],
        [-0.75, 0.5, 1.5],
        [0.3, 0.2, -0.4],
    ];

    fn near(found: f32, expected: f32) {
        assert!(
            (found - expected).abs() < 1e-6,
            "{found} in place of {expected}"
        );
    }

    /// The mean loss of the rows, and its gradient.
    fn of(
        rows: std::ops::Range<usize>,
        loss: impl Fn(Tensor<2>) -> Tensor<1>,
        by: f64,
    ) -> (f32, Vec<f32>) {
        let device = Device::flex().autodiff();
        let rows = &SCORES[rows];
        let scores: Vec<f32> = rows.concat();
        let data = TensorData::new(scores, [rows.len(), 3]);
        let scores = Tensor::<2>::from_data(data, &device).require_grad();
        let loss = loss(scores.clone()) / by;
        let gradients = loss.backward();
        let gradient = scores.grad(&gradients).unwrap();
        (
            loss.inner().into_scalar(),
            gradient.into_data().try_to_vec().unwrap(),
        )
    }

    /// torch 2.15: `CrossEntropyLoss(weight = [0.5, 2, 3])`, of four rows and of two and two.
    #[test]
    fn class_weights_are_torch_s() {
        let (labels, weights) = ([0, 2, 1, 0], [0.5, 2.0, 3.0]);
        let all = sum_of(&weights, &labels);
        assert_eq!(all, 6.0);
        let (loss, gradient) = of(
            0..4,
            |scores| cross_entropy(scores, &labels, Some(&weights)),
            all,
        );
        near(loss, 2.164_422_8);
        let expected = [
            -0.034_183_532,
            0.010_966_804,
            0.023_216_723,
            0.057_097_6,
            0.421_897_35,
            -0.478_994_97,
            0.023_846_865,
            -0.250_099_6,
            0.226_252_76,
            -0.048_631_683,
            0.031_399_354,
            0.017_232_329,
        ];
        gradient
            .iter()
            .zip(expected)
            .for_each(|(found, expected)| near(*found, expected));
        let halves = [0..2, 2..4].map(|rows| {
            let labels = &labels[rows.clone()];
            of(
                rows,
                |scores| cross_entropy(scores, labels, Some(&weights)),
                all,
            )
        });
        near(halves[0].0 + halves[1].0, loss);
        for (found, expected) in halves.iter().flat_map(|half| &half.1).zip(&gradient) {
            near(*found, *expected);
        }
    }

    /// torch 2.15: `BCEWithLogitsLoss(pos_weight = [2, 0.5, 4])`.
    #[test]
    fn pos_weights_are_torch_s() {
        let task = Classes {
            names: ["a", "b", "c"].map(String::from).into(),
            kind: LabelKind::Several,
            takes_unlabelled: false,
        };
        let objective = Classify::new(task).with_weights(vec![2.0, 0.5, 4.0]);
        let row = |(row, label)| Example {
            input_ids: vec![1, 2],
            labels: vec![label, IGNORE_INDEX],
            row,
        };
        let rows = (1..).zip([0b101, 0b010, 0b011, 0]).map(row);
        let batch = Batch::collate(&rows.collect::<Vec<_>>(), 0, None);
        let (loss, gradient) = of(0..4, |scores| objective.loss_of(scores, &batch), 4.0);
        near(loss, 0.904_327_8);
        let expected = [
            -0.044_823_57,
            0.031_461_723,
            -0.145_941_15,
            0.041_666_668,
            -0.004_966_79,
            0.022_411_786,
            -0.113_196_455,
            -0.015_730_86,
            0.068_131_2,
            0.047_870_22,
            0.045_819_495,
            0.033_442_695,
        ];
        gradient
            .iter()
            .zip(expected)
            .for_each(|(found, expected)| near(*found, expected));
    }
}
