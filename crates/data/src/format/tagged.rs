//! Rows of words, each with a tag.

use super::labelled::{label_column, with_lists};
use super::shape::detect_among;
use super::{Content, Shape, text};
use crate::config::DataConfig;
use crate::error::{Result, RowProblem};
use serde_json::{Map, Value};

/// Columns that hold words.
const WORDS: [&str; 2] = ["tokens", "words"];
/// Columns that hold their tags.
const TAGS: [&str; 5] = ["ner_tags", "tags", "labels", "pos_tags", "ner"];

/// Reads rows of tagged words; rows without tags, and texts, are read too.
pub(super) fn detect(first: &Map<String, Value>, file: &str, config: &DataConfig) -> Result<Shape> {
    let has = |column: &&str| first.contains_key(*column);
    if has(&"input_ids") {
        return Ok(Shape::Tokenized);
    }
    let tags = label_column(first, &TAGS, file, config)?;
    let is_said = config.text_field.is_some();
    if let Some(words) = WORDS.into_iter().find(has).filter(|_| !is_said) {
        return Ok(Shape::Tagged(words.into(), tags));
    }
    let known = "`tokens` or `words` (lists of words), `text`, `input_ids`";
    match detect_among(first, file, config, known, "words")? {
        Shape::Text(column) if is_said => Ok(Shape::Tagged(column, tags)),
        Shape::Text(column) => Ok(Shape::Tagged(column, None)),
        other => Ok(other),
    }
}

/// The words of a row, with their tags if it has any.
pub(super) fn tagged(
    row: &Map<String, Value>,
    column: &str,
    tags: Option<&str>,
) -> std::result::Result<Content, RowProblem> {
    let words = match row.get(column).map(with_lists) {
        Some(Value::String(_)) => words_of(&text(row, column)?),
        Some(Value::Array(words)) => {
            let word = |(index, word): (usize, &Value)| {
                Some((word.as_str()?.to_owned(), (index, index + 1)))
            };
            let words: Option<Vec<_>> = words.iter().enumerate().map(word).collect();
            words.ok_or_else(|| RowProblem::NoWords(column.into()))?
        }
        _ => return Err(RowProblem::NoWords(column.into())),
    };
    let tags = match tags.and_then(|tags| row.get(tags)).map(with_lists) {
        None | Some(Value::Null) => None,
        Some(Value::Array(list)) if list.len() == words.len() => Some(list),
        Some(_) => {
            return Err(RowProblem::Tags {
                words: words.len(),
                column: tags.unwrap_or_default().into(),
            });
        }
    };
    Ok(Content::Tagged { words, tags })
}

/// The words and punctuation marks of a text, with where each begins and ends, in characters.
fn words_of(text: &str) -> Vec<(String, (usize, usize))> {
    let mut words: Vec<(String, (usize, usize))> = Vec::new();
    let mut is_open = false;
    for (at, letter) in text.chars().enumerate() {
        let goes_on = letter.is_alphanumeric() || letter == '_';
        match words.last_mut().filter(|_| is_open && goes_on) {
            Some((word, (_, end))) => {
                word.push(letter);
                *end = at + 1;
            }
            None if letter.is_whitespace() => {}
            None => words.push((letter.to_string(), (at, at + 1))),
        }
        is_open = goes_on;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_words_and_marks() {
        let words = words_of("Ana, in Graz.");
        let words: Vec<_> = words
            .iter()
            .map(|(word, at)| (word.as_str(), *at))
            .collect();
        let expected = [
            ("Ana", (0, 3)),
            (",", (3, 4)),
            ("in", (5, 7)),
            ("Graz", (8, 12)),
            (".", (12, 13)),
        ];
        assert_eq!(words, expected);
    }
}
