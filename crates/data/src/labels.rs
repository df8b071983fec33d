//! The labels that occur in the rows of data files.

use crate::config::DataConfig;
use crate::error::{DataError, EmptyProblem, Result};
use crate::format::{Content, Rows, Shape};
use crate::source::part::Part;
use crate::source::{Finder, Source};
use crate::tokens::classes::LabelKind;
use crate::tokens::example::IGNORE_INDEX;
use indicatif::ProgressBar;
use serde_json::Value;
use std::collections::BTreeSet;

/// The labels of the training rows: names in alphabetical order, numbers as `LABEL_0`, `LABEL_1`,
/// ….
///
/// A text or a whole number is one label, any other number is a regression target, and a list is
/// several labels. For rows of words, the tags are taken.
///
/// # Errors
/// As [`DataSet::load`](crate::DataSet::load); if the labels are of several kinds; if whole numbers
/// do not count from 0.
pub fn labels_of(
    rows: Rows,
    config: &DataConfig,
    find: Finder<'_>,
) -> Result<(Vec<String>, LabelKind)> {
    let mut seen = Seen::default();
    each_label(rows.clone(), config, find, &mut |label, place| {
        match rows {
            Rows::Tagged => seen.add_tag(label, place)?,
            _ => seen.add(label, place)?,
        }
        Ok(true)
    })?;
    let sets = config.train.sets();
    let file = sets.first().map(|set| set.spec()).unwrap_or_default();
    let table = if rows == Rows::Tagged {
        "tag"
    } else {
        "classify"
    };
    if let Some(problem) = seen.no_labels(table) {
        return Err(DataError::row(&file, problem));
    }
    seen.labels().ok_or(DataError::Empty {
        file,
        problem: match rows {
            Rows::Tagged => EmptyProblem::Tags,
            _ => EmptyProblem::Labels,
        },
    })
}

/// Whether the first label of the training rows is a list, that is, several labels; `None` if no
/// row has a label.
///
/// # Errors
/// As [`DataSet::load`](crate::DataSet::load).
pub fn has_several_labels(config: &DataConfig, find: Finder<'_>) -> Result<Option<bool>> {
    let mut is_list = None;
    each_label(Rows::Labelled, config, find, &mut |label, _| {
        is_list = (!label.is_null()).then(|| label.is_array());
        Ok(is_list.is_none())
    })?;
    Ok(is_list)
}

