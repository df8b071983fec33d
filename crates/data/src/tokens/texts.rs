//! The task of an embedding model: texts that become vectors.

use crate::error::{DataError, Result};
use crate::format::{Content, Rows};
use crate::tokens::classes::{has_first, labelled, wide};
use crate::tokens::example::Limits;
use crate::tokens::task::{Encoder, Labelled, Task};

/// The task of an embedding model. A row becomes one example for each of its texts. The label of an
/// example's first token is the similarity of the row's texts ([`score`](Self::score)), or 0; the
/// others are [`IGNORE_INDEX`](crate::IGNORE_INDEX).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Texts {
    /// The columns to read, in this order; none if a row is one text.
    pub columns: Vec<String>,
    /// The prefix of each of a row's texts; texts beyond the list have none.
    pub prompts: Vec<String>,
    /// The length in tokens that a text is cut to if no setting gives it.
    pub max_seq_length: Option<usize>,
    /// Whether texts are lower-cased first.
    pub do_lower_case: bool,
    /// Whether a text without tokens becomes an example too: one token without meaning, with the
    /// label [`EMPTY`](Self::EMPTY).
    pub takes_empty: bool,
}

impl Texts {
    /// The label of a text without tokens; these bits are not a number.
    pub const EMPTY: i64 = u32::MAX as i64 - 1;

    /// The similarity of a row's texts, from the labels of one of them.
    pub fn score(labels: &[i64]) -> f32 {
        let first = labels.first().and_then(|&bits| u32::try_from(bits).ok());
        first.map_or(0.0, f32::from_bits)
    }

    /// An example with these tokens.
    fn example(&self, ids: Vec<i64>, score: f32) -> Labelled {
        if ids.is_empty() && self.takes_empty {
            labelled(vec![0], &[Self::EMPTY])
        } else {
            scored(ids, score)
        }
    }

    fn ids(&self, text: &str, index: usize, encoder: &Encoder<'_>) -> Result<Vec<i64>> {
        let prompt = self.prompts.get(index).map_or("", String::as_str);
        let mut text = format!("{prompt}{text}");
        if self.do_lower_case {
            text = text.to_lowercase();
        }
        Ok(wide(encoder.whole(&text, None)?.ids))
    }
}

/// Columns by name, for display.
const NAMES: [&str; 6] = [
    "anchor",
    "positive",
    "negative",
    "query",
    "sentence1",
    "sentence2",
];

impl Task for Texts {
    fn rows(&self) -> Rows {
        Rows::Embedded(self.columns.clone())
    }

    fn encode(&self, content: Content, encoder: &Encoder<'_>) -> Result<Vec<Labelled>> {
        let (texts, score) = match content {
            Content::Texts { texts, score } => (texts, score),
            Content::Text(text) => (vec![text], None),
            Content::Tokens { input_ids, .. } => return Ok(vec![self.example(input_ids, 0.0)]),
            _ => return Err(DataError::row(encoder.place, "is not a text")),
        };
        if texts.len() != self.columns.len().max(1) {
            let problem = format!(
                "has {} texts, and the rows before it {}",
                texts.len(),
                self.columns.len().max(1)
            );
            return Err(DataError::row(encoder.place, problem));
        }
        let score = score.and_then(|score| score.as_f64()).unwrap_or_default();
        let texts = texts.iter().enumerate();
        let examples = texts.map(|(index, text)| {
            let ids = self.ids(text, index, encoder)?;
            Ok(self.example(ids, score as f32))
        });
        examples.collect()
    }

    fn supervised(&self, labels: &[i64]) -> usize {
        usize::from(has_first(labels))
    }

    fn examples_per_row(&self) -> usize {
        self.columns.len().max(1)
    }

    fn default_length(&self, limits: Limits) -> Option<usize> {
        let length = self.max_seq_length.unwrap_or(limits.default_length());
        Some(length.min(limits.max_positions))
    }

