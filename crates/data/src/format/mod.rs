//! The shape of a file's rows, told from its columns, and what a row of it holds.

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
    /// `instruction`, `input` or `context` (which may be absent or empty), and the column of the
    /// output.
    Instruction(String),
    /// A template, and the column of the completion if there is one.
    Template(String, Option<String>),
    /// A chat: `messages` (or ShareGPT's `conversations`), with optional `tools`.
    Messages(String),
    /// Two columns of messages, or of one text each: what is given, and what is to be learnt.
    ChatCompletion(String, String),
    /// Two answers to one prompt: how a row of the better one alone would be read, and of the worse.
    Preference(Box<Self>, Box<Self>),
    /// An answer, and the column that says whether it is a good one.
    Judged(Box<Self>, String),
    /// Two columns of text that are judged together.
    TwoTexts(String, String),
    /// Columns of texts that are compared, and that of how alike they are if there is one.
    Texts(Vec<String>, Option<String>),
    /// A column of words, or of a text that is cut into words, and that of their tags if there is one.
    Tagged(String, Option<String>),
    /// A text, and the column of its label if there is one.
    Labelled(Box<Self>, Option<String>),
    #[default]
    /// `input_ids`, with optional `labels` and masks: used as they are.
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

/// What one row holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A text, all of it to be learnt.
    Text(String),
    /// A text of which the second part is the answer to the first.
    Prompted {
        /// What is given.
        prompt: String,
        /// What is to be learnt.
        completion: String,
    },
    /// A conversation, for the tokenizer's template.
    Chat(Chat),
    /// Two answers to one prompt, each as [`Prompted`](Self::Prompted) or a [`Chat`](Self::Chat) with
    /// the same beginning.
    Preference {
        /// The better one.
        chosen: Box<Self>,
        /// The worse one.
        rejected: Box<Self>,
        /// By how much the better one is better, where the row says so.
        margin: Option<Number>,
    },
    /// An answer that is a good one, or a bad one.
    Judged {
        /// The prompt with its answer.
        answer: Box<Self>,
        /// Whether it is a good one.
        is_good: bool,
    },
    /// Two texts that are judged together.
    TwoTexts(String, String),
    /// Texts that are compared.
    Texts {
        /// The texts.
        texts: Vec<String>,
        /// How alike they are, where the row says so.
        score: Option<Number>,
    },
    /// Words with where they begin and end, and their tags where they have some.
    Tagged {
        /// The words.
        words: Vec<(String, (usize, usize))>,
        /// A tag for each, a name or a number.
        tags: Option<Vec<Value>>,
    },
    /// A text with its label: a text, a number, or a list; `null` where it has none.
    Labelled {
        /// The text.
        content: Box<Self>,
        /// The label.
        label: Value,
    },
    /// Tokens, not yet checked against a vocabulary.
    Tokens {
        /// The token ids.
        input_ids: Vec<i64>,
        /// What is to be learnt at each; -100 is nothing.
        labels: Vec<i64>,
    },
}

impl Shape {
    /// Whether the rows are conversations, for a tokenizer's template.
    pub fn is_chat(&self) -> bool {
        match self {
            Self::Messages(_) | Self::ChatCompletion(..) => true,
            Self::Preference(answer, _) | Self::Judged(answer, _) | Self::Labelled(answer, _) => {
                answer.is_chat()
            }
            _ => false,
        }
    }

    /// Tells the shape from the columns of the first row of `file` and from what the user said.
    ///
    /// # Errors
    /// Columns that are no shape, or a setting that names a column that is not there.
    pub fn detect(first: &Map<String, Value>, file: &str, config: &DataConfig) -> Result<Self> {
        Self::detect_for(Rows::Texts, first, file, config)
    }

    /// As [`detect`](Self::detect), where rows are wanted that are `rows`.
    ///
    /// # Errors
    /// As [`detect`](Self::detect), or columns of other rows.
    pub fn detect_for(
        rows: Rows,
        first: &Map<String, Value>,
        file: &str,
        config: &DataConfig,
    ) -> Result<Self> {
        preference::detect(rows, first, file, config)
    }

    /// What a row holds, `place` being how errors call the row.
    ///
    /// # Errors
    /// A column that is missing from this row or holds something else.
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
    /// The conversations in it.
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

    /// What is learnt where there is one answer: itself, or the better of two.
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

/// What is wrong with a column that should hold text.
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

/// The only key of what stands for bytes that are no text, so that errors can say so.
const BYTES: &str = "bytes that are no UTF-8";
/// And of what stands for a time that is in no calendar.
const TIME: &str = "a time out of range";

/// What stands for bytes that are no text: JSON has nothing for them.
#[cfg_attr(not(feature = "parquet"), expect(dead_code))]
pub(crate) fn no_text(length: usize) -> Value {
    Value::Object(Map::from_iter([(BYTES.to_owned(), length.into())]))
}

/// What stands for a time that is in no calendar: so many units since 1970.
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