/// Calls `take` with the labels or tags of the training rows and their places, until it returns
/// false.
fn each_label(
    rows: Rows,
    config: &DataConfig,
    find: Finder<'_>,
    take: &mut dyn FnMut(&Value, &str) -> Result<bool>,
) -> Result<()> {
    for set in config.train.sets() {
        let config = config.of_set(&set);
        let mut source = Source::open(&set.spec(), config.sample_by, find)?;
        if let Some(columns) = source.schema()? {
            let shape = Shape::detect_for(rows.clone(), &columns, &source.name, &config)?;
            source.read_only(&shape);
        }
        let mut shape: Option<Shape> = None;
        for record in Part::default().records(&source, &ProgressBar::hidden())? {
            let row = source.parse(record?)?;
            if shape.is_none() {
                let found = Shape::detect_for(rows.clone(), &row.columns, &source.name, &config);
                shape = Some(found?);
            }
            let place = source.place(row.number);
            let Some(shape) = &shape else { continue };
            let labels = match shape.read(&row, &place)? {
                Content::Labelled { label, .. } => vec![label],
                Content::Tagged { tags, .. } => tags.unwrap_or_default(),
                Content::Tokens { labels, .. } => labels.into_iter().map(Value::from).collect(),
                _ => Vec::new(),
            };
            for label in &labels {
                if !take(label, &place)? {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// The columns of texts to compare in the first row of the first training set, and whether a column
/// holds their similarity; no columns if a row is one text. The columns `named` are taken, or else
/// known ones.
///
/// # Errors
/// As [`DataSet::load`](crate::DataSet::load).
pub fn text_columns(
    config: &DataConfig,
    named: &[String],
    find: Finder<'_>,
) -> Result<(Vec<String>, bool)> {
    let Some(set) = config.train.sets().into_iter().next() else {
        return Ok((Vec::new(), false));
    };
    let config = config.of_set(&set);
    let source = Source::open(&set.spec(), config.sample_by, find)?;
    let columns = match source.schema()? {
        Some(columns) => columns,
        None => match Part::default()
            .records(&source, &ProgressBar::hidden())?
            .next()
        {
            Some(record) => source.parse(record?)?.columns,
            // A problem with the file is reported when it is read.
            None => return Ok((Vec::new(), false)),
        },
    };
    let rows = Rows::Embedded(named.to_vec());
    Ok(
        match Shape::detect_for(rows, &columns, &source.name, &config)? {
            Shape::Texts(columns, score) => (columns, score.is_some()),
            _ => (Vec::new(), false),
        },
    )
}

#[derive(Default)]
struct Seen {
    kind: Option<Kind>,
    names: BTreeSet<String>,
    /// The length of the longest list.
    count: usize,
    is_whole: bool,
    /// The whole numbers seen.
    whole: BTreeSet<i64>,
}

/// Above this many, most of the whole numbers up to the largest have to occur, or they are not
/// labels.
const MANY: i64 = 1_000;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Name,
    Number,
    Names,
    Marks,
}

impl Seen {
    /// The tag of a word or a token.
    fn add_tag(&mut self, tag: &Value, place: &str) -> Result<()> {
        match tag.as_i64() {
            Some(IGNORE_INDEX) => Ok(()),
            _ => self.add(tag, place),
        }
    }

    fn add(&mut self, label: &Value, place: &str) -> Result<()> {
        let kind = match label {
            Value::Null => return Ok(()),
            Value::String(_) => Kind::Name,
            Value::Number(_) | Value::Bool(_) => Kind::Number,
            Value::Array(list) if list.iter().all(Value::is_string) => Kind::Names,
            Value::Array(_) => Kind::Marks,
            Value::Object(_) => return Err(DataError::row(place, "has an object for its label")),
        };
        // An empty list fits either kind.
        if !matches!(label, Value::Array(list) if list.is_empty()) {
            if self.kind.is_some_and(|before| before != kind) {
                let problem = "has a label of another kind than the rows before it: all are texts, \
                               numbers, or lists";
                return Err(DataError::row(place, problem));
            }
            self.is_whole |= self.kind.is_none();
            self.kind = Some(kind);
        }
        match label {
            Value::String(name) => drop(self.names.insert(name.clone())),
            Value::Bool(_) => self.whole.extend([0, 1]),
            Value::Number(number) => {
                let number = number.as_f64().unwrap_or(f64::NAN);
                self.is_whole &= number.fract() == 0.0;
                if self.is_whole {
                    self.whole.insert(number as i64);
                }
            }
            Value::Array(list) => {
                let names = list.iter().filter_map(Value::as_str);
                self.names.extend(names.map(String::from));
                self.count = self.count.max(list.len());
            }
            _ => {}
        }
        Ok(())
    }

    /// Why the whole numbers are not labels counted from 0, if they are not, and what to do.
    fn no_labels(&self, table: &str) -> Option<String> {
        let (least, most) = (*self.whole.first()?, *self.whole.last()?);
        let is_sparse = most >= MANY && self.whole.len() * 2 < most as usize;
        if !self.is_whole || least >= 0 && !is_sparse {
            return None;
        }
        let shown = self.whole.iter().take(3);
        let shown: Vec<String> = shown.map(|number| format!("\"{number}\"")).collect();
        let more = if self.whole.len() > 3 { ", …" } else { "" };
        let regression = match table {
            "classify" => ", or learn numbers with classify.problem_type = \"regression\"",
            _ => "",
        };
        Some(format!(
            "has whole numbers from {least} to {most} for labels, of which {} come up, and labels count \
             from 0: name them with {table}.labels = [{}{more}]{regression}",
            self.whole.len(),
            shown.join(", ")
        ))
    }

    fn labels(self) -> Option<(Vec<String>, LabelKind)> {
        let numbered = |count| (0..count).map(|id| format!("LABEL_{id}")).collect();
        Some(match self.kind? {
            Kind::Name => (self.names.into_iter().collect(), LabelKind::One),
            Kind::Names => (self.names.into_iter().collect(), LabelKind::Several),
            Kind::Marks => (numbered(self.count), LabelKind::Several),
            Kind::Number if self.is_whole => {
                let most = self.whole.last().copied().unwrap_or_default();
                (numbered(most as usize + 1), LabelKind::One)
            }
            Kind::Number => (numbered(1), LabelKind::Number),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn found(labels: &[Value]) -> Result<(Vec<String>, LabelKind)> {
        let mut seen = Seen::default();
        for label in labels {
            seen.add(label, "a.jsonl line 1")?;
        }
        Ok(seen.labels().unwrap())
    }

    #[test]
    fn the_kind_of_labels_is_told_from_all_of_them() {
        let names = |names: &[&str]| {
            names
                .iter()
                .map(|name| name.to_string())
                .collect::<Vec<_>>()
        };
        for (labels, expected) in [
            (
                vec![json!("b"), json!("a"), json!("b")],
                (names(&["a", "b"]), LabelKind::One),
            ),
            (
                vec![json!(1), json!(0)],
                (names(&["LABEL_0", "LABEL_1"]), LabelKind::One),
            ),
            (
                vec![json!(2), json!(true)],
                (names(&["LABEL_0", "LABEL_1", "LABEL_2"]), LabelKind::One),
            ),
            (
                vec![json!(1), json!(0.5)],
                (names(&["LABEL_0"]), LabelKind::Number),
            ),
            (
                vec![json!([]), json!(["x"])],
                (names(&["x"]), LabelKind::Several),
            ),
            (
                vec![json!([0, 1])],
                (names(&["LABEL_0", "LABEL_1"]), LabelKind::Several),
            ),
        ] {
            assert_eq!(found(&labels).unwrap(), expected);
        }
        assert!(found(&[json!("a"), json!(1)]).is_err());
    }

    #[test]
    fn few_of_many_whole_numbers_are_no_labels() {
        let no_labels = |labels: &mut dyn Iterator<Item = i64>| {
            let mut seen = Seen::default();
            labels.for_each(|label| seen.add(&label.into(), "a.jsonl line 1").unwrap());
            seen.no_labels("classify")
        };
        assert!(no_labels(&mut [0, 1_000_000].into_iter()).is_some());
        assert_eq!(no_labels(&mut [0, 999].into_iter()), None);
        assert_eq!(no_labels(&mut (0..2_000)), None);
        let said = no_labels(&mut [0, 1, -1].into_iter()).unwrap();
        assert!(
            said.contains("classify.labels = [\"-1\", \"0\", \"1\"]"),
            "{said}"
        );
        assert!(
            said.contains("classify.problem_type = \"regression\""),
            "{said}"
        );
    }
}
