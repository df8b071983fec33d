//! What `data.train` names: one set of rows, or several.

use crate::config::{DataConfig, SampleBy};
use crate::error::{DataError, FILE_KINDS, Result, SettingProblem};
use crate::source::slice::SlicedPath;
use crate::tokens::train_on::TrainOn;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::borrow::Cow;
use std::fmt;
use std::path::Path;

/// What `data.train` or `data.validation` names: one set of rows, as a string; or a list of sets,
/// each a string or a table.
#[derive(Clone, Debug, PartialEq)]
pub enum TrainSets {
    /// One set: a file, a folder, or a data set on the Hub.
    One(String),
    /// A list of sets.
    Several(Vec<TrainSet>),
}

/// A set of rows in the list `data.train` or `data.validation`, with settings that replace those of
/// the `[data]` table.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TrainSet {
    /// The file, folder or data set on the Hub, as in [`DataConfig::train`].
    pub path: String,
    /// The weight of its rows relative to other sets, in any unit; 1 if only other sets have one.
    /// If no set has a weight, every row comes once in an epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The split, with an optional slice: `train[:500]`; for a file only the slice: `[:500]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// The template of a row's prompt, in place of [`DataConfig::template`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The column of the completion, in place of [`DataConfig::completion_field`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_field: Option<String>,
    /// The column of the text, in place of [`DataConfig::text_field`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_field: Option<String>,
    /// How a plain text file is split into rows, in place of [`DataConfig::sample_by`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample_by: Option<SampleBy>,
    /// What is learnt of a row, in place of [`DataConfig::train_on`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_on: Option<TrainOn>,
}

impl TrainSet {
    /// A set with a path and no other settings.
    pub fn new(path: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            ..Self::default()
        }
    }

    /// The path with the split, as [`Source::open`](crate::Source::open) takes it.
    pub fn spec(&self) -> String {
        let path = &self.path;
        let Some(split) = &self.split else {
            return path.clone();
        };
        if let Some(slice) = self.slice_of_file() {
            return format!("{path}{slice}");
        }
        let has_subset = path.contains(':') && !Path::new(path).exists();
        let between = if has_subset { '/' } else { ':' };
        format!("{path}{between}{split}")
    }

    /// What to append to a file's name for the split. A file has no split other than `train`,
    /// except that the lists of a `.json` file's object count as splits; `None` if it is another
    /// split, or not a file.
    fn slice_of_file(&self) -> Option<&str> {
        let split = self.split.as_deref()?;
        if split.starts_with('[') {
            return Some(split);
        }
        let rest = split.strip_prefix("train")?;
        let is_rest = rest.is_empty() || rest.starts_with('[');
        (is_rest && is_file(&self.path) && !self.path.ends_with(".json")).then_some(rest)
    }

    /// Checks what can be checked without reading the rows.
    fn check(&self) -> std::result::Result<(), (&'static str, SettingProblem)> {
        let path = || self.path.clone();
        if self.path.trim().is_empty() {
            return Err(("path", SettingProblem::NoPath));
        }
        if let Some(value) = self.weight
            && !(value.is_finite() && value > 0.0)
        {
            let path = path();
            return Err(("weight", SettingProblem::Weight { value, path }));
        }
        if let Some(split) = &self.split {
            let split = split.clone();
            if !SlicedPath::new(&self.path).is_whole() && !Path::new(&self.path).exists() {
                let path = path();
                return Err(("split", SettingProblem::TwoSlices { split, path }));
            }
            let is_other = self.slice_of_file().is_none() && !self.path.ends_with(".json");
            if is_other && is_file(&self.path) {
                let path = path();
                return Err(("split", SettingProblem::NoSplit { split, path }));
            }
        }
        let others = [
            ("template", self.template.is_some()),
            ("completion_field", self.completion_field.is_some()),
        ];
        let mut others = others.into_iter().filter(|(_, is_set)| *is_set);
        match others.next() {
            Some((other, _)) if self.text_field.is_some() => {
                Err(("text_field", SettingProblem::BothOfSet(other)))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a path is a file, or looks like one that does not exist.
fn is_file(path: &str) -> bool {
    let path = Path::new(path);
    let extension = path.extension().unwrap_or_default();
    let ending = format!(".{}", extension.to_string_lossy().to_lowercase());
    let mut kinds = FILE_KINDS.split([',', ' ']);
    path.is_file() || (!path.exists() && kinds.any(|kind| kind == ending))
}

impl TrainSets {
    /// The sets, in their order.
    pub fn sets(&self) -> Vec<TrainSet> {
        match self {
            Self::One(path) => vec![TrainSet::new(path)],
            Self::Several(sets) => sets.clone(),
        }
    }

    /// The weights, if any set has one.
    pub(crate) fn weights(&self) -> Option<Vec<f64>> {
        let Self::Several(sets) = self else {
            return None;
        };
        let has_weight = sets.iter().any(|set| set.weight.is_some());
        has_weight.then(|| sets.iter().map(|set| set.weight.unwrap_or(1.0)).collect())
    }

    fn check(&self, list: &'static str) -> Result<()> {
        let Self::Several(sets) = self else {
            return Ok(());
        };
        if sets.is_empty() {
            return Err(DataError::setting(list, SettingProblem::NoSets));
        }
        for (index, set) in sets.iter().enumerate() {
            let mut checked = set.check();
            // Another weight does not make it another set.
            let is_same = |other: &TrainSet| {
                let weight = set.weight;
                let other = other.clone();
                TrainSet { weight, ..other } == *set
            };
            if let Some(first) = sets[..index].iter().position(is_same) {
                let (path, first) = (set.path.clone(), format!("data.{list}[{first}]"));
                checked = checked.and(Err(("path", SettingProblem::SameSet { path, first })));
            }
            if let Some(weight) = set.weight.filter(|_| list == "validation") {
                checked = checked.and(Err(("weight", SettingProblem::NoWeight(weight))));
            }
            checked.map_err(|(key, problem)| DataError::Set {
                list,
                index,
                key,
                problem: Box::new(problem),
            })?;
        }
        Ok(())
    }
}

impl DataConfig {
    /// Checks what `train` and `validation` name, without reading the rows.
    pub(crate) fn check_sets(&self) -> Result<()> {
        self.train.check("train")?;
        if let Some(sets) = &self.validation {
            sets.check("validation")?;
        }
        match self.stopping_strategy {
            Some(strategy) if self.train.weights().is_none() => {
                let problem = SettingProblem::NoWeights(strategy);
                Err(DataError::setting("stopping_strategy", problem))
            }
            _ => Ok(()),
        }
    }

    /// The `[data]` table for one of the sets, with the set's own settings. A set that names its
    /// column of text does not inherit the template, and the other way round.
    pub fn of_set(&self, set: &TrainSet) -> Self {
        let mut config = Self {
            train: TrainSets::One(set.spec()),
            stopping_strategy: None,
            ..self.clone()
        };
        if set.text_field.is_some() {
            (config.template, config.completion_field) = (None, None);
        }
        if set.template.is_some() || set.completion_field.is_some() {
            config.text_field = None;
        }
        let of = |own: &Option<String>, all: Option<String>| own.clone().or(all);
        config.template = of(&set.template, config.template);
        config.completion_field = of(&set.completion_field, config.completion_field);
        config.text_field = of(&set.text_field, config.text_field);
        config.sample_by = set.sample_by.unwrap_or(config.sample_by);
        if set.train_on.is_some() {
            // For all sets it may be set under the other key.
            (config.train_on, config.completion_only_loss) = (set.train_on, None);
        }
        config
    }
}

impl From<String> for TrainSets {
    fn from(path: String) -> Self {
        Self::One(path)
    }
}

impl From<&str> for TrainSets {
    fn from(path: &str) -> Self {
        Self::One(path.into())
    }
}

impl Serialize for TrainSets {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        match self {
            Self::One(path) => to.serialize_str(path),
            Self::Several(sets) => to.collect_seq(sets.iter().map(Entry)),
        }
    }
}

/// How an entry of the list is written: a string if it has nothing but a path.
struct Entry<'a>(&'a TrainSet);

impl Serialize for Entry<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
        if *self.0 == TrainSet::new(&self.0.path) {
            to.serialize_str(&self.0.path)
        } else {
            self.0.serialize(to)
        }
    }
}

