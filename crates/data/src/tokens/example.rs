//! An example: tokens with labels, and what a model can take of them.

/// The label of a token that is not learnt, as in PyTorch and transformers.
pub const IGNORE_INDEX: i64 = -100;

/// Tokens and what is to be learnt of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// The token ids, `[seq]`.
    pub input_ids: Vec<u32>,
    /// `[seq]`: each token's own id, or [`IGNORE_INDEX`]. The shift by one is the loss's business.
    pub labels: Vec<i64>,
    /// The number of its row in the file.
    pub row: usize,
}

/// What the model can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest sequence.
    pub max_positions: usize,
    /// Whether longer ones are impossible. Otherwise the model was not trained for them.
    pub has_last_position: bool,
    /// What the model's `config.json` calls the longest sequence.
    pub positions_key: &'static str,
    /// The positions of the model that an adapter takes, which are not among these.
    pub adapter_positions: usize,
    /// The number of embeddings.
    pub vocab_size: usize,
}

/// The tokens of a row where nothing is said and the model has as many positions.
const DEFAULT_LENGTH: usize = 2048;

impl Limits {
    /// What `data.max_length` is where nothing is said: 2,048, or the model's positions if those are
    /// fewer. A model that is made for 131,072 would take them all, and nobody's memory does.
    /// Without a model there is no such length.
    pub fn default_length(&self) -> usize {
        match self.max_positions {
            usize::MAX => usize::MAX,
            positions => positions.min(DEFAULT_LENGTH),
        }
    }

    /// Whether no sequence can be so long.
    pub fn forbid(&self, length: usize) -> bool {
        self.has_last_position && length > self.max_positions
    }

    /// How errors call the longest sequence: `the model's max_position_embeddings 128`.
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
