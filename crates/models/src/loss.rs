//! The cross-entropy for a head that an adapter changes.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor};

/// The number of logits in memory at once: 32 MiB of 32-bit floats.
const CHUNK: usize = 8 << 20;

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
    let step = (CHUNK / vocab).clamp(1, rows.max(1));
    for start in (0..rows).step_by(step) {
        let rows = start..rows.min(start + step);
        let logits = logits(hidden.clone().slice([rows.clone()]));
        let targets = targets.clone().slice([rows]).unsqueeze_dim(1);
        loss = loss - log_softmax(logits, 1).gather(1, targets).sum();
    }
    loss
}
