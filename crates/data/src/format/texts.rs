//! Rows of texts to embed: one, or several to compare.

use super::columns::as_number;
use super::preference::value;
use super::shape::detect as detect_text;
use super::{Content, Shape, text};
use crate::config::DataConfig;
use crate::error::{DataError, Result, RowProblem, SettingProblem, WantedColumn};
use serde_json::{Map, Number, Value};

/// Pairs of columns whose texts belong together.
const PAIRS: [(&str, &str); 14] = [
    ("anchor", "positive"),
    ("query", "positive"),
    ("question", "positive"),
    ("query", "passage"),
    ("query", "document"),
    ("query", "answer"),
    ("question", "answer"),
    ("sentence1", "sentence2"),
    ("sentence_A", "sentence_B"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("text_a", "text_b"),
    ("anchor", "document"),
];
/// The column of a text that does not belong to the first; further ones are `negative_1`,
/// `negative_2`, ….
const NEGATIVE: &str = "negative";
/// Columns that hold a similarity.
const SCORES: [&str; 4] = ["score", "similarity_score", "similarity", "label"];
/// Columns that hold a single text.
const TEXTS: [&str; 9] = [
    "text", "sentence", "content", "passage", "document", "query", "question", "anchor", "review",
];

/// Reads such rows, by the columns `named` or by the known ones.
pub(super) fn detect(
    first: &Map<String, Value>,
    file: &str,
    config: &DataConfig,
    named: &[String],
) -> Result<Shape> {
    let has = |column: &str| first.contains_key(column);
    let score = |columns: &[String]| {
        let mut scores = SCORES.into_iter().filter(|score| has(score));
        let score = scores.find(|score| columns.iter().all(|column| column != score));
        score.filter(|_| columns.len() == 2).map(String::from)
    };
    if !named.is_empty() {
        if let Some(missing) = named.iter().find(|column| !has(column)) {
            let problem = SettingProblem::NoColumn {
                wanted: WantedColumn::Named(missing.clone()),
                file: file.into(),
                columns: first.keys().cloned().collect(),
            };
            return Err(DataError::setting("embed.columns", problem));
        }
        return Ok(Shape::Texts(named.to_vec(), score(named)));
    }
    if config.text_field.is_some() || config.template.is_some() {
        return Ok(match detect_text(first, file, config)? {
            Shape::Template(template, _) => Shape::Template(template, None),
            shape => shape,
        });
    }
    if has("input_ids") {
        return Ok(Shape::Tokenized);
    }
    if let Some((a, b)) = PAIRS.into_iter().find(|(a, b)| has(a) && has(b)) {
        let mut columns = vec![a.to_string(), b.to_string()];
        columns.extend(has(NEGATIVE).then(|| NEGATIVE.to_string()));
        let mut numbered: Vec<(usize, &String)> = first
            .keys()
            .filter_map(|column| {
                let number = column.strip_prefix(NEGATIVE)?.strip_prefix('_')?;
                Some((number.parse().ok()?, column))
            })
            .collect();
        numbered.sort();
        columns.extend(numbered.into_iter().map(|(_, column)| column.clone()));
        let score = score(&columns);
        return Ok(Shape::Texts(columns, score));
    }
    let is_text = |column: &&str| first.get(*column).is_some_and(Value::is_string);
    match TEXTS.into_iter().find(is_text) {
        Some(column) => Ok(Shape::Text(column.into())),
        // Its error says what is wrong with the columns.
        None => detect_text(first, file, config),
    }
}

/// The texts of a row, and their similarity if a column has it.
pub(super) fn texts(
    row: &Map<String, Value>,
    columns: &[String],
    score: Option<&str>,
) -> std::result::Result<Content, RowProblem> {
    let texts = columns.iter().map(|column| text(row, column));
    let texts = texts.collect::<std::result::Result<_, _>>()?;
    let score = score.map(|column| {
        let found = value(row, column).and_then(as_number);
        // It is compared with cosines.
        let found = found.filter(|score| (-1.0..=1.0).contains(score));
        let found = found.and_then(Number::from_f64);
        found.ok_or_else(|| RowProblem::Similarity {
            value: row.get(column).unwrap_or(&Value::Null).to_string(),
            column: column.into(),
        })
    });
    Ok(Content::Texts {
        texts,
        score: score.transpose()?,
    })
}
