//! The cross-entropy for a head that an adapter changes.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};
use burn_peft_kernels::pieces_of_rows;

/// The sum of `-log softmax(logits(hidden))[target]` over the rows, `[1]`, for a head that is not
/// just a product with a weight ([`burn_peft_kernels::vocabulary_loss`]): `logits` maps `[rows, d]`
/// to `[rows, vocab]`. In training, all logits are kept for the gradient.
pub(crate) fn cross_entropy_sum_of(
    logits: impl Fn(Tensor<2>) -> Tensor<2>,
    vocab: usize,
    hidden: Tensor<2>,
    targets: Tensor<1, Int>,
) -> Tensor<1> {
    let [rows, _] = hidden.dims();
    let mut loss = Tensor::<1>::zeros([1], &hidden.device());
    for rows in pieces_of_rows(rows, vocab) {
        let logits = logits(hidden.clone().slice([rows.clone()]));
        let targets = targets.clone().slice([rows]).unsqueeze_dim(1);
        loss = loss - log_softmax(logits, 1).gather(1, targets).sum();
    }
    loss
}
