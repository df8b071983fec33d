//! The prompts of a run, used before, during and after training.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use burn_peft_data::{
    Asked, Chat, DataConfig, DataSet, Examples, Limits, Question, Questions, Tokenizer,
};
use burn_peft_models::{GenerationConfig, GenerationDefaults};
use burn_peft_train::{SamplePrompt, SamplePrompts, Samples, TrainConfig};
use serde_json::json;

use super::super::generate::{encode_chat, encode_prompt};
use crate::loading::find_data;

/// The number of new tokens for a prompt that is continued before and after training.
const NEW_TOKENS: usize = 80;
/// The number of questions taken from the validation rows if the file has no prompt.
const QUESTIONS: usize = 5;

/// The prompts in the file; for chats without one, some questions from the validation rows.
/// `eos_token_ids` are the tokens that end a text.
pub fn prompts(
    config: &TrainConfig,
    data: &DataSet,
    tokenizer: Option<&Tokenizer>,
    mut eos_token_ids: Vec<u32>,
    limits: Limits,
) -> Result<Option<SamplePrompts>> {
    let is_chat = data.train.has_chats();
    let chats = data.validation.iter().flat_map(|data| data.sets());
    let chats = chats.filter(|set| set.shape.is_chat()).collect::<Vec<_>>();
    let (prompts, tokenizer) = match (&config.prompt, tokenizer, chats.first()) {
        (Some(texts), Some(tokenizer), _) => {
            let prompts = texts
                .iter()
                .map(|text| given(text, is_chat, tokenizer, limits));
            (prompts.collect::<Result<Vec<_>>>()?, tokenizer)
        }
        (Some(texts), None, _) => {
            ensure!(
                texts.is_empty(),
                "`prompt` needs a tokenizer, and the model's folder has none: name one with \
                 `tokenizer`"
            );
            return Ok(None);
        }
        (None, Some(tokenizer), Some(validation)) if is_chat => {
            let table = table_of(config, data, validation);
            (asked(&table, validation, tokenizer, limits), tokenizer)
        }
        (None, ..) => return Ok(None),
    };
    let Some(longest) = prompts.iter().map(|prompt| prompt.ids.len()).max() else {
        return Ok(None);
    };
    if is_chat {
        eos_token_ids.extend(tokenizer.chat_end_ids());
    }
    let settings = GenerationConfig {
        // It exceeds the model's positions, or the length it was trained for, only if the prompt
        // does.
        max_new_tokens: match limits.max_positions.saturating_sub(longest) {
            0 => NEW_TOKENS,
            left => NEW_TOKENS.min(left),
        },
        eos_token_ids,
        ..GenerationConfig::default()
    };
    Ok(Some(SamplePrompts {
        prompts,
        tokenizer: tokenizer.clone(),
        settings,
        samples: Samples::default(),
    }))
}

/// A prompt of the file: a text, or a user's message.
fn given(text: &str, is_chat: bool, tokenizer: &Tokenizer, limits: Limits) -> Result<SamplePrompt> {
    let ids = if is_chat {
        let chat = Chat {
            messages: vec![json!({ "role": "user", "content": text })],
            ..Chat::default()
        };
        encode_chat(tokenizer, &chat).context("`prompt`")?
    } else {
        encode_prompt(tokenizer, text)?
    };
    ensure!(
        !limits.forbid(ids.len() + 1),
        "`prompt` has {} tokens, which leaves no room in {}: shorten it by {} tokens",
        ids.len(),
        limits.positions(),
        (ids.len() + 1).saturating_sub(limits.max_positions)
    );
    Ok(SamplePrompt {
        text: text.into(),
        ids,
        is_question: is_chat,
        expected: None,
    })
}

/// The `[data]` table for the validation rows, which may belong to one of several sets, or be held
/// back from one.
fn table_of(config: &TrainConfig, data: &DataSet, validation: &Examples) -> DataConfig {
    let (examples, named) = match (&config.data.validation, &data.validation) {
        (Some(named), Some(examples)) => (examples, named),
        _ => (&data.train, &config.data.train),
    };
    let mut sets = examples.sets().iter().zip(named.sets());
    match sets.find(|(set, _)| set.file == validation.file) {
        Some((_, set)) => config.data.of_set(&set),
        None => config.data.clone(),
    }
}

/// Questions from all over the validation rows. They are not requested, so a row without one is not
/// an error.
fn asked(
    table: &DataConfig,
    validation: &Examples,
    tokenizer: &Tokenizer,
    limits: Limits,
) -> Vec<SamplePrompt> {
    let rows: Vec<usize> = validation.iter().map(|example| example.row).collect();
    let last = rows.len().saturating_sub(1);
    let count = QUESTIONS.min(rows.len());
    let spread = (0..count).map(|index| index * last / count.saturating_sub(1).max(1));
    let rows: BTreeSet<usize> = spread.map(|index| rows[index]).collect();
    let found = Questions::read(&validation.file, table, &find_data, Some(&rows));
    let questions = found.map_or_else(
        |error| {
            tracing::warn!("no questions are asked of the rows for validation: {error}");
            Vec::new()
        },
        |found| found.questions,
    );
    let room = limits.max_positions / 2;
    let prompt = |question: Question| {
        let text = question.text().to_owned();
        let Asked::Chat(chat) = question.asked else {
            return None;
        };
        let ids = match encode_chat(tokenizer, &chat) {
            Ok(ids) => ids,
            Err(error) => {
                let (file, row) = (&validation.file, question.row);
                tracing::warn!("the question of {file} row {row} is not asked: {error:#}");
                return None;
            }
        };
        // A long one would leave no room for the others either.
        (ids.len() <= room).then_some(SamplePrompt {
            text,
            ids,
            is_question: true,
            expected: Some(question.expected),
        })
    };
    questions.into_iter().filter_map(prompt).collect()
}

/// Warns if rows end with another token than those that the model's files name.
pub fn warn_of_other_ends(
    defaults: &GenerationDefaults,
    tokenizer: Option<&Tokenizer>,
    vocab_size: usize,
) {
    let Some((tokenizer, eos)) = tokenizer.and_then(|t| Some((t, t.eos_id()?))) else {
        return;
    };
    // A config may keep GPT-2's 50256 beside a smaller vocabulary.
    let is_known = |id: &&u32| (**id as usize) < vocab_size;
    for (file, ids) in &defaults.eos_token_ids {
        let known: Vec<u32> = ids.iter().filter(is_known).copied().collect();
        if !known.is_empty() && !known.contains(&eos) {
            tracing::warn!(
                "rows end with the tokenizer's eos_token {:?} ({eos}), and {file} has eos_token_id \
                 {}: peft generate stops at each of them, other programs may not; make both say \
                 the same",
                tokenizer.id_to_token(eos).unwrap_or_default(),
                known
                    .iter()
                    .map(u32::to_string)
                    .collect::<Vec<_>>()
                    .join(", ")
            );
        }
    }
}
