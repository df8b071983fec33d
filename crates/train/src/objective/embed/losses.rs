//! The losses for embeddings, as pure functions of vectors.

use burn::tensor::activation::{log_softmax, relu};
use burn::tensor::{Int, Tensor, TensorData};
use burn_peft_models::embeddings::normalize;

use super::{DistanceMetric, EmbedConfig, EmbedLoss, SimilarityFunction};

/// The vectors of each column, `[rows, d]`, from those of all texts, row after row.
pub(super) fn columns(vectors: Tensor<2>, texts: usize) -> Vec<Tensor<2>> {
    let [all, d] = vectors.dims();
    let rows = all / texts;
    let by_row = vectors.reshape([rows, texts, d]);
    let column = |index: usize| {
        let column = by_row.clone().slice([0..rows, index..index + 1, 0..d]);
        column.reshape([rows, d])
    };
    (0..texts).map(column).collect()
}

impl EmbedConfig {
    /// The sum of the losses of rows, `[1]`, from the vectors of their columns, `[rows, d]` each.
    pub(super) fn loss_of(&self, columns: &[Tensor<2>], scores: &[f32]) -> Tensor<1> {
        let losses = self.sizes().into_iter().map(|(size, weight)| {
            let columns: Vec<_> = columns.iter().map(|column| shrunk(column, size)).collect();
            self.plain_loss(&columns, scores) * weight
        });
        let sum = losses.reduce(|a, b| a + b);
        sum.unwrap_or_else(|| self.plain_loss(columns, scores))
    }

    fn plain_loss(&self, columns: &[Tensor<2>], scores: &[f32]) -> Tensor<1> {
        match (self.loss(), columns) {
            (EmbedLoss::CosineSimilarityLoss, [a, b, ..]) => {
                let rows = scores.len();
                let scores = TensorData::new(scores.to_vec(), [rows]);
                let scores = Tensor::<1>::from_data(scores, &a.device());
                (cosines(a, b) - scores).powi_scalar(2).sum()
            }
            (EmbedLoss::TripletLoss, [anchor, positive, negative, ..]) => {
                let near = self.distance_metric.of(anchor, positive);
                let far = self.distance_metric.of(anchor, negative);
                relu(near - far + self.triplet_margin).sum()
            }
            (_, [anchor, others @ ..]) => {
                let others = Tensor::cat(others.to_vec(), 0);
                let alike = self.similarity_fct.between(anchor.clone(), others) * self.scale;
                let [rows, _] = alike.dims();
                // The right ones are those of the first of the other columns.
                let right = Tensor::<1, Int>::arange(0..rows as i64, &alike.device());
                let right = right.unsqueeze_dim(1);
                log_softmax(alike, 1).gather(1, right).sum().neg()
            }
            (_, []) => unreachable!("a row has texts"),
        }
    }
}

impl SimilarityFunction {
    /// The similarity of each vector to each of the others, `[rows, others]`.
    fn between(self, rows: Tensor<2>, others: Tensor<2>) -> Tensor<2> {
        match self {
            Self::CosSim => normalize(rows).matmul(normalize(others).transpose()),
            Self::DotScore => rows.matmul(others.transpose()),
        }
    }
}

impl DistanceMetric {
    /// The distance of the two vectors in each row, `[rows]`.
    fn of(self, a: &Tensor<2>, b: &Tensor<2>) -> Tensor<1> {
        let apart = || a.clone() - b.clone();
        match self {
            Self::Cosine => cosines(a, b).neg() + 1.0,
            // The square root has no gradient at zero.
            Self::Euclidean => {
                let squares = apart().powi_scalar(2).sum_dim(1).squeeze_dim::<1>(1);
                squares.clamp_min(1e-12).sqrt()
            }
            Self::Manhattan => apart().abs().sum_dim(1).squeeze_dim(1),
        }
    }
}

/// The cosine of the two vectors in each row, `[rows]`.
fn cosines(a: &Tensor<2>, b: &Tensor<2>) -> Tensor<1> {
    let products = normalize(a.clone()) * normalize(b.clone());
    products.sum_dim(1).squeeze_dim(1)
}

/// The first dimensions, normalised.
fn shrunk(vectors: &Tensor<2>, size: usize) -> Tensor<2> {
    let [rows, _] = vectors.dims();
    normalize(vectors.clone().slice([0..rows, 0..size]))
}