impl JsonSchema for TrainSets {
    fn schema_name() -> Cow<'static, str> {
        "TrainSets".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let set = generator.subschema_for::<TrainSet>();
        json_schema!({
            "anyOf": [
                { "type": "string" },
                { "type": "array", "items": { "anyOf": [{ "type": "string" }, set] } },
                set,
            ]
        })
    }
}

impl<'de> Deserialize<'de> for TrainSets {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        from.deserialize_any(SetsVisitor)
    }
}

struct SetsVisitor;

impl<'de> Visitor<'de> for SetsVisitor {
    type Value = TrainSets;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, or a list of texts and of tables with a `path`")
    }

    fn visit_str<E: Error>(self, path: &str) -> std::result::Result<TrainSets, E> {
        Ok(TrainSets::One(path.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<TrainSets, A::Error> {
        let set = TrainSet::deserialize(MapAccessDeserializer::new(map))?;
        Ok(TrainSets::Several(vec![set]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> std::result::Result<TrainSets, A::Error> {
        let mut sets = Vec::new();
        loop {
            let index = sets.len();
            let named = |error: A::Error| {
                let said = error.to_string();
                A::Error::custom(format!("entry [{index}]: {}", said.trim_end()))
            };
            match seq.next_element::<ReadEntry>().map_err(named)? {
                Some(ReadEntry(set)) => sets.push(set),
                None => return Ok(TrainSets::Several(sets)),
            }
        }
    }
}

/// How an entry of the list is read.
struct ReadEntry(TrainSet);

impl<'de> Deserialize<'de> for ReadEntry {
    fn deserialize<D: Deserializer<'de>>(from: D) -> std::result::Result<Self, D::Error> {
        from.deserialize_any(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = ReadEntry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, or a table with a `path`")
    }

    fn visit_str<E: Error>(self, path: &str) -> std::result::Result<ReadEntry, E> {
        Ok(ReadEntry(TrainSet::new(path)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<ReadEntry, A::Error> {
        TrainSet::deserialize(MapAccessDeserializer::new(map)).map(ReadEntry)
    }
}

#[cfg(test)]
#[path = "train_set_tests.rs"]
mod tests;
