//! The gradients of a head that is trained itself.

use super::row::{finish_logits, slope};
use super::{Head, piece};
use crate::cpu::buffer::{for_rows, vectorised};
use crate::cpu::exp::exp_one as exp;
use crate::cpu::product::{Matrix, MatrixMut, Onto, product_f32};

/// Returns the gradients of the weight, `[vocab, d]`, and of the bias, `[vocab]`, for the sum of
/// the rows' log-probabilities times `factors`, one for each row. `log_sums` holds
/// [`Row::log_sum`](super::Row::log_sum) of each row. The logits are computed again, in pieces of
/// the vocabulary, and not kept.
///
/// # Panics
/// If there are not as many targets, sums and factors as rows of `hidden`.
pub fn head_gradients(
    hidden: &[f32],
    head: Head<'_>,
    targets: &[usize],
    log_sums: &[f32],
    factors: &[f32],
) -> (Vec<f32>, Vec<f32>) {
    let weight = head.weight;
    let (rows, d, vocab) = (targets.len(), weight.cols(), weight.rows());
    assert!(log_sums.len() == rows && factors.len() == rows);
    let hidden = Matrix::new(hidden, rows, d);
    let (mut of_weight, mut of_bias) = (vec![0.0; vocab * d], vec![0.0; vocab]);
    let most_words = piece(&weight).min(vocab);
    let mut logits = vec![0.0; rows * most_words];
    for start in (0..vocab).step_by(most_words.max(1)) {
        let words = start..vocab.min(start + most_words);
        let logits = &mut logits[..rows * words.len()];
        let mut out = MatrixMut::new(logits, rows, words.len());
        let piece = weight.some_rows(words.clone());
        piece.transposed().product(hidden, Onto::Zero, &mut out);
        let bias = head.bias.map(|bias| &bias[words.clone()]);
        for_rows(logits, words.len(), |first, logits| {
            for (row, logits) in logits.chunks_exact_mut(words.len()).enumerate() {
                let row = first + row;
                if bias.is_some() || head.softcap.is_some() {
                    finish_logits(logits, bias, head.softcap);
                }
                let target = targets[row].wrapping_sub(start);
                let of_target = logits.get(target).map(|&logit| slope(head.softcap, logit));
                changes(logits, log_sums[row], factors[row], head.softcap);
                if let Some(slope) = of_target {
                    logits[target] += factors[row] * slope;
                }
            }
        });
        let changes = Matrix::new(logits, rows, words.len());
        let rows_of_words = &mut of_weight[words.start * d..words.end * d];
        let mut out = MatrixMut::new(rows_of_words, words.len(), d);
        product_f32(changes.transposed(), hidden, Onto::Zero, &mut out);
        for row in logits.chunks_exact(words.len()) {
            let sums = of_bias[words.clone()].iter_mut();
            sums.zip(row).for_each(|(sum, change)| *sum += change);
        }
    }
    (of_weight, of_bias)
}

vectorised! {
    /// Turns a row's logits into their negative probabilities, times the row's factor and the
    /// logits' slopes.
    fn changes<'a>(logits: &'a mut [f32], log_sum: f32, factor: f32, softcap: Option<f32>) {
        for logit in logits {
            *logit = -factor * slope(softcap, *logit) * exp(*logit - log_sum);
        }
    }
}