    fn name_of(&self, _labels: &[i64], index: usize) -> Option<&'static str> {
        let name = self.columns.get(index)?;
        NAMES.into_iter().find(|known| known == name)
    }

    fn packs(&self) -> bool {
        false
    }

    fn cache_key(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }
}

fn scored(input_ids: Vec<i64>, score: f32) -> Labelled {
    labelled(input_ids, &[i64::from(score.to_bits())])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::DataSet;
    use crate::testing::{self, file_of};
    use crate::tokenizer::bpe::tiny;

    fn load(rows: &str, task: &Texts) -> Result<DataSet> {
        let (_dir, config) = file_of(rows);
        testing::load(&config, task)
    }

    fn columns(names: &[&str]) -> Texts {
        Texts {
            columns: names.iter().map(ToString::to_string).collect(),
            ..Texts::default()
        }
    }

    #[test]
    fn a_row_is_as_many_examples_as_it_has_texts() {
        let row = |a: &str, b: &str, c: &str| {
            format!("{{\"anchor\": {a:?}, \"positive\": {b:?}, \"negative\": {c:?}}}\n")
        };
        let mut task = columns(&["anchor", "positive", "negative"]);
        task.prompts = vec!["q: ".into()];
        let rows = [row("x", "yy", "z"), row("a", "b", "cc")].concat();
        let data = load(&rows, &task).unwrap().train;
        assert_eq!((data.sequences(), data.len()), (2, 6));
        let batch = data.batch(&[1]);
        let text = |span: &std::ops::Range<usize>| {
            let ids: Vec<u32> = batch.input_ids[span.clone()]
                .iter()
                .map(|&id| id as u32)
                .collect();
            tiny().decode(&ids).unwrap()
        };
        let texts: Vec<String> = batch.spans.iter().map(text).collect();
        assert_eq!(texts, ["q: a", "b", "cc"]);
    }

    #[test]
    fn scores_are_kept_and_checked() {
        let task = columns(&["sentence1", "sentence2"]);
        let row = |score: &str| {
            format!("{{\"sentence1\": \"a\", \"sentence2\": \"b\", \"score\": {score}}}\n")
        };
        let data = load(&row("0.75"), &task).unwrap().train;
        let batch = data.batch(&[0]);
        let scores: Vec<f32> = batch.example_labels().map(Texts::score).collect();
        assert_eq!(scores, [0.75, 0.75]);
        let error = load(&row("4.2"), &task).unwrap_err().to_string();
        assert!(
            error.ends_with("line 1 has 4.2 in `score`, where a number from -1 to 1 is expected"),
            "{error}"
        );
        let error = load("{\"sentence1\": \"a\"}", &task)
            .unwrap_err()
            .to_string();
        assert!(error.contains("sentence2"), "{error}");
    }

    #[test]
    fn a_text_without_tokens_may_be_an_example() {
        let mut task = columns(&["sentence1", "sentence2"]);
        task.takes_empty = true;
        let data = load("{\"sentence1\": \"a\", \"sentence2\": \"\"}\n", &task).unwrap();
        let batch = data.train.batch(&[0]);
        let labels: Vec<i64> = batch.example_labels().map(|labels| labels[0]).collect();
        assert_eq!((labels[0], labels[1]), (0, Texts::EMPTY));
        task.takes_empty = false;
        let rows = "{\"sentence1\": \"a\", \"sentence2\": \"\"}\n\
                    {\"sentence1\": \"a\", \"sentence2\": \"b\"}\n";
        assert_eq!(load(rows, &task).unwrap().train.sequences(), 1);
    }

    #[test]
    fn long_texts_are_cut() {
        let task = Texts {
            max_seq_length: Some(4),
            ..Texts::default()
        };
        let data = load("{\"text\": \"a long text of many tokens\"}\n", &task).unwrap();
        assert_eq!((data.train.longest(), data.train.truncated), (4, 1));
    }
}
