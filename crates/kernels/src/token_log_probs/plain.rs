//! Log-probabilities in plain tensors.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

use super::TokenLogProbs;
use crate::pieces_of_rows;

/// As [`token_log_probs`](super::token_log_probs), for a head that is more than a product with a
/// weight: `logits` maps `[rows, d]` to `[rows, vocab]`. In training every piece's logits are kept
/// for its gradient.
///
/// # Panics
/// If a target is not below `vocab`; a GPU does not check.
pub fn token_log_probs_of(
    logits: impl Fn(Tensor<2>) -> Tensor<2>,
    vocab: usize,
    hidden: Tensor<2>,
    targets: Tensor<1, Int>,
    statistics: bool,
) -> TokenLogProbs {
    let [rows, _] = hidden.dims();
    let pieces = pieces_of_rows(rows, vocab).map(|rows| {
        let logits = logits(hidden.clone().slice([rows.clone()]));
        let targets = targets.clone().slice([rows]).unsqueeze_dim(1);
        let log_probs = log_softmax(logits.clone(), 1);
        let of_targets = log_probs.clone().gather(1, targets.clone());
        if !statistics {
            return of_targets;
        }
        let (logits, log_probs) = (logits.detach(), log_probs.detach());
        let squares = (log_probs.clone() * 2.0).exp().sum_dim(1).log();
        let entropy = (log_probs.clone().exp() * log_probs).sum_dim(1).neg();
        let of_target = logits.clone().gather(1, targets);
        let is_top1 = of_target.greater_equal(logits.clone().max_dim(1)).float();
        let mean = logits.mean_dim(1);
        Tensor::cat(vec![of_targets, squares, entropy, mean, is_top1], 1)
    });
    let pieces: Vec<_> = pieces.collect();
    TokenLogProbs::of_columns(if pieces.is_empty() {
        let columns = if statistics { 5 } else { 1 };
        Tensor::zeros([0, columns], &hidden.device())
    } else {
        Tensor::cat(pieces, 0)
    })
}
