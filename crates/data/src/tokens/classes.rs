//! The task of a classifier: texts with one label, several labels, or a number.

use crate::batches::batch::Batch;
use crate::error::{DataError, Result, RowProblem};
use crate::format::{Content, Rows};
use crate::tokens::example::IGNORE_INDEX;
use crate::tokens::task::{Encoder, Labelled, Task};
use serde_json::Value;

/// What is learnt of a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LabelKind {
    /// One of the labels.
    #[default]
    One,
    /// Any number of the labels.
    Several,
    /// A number.
    Number,
}

/// How many of a text's labels one token stores, as the bits of its own label, for which the token
/// cache has 32.
pub const LABELS_PER_TOKEN: usize = 31;

/// The task of a classifier. The label of an example's first token says what the text is: the
/// number of a label; the bits of several labels, continued on the next tokens if they do not fit;
/// or the bits of a 32-bit float. The other labels are [`IGNORE_INDEX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Classes {
    /// The names of the labels, by number.
    pub names: Vec<String>,
    /// What is learnt.
    pub kind: LabelKind,
    /// Whether rows without a label are taken too, with the label [`UNLABELLED`](Self::UNLABELLED).
    pub takes_unlabelled: bool,
}

impl Classes {
    /// The label of a row without one.
    pub const UNLABELLED: i64 = u32::MAX as i64 - 1;

    /// The label of the first token of the second text, if the tokenizer tells the two texts apart.
    const SECOND: i64 = u32::MAX as i64 - 2;

    /// Which of two texts each token of a batch belongs to, 0 or 1; `None` if no row has two.
    pub fn token_types(batch: &Batch) -> Option<Vec<i64>> {
        if !batch.labels.contains(&Self::SECOND) {
            return None;
        }
        let types = batch.example_labels().flat_map(|labels| {
            // The first token has the label of the text, which may be any number.
            let mut second = 0;
            labels.iter().enumerate().map(move |(at, &label)| {
                second |= i64::from(at > 0 && label == Self::SECOND);
                second
            })
        });
        Some(types.collect())
    }

    /// The number whose bits are this label.
    pub fn number(label: i64) -> f32 {
        u32::try_from(label).map_or(f32::NAN, f32::from_bits)
    }

    /// Whether a text has one of several labels, read from the labels of its tokens.
    pub fn has(labels: &[i64], id: usize) -> bool {
        let bits = labels.get(id / LABELS_PER_TOKEN);
        bits.is_some_and(|&bits| bits >= 0 && bits >> (id % LABELS_PER_TOKEN) & 1 == 1)
    }

    /// The labels of the first tokens of a text with this label.
    pub(crate) fn label(&self, value: &Value) -> std::result::Result<Vec<i64>, RowProblem> {
        let unknown = |value: &Value| RowProblem::UnknownLabel {
            value: value.to_string(),
            known: self.known(value),
        };
        match (self.kind, value) {
            (_, Value::Null) if self.takes_unlabelled => Ok(vec![Self::UNLABELLED]),
            (_, Value::Null) => Err(RowProblem::Unlabelled),
            (LabelKind::Number, value) => {
                // A cell of CSV is text.
                let text = value.as_str().and_then(|text| text.trim().parse().ok());
                let number = value.as_f64().or(text);
                let number = number.filter(|number| (*number as f32).is_finite());
                let number = number.ok_or_else(|| unknown(value))?;
                Ok(vec![i64::from((number as f32).to_bits())])
            }
            (LabelKind::One, value) => {
                let id = self.id(value).ok_or_else(|| unknown(value))?;
                Ok(vec![id as i64])
            }
            (LabelKind::Several, Value::Array(list)) => {
                self.several(list).ok_or_else(|| unknown(value))
            }
            (LabelKind::Several, value) => Err(unknown(value)),
        }
    }

    /// The number of a label, given by name or by number.
    fn id(&self, value: &Value) -> Option<usize> {
        match value {
            Value::Number(number) => {
                let whole = number.as_f64().filter(|number| number.fract() == 0.0);
                self.id_of_number(whole? as i64)
            }
            Value::Bool(is_true) => self.id_of_number(i64::from(*is_true)),
            Value::String(name) => self.named(name).or_else(|| {
                // A cell of CSV is text; numbered labels are given by their number there.
                self.id_of_number(name.trim().parse().ok()?)
            }),
            _ => None,
        }
    }

