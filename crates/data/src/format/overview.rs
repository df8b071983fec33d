//! An overview of a data file, made without a tokenizer.

use crate::config::DataConfig;
use crate::error::{DataError, EmptyProblem, Result};
use crate::format::{Chat, Content, Row, Rows, Shape};
use crate::source::part::Part;
use crate::source::{Finder, Source};
use crate::tokens::train_on::TrainOn;
use indicatif::ProgressBar;
use serde_json::Value;

/// An overview of a data file, without tokens.
#[derive(Clone, Debug)]
pub struct Overview {
    /// The file.
    pub file: String,
    /// The shape of its rows.
    pub shape: Shape,
    /// The columns of its first row.
    pub columns: Vec<String>,
    /// The number of characters in each row's content; for a chat, in all of its messages.
    pub lengths: Vec<usize>,
    /// The first row, the middle one and the last, with their numbers.
    pub samples: Vec<(usize, Vec<Piece>)>,
}

impl Overview {
    /// Reads a file. A name that is not a file is looked up by `find`. Returns `None` if the rows
    /// are tokens already.
    ///
    /// # Errors
    /// See [`DataError`]: any problem, with the file, the row and the value.
    pub fn read(spec: &str, config: &DataConfig, find: Finder<'_>) -> Result<Option<Self>> {
        let mut source = Source::open(spec, config.sample_by, find)?;
        let schema = source.schema()?;
        if let Some(columns) = &schema {
            source.read_only(&Shape::detect_for(
                Rows::Any,
                columns,
                &source.name,
                config,
            )?);
        }
        let bar = ProgressBar::hidden();
        let rows = || -> Result<_> {
            let records = Part::default().records(&source, &bar)?;
            Ok(records.map(|record| source.parse(record?)))
        };
        let Some(first) = rows()?.next().transpose()? else {
            return Err(DataError::Empty {
                file: source.name.clone(),
                problem: EmptyProblem::File,
            });
        };
        let shape = Shape::detect_for(Rows::Any, &first.columns, &source.name, config)?;
        if shape == Shape::Tokenized {
            return Ok(None);
        }
        let content = |row: &Row| shape.read(row, &source.place(row.number));
        let mut lengths = Vec::new();
        for row in rows()? {
            lengths.push(characters(&content(&row?)?));
        }
        // The rows are read again: which ones to show is known only when all have been counted.
        let last = lengths.len() - 1;
        let shown = [0, last / 2, last];
        let mut samples = Vec::new();
        for (index, row) in rows()?.enumerate() {
            if shown.contains(&index) {
                let row = row?;
                samples.push((row.number, pieces(content(&row)?, config)));
            }
        }
        Ok(Some(Self {
            columns: schema.unwrap_or(first.columns).keys().cloned().collect(),
            file: source.name.clone(),
            shape,
            lengths,
            samples,
        }))
    }
}

/// A piece of text, and whether it is learnt.
pub type Piece = (String, bool);

/// A row as text. Before each message of a chat stands its role.
fn pieces(mut content: Content, config: &DataConfig) -> Vec<Piece> {
    let all = config.learnt() == TrainOn::All;
    for chat in content.chats_mut() {
        chat.prepare(config.learnt(), &config.chat_template_kwargs);
    }
    shown(&content, all)
}

