//! The probabilities of a vocabulary's words, computed in pieces of the vocabulary.

mod row;
mod trained;

use self::row::{count_row, finish_logits, slope, soften_row};
use super::buffer::for_rows;
use super::product::{Left, Matrix, MatrixMut, Onto, PackedLeft, Weight, Writer};

pub use self::row::Row;
pub use self::trained::head_gradients;

/// The number of words whose logits are alive at once. In bf16 it is as many as a product sums in
/// one go.
fn piece(weight: &Weight<'_>) -> usize {
    match weight {
        Weight::F32(_) => 1024,
        Weight::BF16(_) => 768,
        Weight::Blocks(weight) if weight.rounds() => 768,
        Weight::Blocks(_) | Weight::Int8(_) => 1024,
    }
}

/// What makes logits from hidden states: `cap · tanh((hidden · weightᵀ + bias) / cap)`.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// `[vocab, d]`.
    pub weight: Weight<'a>,
    /// `[vocab]`.
    pub bias: Option<&'a [f32]>,
    /// The cap, if there is one.
    pub softcap: Option<f32>,
}

impl<'a> From<Weight<'a>> for Head<'a> {
    fn from(weight: Weight<'a>) -> Self {
        Self {
            weight,
            bias: None,
            softcap: None,
        }
    }
}

/// The sum of `-log softmax(hidden · weightᵀ)[target]` over the rows and, if asked for, its
/// gradient with respect to `hidden`. `hidden` is `[rows, d]`, `weight` `[vocab, d]`.
///
/// # Panics
/// If a target is not a row of `weight`.
pub fn cross_entropy(
    hidden: &[f32],
    weight: Weight<'_>,
    targets: &[usize],
    with_gradient: bool,
) -> (f32, Option<Vec<f32>>) {
    let (rows, gradient) = softmax(hidden, weight.into(), targets, with_gradient, false);
    let loss: f64 = rows.iter().map(|row| f64::from(row.loss())).sum();
    (loss as f32, gradient)
}

/// Returns the sums of each row and, if asked for, the gradient of its [`loss`](Row::loss) with
/// respect to its hidden state: `[rows, d]`, as `hidden` is.
///
/// The softmax is computed as in flash attention (arXiv 2205.14135), with the words as keys and
/// values: the logits of each piece of the vocabulary are added to the sum of exponentials and to
/// the gradient, both relative to the largest logit so far. A piece's weights are read twice while
/// they are in the cache, and no logit outlives its piece.
///
/// # Panics
/// If a target is not a row of the weight.
pub fn softmax(
    hidden: &[f32],
    head: Head<'_>,
    targets: &[usize],
    with_gradient: bool,
    with_statistics: bool,
) -> (Vec<Row>, Option<Vec<f32>>) {
    let weight = head.weight;
    let (rows, d, vocab) = (targets.len(), weight.cols(), weight.rows());
    assert!(targets.iter().all(|&target| target < vocab));
    let hidden = Matrix::new(hidden, rows, d);
    let mut states = vec![Row::default(); rows];
    let mut gradient = with_gradient.then(|| vec![0.0; rows * d]);
    let most_words = piece(&weight).min(vocab);
    let mut logits = vec![0.0; rows * most_words];
    let packs = weight.wants_packed(rows);
    let packed_hidden = packs.then(|| PackedLeft::new(hidden)).flatten();
    let hidden = Left::new(packed_hidden.as_ref(), hidden);
    for start in (0..vocab).step_by(most_words.max(1)) {
        let words = start..vocab.min(start + most_words);
        let logits = &mut logits[..rows * words.len()];
        let piece = weight.some_rows(words.clone());
        let mut out = MatrixMut::new(logits, rows, words.len());
        piece.transposed().product(hidden, Onto::Zero, &mut out);
        let packs = packs && with_gradient;
        let mut packed = packs.then(|| PackedLeft::room(rows, words.len())).flatten();
        let writer = packed.as_mut().map(PackedLeft::writer);
        let piece_of_head = Piece {
            bias: head.bias.map(|bias| &bias[words.clone()]),
            softcap: head.softcap,
            first_word: start,
            with_statistics,
        };
        piece_of_head.soften(logits, &mut states, targets, writer);
        if let Some(gradient) = &mut gradient {
            rescale(gradient, &states, d);
            let weights = Left::new(packed.as_ref(), Matrix::new(logits, rows, words.len()));
            let mut out = MatrixMut::new(gradient, rows, d);
            let piece = piece.of_probabilities();
            piece.product(weights, Onto::Current, &mut out);
        }
    }
    if let Some(gradient) = &mut gradient {
        finish(gradient, &states, head, targets);
    }
    (states, gradient)
}

/// Some of the words of a head.
struct Piece<'a> {
    bias: Option<&'a [f32]>,
    softcap: Option<f32>,
    first_word: usize,
    with_statistics: bool,
}

impl Piece<'_> {
    /// Turns products into logits, and those into exponentials relative to the largest logit so
    /// far, which a writer packs.
    fn soften(
        &self,
        logits: &mut [f32],
        states: &mut [Row],
        targets: &[usize],
        packed: Option<Writer<'_>>,
    ) {
        let words = logits.len() / states.len().max(1);
        // The states are split into the same pieces of rows as the logits.
        let shared = SharedRows(states.as_mut_ptr());
        for_rows(logits, words, |first, logits| {
            let shared = &shared;
            for (row, logits) in logits.chunks_exact_mut(words).enumerate() {
                let row = first + row;
                // SAFETY: every row is in one piece, and `states` has as many entries as rows.
                let state = unsafe { &mut *shared.0.add(row) };
                if self.bias.is_some() || self.softcap.is_some() {
                    finish_logits(logits, self.bias, self.softcap);
                }
                if let Some(&target) = logits.get(targets[row].wrapping_sub(self.first_word)) {
                    state.target = target;
                }
                if self.with_statistics {
                    count_row(logits, state);
                }
                soften_row(logits, state, self.softcap);
                if let Some(packed) = &packed {
                    // SAFETY: as above.
                    unsafe { packed.write(row, Matrix::new(logits, 1, words)) };
                }
            }
        });
    }
}

struct SharedRows(*mut Row);
// SAFETY: see `soften`, which gives every row to one thread.
unsafe impl Sync for SharedRows {}

/// Makes earlier sums of gradients relative to the new largest logits.
fn rescale(gradient: &mut [f32], states: &[Row], d: usize) {
    for_rows(gradient, d, |first, rows| {
        for (row, state) in rows.chunks_exact_mut(d).zip(&states[first..]) {
            if state.factor != 1.0 {
                row.iter_mut().for_each(|value| *value *= state.factor);
            }
        }
    });
}

/// Divides by the sums and subtracts the targets' weights.
fn finish(gradient: &mut [f32], states: &[Row], head: Head<'_>, targets: &[usize]) {
    let d = head.weight.cols();
    for_rows(gradient, d, |first, rows| {
        for (row, gradient) in rows.chunks_exact_mut(d).enumerate() {
            let state = &states[first + row];
            let (sum, slope) = (state.sum, slope(head.softcap, state.target));
            gradient.iter_mut().for_each(|value| *value /= sum);
            head.weight.take_row(targets[first + row], slope, gradient);
        }
    });
}
