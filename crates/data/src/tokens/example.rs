//! An example: tokens with labels; and what a model can take.

/// The label of a token that is not learnt, as in PyTorch and transformers.
pub const IGNORE_INDEX: i64 = -100;

/// Tokens and their labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The token ids, `[seq]`.
    pub input_ids: Vec<u32>,
    /// `[seq]`: each token's own id, or [`IGNORE_INDEX`]. The loss does the shift by one.
    pub labels: Vec<i64>,
    /// The number of its row in the file.
    pub row: usize,
}

/// What the model can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest sequence.
    pub max_positions: usize,
    /// Whether longer sequences are impossible. Otherwise the model was just not trained for them.
    pub has_last_position: bool,
    /// The name of that length in the model's `config.json`.
    pub positions_key: &'static str,
    /// The model's positions that an adapter uses; they are not counted above.
    pub adapter_positions: usize,
    /// The number of embeddings.
    pub vocab_size: usize,
}

/// The length that rows are cut to if nothing is set and the model has at least as many positions.
const DEFAULT_LENGTH: usize = 2048;

impl Limits {
    /// The value of `data.max_length` if it is not set: 2,048, or the model's positions if those
    /// are fewer. The positions alone would allow some models rows of 131,072 tokens, which need
    /// more memory than most machines have. Without a model there is no limit.
    pub fn default_length(&self) -> usize {
        match self.max_positions {
            usize::MAX => usize::MAX,
            positions => positions.min(DEFAULT_LENGTH),
        }
    }

    /// Whether no sequence can be this long.
    pub fn forbid(&self, length: usize) -> bool {
        self.has_last_position && length > self.max_positions
    }

    /// The longest sequence in errors: `the model's max_position_embeddings 128`.
    pub fn positions(&self) -> String {
        let (left, taken) = (self.max_positions, self.adapter_positions);
        let key = self.positions_key;
        match taken {
            0 => format!("the model's {key} {left}"),
            taken => format!(
                "the {left} positions for text: the model's {key} is {}, and {taken} of them are the \
                 adapter's",
                left.saturating_add(taken)
            ),
        }
    }
}
