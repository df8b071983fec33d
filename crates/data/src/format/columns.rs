//! Which columns a shape reads, and which it leaves out although they carry meaning.

use super::column_names::{
    CHATS, EXTRAS, INPUT, LABELS, LOSS_MASKS, MARGIN, SYSTEM, WEIGHTS, is_meant,
};
use super::messages::tool_turns;
use super::preference::column_of;
use super::prompt::first_text;
use super::template::placeholders;
use super::{Chat, Content, Shape};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// A remark about the rows, told to the user once for each file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Note {
    /// A column that is not read.
    LeftOut(String),
    /// A role that is not a usual one.
    Role(String),
    /// A tool's turn under a name that chat templates do not know.
    ToolTurn(String),
    /// A weight that is neither 0 nor 1.
    Weight(String),
    /// Something that the chat template cannot express.
    Unsaid(String),
}

impl Shape {
    /// The columns that are read.
    pub(crate) fn columns(&self) -> Vec<&str> {
        let mut columns = self.contents();
        columns.extend(self.masks());
        columns
    }

    fn contents(&self) -> Vec<&str> {
        let columns = self.names().into_iter();
        columns.map(column_of).collect()
    }

    fn names(&self) -> Vec<&str> {
        let with = |columns: &[&'static str], own: &[&'static str]| [columns, own].concat();
        match self {
            Self::Text(column) => vec![column],
            Self::PromptCompletion(column) => {
                let mut columns: Vec<&str> = with(&SYSTEM, &["prompt"]);
                columns.push(column);
                columns
            }
            Self::Instruction(column) => {
                let mut columns: Vec<&str> = with(&SYSTEM, &["instruction", "history"]);
                columns.extend(INPUT);
                columns.push(column);
                columns
            }
            Self::Template(template, completion) => placeholders(template)
                .chain(completion.as_deref())
                .collect(),
            Self::Messages(column) => {
                let mut columns: Vec<&str> = with(&SYSTEM, &EXTRAS);
                columns.push(column);
                columns
            }
            Self::ChatCompletion(prompt, column) => {
                let mut columns: Vec<&str> = with(&SYSTEM, &EXTRAS);
                columns.extend([prompt.as_str(), column]);
                columns
            }
            Self::Preference(chosen, rejected) => {
                let mut columns = chosen.names();
                columns.extend(rejected.names());
                columns.push(MARGIN);
                columns
            }
            Self::Judged(answer, column) => {
                let mut columns = answer.names();
                columns.push(column);
                columns
            }
            Self::Tagged(words, tags) => {
                let mut columns: Vec<&str> = vec![words];
                columns.extend(tags.as_deref());
                columns
            }
            Self::TwoTexts(first, second) => vec![first, second],
            Self::Texts(columns, score) => {
                let columns = columns.iter().chain(score);
                columns.map(String::as_str).collect()
            }
            Self::Labelled(text, label) => {
                let mut columns = text.names();
                columns.extend(label.as_deref());
                columns
            }
            Self::Tokenized => with(&LOSS_MASKS, &["input_ids", "labels", "attention_mask"]),
        }
    }

    /// The columns that can exclude a row from training: a weight of 0, or `label` false beside an
    /// answer.
    fn masks(&self) -> Vec<&'static str> {
        let is_answered = !matches!(
            self,
            Self::Text(_)
                | Self::Template(..)
                | Self::Preference(..)
                | Self::Judged(..)
                | Self::TwoTexts(..)
                | Self::Texts(..)
                | Self::Tagged(..)
                | Self::Labelled(..)
                | Self::Tokenized
        );
        let contents = self.contents();
        let mut masks = WEIGHTS.to_vec();
        masks.extend(LABELS.into_iter().filter(|_| is_answered));
        masks.retain(|mask| !contents.contains(mask));
        masks
    }
}

/// Whether the row itself says that it is not to be learnt.
pub(crate) fn is_masked(shape: &Shape, row: &Map<String, Value>) -> bool {
    let mut masks = shape.masks().into_iter();
    masks.any(|mask| match (mask, row.get(mask)) {
        (_, None) => false,
        (label, Some(value)) if LABELS.contains(&label) => as_bool(value) == Some(false),
        (_, Some(value)) => as_flag(value) == Some(false),
    })
}

/// Reads a weight: 0 or 1, true or false, yes or no.
pub(crate) fn as_flag(value: &Value) -> Option<bool> {
    let word = value.as_str().map(|text| text.trim().to_lowercase());
    match (as_number(value), word.as_deref()) {
        (Some(0.0), _) | (_, Some("no")) => Some(false),
        (Some(1.0), _) | (_, Some("yes")) => Some(true),
        _ => as_bool(value),
    }
}

/// The remarks about a row.
pub(crate) fn notes(shape: &Shape, row: &Map<String, Value>, content: &Content) -> Vec<Note> {
    let mut notes = left_out(shape, row);
    notes.extend(unused(shape, row, content));
    for chat in chats(content) {
        for column in CHATS {
            let turns = tool_turns(row, column).map(|turn| Note::ToolTurn(turn.into()));
            notes.extend(turns);
        }
        notes.extend(chat.unknown_roles().map(|role| Note::Role(role.into())));
        notes.extend(chat.odd_weights().map(|key| Note::Weight(key.into())));
        notes.extend(chat.left_out().map(|key| Note::LeftOut(key.into())));
    }
    notes
}

