//! Comparing two models' predictions after the same tokens.

use anyhow::{Result, ensure};
use burn::tensor::Device;
use burn_peft_data::Tokenizer;
use burn_peft_models::{CausalLm, LanguageModel};

use super::texts;
use crate::loading::model_input;

/// The number of rows in a probe batch, and the most tokens in each: logits of all positions are in
/// memory.
const ROWS: usize = 8;
const LENGTH: usize = 24;

/// Rows of token ids to compare models on: chats rendered by the template, then texts; without a
/// tokenizer, ids from all over the vocabulary.
pub fn rows(
    tokenizer: Option<&Tokenizer>,
    texts: &[String],
    model: &LanguageModel,
) -> Result<Vec<Vec<i64>>> {
    let vocab_size = model.vocab_size();
    let length = LENGTH.min(
        model
            .max_positions()
            .saturating_sub(model.adapter_positions()),
    );
    let least = length.clamp(1, 12);
    let mut rows: Vec<Vec<i64>> = Vec::new();
    let mut add = |ids: Vec<u32>| {
        let ids = ids.into_iter().filter(|&id| (id as usize) < vocab_size);
        let ids: Vec<i64> = ids.take(length).map(i64::from).collect();
        if ids.len() >= least && rows.len() < ROWS {
            rows.push(ids);
        }
    };
    if let Some(tokenizer) = tokenizer {
        for chat in texts::chats().iter().rev().take(2) {
            if let Ok(text) = tokenizer.apply_chat_template(chat, true) {
                add(tokenizer.encode_continuation(&text)?);
            }
        }
        // One text of each kind comes first.
        for text in texts.iter().step_by(7).chain(texts) {
            add(tokenizer.encode(text)?);
        }
    } else {
        // A multiplicative hash (Knuth's): spreads well without a seed.
        let id = |at: u64| (at.wrapping_mul(2_654_435_761) % vocab_size as u64) as u32;
        for row in 0..ROWS as u64 {
            add((1..=length as u64)
                .map(|at| id(row * LENGTH as u64 + at))
                .collect());
        }
    }
    ensure!(
        !rows.is_empty(),
        "the model takes no text of {least} tokens"
    );
    Ok(rows)
}

/// The logits of all positions of some rows.
pub struct Logits(Vec<Vec<f32>>);

/// How close two models are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    pub positions: usize,
    /// How often both predict the same most likely token.
    pub same: usize,
    /// How often the first gives its most likely token at least half of the probability, and how
    /// often both then predict the same. A model with random weights is never that certain, and its
    /// most likely tokens say little.
    pub sure: usize,
    pub sure_same: usize,
    /// The Kullback-Leibler divergence of the second model's distributions from the first's, in
    /// nats: the mean over all positions.
    pub divergence: f64,
    /// Its median. In a model with a few huge activations, rounding may change a single position
    /// completely, which only the mean shows; wrong weights change all of them.
    pub median: f64,
}

impl Logits {
    pub fn of(model: &LanguageModel, rows: &[Vec<i64>], device: &Device) -> Result<Self> {
        let mut all = Vec::new();
        for ids in rows {
            let input = model_input(ids.clone(), None, [1, ids.len()], device);
            let logits = model.forward(input).into_data().convert::<f32>();
            let values: Vec<f32> = logits.iter::<f32>().collect();
            ensure!(
                values.iter().all(|value| value.is_finite()),
                "the logits of a probe batch are not finite"
            );
            let width = values.len() / ids.len();
            all.extend(values.chunks(width).map(<[f32]>::to_vec));
        }
        Ok(Self(all))
    }

    pub fn compare(&self, other: &Self) -> Agreement {
        let pairs = || self.0.iter().zip(&other.0);
        let is_same = |(a, b): &(&Vec<f32>, &Vec<f32>)| first(a) == first(b);
        let is_sure = |(a, _): &(&Vec<f32>, &Vec<f32>)| logs(a)[first(a)] >= 0.5f64.ln();
        let mut divergences: Vec<f64> = pairs().map(|(a, b)| divergence(a, b)).collect();
        divergences.sort_by(f64::total_cmp);
        let positions = divergences.len();
        Agreement {
            positions,
            same: pairs().filter(is_same).count(),
            sure: pairs().filter(is_sure).count(),
            sure_same: pairs().filter(is_sure).filter(is_same).count(),
            divergence: divergences.iter().sum::<f64>() / positions as f64,
            median: divergences[positions / 2],
        }
    }
}

/// The most likely token; the first of several.
fn first(logits: &[f32]) -> usize {
    let all = logits.iter().enumerate();
    let most = all.reduce(|most, next| if next.1 > most.1 { next } else { most });
    most.map_or(0, |(token, _)| token)
}

fn divergence(expected: &[f32], found: &[f32]) -> f64 {
    // Both have the same tokens, except for rows that pad a vocabulary.
    let width = expected.len().min(found.len());
    let (expected, found) = (logs(&expected[..width]), logs(&found[..width]));
    let terms = expected.iter().zip(&found).map(|(a, b)| a.exp() * (a - b));
    terms.sum::<f64>().max(0.0)
}

/// The logarithms of probabilities.
fn logs(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let each = logits.iter().map(|&logit| f64::from(logit - most));
    let sum = each.clone().map(f64::exp).sum::<f64>().ln();
    each.map(|logit| logit - sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_models_agree_or_do_not() {
        let a = Logits(vec![vec![0.0, 1.0, 2.0], vec![1.0, 0.0, 0.0]]);
        let agreement = a.compare(&a);
        assert_eq!((agreement.positions, agreement.same), (2, 2));
        assert!(agreement.divergence < 1e-15);
        // scipy.special.rel_entr(softmax([0, 1, 2]), softmax([0, 2, 1])).sum() / 2
        let b = Logits(vec![vec![0.0, 2.0, 1.0], vec![1.0, 0.0, 0.0]]);
        let agreement = a.compare(&b);
        assert_eq!((agreement.positions, agreement.same), (2, 1));
        assert_eq!((agreement.sure, agreement.sure_same), (2, 1));
        assert!(
            (agreement.divergence - 0.210_256_6).abs() < 1e-6,
            "{agreement:?}"
        );
    }
}