    fn named(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    /// The label with this name, or, if no label's name is a number, the label at this index.
    fn id_of_number(&self, number: i64) -> Option<usize> {
        if self.has_numbers() {
            return self.named(&number.to_string());
        }
        let id = usize::try_from(number).ok()?;
        (id < self.names.len()).then_some(id)
    }

    /// Whether a name is a whole number, so that a number in a row is a name and not an index.
    fn has_numbers(&self) -> bool {
        let mut names = self.names.iter();
        names.any(|name| name.parse::<i64>().is_ok())
    }

    /// The bits of several labels, given by a list of names or by a list of 0 and 1 for each label.
    /// If the names are numbers, the list is read as names.
    fn several(&self, list: &[Value]) -> Option<Vec<i64>> {
        let mut bits = vec![0; self.names.len().div_ceil(LABELS_PER_TOKEN).max(1)];
        let mut set = |id: usize| bits[id / LABELS_PER_TOKEN] |= 1 << (id % LABELS_PER_TOKEN);
        let takes_numbers = self.has_numbers();
        let mark = |value: &Value| flag(value).filter(|_| value.is_boolean() || !takes_numbers);
        let marks: Option<Vec<bool>> = list.iter().map(mark).collect();
        if let Some(marks) = marks.filter(|marks| marks.len() == self.names.len()) {
            let marks = marks.into_iter().enumerate();
            marks.filter(|(_, mark)| *mark).for_each(|(id, _)| set(id));
            return Some(bits);
        }
        for name in list {
            let is_name = name.is_string() || name.is_number() && takes_numbers;
            set(Some(name)
                .filter(|_| is_name)
                .and_then(|name| self.id(name))?);
        }
        Some(bits)
    }

    /// The labels that exist, for an error about an unknown one.
    fn known(&self, value: &Value) -> String {
        match self.kind {
            LabelKind::Number => "a number is expected (problem_type = \"regression\")".into(),
            LabelKind::One if value.is_array() => {
                "one label is expected; several are learnt with classify.problem_type = \
                 \"multi_label_classification\""
                    .into()
            }
            LabelKind::Several if !value.is_array() => {
                "a list of labels is expected; one label is learnt with classify.problem_type = \
                 \"single_label_classification\""
                    .into()
            }
            _ => {
                let shown = self.names.iter().take(12).map(String::as_str);
                let shown = shown.collect::<Vec<_>>().join(", ");
                let more = if self.names.len() > 12 { ", …" } else { "" };
                let count = self.names.len();
                let places = if self.has_numbers() {
                    ""
                } else {
                    ", or their numbers from 0"
                };
                format!("the {count} labels are {shown}{more}{places}")
            }
        }
    }
}

fn flag(value: &Value) -> Option<bool> {
    match (value, value.as_f64()) {
        (Value::Bool(is_true), _) => Some(*is_true),
        (_, Some(number)) if number == 0.0 || number == 1.0 => Some(number == 1.0),
        _ => None,
    }
}

impl Task for Classes {
    fn rows(&self) -> Rows {
        Rows::Labelled
    }

    fn packs(&self) -> bool {
        false
    }

    fn encode(&self, content: Content, encoder: &Encoder<'_>) -> Result<Vec<Labelled>> {
        let Content::Labelled { content, label } = content else {
            return Err(DataError::row(encoder.place, "has no label"));
        };
        let label = match self.label(&label) {
            // It is not learnt, so it may be anything.
            Err(_) if self.takes_unlabelled => vec![Self::UNLABELLED],
            label => label.map_err(|problem| DataError::Row {
                place: encoder.place.into(),
                problem,
            })?,
        };
        let mut of_second = None;
        let ids: Vec<i64> = match *content {
            Content::Text(text) => wide(encoder.whole(&text, None)?.ids),
            Content::TwoTexts(first, second) => {
                let tokens = encoder.whole(&first, Some(&second))?;
                of_second = tokens.types.iter().position(|&of| of == 1);
                wide(tokens.ids)
            }
            Content::Chat(chat) => {
                let (ids, _) = encoder
                    .tokenizer()?
                    .encode_chat(&chat, true, encoder.place)?;
                wide(ids)
            }
            Content::Tokens { input_ids, .. } => input_ids,
            _ => return Err(DataError::row(encoder.place, "is not a text with a label")),
        };
        if !ids.is_empty() && ids.len() < label.len() && !self.takes_unlabelled {
            let problem = format!(
                "has {} tokens, and of the {} labels each token keeps {LABELS_PER_TOKEN}: leave the row \
                 out",
                ids.len(),
                self.names.len()
            );
            return Err(DataError::row(encoder.place, problem));
        }
        let mut labelled = labelled(ids, &label);
        if let Some(at) = of_second.filter(|&at| at >= label.len()) {
            labelled.labels[at] = Self::SECOND;
        }
        Ok(vec![labelled])
    }

