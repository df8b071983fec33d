//! Projection to the vocabulary and the log-probability of each row's target in one.

mod on_cpu;
mod plain;

use burn::backend::Dispatch;
use burn::tensor::{FloatDType, Int, Tensor};

use self::on_cpu::LogProbsKernel;
use crate::HeadWeight;
use crate::flex::{Optional, is_trained, takes};
use crate::product::product;
use crate::stored::Stored;

pub use self::plain::token_log_probs_of;

/// How likely the targets of rows are.
#[derive(Clone, Debug)]
pub struct TokenLogProbs {
    /// `log softmax(logits)[target]`, `[rows]`.
    pub log_probs: Tensor<1>,
    /// The statistics, if they were asked for.
    pub statistics: Option<TokenStatistics>,
}

/// Statistics of each row's probabilities over all words, without gradients.
#[derive(Clone, Debug)]
pub struct TokenStatistics {
    /// The logarithm of the sum of all squared probabilities, `[rows]`.
    pub log_sum_sq_probs: Tensor<1>,
    /// The entropy in nats, `[rows]`.
    pub entropy: Tensor<1>,
    /// The mean of the logits, `[rows]`.
    pub mean_logits: Tensor<1>,
    /// 1 where no word is likelier than the target, or else 0, `[rows]`.
    pub is_top1: Tensor<1>,
}

impl TokenLogProbs {
    /// From a column for each: `[rows, 1]`, or `[rows, 5]` with statistics.
    fn of_columns(columns: Tensor<2>) -> Self {
        let all = columns.clone().detach();
        let column = |of: &Tensor<2>, at| of.clone().slice_dim(1, at..at + 1).squeeze_dim(1);
        Self {
            statistics: (columns.dims()[1] > 1).then(|| TokenStatistics {
                log_sum_sq_probs: column(&all, 1),
                entropy: column(&all, 2),
                mean_logits: column(&all, 3),
                is_top1: column(&all, 4),
            }),
            log_probs: column(&columns, 0),
        }
    }
}

/// Returns the log-probabilities of `targets`, `[rows]`, under the logits
/// `hidden · weightᵀ + bias`. `softcap` keeps the logits between plus and minus itself:
/// `softcap · tanh(logits / softcap)`. `hidden` is `[rows, d]`, `weight` `[vocab, d]` and `bias`
/// `[vocab]`.
///
/// As in [`vocabulary_loss`](crate::vocabulary_loss()), the specialised bodies compute the logits
/// in pieces and never keep them, and make the gradient of the hidden states in the same pass. For
/// the gradient of a trained weight or bias they compute the logits once more, again in pieces.
///
/// # Panics
/// If a target is not a row of `weight`. A GPU does not check: with a frozen weight and neither bias,
/// cap nor statistics the result is then NaN.
pub fn token_log_probs(
    hidden: Tensor<2>,
    weight: impl Into<HeadWeight>,
    bias: Option<Tensor<1>>,
    softcap: Option<f64>,
    targets: Tensor<1, Int>,
    statistics: bool,
) -> TokenLogProbs {
    let weight = weight.into();
    #[cfg(feature = "gpu")]
    if crate::gpu::takes(&hidden)
        && !weight.is_trained()
        && hidden.dims()[0] > 0
        && (bias.is_none() && softcap.is_none() && !statistics)
    {
        let weight = weight.dense(&hidden.device());
        let losses = crate::gpu::losses_of_rows(hidden, weight, targets);
        return TokenLogProbs::of_columns(losses.neg());
    }
    if !(takes(&hidden) && weight.is_taken() && bias.iter().all(takes)) {
        let weight = weight.dense(&hidden.device());
        let vocab = weight.dims()[0];
        let transposed = weight.transpose();
        let logits = |rows| {
            let logits = product(rows, transposed.clone());
            let logits = match &bias {
                Some(bias) => logits + bias.clone().unsqueeze(),
                None => logits,
            };
            match softcap {
                Some(cap) => (logits / cap).tanh() * cap,
                None => logits,
            }
        };
        return token_log_probs_of(logits, vocab, hidden, targets, statistics);
    }
    let weight = match weight {
        // Its gradient is in 32 bits.
        HeadWeight::Dense(weight) if is_trained(&weight) => {
            Stored::Dense(weight.cast(FloatDType::F32).into_dispatch())
        }
        frozen => frozen.stored(),
    };
    TokenLogProbs::of_columns(Tensor::from_dispatch(Dispatch::log_probs_kernel(
        hidden.into_dispatch(),
        weight,
        Optional::of(bias),
        targets.into_dispatch(),
        softcap.map(|cap| cap as f32),
        statistics,
    )))
}

#[cfg(test)]
mod tests;
