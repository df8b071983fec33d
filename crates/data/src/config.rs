//! The `[data]` table of a training file.

use crate::error::{DataError, Result, SettingProblem};
use crate::mixture::StoppingStrategy;
use crate::tokens::example::Limits;
use crate::tokens::train_on::TrainOn;
use crate::train_set::TrainSets;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// How a plain text file becomes rows; named as in Hugging Face `datasets`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SampleBy {
    /// Every line that is not blank is a row.
    #[default]
    Line,
    /// Every block between blank lines is a row.
    Paragraph,
    /// The file is one text, cut into windows of `max_length` tokens, so that nothing of it is
    /// lost.
    Document,
}

/// The `[data]` table of a training file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// The file to train on, with an optional slice of its rows: `reviews.jsonl[:500]`. Or a data
    /// set on the Hub: `stanfordnlp/imdb:train[:500]`. Or a folder with files of the names of
    /// splits (`train.jsonl`, `valid.jsonl`), of which the rows for validation are evaluated on
    /// where nothing else is said. Or a list of those, each a text or a table ([`TrainSet`]).
    ///
    /// [`TrainSet`]: crate::TrainSet
    pub train: TrainSets,
    /// What to evaluate on, likewise; sets have no weights here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<TrainSets>,
    /// Rows of `train` to evaluate on in place of a `validation` file, drawn by the seed: a share
    /// of the rows when below 1, else their number.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "whole_or_share"
    )]
    pub validation_split: Option<f64>,
    /// Where an epoch of sets with weights ends; `first_exhausted` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping_strategy: Option<StoppingStrategy>,
    /// Train on this many rows at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_samples: Option<usize>,
    /// Cut every row to this many tokens: 2,048, or as many as the model has positions for if those
    /// are fewer, unless set. A row of more tokens than there are positions is an error then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Pad every batch to a multiple of this many tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad_to_multiple_of: Option<usize>,
    /// Put several rows into one, up to `max_length` tokens: each attends to itself only, its
    /// positions counted from 0.
    #[serde(default)]
    pub packing: bool,
    /// The column of text, for files whose columns say nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_field: Option<String>,
    /// The prompt of a row, with `{column}` where a column's value goes. The completion is the
    /// column `completion_field` names, else `completion`, `output`, `response` or `answer`;
    /// without one, the filled template is all of the text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The column of the completion of a template, a `prompt`, an `instruction` or a chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_field: Option<String>,
    /// The column of the label of a text, or of the tags of words; one of those that are usual unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_field: Option<String>,
    /// How a plain text file becomes rows.
    #[serde(default)]
    pub sample_by: SampleBy,
    /// What is learnt of a row: its answers (unless set), the last of them, or all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_on: Option<TrainOn>,
    /// The same in TRL's words: false is `train_on = "all"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_only_loss: Option<bool>,
    /// What the chat template is given beside the messages, such as `enable_thinking = false`; what
    /// a row says itself goes before it.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub chat_template_kwargs: Map<String, Value>,
    /// Where tokenised rows are kept; [`default_cache_dir`](crate::default_cache_dir) unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_dir: Option<PathBuf>,
}

/// A number of rows is written as one: 12, not 12.0.
fn whole_or_share<S: Serializer>(
    split: &Option<f64>,
    to: S,
) -> std::result::Result<S::Ok, S::Error> {
    match split {
        Some(rows) if *rows >= 1.0 && rows.fract() == 0.0 && *rows < 1e15 => {
            to.serialize_u64(*rows as u64)
        }
        split => split.serialize(to),
    }
}

impl DataConfig {
    /// The defaults for a file: what `peft eval --data FILE` uses.
    pub fn new(train: impl Into<String>) -> Self {
        Self {
            train: TrainSets::One(train.into()),
            stopping_strategy: None,
            validation: None,
            validation_split: None,
            max_samples: None,
            max_length: None,
            pad_to_multiple_of: None,
            packing: false,
            text_field: None,
            template: None,
            completion_field: None,
            label_field: None,
            sample_by: SampleBy::Line,
            train_on: None,
            completion_only_loss: None,
            chat_template_kwargs: Map::new(),
            cache_dir: None,
        }
    }

    /// What is learnt of a row, by either of the two keys that say it.
    pub fn learnt(&self) -> TrainOn {
        let all = self.completion_only_loss == Some(false);
        let implied = if all { TrainOn::All } else { TrainOn::Answers };
        self.train_on.unwrap_or(implied)
    }

