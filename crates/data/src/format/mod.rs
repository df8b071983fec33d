//! The shape of a file's rows, detected from its columns, and the content of a row.

use crate::config::DataConfig;
use crate::error::{DataError, Result, RowProblem};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number, Value};
use std::fmt;

mod chat;
mod column_names;
mod columns;
mod labelled;
mod messages;
pub(crate) mod overview;
mod preference;
mod prompt;
mod row;
mod shape;
mod speech;
pub(crate) mod suggest;
mod tagged;
mod tags;
mod template;
mod texts;
mod tokens;
mod tools;

pub use chat::Chat;
pub(crate) use column_names::SYSTEM;
pub(crate) use columns::{Note, as_bool, as_flag, describe, is_masked, left_out, notes};
pub use preference::Rows;
pub(crate) use prompt::first_text;
pub use prompt::instruction_prompt;
pub use row::Row;
pub(crate) use shape::{is_row, question_and_answer};
pub(crate) use speech::{CALLS, REASONING, Speech};
pub(crate) use tags::calls_in_tags;
pub use template::example_prompt;
use template::fill;

/// The shape of a file's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// A column of text.
    Text(String),
    /// `prompt`, and the column of its completion.
    PromptCompletion(String),
    /// `instruction`, `input` or `context` (which may be missing or empty), and the column of the
    /// output.
    Instruction(String),
    /// A template, and the column of the completion if there is one.
    Template(String, Option<String>),
    /// A chat: `messages` (or ShareGPT's `conversations`), with optional `tools`.
    Messages(String),
    /// Two columns of messages, or of one text each: the prompt and the completion.
    ChatCompletion(String, String),
    /// Two answers to one prompt: how the better one would be read by itself, and how the worse one
    /// would.
    Preference(Box<Self>, Box<Self>),
    /// An answer, and the column that says whether it is good.
    Judged(Box<Self>, String),
    /// Two columns of text that are classified together.
    TwoTexts(String, String),
    /// Columns of texts to compare, and the column of their similarity, if there is one.
    Texts(Vec<String>, Option<String>),
    /// A column of words (or of a text that is split into words), and the column of their tags, if
    /// there is one.
    Tagged(String, Option<String>),
    /// A text, and the column of its label, if there is one.
    Labelled(Box<Self>, Option<String>),
    #[default]
    /// `input_ids`, with optional `labels` and masks, used unchanged.
    Tokenized,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(column) => write!(f, "text (column `{column}`)"),
            Self::PromptCompletion(column) => write!(f, "prompt/{column}"),
            Self::Instruction(column) => write!(f, "instruction/input/{column}"),
            Self::Template(_, Some(column)) => write!(f, "template, completion in `{column}`"),
            Self::Template(_, None) => write!(f, "template"),
            Self::Messages(column) => write!(f, "chat (column `{column}`)"),
            Self::ChatCompletion(prompt, column) => write!(f, "{prompt}/{column} of messages"),
            Self::Preference(chosen, rejected) => preference::describe(chosen, rejected, f),
            Self::Judged(answer, column) => write!(f, "{answer}, judged by `{column}`"),
            Self::Tagged(words, Some(tags)) => write!(f, "{words}, tagged by `{tags}`"),
            Self::Tagged(words, None) => write!(f, "{words}, without tags"),
            Self::TwoTexts(first, second) => write!(f, "{first}/{second}"),
            Self::Texts(columns, Some(score)) => {
                write!(f, "{}, alike by `{score}`", columns.join("/"))
            }
            Self::Texts(columns, None) => write!(f, "{}", columns.join("/")),
            Self::Labelled(text, Some(label)) => write!(f, "{text}, labelled by `{label}`"),
            Self::Labelled(text, None) => write!(f, "{text}, without a label"),
            Self::Tokenized => write!(f, "input_ids (already tokenised)"),
        }
    }
}

/// The content of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A text, learnt as a whole.
    Text(String),
    /// A prompt and its completion.
    Prompted {
        /// The prompt.
        prompt: String,
        /// The completion.
        completion: String,
    },
    /// A conversation, to be rendered by the tokenizer's chat template.
    Chat(Chat),
    /// Two answers to one prompt, each as [`Prompted`](Self::Prompted) or [`Chat`](Self::Chat),
    /// with the same beginning.
    Preference {
        /// The better answer.
        chosen: Box<Self>,
        /// The worse answer.
        rejected: Box<Self>,
        /// By how much the better one is better, if the row says so.
        margin: Option<Number>,
    },
    /// An answer that is either good or bad.
    Judged {
        /// The prompt with the answer.
        answer: Box<Self>,
        /// Whether the answer is good.
        is_good: bool,
    },
    /// Two texts that are classified together.
    TwoTexts(String, String),
    /// Texts to compare.
    Texts {
        /// The texts.
        texts: Vec<String>,
        /// How similar they are, if the row says so.
        score: Option<Number>,
    },
    /// Words with their positions, and their tags if they have any.
    Tagged {
        /// The words, with where each begins and ends.
        words: Vec<(String, (usize, usize))>,
        /// A tag for each word: a name or a number.
        tags: Option<Vec<Value>>,
    },
    /// A text with its label: a text, a number or a list; `null` if it has none.
    Labelled {
        /// The text.
        content: Box<Self>,
        /// The label.
        label: Value,
    },
    /// Tokens, not yet checked against the vocabulary.
    Tokens {
        /// The token ids.
        input_ids: Vec<i64>,
        /// The label of each token; -100 means that it is not learnt.
        labels: Vec<i64>,
    },
}

