//! Rows that are a text with a label.

use super::column_names::CHATS;
use super::shape::{detect as detect_text, detect_among};
use super::{Chat, Content, Shape, text, tokens};
use crate::config::DataConfig;
use crate::error::{DataError, Result, RowProblem, SettingProblem, WantedColumn};
use serde_json::{Map, Value};

/// Columns that hold the label of a text, the most common first.
const LABELS: [&str; 5] = ["label", "labels", "class", "category", "target"];
/// Columns that hold a single text.
const TEXTS: [&str; 5] = ["text", "sentence", "review", "content", "query"];
/// Pairs of columns whose two texts are classified together.
const PAIRS: [(&str, &str); 6] = [
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("text1", "text2"),
    ("text_a", "text_b"),
];

/// Reads labelled rows; a row without a label is read too.
pub(super) fn detect(first: &Map<String, Value>, file: &str, config: &DataConfig) -> Result<Shape> {
    let has = |column: &str| first.contains_key(column);
    let label = label_column(first, &LABELS, file, config)?;
    let is_text = |column: &&str| first.get(*column).is_some_and(Value::is_string);
    let pair = PAIRS.into_iter().find(|(a, b)| has(a) && has(b));
    let said = config.text_field.is_some() || config.template.is_some();
    let texts = if said {
        detect_text(first, file, config)?
    } else if has("input_ids") {
        Shape::Tokenized
    } else if let Some((first, second)) = pair {
        Shape::TwoTexts(first.into(), second.into())
    } else if let Some(column) = TEXTS.into_iter().find(is_text) {
        Shape::Text(column.into())
    } else if let Some(column) = CHATS.into_iter().find(|column| has(column)) {
        Shape::Messages(column.into())
    } else {
        // Its error says what is wrong with the columns.
        let known = "`text` (or `sentence`, `review`, `content`, `query`), two texts such as `sentence1` \
                     and `sentence2`, `messages`, `input_ids`";
        detect_among(first, file, config, known, "text")?
    };
    // A template may have filled in a completion, which is not a label.
    let texts = match texts {
        Shape::Template(template, _) => Shape::Template(template, None),
        texts => texts,
    };
    Ok(Shape::Labelled(Box::new(texts), label))
}

/// The label's column: the named one, or the first known one.
pub(super) fn label_column(
    first: &Map<String, Value>,
    usual: &[&str],
    file: &str,
    config: &DataConfig,
) -> Result<Option<String>> {
    match &config.label_field {
        Some(column) if first.contains_key(column) => Ok(Some(column.clone())),
        Some(column) => {
            let problem = SettingProblem::NoColumn {
                wanted: WantedColumn::Named(column.clone()),
                file: file.into(),
                columns: first.keys().cloned().collect(),
            };
            Err(DataError::setting("label_field", problem))
        }
        None => {
            let mut usual = usual.iter();
            let found = usual.find(|column| first.contains_key(**column));
            Ok(found.map(ToString::to_string))
        }
    }
}

/// Reads a list, which a CSV cell may hold as JSON; any other value is returned as it is.
pub(super) fn with_lists(value: &Value) -> Value {
    let text = value.as_str().filter(|text| text.starts_with('['));
    let list = text.and_then(|text| serde_json::from_str(text).ok());
    let list: Option<Vec<Value>> = list;
    list.map_or_else(|| value.clone(), Value::Array)
}

/// A row with its label; `null` if it has none.
pub(super) fn labelled(
    row: &Map<String, Value>,
    texts: &Shape,
    column: Option<&str>,
) -> std::result::Result<Content, RowProblem> {
    let label = column.and_then(|column| row.get(column));
    let content = match texts {
        Shape::Tokenized => {
            // There, the labels would be those of tokens.
            let mut row = row.clone();
            row.remove("labels");
            tokens::tokens(&row)?
        }
        Shape::Messages(column) => Content::Chat(Chat::new(row, &[column], 0)?),
        texts => texts.content(row)?,
    };
    Ok(Content::Labelled {
        content: Box::new(content),
        label: label.map(with_lists).unwrap_or_default(),
    })
}

/// Two texts that are classified together.
pub(super) fn two(
    row: &Map<String, Value>,
    first: &str,
    second: &str,
) -> std::result::Result<Content, RowProblem> {
    Ok(Content::TwoTexts(text(row, first)?, text(row, second)?))
}