    /// Checks the numbers, against the model's limits where they depend on them.
    ///
    /// # Errors
    /// [`DataError::Setting`] names the first key that cannot be, [`DataError::Set`] that of a set.
    pub fn validate(&self, limits: Limits) -> Result<()> {
        self.check()?;
        let too_long = |key, value| {
            let problem = SettingProblem::TooLong { value, limits };
            Err(DataError::setting(key, problem))
        };
        match (self.max_length, self.pad_to_multiple_of) {
            (Some(max), _) if limits.forbid(max) => too_long("max_length", max),
            // Learnt positions end, which is seen by the rows; of others every row would go beyond
            // what they were trained for.
            (_, Some(multiple)) if !limits.has_last_position && multiple > limits.max_positions => {
                too_long("pad_to_multiple_of", multiple)
            }
            _ => Ok(()),
        }
    }

    /// Checks what depends on no model.
    ///
    /// # Errors
    /// As [`validate`](Self::validate).
    pub fn check(&self) -> Result<()> {
        self.check_sets()?;
        let bad = |key, problem| Err(DataError::setting(key, problem));
        let too_small = |value, least| SettingProblem::TooSmall { value, least };
        if let Some(max) = self.max_length.filter(|max| *max < 2) {
            return bad("max_length", too_small(max, 2));
        }
        if self.pad_to_multiple_of == Some(0) {
            return bad("pad_to_multiple_of", too_small(0, 1));
        }
        if self.max_samples == Some(0) {
            return bad("max_samples", too_small(0, 1));
        }
        if let Some(split) = self.validation_split {
            if self.validation.is_some() {
                return bad("validation_split", SettingProblem::Both("validation"));
            }
            let whole = split >= 1.0 && split.fract() == 0.0;
            if !(split > 0.0 && (split < 1.0 || whole)) {
                return bad("validation_split", SettingProblem::Split(split));
            }
        }
        if let (Some(train_on), Some(only)) = (self.train_on, self.completion_only_loss)
            && only == (train_on == TrainOn::All)
        {
            return bad("train_on", SettingProblem::Contradicts { train_on, only });
        }
        for (other, is_set) in [
            ("template", self.template.is_some()),
            ("completion_field", self.completion_field.is_some()),
        ] {
            if self.text_field.is_some() && is_set {
                return bad("text_field", SettingProblem::Both(other));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_table_and_names_an_unknown_key() {
        let config: DataConfig =
            toml::from_str("train = 'a.jsonl[:5]'\nmax_length = 64\nvalidation_split = 20")
                .unwrap();
        assert_eq!(config.validation_split, Some(20.0));
        assert_eq!(config.learnt(), TrainOn::Answers);
        let again: DataConfig = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
        let written = toml::to_string(&config).unwrap();
        assert!(written.contains("validation_split = 20\n"), "{written}");

        let error = toml::from_str::<DataConfig>("train = 'a'\nmaxlength = 3").unwrap_err();
        assert!(error.to_string().contains("maxlength"), "{error}");
    }

    #[test]
    fn refuses_settings_that_cannot_be() {
        let error = |change: &dyn Fn(&mut DataConfig)| {
            let mut config = DataConfig::new("a.jsonl");
            change(&mut config);
            let limits = Limits {
                max_positions: 1024,
                positions_key: "n_positions",
                has_last_position: true,
                adapter_positions: 0,
                vocab_size: 50257,
            };
            config.validate(limits).unwrap_err().to_string()
        };
        assert_eq!(
            error(&|c| c.max_length = Some(2048)),
            "data.max_length is 2048, more than the model's n_positions 1024"
        );
        let rotary = Limits {
            max_positions: 1024,
            positions_key: "max_position_embeddings",
            has_last_position: false,
            adapter_positions: 0,
            vocab_size: 50257,
        };
        let padded = |pad_to_multiple_of| DataConfig {
            pad_to_multiple_of: Some(pad_to_multiple_of),
            ..DataConfig::new("a.jsonl")
        };
        assert!(padded(1024).validate(rotary).is_ok());
        assert_eq!(
            padded(1025).validate(rotary).unwrap_err().to_string(),
            "data.pad_to_multiple_of is 1025, more than the model's max_position_embeddings 1024"
        );
        for (key, message) in [
            ("max_length", error(&|c| c.max_length = Some(1))),
            (
                "validation_split",
                error(&|c| c.validation_split = Some(0.0)),
            ),
            (
                "validation_split",
                error(&|c| c.validation_split = Some(1.5)),
            ),
            (
                "validation_split",
                error(&|c| c.validation_split = Some(f64::NAN)),
            ),
            (
                "pad_to_multiple_of",
                error(&|c| c.pad_to_multiple_of = Some(0)),
            ),
            ("max_samples", error(&|c| c.max_samples = Some(0))),
            (
                "train_on",
                error(&|c| {
                    c.train_on = Some(TrainOn::LastAnswer);
                    c.completion_only_loss = Some(false);
                }),
            ),
            (
                "train_on",
                error(&|c| {
                    c.train_on = Some(TrainOn::All);
                    c.completion_only_loss = Some(true);
                }),
            ),
        ] {
            assert!(message.starts_with(&format!("data.{key} is ")), "{message}");
        }
    }
}
