//! Every value of a run and its origin, as `peft train --print-config` shows them.

use std::fmt;

use serde_json::Value as Json;
use toml::{Table, Value};

use crate::configuration::config::TrainConfig;
use crate::configuration::keys::fields_of;
use crate::configuration::peft_table::TOTAL_STEP;
use crate::configuration::values::parse_key;
use crate::error::{ConfigProblem, Result, TrainError};
use crate::objective::registry::KINDS;
use burn_peft_data::DataConfig;

/// The origin of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The default.
    Default,
    /// The training file.
    File,
    /// `--set` on the command line.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Flag => "flag",
        })
    }
}

/// A value of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The table it is in; empty for the first lines of the file.
    pub table: String,
    /// Its key.
    pub key: String,
    /// The value as TOML; `None` if the key is not set.
    pub value: Option<String>,
    /// Its origin.
    pub origin: Origin,
}

impl TrainConfig {
    /// Every value of this configuration, which was read from `text` and `overrides`
    /// ([`from_toml`](Self::from_toml)); `place` is the file's name in errors.
    ///
    /// # Errors
    /// If `[peft]` cannot be used, see [`method`](Self::method).
    pub fn settings(
        &self,
        text: &str,
        place: &str,
        overrides: &[impl AsRef<str>],
    ) -> Result<Vec<Setting>> {
        let mut shown = self.clone();
        (self.objective().fill)(&mut shown);
        let mut optional = Vec::new();
        if self.peft.is_some() && !self.is_full_training() {
            let method = self.method(place)?;
            optional = method.optional_keys();
            let mut peft = method.to_json();
            if self.wants_total_step() {
                peft.insert(TOTAL_STEP.into(), Json::Null);
            }
            shown.peft = Some(peft);
        }
        let problem = |said: String| TrainError::config(place, ConfigProblem::Toml(said));
        let file: Table = text
            .parse()
            .map_err(|e: toml::de::Error| problem(e.to_string()))?;
        let flags = overrides.iter().map(AsRef::as_ref);
        let flags: Vec<Vec<String>> = flags
            .filter_map(|text| parse_key(text.split_once('=')?.0.trim()))
            .collect();
        let origin = |path: &[&str]| {
            let touches = |flag: &Vec<String>| flag.iter().zip(path).all(|(a, b)| a == b);
            match () {
                () if flags.iter().any(touches) => Origin::Flag,
                () if contains(&file, path) => Origin::File,
                () => Origin::Default,
            }
        };

        let shown = serde_json::to_value(&shown).map_err(|e| problem(e.to_string()))?;
        let mut settings = Vec::new();
        for (name, value) in shown.as_object().into_iter().flatten() {
            let Json::Object(table) = value else {
                if !is_table(name) {
                    settings.push(Setting {
                        table: String::new(),
                        key: name.clone(),
                        value: to_toml(value),
                        origin: origin(&[name]),
                    });
                }
                continue;
            };
            let mut values: Vec<(&str, Option<String>)> = table
                .iter()
                .map(|(key, value)| (key.as_str(), to_toml(value)))
                .collect();
            if name == "data" {
                // A table is written without the keys that are not set.
                let left_out = fields_of::<DataConfig>().iter();
                let left_out = left_out.filter(|key| !table.contains_key(**key));
                values.extend(left_out.map(|key| (*key, None)));
            }
            if name == "peft" {
                // Without those that are unset by default, or that belong to a variant.
                values.retain(|(key, value)| {
                    let is_set = origin(&[name, key]) != Origin::Default;
                    let says = value.as_ref().is_some_and(|value| value != "{}");
                    is_set || says && !optional.contains(key)
                });
            }
            settings.extend(values.into_iter().map(|(key, value)| Setting {
                table: name.clone(),
                key: key.to_string(),
                value,
                origin: origin(&[name, key]),
            }));
        }
        Ok(settings)
    }
}

fn is_table(name: &str) -> bool {
    let tables = [
        "data",
        "distributed",
        "peft",
        "quantization_config",
        "training",
    ];
    tables.contains(&name) || KINDS.iter().any(|kind| kind.name == name)
}

/// The settings as a training file, with the origins as comments.
pub fn settings_toml(settings: &[Setting]) -> String {
    let mut out = String::new();
    let mut table = "";
    for setting in settings {
        if setting.table != table {
            table = &setting.table;
            out += &format!("\n[{table}]\n");
        }
        let Setting { key, origin, .. } = setting;
        let key = toml_key(key);
        let line = match &setting.value {
            Some(value) => format!("{key} = {value}"),
            None => format!("# {key} is not set"),
        };
        out += &format!("{line:<48} # {origin}\n");
    }
    out
}

/// A key in TOML: bare if possible.
fn toml_key(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !key.is_empty() && key.chars().all(bare) {
        key.to_string()
    } else {
        Value::String(key.to_string()).to_string()
    }
}

/// A value as TOML; null has none.
fn to_toml(value: &Json) -> Option<String> {
    let value = Value::try_from(value).ok()?;
    Some(value.to_string())
}

fn contains(table: &Table, path: &[&str]) -> bool {
    match path {
        [] => true,
        [name, rest @ ..] => match table.get(*name) {
            Some(Value::Table(inner)) => contains(inner, rest),
            Some(_) => rest.is_empty(),
            None => false,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
        model = 'm'
        [data]
        train = 'a.jsonl'
        [peft]
        r = 4
        rank_pattern = { 'h.0.attn.c_attn' = 2 }
        [training]
        output_dir = 'out'
        max_steps = 3
    ";

    #[test]
    fn every_value_says_where_it_came_from_and_the_text_repeats_the_run() {
        let overrides = ["training.max_steps=20", "peft.alpha_pattern.\"h.0\"=4"];
        let config = TrainConfig::from_toml(FILE, "a.toml", &overrides).unwrap();
        let settings = config.settings(FILE, "a.toml", &overrides).unwrap();
        let find = |table: &str, key: &str| {
            let found = settings.iter().find(|s| s.table == table && s.key == key);
            let found = found.unwrap_or_else(|| panic!("{table}.{key} in {settings:?}"));
            (found.value.clone(), found.origin)
        };
        let some = |value: &str| Some(value.to_string());
        assert_eq!(find("", "model"), (some("\"m\""), Origin::File));
        assert_eq!(find("", "prompt"), (None, Origin::Default));
        assert_eq!(find("data", "max_length"), (None, Origin::Default));
        assert_eq!(find("peft", "r"), (some("4"), Origin::File));
        assert_eq!(find("peft", "lora_alpha").1, Origin::Default);
        assert_eq!(find("peft", "alpha_pattern").1, Origin::Flag);
        for key in ["eva_config", "modules_to_save", "velora_config"] {
            assert!(!settings.iter().any(|setting| setting.key == key), "{key}");
        }
        assert_eq!(find("training", "max_steps"), (some("20"), Origin::Flag));
        assert_eq!(find("training", "seed"), (some("42"), Origin::Default));

        let text = settings_toml(&settings);
        let again = TrainConfig::from_toml(&text, "b.toml", &[""; 0]).unwrap();
        assert_eq!(again.training, config.training, "{text}");
        assert_eq!(again.data, config.data);
        let json = |config: &TrainConfig| config.method("b.toml").unwrap().to_json();
        assert_eq!(json(&again), json(&config));
    }
}
