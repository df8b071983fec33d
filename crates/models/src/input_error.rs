//! What can be wrong with a model's input.

/// An input that a model cannot take.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// There is no token to continue.
    #[error("the prompt has no token; give at least one")]
    EmptyPrompt,
    /// The model is an encoder, which does not continue texts.
    #[error(
        "the model is an encoder, whose tokens attend to each other in both directions: it cannot generate text"
    )]
    Encoder,
    /// A token id is outside of the vocabulary.
    #[error(
        "the prompt holds the token id {id}, but the model knows only {vocab_size} tokens: is this \
         the model's tokenizer?"
    )]
    UnknownToken {
        /// The token.
        id: u32,
        /// The size of the vocabulary.
        vocab_size: usize,
    },
    /// A prompt leaves no position for a new token.
    #[error(
        "the prompt has {tokens} tokens, and the model has {}, of which the new text needs at \
         least one: shorten the prompt by {} tokens",
        described(*max_positions, *adapter_positions), tokens + 1 - max_positions
    )]
    PromptTooLong {
        /// The length of the prompt in tokens.
        tokens: usize,
        /// The number of positions for text.
        max_positions: usize,
        /// The number of positions that an adapter uses in addition.
        adapter_positions: usize,
    },
    /// Prompt and continuation together exceed the positions.
    #[error(
        "a prompt of {tokens} tokens and max_new_tokens {new} need {} positions, the model has {}: \
         shorten the prompt or lower max_new_tokens to {}",
        tokens.saturating_add(*new), described(*max_positions, *adapter_positions),
        max_positions - tokens
    )]
    TextTooLong {
        /// The length of the prompt in tokens.
        tokens: usize,
        /// The number of new tokens.
        new: usize,
        /// The number of positions for text.
        max_positions: usize,
        /// The number of positions that an adapter uses in addition.
        adapter_positions: usize,
    },
    /// A generation setting is out of range.
    #[error("{key} = {value} is not usable: it has to be {range}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: f64,
        /// The valid values.
        range: &'static str,
    },
    /// The number of adapters differs from the number of rows.
    #[error(
        "{given} adapter names for {rows} rows: give one for each, \"{}\" for none",
        burn_peft::BASE_ROW
    )]
    AdapterNames {
        /// The number of names.
        given: usize,
        /// The number of rows.
        rows: usize,
    },
    /// The parts of a batch have different sizes.
    #[error(
        "a batch of {rows} rows of {seq} tokens needs {} ids, mask values and labels, not {ids}, \
         {marks} and {labels}",
        rows * seq
    )]
    Batch {
        /// The number of rows.
        rows: usize,
        /// The number of tokens in a row.
        seq: usize,
        /// The number of token ids.
        ids: usize,
        /// The number of mask values.
        marks: usize,
        /// The number of labels.
        labels: usize,
    },
    /// The result could not be read back from the device.
    #[error("the logits could not be read: {0}")]
    Logits(String),
}

/// The positions of a model, in words.
fn described(max_positions: usize, adapter_positions: usize) -> String {
    match adapter_positions {
        0 => format!("{max_positions} positions"),
        taken => format!(
            "{} positions, {taken} of them the adapter's",
            max_positions + taken
        ),
    }
}
