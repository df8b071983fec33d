//! Generating text with a causal language model, one token at a time.

use std::ops::ControlFlow;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::weights::WeightsError;
use crate::{CausalLm, InputError, Result};

mod choose;
mod config;
mod defaults;
mod padded;
mod passes;
mod session;

pub use config::GenerationConfig;
pub use defaults::{GENERATION_CONFIG, GenerationDefaults};
pub use session::Session;

use choose::{choose, penalise};
use padded::Padded;
use passes::Passes;

/// The continuation of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Continuation {
    /// The new tokens.
    pub token_ids: Vec<u32>,
    /// The token that ended the text, not included above; `None` if it was stopped for another
    /// reason.
    pub ended_by: Option<u32>,
}

/// Continues `prompt` and returns the new tokens. `on_token` is called with each token as it is
/// chosen, and can stop the generation.
///
/// Earlier positions are cached, so each token costs one position.
///
/// # Errors
/// If the model is an encoder; if the prompt is empty, holds an id outside of the vocabulary, or
/// together with `max_new_tokens` exceeds the model's positions (if those end); if a setting is out
/// of range; if the model's logits are not numbers.
pub fn generate(
    model: &impl CausalLm,
    prompt: &[u32],
    config: &GenerationConfig,
    on_token: &mut dyn FnMut(u32) -> ControlFlow<()>,
) -> Result<Vec<u32>> {
    let rows = generate_rows(model, &[prompt], config, &mut |_, id| on_token(id))?;
    Ok(rows.into_iter().flat_map(|row| row.token_ids).collect())
}

/// As [`generate`] for several prompts of any lengths, all in one pass for each token. `on_token`
/// gets the prompt's index with the token. If tokens are sampled, every prompt has its own random
/// numbers.
///
/// # Errors
/// As [`generate`], for any of the prompts.
pub fn generate_rows(
    model: &impl CausalLm,
    prompts: &[&[u32]],
    config: &GenerationConfig,
    on_token: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
) -> Result<Vec<Continuation>> {
    config.validate()?;
    check_prompts(model, prompts, config.max_new_tokens)?;
    let mut rows: Vec<Row> = (0..)
        .zip(prompts)
        .map(|(stream, prompt)| Row::new(prompt, config.seed, stream))
        .collect();
    let mut passes = Passes::new(Padded::new(prompts, model.device().without_autodiff()));
    go_on(model, &mut rows, &mut passes, config, on_token)?;
    Ok(rows.into_iter().map(Row::continuation).collect())
}

/// Continues rows from the current state of their passes.
fn go_on(
    model: &impl CausalLm,
    rows: &mut [Row],
    passes: &mut Passes,
    config: &GenerationConfig,
    on_token: &mut dyn FnMut(usize, u32) -> ControlFlow<()>,
) -> Result<()> {
    for _ in 0..config.max_new_tokens {
        if rows.iter().all(|row| row.ended_by.is_some()) {
            break;
        }
        let mut logits = passes.next(model, rows)?;
        let of_each = logits.chunks_exact_mut(model.vocab_size());
        for (index, (row, logits)) in rows.iter_mut().zip(of_each).enumerate() {
            if row.ended_by.is_some() {
                continue;
            }
            if logits.iter().any(|logit| logit.is_nan()) {
                return Err(WeightsError::Broken.into());
            }
            penalise(logits, &row.seen, config.repetition_penalty);
            let next = choose(logits, config, &mut row.random);
            if config.eos_token_ids.contains(&next) {
                row.ended_by = Some(next);
                continue;
            }
            row.seen.push(next);
            passes.inputs.push(index, next);
            if on_token(index, next).is_break() {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// A text being generated.
struct Row {
    /// The prompt and the tokens chosen since.
    seen: Vec<u32>,
    /// The number of tokens of the prompt.
    given: usize,
    ended_by: Option<u32>,
    random: ChaCha8Rng,
}

impl Row {
    fn new(prompt: &[u32], seed: u64, stream: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(stream);
        Self {
            seen: prompt.to_vec(),
            given: prompt.len(),
            ended_by: None,
            random,
        }
    }

    fn continuation(mut self) -> Continuation {
        Continuation {
            token_ids: self.seen.split_off(self.given),
            ended_by: self.ended_by,
        }
    }
}

fn check_prompts(model: &impl CausalLm, prompts: &[&[u32]], new: usize) -> Result<()> {
    if !model.is_causal() {
        return Err(InputError::Encoder.into());
    }
    let vocab_size = model.vocab_size();
    for prompt in prompts {
        if prompt.is_empty() {
            return Err(InputError::EmptyPrompt.into());
        }
        if let Some(&id) = prompt.iter().find(|&&id| id as usize >= vocab_size) {
            return Err(InputError::UnknownToken { id, vocab_size }.into());
        }
    }
    let longest = prompts.iter().map(|prompt| prompt.len()).max();
    check_length(model, longest.unwrap_or_default(), new)
}

/// Checks that a prompt of this many tokens can be continued with `new` ones.
fn check_length(model: &impl CausalLm, tokens: usize, new: usize) -> Result<()> {
    let (max_positions, adapter_positions) = (model.max_positions(), model.adapter_positions());
    if tokens.saturating_add(new) <= max_positions {
        return Ok(());
    }
    if !model.has_last_position() {
        tracing::warn!(
            "a prompt of {tokens} tokens and max_new_tokens {new} go beyond the {max_positions} \
             positions that the model was trained for: the text there may be poor"
        );
        return Ok(());
    }
    let error = if tokens >= max_positions {
        InputError::PromptTooLong {
            tokens,
            max_positions,
            adapter_positions,
        }
    } else {
        InputError::TextTooLong {
            tokens,
            new,
            max_positions,
            adapter_positions,
        }
    };
    Err(error.into())
}