impl Shape {
    /// Whether the rows are conversations, which need a chat template.
    pub fn is_chat(&self) -> bool {
        match self {
            Self::Messages(_) | Self::ChatCompletion(..) => true,
            Self::Preference(answer, _) | Self::Judged(answer, _) | Self::Labelled(answer, _) => {
                answer.is_chat()
            }
            _ => false,
        }
    }

    /// Detects the shape from the columns of the first row of `file` and from the settings.
    ///
    /// # Errors
    /// Columns that match no shape, or a setting that names a column that does not exist.
    pub fn detect(first: &Map<String, Value>, file: &str, config: &DataConfig) -> Result<Self> {
        Self::detect_for(Rows::Texts, first, file, config)
    }

    /// As [`detect`](Self::detect), for rows of the kind `rows`.
    ///
    /// # Errors
    /// As [`detect`](Self::detect), or if the columns are of another kind of rows.
    pub fn detect_for(
        rows: Rows,
        first: &Map<String, Value>,
        file: &str,
        config: &DataConfig,
    ) -> Result<Self> {
        preference::detect(rows, first, file, config)
    }

    /// Reads the content of a row; `place` is the row's name in errors.
    ///
    /// # Errors
    /// If a column is missing from this row, or holds something else.
    pub fn read(&self, row: &Row, place: &str) -> Result<Content> {
        let content = self.content(&row.columns);
        content.map_err(|problem| DataError::Row {
            place: place.into(),
            problem,
        })
    }

    fn content(&self, row: &Map<String, Value>) -> std::result::Result<Content, RowProblem> {
        let prompted = |prompt, column: &str| {
            let completion = text(row, column)?;
            Ok(Content::Prompted { prompt, completion })
        };
        match self {
            Self::Text(column) => Ok(Content::Text(text(row, column)?)),
            Self::PromptCompletion(column) => prompted(prompt::plain(row)?, column),
            Self::Instruction(column) => prompted(prompt::instruction(row)?, column),
            Self::Template(template, Some(column)) => prompted(fill(template, row)?, column),
            Self::Template(template, None) => Ok(Content::Text(fill(template, row)?)),
            Self::Messages(column) => Ok(Content::Chat(Chat::new(row, &[column], 0)?)),
            Self::ChatCompletion(prompt, column) => {
                Ok(Content::Chat(Chat::new(row, &[prompt, column], 1)?))
            }
            Self::Preference(chosen, rejected) => preference::pair(row, chosen, rejected),
            Self::Judged(answer, column) => preference::judged(row, answer, column),
            Self::Tagged(words, tags) => tagged::tagged(row, words, tags.as_deref()),
            Self::TwoTexts(first, second) => labelled::two(row, first, second),
            Self::Texts(columns, score) => texts::texts(row, columns, score.as_deref()),
            Self::Labelled(text, label) => labelled::labelled(row, text, label.as_deref()),
            Self::Tokenized => tokens::tokens(row),
        }
    }
}

impl Content {
    /// The conversations in the content.
    pub(crate) fn chats_mut(&mut self) -> Vec<&mut Chat> {
        match self {
            Self::Chat(chat) => vec![chat],
            Self::Judged { answer, .. }
            | Self::Labelled {
                content: answer, ..
            } => answer.chats_mut(),
            Self::Preference {
                chosen, rejected, ..
            } => {
                let mut chats = chosen.chats_mut();
                chats.extend(rejected.chats_mut());
                chats
            }
            Self::Text(_)
            | Self::TwoTexts(..)
            | Self::Texts { .. }
            | Self::Tagged { .. }
            | Self::Prompted { .. }
            | Self::Tokens { .. } => Vec::new(),
        }
    }

    /// The content that is learnt if one answer is learnt: the content itself, or the better of two
    /// answers.
    pub(crate) fn answer(self) -> Self {
        match self {
            Self::Preference { chosen, .. } => chosen.answer(),
            Self::Judged { answer, .. }
            | Self::Labelled {
                content: answer, ..
            } => answer.answer(),
            content => content,
        }
    }
}

fn text(columns: &Map<String, Value>, column: &str) -> std::result::Result<String, RowProblem> {
    match preference::value(columns, column) {
        Some(Value::String(text)) => Ok(text.clone()),
        other => Err(no_text_in(column, other)),
    }
}

/// What is wrong with the value of a column that should hold text.
fn no_text_in(column: &str, value: Option<&Value>) -> RowProblem {
    RowProblem::NoText {
        found: kind(value),
        column: column.into(),
    }
}

fn kind(value: Option<&Value>) -> &'static str {
    match value {
        None => "nothing",
        Some(Value::Null) => "null",
        Some(Value::Bool(_)) => "true or false",
        Some(Value::Number(_)) => "a number",
        Some(Value::String(_)) => "text",
        Some(Value::Array(_)) => "a list",
        Some(Value::Object(object)) if object.contains_key(BYTES) => BYTES,
        Some(Value::Object(object)) if object.contains_key(TIME) => TIME,
        Some(Value::Object(_)) => "an object",
    }
}

/// The only key of the object that stands for bytes that are not text, so that errors can say so.
const BYTES: &str = "bytes that are not UTF-8";
/// The same for a time outside of any calendar.
const TIME: &str = "a time out of range";

/// Stands for bytes that are not text, which JSON cannot hold.
#[cfg_attr(not(feature = "parquet"), expect(dead_code))]
pub(crate) fn no_text(length: usize) -> Value {
    Value::Object(Map::from_iter([(BYTES.to_owned(), length.into())]))
}

/// Stands for a time outside of any calendar: a number of units since 1970.
#[cfg_attr(not(feature = "parquet"), expect(dead_code))]
pub(crate) fn no_time(units: i64) -> Value {
    Value::Object(Map::from_iter([(TIME.to_owned(), units.into())]))
}

#[cfg(test)]
mod columns_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tools_tests;
