//! The cross-entropy of a vocabulary in pieces of the vocabulary.

use super::buffer::{for_rows, vectorised};
use super::exp::exp_one as exp;
use super::product::{Left, Matrix, MatrixMut, Onto, PackedLeft, Weight, Writer};

/// The number of words whose logits live at once. In bf16 it is as many as a product sums in one go.
fn piece(weight: &Weight<'_>) -> usize {
    match weight {
        Weight::F32(_) | Weight::Blocks(_) => 1024,
        Weight::BF16(_) => 768,
    }
}

/// The sum of `-log softmax(hidden · weightᵀ)[target]` over the rows and, if asked for, its
/// gradient with respect to `hidden`. `hidden` is `[rows, d]`, `weight` `[vocab, d]`.
///
/// The softmax is made as flash attention makes it (arXiv 2205.14135), with the words as keys
/// and values: each piece of the vocabulary gives its logits, and what they add to the sum of
/// exponentials and to the gradient, both relative to the largest logit so far. A piece's
/// weights are read twice while they are near, and no logit outlives its piece.
///
/// # Panics
/// If a target is no row of `weight`.
pub fn cross_entropy(
    hidden: &[f32],
    weight: Weight<'_>,
    targets: &[usize],
    with_gradient: bool,
) -> (f32, Option<Vec<f32>>) {
    let (rows, d, vocab) = (targets.len(), weight.cols(), weight.rows());
    assert!(targets.iter().all(|&target| target < vocab));
    let hidden = Matrix::new(hidden, rows, d);
    let mut states = vec![State::default(); rows];
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
        soften(logits, &mut states, targets, words.start, writer);
        if let Some(gradient) = &mut gradient {
            rescale(gradient, &states, d);
            let weights = Left::new(packed.as_ref(), Matrix::new(logits, rows, words.len()));
            let mut out = MatrixMut::new(gradient, rows, d);
            piece.product(weights, Onto::Current, &mut out);
        }
    }
    if let Some(gradient) = &mut gradient {
        finish(gradient, &states, weight, targets);
    }
    let loss = |state: &State| f64::from(state.largest + state.sum.ln() - state.target);
    let loss: f64 = states.iter().map(loss).sum();
    (loss as f32, gradient)
}

/// What is known of a row after some of the words.
#[derive(Clone, Copy)]
struct State {
    largest: f32,
    /// Of the exponentials relative to `largest`.
    sum: f32,
    /// What the row's earlier sums have to be multiplied by after the last piece.
    factor: f32,
    /// The target's logit, once its piece was seen.
    target: f32,
}

impl Default for State {
    fn default() -> Self {
        Self {
            largest: f32::NEG_INFINITY,
            sum: 0.0,
            factor: 1.0,
            target: 0.0,
        }
    }
}

/// Turns logits into exponentials relative to the largest logit so far, which a writer packs.
fn soften(
    logits: &mut [f32],
    states: &mut [State],
    targets: &[usize],
    first_word: usize,
    packed: Option<Writer<'_>>,
) {
    let words = logits.len() / states.len().max(1);
    // The states go through the same pieces of rows as the logits.
    let shared = SharedStates(states.as_mut_ptr());
    for_rows(logits, words, |first, logits| {
        let shared = &shared;
        for (row, logits) in logits.chunks_exact_mut(words).enumerate() {
            let row = first + row;
            // SAFETY: every row is in one piece, and `states` has as many entries as rows.
            let state = unsafe { &mut *shared.0.add(row) };
            if let Some(&target) = logits.get(targets[row].wrapping_sub(first_word)) {
                state.target = target;
            }
            soften_row(logits, state);
            if let Some(packed) = &packed {
                // SAFETY: as above.
                unsafe { packed.write(row, Matrix::new(logits, 1, words)) };
            }
        }
    });
}

struct SharedStates(*mut State);
// SAFETY: see `soften`, which gives every row to one thread.
unsafe impl Sync for SharedStates {}

vectorised! {
    fn soften_row<'a>(logits: &'a mut [f32], state: &'a mut State) {
        const LANES: usize = 16;
        let mut lanes = [f32::NEG_INFINITY; LANES];
        let (whole, rest) = logits.as_chunks::<LANES>();
        for chunk in whole {
            for (largest, &logit) in lanes.iter_mut().zip(chunk) {
                *largest = if logit > *largest { logit } else { *largest };
            }
        }
        let largest = lanes.iter().chain(rest).copied();
        let largest = largest.fold(state.largest, f32::max);
        let mut sums = [0.0; LANES];
        let (whole, rest) = logits.as_chunks_mut::<LANES>();
        for chunk in whole {
            for (sum, logit) in sums.iter_mut().zip(chunk) {
                *logit = exp(*logit - largest);
                *sum += *logit;
            }
        }
        let mut sum: f32 = sums.iter().sum();
        for logit in rest {
            *logit = exp(*logit - largest);
            sum += *logit;
        }
        // NaN logits leave the largest where it was and make the sum NaN, which the loss shows.
        state.factor = exp(state.largest - largest);
        state.sum = state.sum * state.factor + sum;
        state.largest = largest;
    }
}

/// Makes earlier sums of gradients relative to the new largest logits.
fn rescale(gradient: &mut [f32], states: &[State], d: usize) {
    for_rows(gradient, d, |first, rows| {
        for (row, state) in rows.chunks_exact_mut(d).zip(&states[first..]) {
            if state.factor != 1.0 {
                row.iter_mut().for_each(|value| *value *= state.factor);
            }
        }
    });
}

/// Divides by the sums and takes away the targets' weights.
fn finish(gradient: &mut [f32], states: &[State], weight: Weight<'_>, targets: &[usize]) {
    let d = weight.cols();
    for_rows(gradient, d, |first, rows| {
        for (row, gradient) in rows.chunks_exact_mut(d).enumerate() {
            let sum = states[first + row].sum;
            gradient.iter_mut().for_each(|value| *value /= sum);
            weight.take_row(targets[first + row], gradient);
        }
    });
}
