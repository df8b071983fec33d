//! Rows as questions: what a model is asked, and the answer that the row has.

use crate::config::DataConfig;
use crate::error::{DataError, Result, RowProblem};
use crate::format::{Chat, Content, Row, Rows, Shape};
use crate::source::part::Part;
use crate::source::{Finder, Source};
use crate::tokens::train_on::TrainOn;
use indicatif::ProgressBar;
use serde_json::Value;
use std::collections::BTreeSet;

/// The column of what an answer has to contain.
const CONTAINS: &str = "contains";

/// What a model is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A text to continue with the answer.
    Text(String),
    /// A conversation, up to where the assistant answers.
    Chat(Chat),
}

/// A row's question and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The row's number in its file, as in [`Row::number`].
    pub row: usize,
    /// The question.
    pub asked: Asked,
    /// The row's own answer: its completion, or the assistant's last message.
    pub expected: String,
    /// Texts of which the answer has to contain one, if the row's column `contains` has some.
    pub contains: Vec<String>,
}

/// The questions of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    /// The file that they come from.
    pub file: String,
    /// The shape of its rows.
    pub shape: Shape,
    /// The questions, in the order of the file.
    pub questions: Vec<Question>,
    /// The number of rows without a question, or without an answer in words.
    pub left_out: usize,
}

impl Questions {
    /// Reads the questions of a file, given by `spec` with an optional slice; with `rows`, only
    /// those with these numbers. A name that is not a file is looked up by `find`.
    ///
    /// # Errors
    /// If the file cannot be read, or a row does not have the file's shape; the error names the
    /// row.
    pub fn read(
        spec: &str,
        config: &DataConfig,
        find: Finder<'_>,
        rows: Option<&BTreeSet<usize>>,
    ) -> Result<Self> {
        let source = Source::open(spec, config.sample_by, find)?;
        let mut found = Self {
            file: source.name.clone(),
            ..Self::default()
        };
        let mut is_first = true;
        for record in Part::default().records(&source, &ProgressBar::hidden())? {
            let row = source.parse(record?)?;
            if is_first {
                found.shape = Shape::detect_for(Rows::Any, &row.columns, &source.name, config)?;
                is_first = false;
            }
            match rows {
                Some(rows) if rows.last().is_none_or(|last| row.number > *last) => break,
                Some(rows) if !rows.contains(&row.number) => continue,
                _ => {}
            }
            let place = source.place(row.number);
            let mut content = found.shape.read(&row, &place)?.answer();
            if let Content::Chat(chat) = &mut content {
                chat.prepare(TrainOn::Answers, &config.chat_template_kwargs);
            }
            match Question::new(&row, content, &place)? {
                Some(question) => found.questions.push(question),
                None => found.left_out += 1,
            }
        }
        Ok(found)
    }
}

impl Question {
    /// The question and answer of a row; `None` if it lacks either. `place` is the row's name in
    /// errors.
    fn new(row: &Row, content: Content, place: &str) -> Result<Option<Self>> {
        let (asked, expected) = match content {
            Content::Prompted { prompt, completion } => (Asked::Text(prompt), completion),
            Content::Chat(mut chat) => {
                let Some((given, answer)) = answer(&chat) else {
                    return Ok(None);
                };
                chat.messages.truncate(given);
                chat.given = given;
                (Asked::Chat(chat), answer)
            }
            _ => return Ok(None),
        };
        if expected.trim().is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            row: row.number,
            asked,
            expected,
            contains: contains(row, place)?,
        }))
    }

    /// The question in words: the prompt, or the last message before the answer.
    pub fn text(&self) -> &str {
        match &self.asked {
            Asked::Text(text) => text,
            Asked::Chat(chat) => {
                let last = chat.messages.last();
                last.and_then(|last| last["content"].as_str())
                    .unwrap_or_default()
            }
        }
    }
}

/// The last answer of a chat in words, and the number of messages before it.
fn answer(chat: &Chat) -> Option<(usize, String)> {
    let messages = chat.messages.iter().enumerate().skip(1);
    let said = |message: &Value| {
        let content = message["content"].as_str()?;
        (message["role"] == "assistant" && !content.trim().is_empty()).then(|| content.to_owned())
    };
    let mut answers = messages.filter_map(|(at, message)| Some((at, said(message)?)));
    answers.next_back()
}

/// The column `contains`: a text or a list of texts.
fn contains(row: &Row, place: &str) -> Result<Vec<String>> {
    let texts = match row.columns.get(CONTAINS) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(text)) => Some(vec![text.clone()]),
        Some(Value::Array(list)) => {
            let texts = list.iter().map(|text| text.as_str().map(str::to_owned));
            texts.collect()
        }
        Some(_) => None,
    };
    let texts = texts.filter(|texts| texts.iter().all(|text| !text.trim().is_empty()));
    texts.ok_or_else(|| DataError::Row {
        place: place.into(),
        problem: RowProblem::NoText {
            found: "something other than a text, or a list of texts,",
            column: CONTAINS.into(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message;
    use serde_json::json;

    fn read(lines: &[Value], slice: &str, rows: Option<&[usize]>) -> Result<Questions> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        std::fs::write(&path, text).unwrap();
        let spec = format!("{}{slice}", path.display());
        let rows: Option<BTreeSet<usize>> = rows.map(|rows| rows.iter().copied().collect());
        let config = DataConfig::new(&spec);
        Questions::read(&spec, &config, &|_| Ok(None), rows.as_ref())
    }

    #[test]
    fn a_chat_is_asked_up_to_its_last_answer() {
        let row = json!({"contains": ["four", "4"], "messages": [
            message("system", "Count."), message("user", "1+1?"), message("assistant", "Two."),
            message("user", "2+2?"), message("assistant", " Four."), message("user", "Thanks"),
        ]});
        let silent = json!({"messages": [message("user", "1+1?")]});
        let begins = json!({"messages": [message("assistant", "Hello")]});
        let found = read(&[row, silent, begins], "", None).unwrap();
        assert_eq!(found.left_out, 2);
        let [question] = &found.questions[..] else {
            panic!("{found:?}");
        };
        let Asked::Chat(chat) = &question.asked else {
            panic!("{question:?}");
        };
        assert_eq!((chat.messages.len(), question.text()), (4, "2+2?"));
        assert_eq!((&question.expected[..], question.row), (" Four.", 1));
        assert_eq!(question.contains, ["four", "4"]);
    }

    #[test]
    fn rows_are_chosen_by_a_slice_or_by_number() {
        let rows = [1, 2, 3, 4].map(|n| json!({"prompt": format!("{n}:"), "completion": "x"}));
        let texts = |slice, numbers| {
            let found = read(&rows, slice, numbers).unwrap();
            let texts = found.questions.iter().map(|q| q.text().to_owned());
            texts.collect::<Vec<_>>()
        };
        assert_eq!(texts("[1:3]", None), ["2:", "3:"]);
        assert_eq!(texts("", Some(&[1, 4])), ["1:", "4:"]);
    }

    #[test]
    fn what_has_to_be_contained_is_text() {
        for contains in [json!(5), json!(["a", 5]), json!([" "]), json!({})] {
            let row = json!({"prompt": "a", "completion": "b", "contains": contains});
            let error = read(&[row], "", None).unwrap_err().to_string();
            assert!(error.contains("a.jsonl line 1 has something"), "{error}");
            assert!(error.contains("in `contains`"), "{error}");
        }
    }
}