    fn supervised(&self, labels: &[i64]) -> usize {
        usize::from(has_first(labels))
    }

    fn cache_key(&self) -> Option<String> {
        Some(format!("{self:?}"))
    }
}

pub(super) fn wide(ids: Vec<u32>) -> Vec<i64> {
    ids.into_iter().map(i64::from).collect()
}

/// Whether the first token has a label.
pub(super) fn has_first(labels: &[i64]) -> bool {
    labels.first().is_some_and(|&label| label != IGNORE_INDEX)
}

/// Tokens, the first of which have these labels.
pub(super) fn labelled(input_ids: Vec<i64>, first: &[i64]) -> Labelled {
    let mut labels = vec![IGNORE_INDEX; input_ids.len()];
    let pairs = labels.iter_mut().zip(first);
    pairs.for_each(|(label, first)| *label = *first);
    Labelled { input_ids, labels }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn classes(kind: LabelKind) -> Classes {
        Classes {
            names: ["bad", "fair", "good"].map(String::from).into(),
            kind,
            takes_unlabelled: false,
        }
    }

    #[test]
    fn a_label_is_a_name_or_its_number() {
        let one = classes(LabelKind::One);
        for (value, id) in [
            (json!("good"), 2),
            (json!("2"), 2),
            (json!(1), 1),
            (json!(2.0), 2),
            (json!(true), 1),
        ] {
            assert_eq!(one.label(&value), Ok(vec![id]));
        }
        for value in [json!("great"), json!(3), json!(-1), json!(0.5)] {
            let error = one.label(&value).unwrap_err().to_string();
            assert!(error.contains("bad, fair, good"), "{error}");
        }
        assert_eq!(one.label(&Value::Null), Err(RowProblem::Unlabelled));
    }

    #[test]
    fn a_number_is_the_label_that_is_called_so() {
        let of = |names: &[&str], kind| Classes {
            names: names.iter().map(|name| name.to_string()).collect(),
            kind,
            takes_unlabelled: false,
        };
        let one = of(&["-1", "0", "1"], LabelKind::One);
        for (value, id) in [
            (json!(-1), 0),
            (json!(0), 1),
            (json!("1"), 2),
            (json!(" 1"), 2),
            (json!(1.0), 2),
        ] {
            assert_eq!(one.label(&value), Ok(vec![id]), "{value}");
        }
        // An index among names that are numbers would be taken for one of them.
        let error = one.label(&json!(2)).unwrap_err().to_string();
        assert_eq!(error, "has the label 2: the 3 labels are -1, 0, 1");
        assert!(of(&["1", "x"], LabelKind::One).label(&json!(0)).is_err());
        let several = of(&["1", "2", "3"], LabelKind::Several);
        assert_eq!(several.label(&json!([1, 3])), Ok(vec![0b101]));
        assert_eq!(several.label(&json!([true, false, true])), Ok(vec![0b101]));
        assert!(several.label(&json!([1, 0, 1])).is_err());
        let error = one.label(&json!([1])).unwrap_err().to_string();
        assert!(error.contains("classify.problem_type"), "{error}");
    }

    #[test]
    fn several_labels_are_bits() {
        let several = classes(LabelKind::Several);
        for (value, bits) in [
            (json!(["bad", "good"]), 0b101),
            (json!([0, 1, 1]), 0b110),
            (json!([1.0, 0.0, 0.0]), 0b001),
            (json!([]), 0),
        ] {
            assert_eq!(several.label(&value), Ok(vec![bits]));
        }
        assert!(several.label(&json!([0, 1])).is_err());
        assert!(several.label(&json!(["great"])).is_err());
        assert!(several.label(&json!("good")).is_err());
        // More than a token has room for.
        let many = Classes {
            names: (0..64).map(|id| format!("label {id}")).collect(),
            ..several
        };
        let labels = many.label(&json!(["label 63", "label 30", "label 31"]));
        let labels = labels.unwrap();
        assert_eq!(labels.len(), 3);
        let found = (0..64).filter(|&id| Classes::has(&labels, id));
        assert_eq!(found.collect::<Vec<_>>(), [30, 31, 63]);
        assert!(!Classes::has(&labels, 1_000));
        assert!(!Classes::has(&[IGNORE_INDEX], 0));
    }

    #[test]
    fn numbers_keep_their_bits() {
        let number = classes(LabelKind::Number);
        let bits = number.label(&json!(-0.25)).unwrap();
        assert_eq!(Classes::number(bits[0]), -0.25);
        assert!(number.label(&json!("x")).is_err());
        assert_eq!(number.label(&json!(" -0.25")), Ok(bits));
    }
}
