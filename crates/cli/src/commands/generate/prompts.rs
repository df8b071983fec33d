//! What to continue: texts, or conversations in the model's own template.

use anyhow::{Context, Error, Result, anyhow};
use burn_peft_data::{Chat, DataError, Tokenizer, TokenizerProblem};
use serde_json::{Value, json};

use super::{Args, messages};

/// A prompt.
#[derive(Clone)]
pub struct Prompt {
    /// The text shown before the continuation; empty before an answer.
    pub text: String,
    /// Its tokens, at least one.
    pub ids: Vec<u32>,
    /// The messages, if it is a conversation.
    pub messages: Option<Vec<Value>>,
}

/// The prompts on the command line, or in the file that it names.
pub fn prompts(args: &Args, tokenizer: &Tokenizer) -> Result<Vec<Prompt>> {
    let chats = match (&args.messages, args.chat) {
        (Some(path), _) => messages::read(path)?,
        (None, true) => {
            let prompts = args.prompt.iter();
            let messages = prompts.map(|text| vec![json!({ "role": "user", "content": text })]);
            let chats = messages.map(|messages| Chat {
                messages,
                ..Chat::default()
            });
            chats.collect()
        }
        (None, false) => {
            let texts = args.prompt.iter().map(|text| {
                Ok(Prompt {
                    text: text.clone(),
                    ids: encode_prompt(tokenizer, text)?,
                    messages: None,
                })
            });
            return texts.collect();
        }
    };
    let prompts = chats.into_iter().map(|chat| {
        let chat = messages::with_system(chat, args.system.as_deref());
        Ok(Prompt {
            text: String::new(),
            ids: encode_chat(tokenizer, &chat)?,
            messages: Some(chat.messages),
        })
    });
    prompts.collect()
}

/// The prompt's tokens; an empty one starts as a text does, after the end of another.
pub fn encode_prompt(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>> {
    let ids = tokenizer.encode_prompt(prompt)?;
    if !ids.is_empty() {
        return Ok(ids);
    }
    let end = tokenizer
        .eos_id()
        .context("the prompt is empty: give some text")?;
    Ok(vec![end])
}

/// A conversation's tokens, up to where the assistant's answer begins.
pub fn encode_chat(tokenizer: &Tokenizer, chat: &Chat) -> Result<Vec<u32>> {
    let ids = tokenizer.chat_prompt(&chat.messages, &chat.extras, true);
    ids.map_err(|error| match error {
        DataError::Tokenizer {
            name,
            problem: TokenizerProblem::NoTemplate,
        } => anyhow!(
            "{name} has no chat template (chat_template.jinja, or chat_template in \
             tokenizer_config.json): name the tokenizer of a chat model with --tokenizer, or have plain \
             text continued, with --prompt alone"
        ),
        error => Error::new(error).context("cannot put the conversation into the chat template"),
    })
}
