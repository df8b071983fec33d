//! The shape of a file's rows, told from its columns, and what a row of it holds.

use crate::chat::Chat;
use crate::config::DataConfig;
use crate::error::{DataError, Result};
use crate::source::Row;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// The shape of a file's rows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Shape {
    /// A column of text.
    Text(String),
    /// `prompt` and `completion`.
    PromptCompletion,
    /// `instruction`, `input` (which may be absent or empty) and `output`.
    Instruction,
    /// A template, and the column of the completion if there is one.
    Template(String, Option<String>),
    /// A chat: `messages` (or ShareGPT's `conversations`), with optional `tools`.
    Messages(String),
    /// `prompt` and `completion`, each a list of messages.
    ChatCompletion,
    #[default]
    /// `input_ids`, with optional `labels` and `attention_mask`: used as they are.
    Tokenized,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(column) => write!(f, "text (column `{column}`)"),
            Self::PromptCompletion => write!(f, "prompt/completion"),
            Self::Instruction => write!(f, "instruction/input/output"),
            Self::Template(_, Some(column)) => write!(f, "template, completion in `{column}`"),
            Self::Template(_, None) => write!(f, "template"),
            Self::Messages(column) => write!(f, "chat (column `{column}`)"),
            Self::ChatCompletion => write!(f, "prompt/completion of messages"),
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
    /// Tokens, not yet checked against a vocabulary.
    Tokens {
        /// The token ids.
        input_ids: Vec<i64>,
        /// What is to be learnt at each; -100 is nothing.
        labels: Vec<i64>,
    },
}

impl Shape {
    /// Tells the shape from the columns of the first row of `file` and from what the user said.
    ///
    /// # Errors
    /// Columns that are no shape, or a setting that names a column that is not there.
    pub fn detect(first: &Map<String, Value>, file: &str, config: &DataConfig) -> Result<Self> {
        let has = |column: &str| first.contains_key(column);
        let columns = || first.keys().cloned().collect::<Vec<_>>();
        let missing = |key, what: String| DataError::Setting {
            key,
            problem: format!(
                "{what}, but {file} has the columns {}",
                columns().join(", ")
            ),
        };

        if let Some(column) = &config.text_field {
            return match has(column) {
                true => Ok(Self::Text(column.clone())),
                false => Err(missing("text_field", format!("is {column:?}"))),
            };
        }
        if let Some(template) = &config.template {
            if let Some(name) = placeholders(template).find(|name| !has(name)) {
                return Err(missing("template", format!("asks for {{{name}}}")));
            }
            let completion = ["completion", "output"].into_iter().find(|c| has(c));
            return Ok(Self::Template(template.clone(), completion.map(Into::into)));
        }
        if has("input_ids") {
            Ok(Self::Tokenized)
        } else if let Some(chat) = ["messages", "conversations"].into_iter().find(|c| has(c)) {
            Ok(Self::Messages(chat.into()))
        } else if has("prompt") && has("completion") {
            Ok(match first["prompt"].is_array() {
                true => Self::ChatCompletion,
                false => Self::PromptCompletion,
            })
        } else if has("instruction") && has("output") {
            Ok(Self::Instruction)
        } else if has("text") {
            Ok(Self::Text("text".into()))
        } else {
            Err(DataError::UnknownShape {
                file: file.into(),
                columns: columns(),
            })
        }
    }

    /// What a row holds, `place` being how errors call the row.
    ///
    /// # Errors
    /// A column that is missing from this row or holds something else.
    pub fn read(&self, row: &Row, place: &str) -> Result<Content> {
        let columns = &row.columns;
        let bad = |problem| DataError::Row {
            place: place.into(),
            problem,
        };
        let text = |column: &str| text(columns, column).map_err(bad);
        Ok(match self {
            Self::Text(column) => Content::Text(text(column)?),
            Self::PromptCompletion => Content::Prompted {
                prompt: text("prompt")?,
                completion: text("completion")?,
            },
            Self::Instruction => {
                let input = match columns.get("input") {
                    None | Some(Value::Null) => String::new(),
                    Some(_) => text("input")?,
                };
                let prompt = instruction_prompt(&text("instruction")?, &input);
                Content::Prompted {
                    prompt,
                    completion: text("output")?,
                }
            }
            Self::Template(template, completion) => {
                let prompt = fill(template, columns).map_err(bad)?;
                match completion {
                    Some(column) => Content::Prompted {
                        prompt,
                        completion: text(column)?,
                    },
                    None => Content::Text(prompt),
                }
            }
            Self::Messages(column) => Content::Chat(Chat::new(columns, &[column], 0).map_err(bad)?),
            Self::ChatCompletion => {
                Content::Chat(Chat::new(columns, &["prompt", "completion"], 1).map_err(bad)?)
            }
            Self::Tokenized => tokens(columns).map_err(bad)?,
        })
    }
}