fn shown(content: &Content, all: bool) -> Vec<Piece> {
    let label = |text: &str| (text.to_owned(), false);
    match content {
        Content::Text(text) => vec![(text.clone(), true)],
        Content::Prompted { prompt, completion } => {
            vec![(prompt.clone(), all), (completion.clone(), true)]
        }
        Content::Judged { answer, is_good } => {
            let judgement = if *is_good { "good: " } else { "bad: " };
            [vec![label(judgement)], shown(answer, all)].concat()
        }
        Content::Preference {
            chosen, rejected, ..
        } => [
            vec![label("chosen: ")],
            shown(chosen, all),
            vec![label("\nrejected: ")],
            shown(rejected, all),
        ]
        .concat(),
        Content::Chat(chat) => {
            let messages = chat.messages.iter().enumerate();
            let pieces = messages.flat_map(|(index, message)| {
                let (role, text) = said(message);
                let learnt = all || (index >= chat.given && Chat::is_learnt(message));
                let label = if index == 0 { "" } else { "\n" };
                [(format!("{label}{role}: "), false), (text, learnt)]
            });
            pieces.collect()
        }
        Content::Tagged { words, .. } => {
            let words = words.iter().map(|(word, _)| word.as_str());
            vec![(words.collect::<Vec<_>>().join(" "), all)]
        }
        Content::TwoTexts(first, second) => vec![(format!("{first}\n{second}"), all)],
        Content::Texts { texts, .. } => vec![(texts.join("\n"), all)],
        Content::Labelled { content, .. } => shown(content, all),
        Content::Tokens { .. } => Vec::new(),
    }
}

fn characters(content: &Content) -> usize {
    let count = |text: &str| text.chars().count();
    match content {
        Content::Text(text) => count(text),
        Content::Prompted { prompt, completion } => count(prompt) + count(completion),
        Content::Chat(chat) => chat.messages.iter().map(|m| count(&said(m).1)).sum(),
        Content::Judged { answer, .. } => characters(answer),
        Content::Preference {
            chosen, rejected, ..
        } => characters(chosen) + characters(rejected),
        Content::Tagged { words, .. } => words.iter().map(|(word, _)| count(word)).sum(),
        Content::TwoTexts(first, second) => count(first) + count(second),
        Content::Texts { texts, .. } => texts.iter().map(|text| count(text)).sum(),
        Content::Labelled { content, .. } => characters(content),
        Content::Tokens { .. } => 0,
    }
}

/// The role and text of a message. What is not text, such as a tool call, is written as JSON.
fn said(message: &Value) -> (&str, String) {
    let role = message.get("role").and_then(Value::as_str);
    let text = match message.get("content") {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    };
    (role.unwrap_or_default(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &str) -> Result<Option<Overview>> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, content).unwrap();
        let spec = path.to_str().unwrap();
        Overview::read(spec, &DataConfig::new(spec), &|_| Ok(None))
    }

    #[test]
    fn rows_of_text_are_counted_in_characters() {
        let rows = "{\"prompt\": \"é\", \"completion\": \"ab\"}\n".repeat(3);
        let seen = read(&rows).unwrap().unwrap();
        assert_eq!(seen.columns, ["prompt", "completion"]);
        assert_eq!(seen.lengths, [3, 3, 3]);
        let numbers: Vec<usize> = seen.samples.iter().map(|(row, _)| *row).collect();
        assert_eq!(numbers, [1, 2, 3]);
        assert_eq!(
            seen.samples[0].1,
            [("é".into(), false), ("ab".into(), true)]
        );

        let message = |role, content| format!("{{\"role\": \"{role}\", \"content\": {content}}}");
        let (user, answer) = (
            message("user", "\"Hi\""),
            message("assistant", "null, \"tool_calls\": [{}]"),
        );
        let seen = read(&format!("{{\"messages\": [{user}, {answer}]}}"))
            .unwrap()
            .unwrap();
        assert_eq!(seen.lengths, [2]);
        let text: String = seen.samples[0]
            .1
            .iter()
            .map(|(text, _)| text.as_str())
            .collect();
        assert_eq!(text, "user: Hi\nassistant: ");
    }

    #[test]
    fn tokens_have_no_characters_and_bad_rows_are_errors() {
        assert!(read("{\"input_ids\": [1, 2]}").unwrap().is_none());
        let error = read("{\"text\": \"a\"}\n{\"text\": 3}")
            .unwrap_err()
            .to_string();
        assert!(error.contains("a.jsonl line 2 has a number"), "{error}");
        assert!(read("").unwrap_err().to_string().contains("empty"));
    }
}
