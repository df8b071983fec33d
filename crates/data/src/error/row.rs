//! What can be wrong with a row.

use super::template::TemplateProblem;

/// What is wrong with a row, to be read after its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowProblem {
    /// It is not JSON.
    #[error("is not JSON: {what} at column {column}")]
    Json {
        /// What is wrong with it.
        what: String,
        /// The column of its line.
        column: usize,
    },
    /// It is JSON, but no object.
    #[error("is {0}, and not a JSON object {{…}}")]
    NoObject(String),
    /// It holds text, and nothing says what tokens are.
    #[error(
        "holds text, and there is no tokenizer with the model; name one with `tokenizer` (on the \
         command line --tokenizer)"
    )]
    NoTokenizer,
    /// A column that should hold text holds something else.
    #[error("has {found} in `{column}`, where text is wanted")]
    NoText {
        /// What it holds.
        found: &'static str,
        /// The column.
        column: String,
    },
    /// A column that should hold words holds something else.
    #[error("has no list of words in `{0}`")]
    NoWords(String),
    /// There are not as many tags as words.
    #[error("has {words} words, and not as many tags in `{column}`")]
    Tags {
        /// The words.
        words: usize,
        /// The column of the tags.
        column: String,
    },
    /// It has no tags, and they are to be learnt.
    #[error("has no tags (a column ner_tags, tags, labels, pos_tags or ner)")]
    Untagged,
    /// It has no label, and one is to be learnt.
    #[error("has no label (a column label, labels, class, category or target)")]
    Unlabelled,
    /// Its label is none.
    #[error("has the label {value}: {known}")]
    UnknownLabel {
        /// The label.
        value: String,
        /// Which there are.
        known: String,
    },
    /// A column that should hold a number holds something else.
    #[error("has {value} in `{column}`, where a number is wanted")]
    NoNumber {
        /// What it holds.
        value: String,
        /// The column.
        column: String,
    },
    /// A column of how alike two texts are holds something else.
    #[error("has {value} in `{column}`, where a number from -1 to 1 is wanted")]
    Similarity {
        /// What it holds.
        value: String,
        /// The column.
        column: String,
    },
    /// A column of messages holds something else.
    #[error("has no list of messages in `{0}`")]
    NoMessages(String),
    /// Nobody says a message.
    #[error("has a message without a `role` in `{column}`: {message}")]
    NoRole {
        /// The column.
        column: String,
        /// The message.
        message: String,
    },
    /// The content of a message is no text.
    #[error("has a message whose `content` is {content} in `{column}`: it has to be a text")]
    NoContent {
        /// What it is.
        content: String,
        /// The column.
        column: String,
    },
    /// A part of a message is no text, such as an image.
    #[error("has a message with a part of type `{kind}` in `{column}`; only text is read")]
    Part {
        /// The type of the part.
        kind: String,
        /// The column.
        column: String,
    },
    /// Text that stands for a value is no JSON.
    #[error("has text in `{column}` that is no JSON: {error}")]
    TextOfJson {
        /// The column.
        column: String,
        /// What is wrong with it.
        error: String,
    },
    /// A column of names and values holds something else.
    #[error("has something else than an object in `{0}`")]
    NoMapping(String),
    /// Earlier turns are no pairs.
    #[error("has something else than a list of pairs [user, assistant] in `history`")]
    History,
    /// A column of tokens holds something else.
    #[error("has something else than a list of integers in `{0}`")]
    NoIntegers(String),
    /// It has no tokens.
    #[error("has no `input_ids`")]
    NoInputIds,
    /// A mask holds something else than 0 and 1.
    #[error("has {value} in `{column}`, where each token wants 0 or 1, or false or true")]
    Mask {
        /// What it holds.
        value: String,
        /// The column.
        column: String,
    },
    /// A column is not as long as the tokens are.
    #[error("has {input_ids} `input_ids` and {values} `{column}`")]
    Lengths {
        /// Its tokens.
        input_ids: usize,
        /// The values of the column.
        values: usize,
        /// The column.
        column: String,
    },
    /// The tokenizer's template refuses the chat.
    #[error(transparent)]
    Template(#[from] TemplateProblem),
    /// A judgement is neither true nor false.
    #[error("has {value} in `{column}`, where true or false is wanted")]
    NoJudgement {
        /// What it holds.
        value: String,
        /// The column.
        column: String,
    },
    /// Two answers are the same.
    #[error("has the same answer as `chosen` and as `rejected`")]
    EqualAnswers,
    /// An answer says nothing.
    #[error("has an answer without any text")]
    EmptyAnswer,
    /// The task cannot use it.
    #[error("{0}")]
    Task(String),
}
