//! What can be wrong with a row.

use super::template::TemplateProblem;

/// What is wrong with a row; the text continues a sentence that begins with the row's place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RowProblem {
    /// It is not valid JSON.
    #[error("is not JSON: {what} at column {column}")]
    Json {
        /// What is wrong with it.
        what: String,
        /// The column within its line.
        column: usize,
    },
    /// It is JSON, but not an object.
    #[error("is {0}, and not a JSON object {{…}}")]
    NoObject(String),
    /// It holds text, but there is no tokenizer.
    #[error(
        "holds text, and there is no tokenizer with the model; name one with `tokenizer` (on the \
         command line --tokenizer)"
    )]
    NoTokenizer,
    /// A column that should hold text holds something else.
    #[error("has {found} in `{column}`, where text is expected")]
    NoText {
        /// What was found.
        found: &'static str,
        /// The column.
        column: String,
    },
    /// A column that should hold words holds something else.
    #[error("has no list of words in `{0}`")]
    NoWords(String),
    /// The number of tags differs from the number of words.
    #[error("has {words} words, and not as many tags in `{column}`")]
    Tags {
        /// The number of words.
        words: usize,
        /// The column of the tags.
        column: String,
    },
    /// It has no tags, but tags are to be learnt.
    #[error("has no tags (a column ner_tags, tags, labels, pos_tags or ner)")]
    Untagged,
    /// It has no label, but a label is to be learnt.
    #[error("has no label (a column label, labels, class, category or target)")]
    Unlabelled,
    /// Its label is not one of the model's.
    #[error("has the label {value}: {known}")]
    UnknownLabel {
        /// The label.
        value: String,
        /// The labels that exist.
        known: String,
    },
    /// A column that should hold a number holds something else.
    #[error("has {value} in `{column}`, where a number is expected")]
    NoNumber {
        /// What was found.
        value: String,
        /// The column.
        column: String,
    },
    /// A column of similarity scores holds something else.
    #[error("has {value} in `{column}`, where a number from -1 to 1 is expected")]
    Similarity {
        /// What was found.
        value: String,
        /// The column.
        column: String,
    },
    /// A column of messages holds something else.
    #[error("has no list of messages in `{0}`")]
    NoMessages(String),
    /// A message has no role.
    #[error("has a message without a `role` in `{column}`: {message}")]
    NoRole {
        /// The column.
        column: String,
        /// The message.
        message: String,
    },
    /// The content of a message is not text.
    #[error("has a message whose `content` is {content} in `{column}`: it has to be a text")]
    NoContent {
        /// What it is instead.
        content: String,
        /// The column.
        column: String,
    },
    /// A part of a message is not text, such as an image.
    #[error("has a message with a part of type `{kind}` in `{column}`; only text is read")]
    Part {
        /// The type of the part.
        kind: String,
        /// The column.
        column: String,
    },
    /// Text that should be JSON is not.
    #[error("has text in `{column}` that is not JSON: {error}")]
    TextOfJson {
        /// The column.
        column: String,
        /// What is wrong with it.
        error: String,
    },
    /// A column that should hold an object holds something else.
    #[error("has something other than an object in `{0}`")]
    NoMapping(String),
    /// The earlier turns are not pairs.
    #[error("has something other than a list of pairs [user, assistant] in `history`")]
    History,
    /// A column that should hold tokens holds something else.
    #[error("has something other than a list of integers in `{0}`")]
    NoIntegers(String),
    /// It has no tokens.
    #[error("has no `input_ids`")]
    NoInputIds,
    /// A mask holds something other than 0 and 1.
    #[error("has {value} in `{column}`, where each token needs 0 or 1, or false or true")]
    Mask {
        /// What was found.
        value: String,
        /// The column.
        column: String,
    },
    /// A column is longer or shorter than the tokens.
    #[error("has {input_ids} `input_ids` and {values} `{column}`")]
    Lengths {
        /// The number of tokens.
        input_ids: usize,
        /// The number of values in the column.
        values: usize,
        /// The column.
        column: String,
    },
    /// The chat template rejects the chat.
    #[error(transparent)]
    Template(#[from] TemplateProblem),
    /// A judgement is neither true nor false.
    #[error("has {value} in `{column}`, where true or false is expected")]
    NoJudgement {
        /// What was found.
        value: String,
        /// The column.
        column: String,
    },
    /// Two answers are the same.
    #[error("has the same answer as `chosen` and as `rejected`")]
    EqualAnswers,
    /// An answer has no text.
    #[error("has an answer without any text")]
    EmptyAnswer,
    /// The task cannot use it.
    #[error("{0}")]
    Task(String),
}
