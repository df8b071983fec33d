//! What can be wrong with what a model is given.

/// An input that a model cannot take.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// No token to go on from.
    #[error("the prompt has no token; give at least one")]
    EmptyPrompt,
    /// An encoder, which does not go on with texts.
    #[error(
        "the model is an encoder, whose tokens see each other both ways: it does not go on with a text"
    )]
    Encoder,
    /// A token that is none of the model's.
    #[error(
        "the prompt holds the token id {id}, but the model knows {vocab_size} tokens only: is this \
         the model's tokenizer?"
    )]
    UnknownToken {
        /// The token.
        id: u32,
        /// The number of tokens that the model knows.
        vocab_size: usize,
    },
    /// A prompt that fills the model's positions.
    #[error(
        "the prompt has {tokens} tokens, and the model has {}, of which the new text needs one at \
         least: shorten the prompt by {} tokens",
        described(*max_positions, *adapter_positions), tokens + 1 - max_positions
    )]
    PromptTooLong {
        /// Its tokens.
        tokens: usize,
        /// The positions for text.
        max_positions: usize,
        /// Those that an adapter takes beside them.
        adapter_positions: usize,
    },
    /// A prompt and a continuation that need more positions than there are.
    #[error(
        "a prompt of {tokens} tokens and max_new_tokens {new} need {} positions, the model has {}: \
         shorten the prompt or lower max_new_tokens to {}",
        tokens.saturating_add(*new), described(*max_positions, *adapter_positions),
        max_positions - tokens
    )]
    TextTooLong {
        /// The prompt's tokens.
        tokens: usize,
        /// The tokens asked for.
        new: usize,
        /// The positions for text.
        max_positions: usize,
        /// Those that an adapter takes beside them.
        adapter_positions: usize,
    },
    /// A setting of generation that is out of its range.
    #[error("{key} = {value} is not usable: it has to be {range}")]
    Setting {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: f64,
        /// The values it can have.
        range: &'static str,
    },
    /// Not one adapter for each row.
    #[error(
        "{given} adapter names for {rows} rows: give one for each, \"{}\" for none",
        burn_peft::BASE_ROW
    )]
    AdapterNames {
        /// The names.
        given: usize,
        /// The rows.
        rows: usize,
    },
    /// A batch whose parts do not fit.
    #[error(
        "a batch of {rows} rows of {seq} tokens needs {} ids, mask values and labels, not {ids}, \
         {marks} and {labels}",
        rows * seq
    )]
    Batch {
        /// Rows of the batch.
        rows: usize,
        /// Tokens of a row.
        seq: usize,
        /// Token ids given.
        ids: usize,
        /// Values of the mask given.
        marks: usize,
        /// Labels given.
        labels: usize,
    },
    /// What the model computed does not come back from its device.
    #[error("the logits could not be read: {0}")]
    Logits(String),
}

/// The positions of a model in words.
fn described(max_positions: usize, adapter_positions: usize) -> String {
    match adapter_positions {
        0 => format!("{max_positions} positions"),
        taken => format!(
            "{} positions, {taken} of them the adapter's",
            max_positions + taken
        ),
    }
}
