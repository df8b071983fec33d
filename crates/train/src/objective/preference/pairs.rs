//! Sums over the tokens of texts, and texts in pairs.

use burn::tensor::{Tensor, TensorData};

/// A weighted sum over the tokens of each text, `[texts]`. `values`, `[tokens]`, belong to texts of
/// these `lengths`, one after the other; `weight` gets the index of a text and of a token in it.
pub(super) fn sums_of_texts(
    values: &Tensor<1>,
    lengths: &[usize],
    weight: impl Fn(usize, usize) -> f32,
) -> Tensor<1> {
    let tokens: usize = lengths.iter().sum();
    let mut weights = vec![0.0; lengths.len() * tokens];
    let mut start = 0;
    for (text, &length) in lengths.iter().enumerate() {
        for token in 0..length {
            weights[text * tokens + start + token] = weight(text, token);
        }
        start += length;
    }
    let weights = TensorData::new(weights, [lengths.len(), tokens]);
    let weights = Tensor::<2>::from_data(weights, &values.device().without_autodiff());
    let sums = weights.matmul(values.clone().unsqueeze_dim(1));
    sums.squeeze_dim(1)
}

/// Values for the texts of pairs: of the chosen and of the rejected one, `[pairs]` each.
#[derive(Clone, Debug)]
pub(super) struct Pairs {
    pub chosen: Tensor<1>,
    pub rejected: Tensor<1>,
}

impl Pairs {
    /// From values in the order chosen, rejected, chosen, rejected, …, `[2 * pairs]`.
    pub fn of(texts: Tensor<1>) -> Self {
        let pairs = texts.dims()[0] / 2;
        let texts = texts.reshape([pairs, 2]);
        let column = |at| texts.clone().slice_dim(1, at..at + 1).squeeze_dim(1);
        Self {
            chosen: column(0),
            rejected: column(1),
        }
    }

    /// From values on the host.
    pub fn of_host(texts: Vec<f32>, like: &Tensor<1>) -> Self {
        let shape = [texts.len()];
        let device = like.device().without_autodiff();
        Self::of(Tensor::from_data(TensorData::new(texts, shape), &device))
    }

    /// Maps both.
    pub fn map(self, change: impl Fn(Tensor<1>) -> Tensor<1>) -> Self {
        Self {
            chosen: change(self.chosen),
            rejected: change(self.rejected),
        }
    }

    /// Combines both with those of others.
    pub fn zip(self, other: Self, join: impl Fn(Tensor<1>, Tensor<1>) -> Tensor<1>) -> Self {
        Self {
            chosen: join(self.chosen, other.chosen),
            rejected: join(self.rejected, other.rejected),
        }
    }

    /// By how much the chosen text's value is larger.
    pub fn margin(self) -> Tensor<1> {
        self.chosen - self.rejected
    }

    /// Without a graph.
    pub fn detached(&self) -> Self {
        self.clone().map(Tensor::without_autodiff)
    }
}

/// The mean of the log-probabilities of the chosen texts' tokens, `[1]`; a text without tokens
/// contributes nothing.
pub(super) fn mean_of_chosen(values: &Tensor<1>, lengths: &[usize]) -> Tensor<1> {
    let tokens: usize = lengths.iter().step_by(2).sum();
    let chosen = sums_of_texts(
        values,
        lengths,
        |text, _| {
            if text % 2 == 0 { 1.0 } else { 0.0 }
        },
    );
    chosen.sum() / tokens.max(1) as f64
}
