//! The `[data]` table of a training file.

use crate::error::{DataError, Result, SettingProblem};
use crate::mixture::StoppingStrategy;
use crate::tokens::example::Limits;
use crate::tokens::train_on::TrainOn;
use crate::train_set::TrainSets;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// How a plain text file is split into rows, in the words of Hugging Face `datasets`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SampleBy {
    /// Each line that is not blank is a row.
    #[default]
    Line,
    /// Each block between blank lines is a row.
    Paragraph,
    /// The whole file is one text, cut into windows of `max_length` tokens, so that nothing is
    /// lost.
    Document,
}

/// The `[data]` table of a training file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataConfig {
    /// What to train on: a file, with an optional slice of its rows (`reviews.jsonl[:500]`); a data
    /// set on the Hub (`stanfordnlp/imdb:train[:500]`); a folder with a file for each split
    /// (`train.jsonl`, `valid.jsonl`), whose validation split is used for evaluation unless
    /// `validation` is set; or a list of those, each a string or a table ([`TrainSet`]).
    ///
    /// [`TrainSet`]: crate::TrainSet
    pub train: TrainSets,
    /// What to evaluate on, in the same forms; here the sets of a list have no weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<TrainSets>,
    /// How many rows of `train` to hold back for evaluation, where there is no `validation`; drawn
    /// by the seed. Below 1 it is a share of the rows, otherwise their number.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "whole_or_share"
    )]
    pub validation_split: Option<f64>,
    /// When an epoch of weighted sets ends; `first_exhausted` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopping_strategy: Option<StoppingStrategy>,
    /// Train on at most this many rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_samples: Option<usize>,
    /// Cut every row to this many tokens. Unless set, 2,048, or the model's number of positions if
    /// that is lower; a row that is longer than the positions is then an error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Pad every batch to a multiple of this number of tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad_to_multiple_of: Option<usize>,
    /// Pack several rows into one, up to `max_length` tokens. Each attends only to itself, and its
    /// positions count from 0.
    #[serde(default)]
    pub packing: bool,
    /// The column that holds the text, where the columns do not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_field: Option<String>,
    /// The template of a row's prompt, in which `{column}` stands for the value of a column. The
    /// completion is the column that `completion_field` names, else `completion`, `output`,
    /// `response` or `answer`; without any of them the filled template is the whole text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// The column that holds the completion of a template, a `prompt`, an `instruction` or a chat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_field: Option<String>,
    /// The column that holds the label of a text or the tags of its words; unless set, one of the
    /// usual names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_field: Option<String>,
    /// How a plain text file is split into rows.
    #[serde(default)]
    pub sample_by: SampleBy,
    /// What is learnt of a row: all of its answers (the default), only the last one, or the whole
    /// row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub train_on: Option<TrainOn>,
    /// The same under TRL's name: `false` means `train_on = "all"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completion_only_loss: Option<bool>,
    /// Variables for the chat template, such as `enable_thinking = false`. Those that a row sets
    /// itself take precedence.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub chat_template_kwargs: Map<String, Value>,
    /// The folder in which tokenised rows are cached;
    /// [`default_cache_dir`](crate::default_cache_dir) unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_dir: Option<PathBuf>,
}

/// Writes a number of rows as an integer: 12, not 12.0.
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
    /// The defaults for a file, as `peft eval --data FILE` uses them.
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

    /// What is learnt of a row, from whichever of the two keys is set.
    pub fn learnt(&self) -> TrainOn {
        let all = self.completion_only_loss == Some(false);
        let implied = if all { TrainOn::All } else { TrainOn::Answers };
        self.train_on.unwrap_or(implied)
    }

    /// Checks the numbers, against the model's limits where they depend on them.
    ///
    /// # Errors
    /// [`DataError::Setting`] names the first invalid key, [`DataError::Set`] a set's.
    pub fn validate(&self, limits: Limits) -> Result<()> {
        self.check()?;
        let too_long = |key, value| {
            let problem = SettingProblem::TooLong { value, limits };
            Err(DataError::setting(key, problem))
        };
        match (self.max_length, self.pad_to_multiple_of) {
            (Some(max), _) if limits.forbid(max) => too_long("max_length", max),
            // Learnt positions end, which the rows will show. With other positions, every row would
            // be longer than what the model was trained for.
            (_, Some(multiple)) if !limits.has_last_position && multiple > limits.max_positions => {
                too_long("pad_to_multiple_of", multiple)
            }
            _ => Ok(()),
        }
    }

    /// Checks what does not depend on the model.
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