/// The prompt of an instruction row: the sections of the Alpaca data set, without a preamble.
pub fn instruction_prompt(instruction: &str, input: &str) -> String {
    let mut prompt = format!("### Instruction:\n{instruction}\n\n");
    if !input.trim().is_empty() {
        prompt += &format!("### Input:\n{input}\n\n");
    }
    prompt + "### Response:\n"
}

fn text(columns: &Map<String, Value>, column: &str) -> std::result::Result<String, String> {
    match columns.get(column) {
        Some(Value::String(text)) => Ok(text.clone()),
        other => Err(format!(
            "has {} in `{column}`, where text is wanted",
            kind(other)
        )),
    }
}

/// A number, true or false is as good as text inside a template.
fn scalar(columns: &Map<String, Value>, column: &str) -> std::result::Result<String, String> {
    match columns.get(column) {
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
        _ => text(columns, column),
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
        Some(Value::Object(_)) => "an object",
    }
}

/// The pieces of a template: text before a placeholder, and the placeholder's name.
/// Only `{name}` with a name of letters, digits, `_` and `-` is one; other braces are text.
fn pieces(template: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let mut rest = template;
    let mut from = 0;
    std::iter::from_fn(move || {
        while let Some(open) = rest[from..].find('{').map(|at| from + at) {
            let name_end = rest[open + 1..]
                .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-'))
                .map(|at| open + 1 + at)
                .filter(|&end| end > open + 1 && rest[end..].starts_with('}'));
            if let Some(end) = name_end {
                let piece = (&rest[..open], Some(&rest[open + 1..end]));
                (rest, from) = (&rest[end + 1..], 0);
                return Some(piece);
            }
            from = open + 1;
        }
        let tail = std::mem::take(&mut rest);
        from = 0;
        (!tail.is_empty()).then_some((tail, None))
    })
}

fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    pieces(template).filter_map(|(_, name)| name)
}

fn fill(template: &str, columns: &Map<String, Value>) -> std::result::Result<String, String> {
    let mut filled = String::new();
    for (text, name) in pieces(template) {
        filled += text;
        if let Some(name) = name {
            filled += &scalar(columns, name)?;
        }
    }
    Ok(filled)
}