/// The conversations in a row.
fn chats(content: &Content) -> Vec<&Chat> {
    match content {
        Content::Chat(chat) => vec![chat],
        Content::Judged { answer, .. }
        | Content::Labelled {
            content: answer, ..
        } => chats(answer),
        Content::Preference {
            chosen, rejected, ..
        } => [chats(chosen), chats(rejected)].concat(),
        Content::Text(_)
        | Content::TwoTexts(..)
        | Content::Texts { .. }
        | Content::Tagged { .. }
        | Content::Prompted { .. }
        | Content::Tokens { .. } => Vec::new(),
    }
}

/// Columns that another one of the same meaning replaces.
fn unused(shape: &Shape, row: &Map<String, Value>, content: &Content) -> Vec<Note> {
    match (shape, content) {
        // Both answers begin alike.
        (Shape::Preference(shape, _), Content::Preference { chosen, .. }) => {
            return unused(shape, row, chosen);
        }
        (Shape::Judged(shape, _), Content::Judged { answer, .. }) => {
            return unused(shape, row, answer);
        }
        _ => {}
    }
    let first = |names: &[&str]| first_text(row, names).ok().flatten();
    let system = match (shape, content) {
        (_, Content::Chat(chat)) => chat.messages.first().and_then(|m| m["content"].as_str()),
        (Shape::PromptCompletion(_) | Shape::Instruction(_), _) => first(&SYSTEM),
        _ => return Vec::new(),
    };
    let mut pairs: Vec<_> = SYSTEM.map(|name| (name, system)).into();
    if matches!(shape, Shape::Instruction(_)) {
        pairs.extend(INPUT.map(|name| (name, first(&INPUT))));
    }
    let unused = pairs.into_iter().filter(|(name, used)| {
        let value = row.get(*name).filter(|value| !is_empty(value));
        value.is_some_and(|value| value.as_str() != *used)
    });
    unused.map(|(name, _)| Note::LeftOut(name.into())).collect()
}

/// The remarks about a row's columns.
pub(crate) fn left_out(shape: &Shape, row: &Map<String, Value>) -> Vec<Note> {
    let (contents, masks) = (shape.contents(), shape.masks());
    let mut notes = Vec::new();
    for (name, value) in row.iter().filter(|(_, value)| !is_empty(value)) {
        let column = name.as_str();
        if contents.contains(&column) {
            continue;
        }
        let is_mask = masks.contains(&column);
        let is_template = matches!(shape, Shape::Template(..)) && value.is_string();
        if is_mask && !LABELS.contains(&column) {
            notes.extend(as_flag(value).is_none().then(|| Note::Weight(name.clone())));
        } else if (is_template || is_meant(column)) && !(is_mask && as_bool(value).is_some()) {
            notes.push(Note::LeftOut(name.clone()));
        }
    }
    notes
}

/// The remarks in words, for a file whose rows have this shape.
pub(crate) fn describe(notes: &BTreeSet<Note>, shape: &Shape) -> Vec<String> {
    let list = |name: &dyn Fn(&Note) -> Option<&String>| {
        let names = notes.iter().filter_map(name);
        let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let left_out = list(&|note| match note {
        Note::LeftOut(name) => Some(name),
        _ => None,
    });
    let left_out = left_out.map(|names| match shape {
        Shape::Template(_, None) => format!(
            "data.template leaves out {names}; put {{…}} with a column's name into it, or name the \
             completion's column with data.completion_field"
        ),
        Shape::Template(..) => format!("data.template leaves out {names}"),
        _ => format!("{names} left out: nothing of it is read where the rows are {shape}"),
    });
    let roles = list(&|note| match note {
        Note::Role(name) => Some(name),
        _ => None,
    });
    let roles = roles.map(|names| {
        format!(
            "the role {names} is not a known one (system, user, assistant, tool): its messages \
             go to the chat template as they are, and are not learnt"
        )
    });
    let turns = list(&|note| match note {
        Note::ToolTurn(name) => Some(name),
        _ => None,
    });
    let turns = turns.map(|names| {
        format!(
            "{names}: calls of tools are learnt as the assistant's words, what tools answer goes to \
             the chat template as the role tool"
        )
    });
    let weights = list(&|note| match note {
        Note::Weight(name) => Some(name),
        _ => None,
    });
    let weights = weights.map(|names| {
        format!("{names} is neither 0 nor 1, and taken as 1: rows and messages are learnt or not")
    });
    let unsaid = list(&|note| match note {
        Note::Unsaid(name) => Some(name),
        _ => None,
    });
    let unsaid =
        unsaid.map(|names| format!("{names} left out: the chat template says nothing of it"));
    [left_out, roles, turns, weights, unsaid]
        .into_iter()
        .flatten()
        .collect()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => matches!(text.trim(), "" | "[]" | "{}"),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Reads a number, which in CSV is text.
pub(super) fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => text.trim().parse().ok(),
        value => value.as_f64(),
    }
}

/// Reads true or false, which in CSV is text.
pub(crate) fn as_bool(value: &Value) -> Option<bool> {
    match value {
        Value::String(text) => text.trim().to_lowercase().parse().ok(),
        value => value.as_bool(),
    }
}
