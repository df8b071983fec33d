//! Rows with two answers, a better and a worse one, and rows with one judged answer.

use super::column_names::{LABELS, MARGIN, PREFERENCES, PROMPTS};
use super::shape::{completed, detect as detect_text, unread_prompt};
use super::{Chat, Content, Shape, as_flag};
use crate::config::DataConfig;
use crate::error::{DataError, FileProblem, Result, RowProblem};
use serde_json::{Map, Value};
use std::fmt;

/// The kind of rows that is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rows {
    /// Texts, prompts with completions, chats or tokens: one answer each.
    #[default]
    Texts,
    /// Two answers to one prompt.
    Pairs,
    /// Judged answers. A row with a pair counts as two of them.
    Judged,
    /// Texts, with or without a label.
    Labelled,
    /// Words with a tag each, or without tags.
    Tagged,
    /// Texts to embed: in these columns, or in known ones if none is named.
    Embedded(Vec<String>),
    /// Pairs if the rows are pairs, texts otherwise.
    Any,
}

/// Both answers in one list, the better one first, as LLaMA-Factory has them.
const LISTS: [&str; 2] = ["output", "answer"];

pub(super) fn detect(
    rows: Rows,
    first: &Map<String, Value>,
    file: &str,
    config: &DataConfig,
) -> Result<Shape> {
    match rows {
        Rows::Texts => return detect_text(first, file, config),
        Rows::Labelled => return super::labelled::detect(first, file, config),
        Rows::Tagged => return super::tagged::detect(first, file, config),
        Rows::Embedded(named) => return super::texts::detect(first, file, config, &named),
        Rows::Pairs | Rows::Judged | Rows::Any => {}
    }
    if let Some(shape) = pair_shape(first, file, config)? {
        return Ok(shape);
    }
    let columns = || first.keys().cloned().collect();
    match rows {
        Rows::Pairs => Err(DataError::file(file, FileProblem::NoPairs(columns()))),
        Rows::Judged => {
            let label = LABELS.into_iter().find(|label| first.contains_key(*label));
            let label = label.ok_or_else(|| DataError::file(file, FileProblem::NoLabel(columns())));
            let answer = detect_text(first, file, config)?;
            Ok(Shape::Judged(Box::new(answer), label?.into()))
        }
        _ => detect_text(first, file, config),
    }
}

fn has_columns(first: &Map<String, Value>) -> bool {
    PREFERENCES
        .into_iter()
        .all(|column| first.contains_key(column))
}

/// The shape of rows with two answers, if they are such.
fn pair_shape(
    first: &Map<String, Value>,
    file: &str,
    config: &DataConfig,
) -> Result<Option<Shape>> {
    let columns = if has_columns(first) {
        PREFERENCES.map(String::from)
    } else {
        let is_pair = |column: &&str| {
            let list = first.get(*column).and_then(Value::as_array);
            list.is_some_and(|list| list.len() == 2 && list.iter().all(Value::is_string))
        };
        match LISTS.into_iter().find(is_pair) {
            Some(column) => [0, 1].map(|index| format!("{column}[{index}]")),
            None => return Ok(None),
        }
    };
    let shapes = columns.map(|column| side(first, file, config, column));
    let [chosen, rejected] = shapes;
    Ok(Some(Shape::Preference(
        Box::new(chosen?),
        Box::new(rejected?),
    )))
}

/// How a row would be read if it had only one of the answers.
fn side(
    first: &Map<String, Value>,
    file: &str,
    config: &DataConfig,
    column: String,
) -> Result<Shape> {
    if config.template.is_some() {
        let without = DataConfig {
            completion_field: None,
            text_field: None,
            ..config.clone()
        };
        // What it leaves out is checked, and the completion is the answer.
        if let Shape::Template(template, _) = detect_text(first, file, &without)? {
            return Ok(Shape::Template(template, Some(column)));
        }
    }
    if let Some(shape) = completed(first, &column) {
        return Ok(shape);
    }
    if let Some(prompt) = prompt_beside(first, &column) {
        return Err(unread_prompt(first, file, prompt));
    }
    let is_list = value(first, &column).is_some_and(|value| !value.is_string());
    Ok(if is_list {
        Shape::Messages(column)
    } else {
        Shape::Text(column)
    })
}

/// A column that looks like the prompt of an answer that does not contain its prompt.
fn prompt_beside<'a>(first: &'a Map<String, Value>, column: &str) -> Option<&'a str> {
    let answer = value(first, column)?;
    let holds = |prompt: &str| match answer {
        // For a Parquet file, only the kinds of values are known here.
        Value::String(text) => !prompt.is_empty() && text.contains(prompt),
        Value::Array(list) if list.is_empty() => true,
        _ => Chat::new(first, &[column], 0).is_ok_and(|chat| asked(&chat).is_some()),
    };
    // `source` usually says where a row comes from.
    let names = PROMPTS.iter().filter(|name| **name != "source");
    let mut columns = names.filter_map(|name| {
        let mut columns = first.iter();
        let (column, value) = columns.find(|(column, _)| column.eq_ignore_ascii_case(name))?;
        Some((column.as_str(), value.as_str()?))
    });
    columns
        .find(|(_, prompt)| !holds(prompt))
        .map(|(column, _)| column)
}

/// The user's turn that begins a conversation.
fn asked(chat: &Chat) -> Option<&Value> {
    let mut turns = chat.messages.iter().filter(|m| m["role"] != "system");
    turns.next().filter(|turn| turn["role"] == "user")
}

