//! Checking that a tokenizer's chat template accepts the messages.

use anyhow::{Context, Result, bail};
use burn_peft_data::{DataError, Tokenizer, TokenizerProblem, message};

/// Checks that the tokenizer has a chat template, and that it accepts a system message if there is
/// one.
pub fn check(tokenizer: &Tokenizer, system: Option<&str>) -> Result<()> {
    let user = message("user", "Hello");
    match tokenizer.apply_chat_template(&[user], true) {
        Ok(_) => {}
        Err(DataError::Tokenizer {
            name,
            problem: TokenizerProblem::NoTemplate,
        }) => bail!(
            "{name} has no chat template (chat_template.jinja, or chat_template in \
             tokenizer_config.json), so it is not known how to talk to this model: `peft generate \
             --prompt TEXT` continues a text with it; --tokenizer names the tokenizer of a chat model"
        ),
        // A template may refuse to begin without a system message.
        Err(error) if system.is_none() => return Err(error.into()),
        Err(_) => {}
    }
    match system {
        Some(system) => takes_system(tokenizer, system),
        None => Ok(()),
    }
}

/// Checks that the template accepts a system message.
pub fn takes_system(tokenizer: &Tokenizer, system: &str) -> Result<()> {
    let messages = [message("system", system), message("user", "Hello")];
    let rendered = tokenizer.apply_chat_template(&messages, true);
    rendered.context("the chat template does not accept this system message")?;
    Ok(())
}