fn tokens(columns: &Map<String, Value>) -> std::result::Result<Content, String> {
    let list = |column: &str| match columns.get(column) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_array()
            .and_then(|list| list.iter().map(Value::as_i64).collect::<Option<Vec<_>>>())
            .map(Some)
            .ok_or_else(|| format!("has something else than a list of integers in `{column}`")),
    };
    let input_ids = list("input_ids")?.ok_or("has no `input_ids`")?;
    let same_length = |column: &str, values: Vec<i64>| match values.len() == input_ids.len() {
        true => Ok(values),
        false => Err(format!(
            "has {} `input_ids` and {} `{column}`",
            input_ids.len(),
            values.len()
        )),
    };
    let labels = match list("labels")? {
        Some(labels) => same_length("labels", labels)?,
        None => input_ids.clone(),
    };
    let Some(mask) = list("attention_mask")? else {
        return Ok(Content::Tokens { input_ids, labels });
    };
    // What the mask leaves out is padding; batches are padded anew.
    let mask = same_length("attention_mask", mask)?;
    let kept = |values: Vec<i64>| {
        let pairs = values.into_iter().zip(&mask);
        pairs
            .filter(|(_, mask)| **mask != 0)
            .map(|(value, _)| value)
            .collect()
    };
    Ok(Content::Tokens {
        labels: kept(labels),
        input_ids: kept(input_ids),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn detect(value: Value, config: &DataConfig) -> Result<(Shape, Content)> {
        let columns = value.as_object().cloned().unwrap();
        let shape = Shape::detect(&columns, "a.jsonl", config)?;
        let row = Row { number: 7, columns };
        let content = shape.read(&row, "a.jsonl line 7")?;
        Ok((shape, content))
    }

    fn plain(value: Value) -> Result<(Shape, Content)> {
        detect(value, &DataConfig::new("a.jsonl"))
    }

    fn prompted(prompt: &str, completion: &str) -> Content {
        Content::Prompted {
            prompt: prompt.into(),
            completion: completion.into(),
        }
    }

    #[test]
    fn shapes_follow_from_the_columns() {
        let (shape, content) = plain(json!({"label": 1, "text": "good"})).unwrap();
        assert_eq!(shape.to_string(), "text (column `text`)");
        assert_eq!(content, Content::Text("good".into()));

        let (_, content) = plain(json!({"prompt": "2+2=", "completion": "4"})).unwrap();
        assert_eq!(content, prompted("2+2=", "4"));

        let row = json!({"instruction": "Add.", "input": "2, 2", "output": "4"});
        assert_eq!(
            plain(row).unwrap().1,
            prompted(
                "### Instruction:\nAdd.\n\n### Input:\n2, 2\n\n### Response:\n",
                "4"
            )
        );
        let row = json!({"instruction": "Greet.", "input": "", "output": "Hi."});
        let expected = prompted("### Instruction:\nGreet.\n\n### Response:\n", "Hi.");
        assert_eq!(plain(row).unwrap().1, expected);
        assert_eq!(
            plain(json!({"instruction": "Greet.", "output": "Hi."}))
                .unwrap()
                .1,
            expected
        );

        let row = json!({"input_ids": [1, 2, 3], "attention_mask": [1, 1, 0]});
        let expected = Content::Tokens {
            input_ids: vec![1, 2],
            labels: vec![1, 2],
        };
        assert_eq!(plain(row).unwrap(), (Shape::Tokenized, expected));
        let row = json!({"input_ids": [1, 2], "labels": [-100, 2]});
        let expected = Content::Tokens {
            input_ids: vec![1, 2],
            labels: vec![-100, 2],
        };
        assert_eq!(plain(row).unwrap().1, expected);
    }

    #[test]
    fn chats_come_in_three_shapes() {
        let user = json!({"role": "user", "content": "Hi"});
        let assistant = json!({"role": "assistant", "content": "Hello"});
        let chat = |given| {
            let messages = vec![user.clone(), assistant.clone()];
            let extras = Map::new();
            Content::Chat(Chat {
                messages,
                extras,
                given,
            })
        };
        let (shape, content) =
            plain(json!({"messages": [user, assistant], "tools": null})).unwrap();
        assert_eq!(shape.to_string(), "chat (column `messages`)");
        assert_eq!(content, chat(0));
        let row = json!({"prompt": [user], "completion": [assistant]});
        assert_eq!(plain(row).unwrap(), (Shape::ChatCompletion, chat(1)));
        let row = json!([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]);
        assert_eq!(plain(json!({"conversations": row})).unwrap().1, chat(0));
    }

    #[test]
    fn the_user_may_name_the_text_or_write_a_template() {
        let row = json!({"review": "fine {x}", "stars": 4, "output": "positive"});
        let mut config = DataConfig::new("a.jsonl");
        config.text_field = Some("review".into());
        assert_eq!(
            detect(row.clone(), &config).unwrap().1,
            Content::Text("fine {x}".into())
        );
        config.text_field = Some("body".into());
        assert_eq!(
            detect(row.clone(), &config).unwrap_err().to_string(),
            "data.text_field is \"body\", but a.jsonl has the columns review, stars, output"
        );

        config.text_field = None;
        config.template = Some("{} {review} has {stars} stars:\n{ }{".into());
        let (_, content) = detect(row.clone(), &config).unwrap();
        assert_eq!(
            content,
            prompted("{} fine {x} has 4 stars:\n{ }{", "positive")
        );
        config.template = Some("{revue}".into());
        let error = detect(row, &config).unwrap_err().to_string();
        assert!(
            error.starts_with("data.template asks for {revue}, but a.jsonl has"),
            "{error}"
        );
    }

    #[test]
    fn rows_that_do_not_fit_are_errors() {
        let error = |row| plain(row).unwrap_err().to_string();
        let message = error(json!({"review": "x", "stars": 4}));
        assert!(
            message.contains("[\"review\", \"stars\"]") && message.contains("text_field"),
            "{message}"
        );
        assert_eq!(
            error(json!({"messages": "hello"})),
            "a.jsonl line 7 has no list of messages in `messages`"
        );
        assert_eq!(
            error(json!({"messages": [{"content": "hello"}]})),
            "a.jsonl line 7 has a message without a `role` in `messages`: {\"content\":\"hello\"}"
        );
        assert_eq!(
            error(json!({"text": 3})),
            "a.jsonl line 7 has a number in `text`, where text is wanted"
        );
        assert_eq!(
            error(json!({"instruction": "x", "output": null})),
            "a.jsonl line 7 has null in `output`, where text is wanted"
        );
        assert_eq!(
            error(json!({"input_ids": [1, "2"]})),
            "a.jsonl line 7 has something else than a list of integers in `input_ids`"
        );
        assert_eq!(
            error(json!({"input_ids": [1, 2], "labels": [1]})),
            "a.jsonl line 7 has 2 `input_ids` and 1 `labels`"
        );
    }
}