/// How to read an answer that is a whole conversation: with a prompt in a column of its own, or by
/// itself.
fn whole(row: &Map<String, Value>, answer: &Shape) -> Option<Shape> {
    let Shape::ChatCompletion(prompt, column) = answer else {
        return None;
    };
    let chat = Chat::new(row, &[column], 0).ok()?;
    let turn = asked(&chat)?;
    let is_same = match Chat::new(row, &[prompt], 0) {
        Ok(prompt) => asked(&prompt) == Some(turn),
        Err(_) => true,
    };
    is_same.then(|| Shape::Messages(column.clone()))
}

/// The value of a column, or of an element of a list in it: `output[0]`.
pub(super) fn value<'a>(row: &'a Map<String, Value>, column: &str) -> Option<&'a Value> {
    row.get(column).or_else(|| {
        let (name, index) = column.strip_suffix(']')?.split_once('[')?;
        row.get(name)?.get(index.parse::<usize>().ok()?)
    })
}

/// The column that a list element belongs to.
pub(super) fn column_of(name: &str) -> &str {
    name.split_once('[').map_or(name, |(column, _)| column)
}

pub(super) fn describe(
    chosen: &Shape,
    rejected: &Shape,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    match (chosen, rejected) {
        (Shape::Text(chosen), Shape::Text(rejected)) => {
            write!(f, "{chosen}/{rejected}, the prompt in both")
        }
        (Shape::Messages(chosen), Shape::Messages(rejected)) => {
            write!(f, "{chosen}/{rejected} of messages, the prompt in both")
        }
        (Shape::PromptCompletion(_), Shape::PromptCompletion(rejected)) => {
            write!(f, "{chosen}/{rejected}")
        }
        (Shape::Instruction(_), Shape::Instruction(rejected)) => write!(f, "{chosen}/{rejected}"),
        (Shape::ChatCompletion(prompt, chosen), Shape::ChatCompletion(_, rejected)) => {
            write!(f, "{prompt}/{chosen}/{rejected} of messages")
        }
        (Shape::Template(_, Some(chosen)), Shape::Template(_, Some(rejected))) => {
            write!(f, "template, answers in `{chosen}` and `{rejected}`")
        }
        _ => write!(f, "{chosen} and {rejected}"),
    }
}

/// Reads a row with two answers.
pub(super) fn pair(
    row: &Map<String, Value>,
    chosen: &Shape,
    rejected: &Shape,
) -> std::result::Result<Content, RowProblem> {
    let alone = whole(row, chosen).zip(whole(row, rejected));
    let (chosen, rejected) = alone
        .as_ref()
        .map_or((chosen, rejected), |(chosen, rejected)| (chosen, rejected));
    let (chosen, rejected) = match (chosen.content(row)?, rejected.content(row)?) {
        (Content::Text(chosen), Content::Text(rejected)) => apart(&chosen, &rejected),
        (Content::Chat(chosen), Content::Chat(rejected)) => chats_apart(chosen, rejected),
        pair => pair,
    };
    let margin = match row.get(MARGIN) {
        None | Some(Value::Null) => None,
        Some(Value::Number(margin)) => Some(margin.clone()),
        Some(other) => {
            return Err(RowProblem::NoNumber {
                column: MARGIN.into(),
                value: other.to_string(),
            });
        }
    };
    Ok(Content::Preference {
        chosen: Box::new(chosen),
        rejected: Box::new(rejected),
        margin,
    })
}

/// Splits two texts that both contain the prompt: what they have in common at the start is the
/// prompt, as in TRL's `extract_prompt`.
fn apart(chosen: &str, rejected: &str) -> (Content, Content) {
    let pairs = || chosen.char_indices().zip(rejected.chars());
    let differ = pairs().position(|((_, a), b)| a != b);
    let shared = match differ {
        // A space belongs to the word after it.
        Some(at) if at > 0 && pairs().nth(at - 1).is_some_and(|((_, a), _)| a == ' ') => at - 1,
        Some(at) => at,
        // One text is the beginning of the other.
        None => pairs().count().saturating_sub(1),
    };
    let split = |text: &str| {
        let at = text
            .char_indices()
            .nth(shared)
            .map_or(text.len(), |(at, _)| at);
        Content::Prompted {
            prompt: text[..at].into(),
            completion: text[at..].into(),
        }
    };
    (split(chosen), split(rejected))
}

/// Splits two conversations: what they have in common at the start is the prompt, unless a column
/// holds the prompt.
fn chats_apart(mut chosen: Chat, mut rejected: Chat) -> (Content, Content) {
    if chosen.given == 0 {
        let pairs = chosen.messages.iter().zip(&rejected.messages);
        let alike = pairs.take_while(|(a, b)| a == b).count();
        let shortest = chosen.messages.len().min(rejected.messages.len());
        let shared = alike.min(shortest.saturating_sub(1));
        (chosen.given, rejected.given) = (shared, shared);
    }
    (Content::Chat(chosen), Content::Chat(rejected))
}

/// Reads a row with an answer and its judgement.
pub(super) fn judged(
    row: &Map<String, Value>,
    answer: &Shape,
    column: &str,
) -> std::result::Result<Content, RowProblem> {
    let is_good = row.get(column).and_then(as_flag);
    let is_good = is_good.ok_or_else(|| RowProblem::NoJudgement {
        value: row.get(column).unwrap_or(&Value::Null).to_string(),
        column: column.into(),
    })?;
    let mut content = answer.content(row)?;
    if let Content::Chat(chat) = &mut content
        && chat.given == 0
    {
        // The judgement is about its last message.
        chat.given = chat.messages.len().saturating_sub(1);
    }
    Ok(Content::Judged {
        answer: Box::new(content),
        is_good,
    })
}
