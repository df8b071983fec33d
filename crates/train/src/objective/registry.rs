//! The objectives that a training file can name, a line for each.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, LazyLock};

use burn_peft::config::TaskType;
use burn_peft_data::{DataConfig, Lm, Task};
use burn_peft_models::{Labels, LanguageModel};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{EnumAccess, Error, VariantAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::configuration::arguments::TrainingArguments;
use crate::configuration::config::TrainConfig;
use crate::configuration::keys::fields_of;
use crate::error::{ConfigProblem, Result, TrainError};
use crate::objective::classify::ClassifyConfig;
use crate::objective::comparing::{Comparison, Preference};
use crate::objective::metric::Measures;
use crate::objective::preference::{
    CpoConfig, DpoConfig, KtoConfig, OrpoConfig, cpo, dpo, kto, orpo,
};
use crate::objective::reference::Reference;
use crate::objective::{Objective, classify, embed, lm, reward, tag};

/// All objectives; the first is the default.
pub(crate) static KINDS: [&Kind; 9] = [
    &SFT,
    &DPO,
    &KTO,
    &ORPO,
    &CPO,
    &reward::KIND,
    &classify::KIND,
    &tag::KIND,
    &embed::KIND,
];

/// Supervised fine-tuning: [`Lm`].
static SFT: Kind = Kind {
    name: "sft",
    task_type: TaskType::CausalLm,
    num_labels: None,
    measures: &lm::MEASURES,
    keys: || &[],
    has_table: |_| false,
    max_length: |_| None,
    fill: |_| (),
    check: |_| Ok(()),
    task: |_| Arc::new(Lm),
    reference: |_| false,
    build: |_, _| Ok(Arc::new(Lm)),
};

/// An entry for a [`Comparison`] whose table is the training file's field of that name.
macro_rules! comparing {
    ($name:ident, $Config:ty, $reference:expr) => {
        Kind {
            name: stringify!($name),
            task_type: TaskType::CausalLm,
            num_labels: None,
            measures: &$name::MEASURES,
            keys: fields_of::<$Config>,
            has_table: |config| config.$name.is_some(),
            max_length: |config| config.$name.as_ref()?.max_length,
            fill: |config| {
                let table = config.$name.get_or_insert_default();
                table.max_length = table.max_length.or(config.data.max_length);
            },
            check: |config| {
                let table = config.$name.clone().unwrap_or_default();
                check_length(stringify!($name), table.max_length, config.data.max_length)?;
                let problem = |(key, problem)| {
                    let name = stringify!($name);
                    ConfigProblem::Objective(format!("{name}.{key} {problem}"))
                };
                table.validate().map_err(problem)?;
                check_batches(stringify!($name), table.least_batch(), &config.training)
            },
            task: |config| Arc::new(config.$name.clone().unwrap_or_default().task()),
            reference: |_| $reference,
            build: |config, reference| {
                let config = config.$name.clone().unwrap_or_default();
                Ok(Arc::new(Preference::new(config, reference)))
            },
        }
    };
}

static DPO: Kind = comparing!(dpo, DpoConfig, true);
static KTO: Kind = comparing!(kto, KtoConfig, true);
static ORPO: Kind = comparing!(orpo, OrpoConfig, false);
static CPO: Kind = comparing!(cpo, CpoConfig, false);

/// Rejects batches with fewer rows than a loss needs.
pub(crate) fn check_batches(
    name: &str,
    least: usize,
    arguments: &TrainingArguments,
) -> std::result::Result<(), ConfigProblem> {
    let sizes = [
        ("train", arguments.per_device_train_batch_size),
        ("eval", arguments.per_device_eval_batch_size),
    ];
    match sizes.into_iter().find(|(_, rows)| *rows < least) {
        Some((of, rows)) => Err(ConfigProblem::Objective(format!(
            "training.per_device_{of}_batch_size is {rows}; with objective = \"{name}\" it must be \
             {least} or more"
        ))),
        None => Ok(()),
    }
}

/// Checks that the two keys for the length of rows do not contradict each other.
pub(crate) fn check_length(
    table: &str,
    said: Option<usize>,
    data: Option<usize>,
) -> std::result::Result<(), ConfigProblem> {
    match (said, data) {
        (Some(said), Some(data)) if said != data => Err(ConfigProblem::Objective(format!(
            "{table}.max_length is {said} and data.max_length {data}: both cut rows, leave one out"
        ))),
        _ => Ok(()),
    }
}

/// An objective that a training file can name.
pub struct Kind {
    /// Its name in `training.objective`; its keys are in a table of this name.
    pub name: &'static str,
    /// The head of its model.
    pub task_type: TaskType,
    /// The number of labels of the head, if it is the same for all data.
    pub num_labels: Option<usize>,
    /// What it measures.
    pub measures: &'static Measures,
    /// The keys of its table.
    pub keys: fn() -> &'static [&'static str],
    /// Whether its table is given.
    pub(crate) has_table: fn(&TrainConfig) -> bool,
    /// The length in tokens that its table cuts rows to, if it has such a key.
    pub(crate) max_length: fn(&TrainConfig) -> Option<usize>,
    /// Fills in the defaults of its table.
    pub(crate) fill: fn(&mut TrainConfig),
    /// Checks its table.
    pub(crate) check: fn(&TrainConfig) -> std::result::Result<(), ConfigProblem>,
    /// The task that turns rows into examples.
    pub task: fn(&TrainConfig) -> Arc<dyn Task>,
    /// Whether it needs a reference policy.
    pub reference: fn(&TrainConfig) -> bool,
    /// Creates the objective, with the [reference](Self::reference) if it needs one.
    #[expect(clippy::type_complexity, reason = "it is said once")]
    pub build: fn(
        &TrainConfig,
        Option<Reference<LanguageModel>>,
    ) -> Result<Arc<dyn Objective<LanguageModel>>>,
}

impl TrainConfig {
    /// As when reading the file, after the objective's table was filled in; `place` is the file's
    /// name in errors.
    ///
    /// # Errors
    /// The first invalid key of the table.
    pub fn recheck_objective(&self, place: &str) -> Result<()> {
        let checked = self.check_objective();
        checked.map_err(|problem| TrainError::config(place, problem))
    }

    /// A configuration for this objective only, with all keys at their defaults.
    pub fn of_objective(objective: ObjectiveName) -> Self {
        Self {
            model: String::new(),
            tokenizer: None,
            prompt: None,
            adapter: None,
            data: DataConfig::new(""),
            peft: None,
            quantization_config: None,
            distributed: None,
            reference: None,
            training: TrainingArguments {
                objective,
                ..TrainingArguments::default()
            },
            dpo: None,
            kto: None,
            orpo: None,
            cpo: None,
            classify: None,
            tag: None,
            embed: None,
            reward: None,
        }
    }

    /// The labels of the trained head, if the objective's table names them.
    pub fn head_labels(&self) -> Option<Labels> {
        let classify = self.classify.as_ref().and_then(ClassifyConfig::head_labels);
        classify.or_else(|| self.tag.as_ref()?.head_labels())
    }

    /// Copies the length in the objective's table to `data.max_length`.
    pub(crate) fn share_length(&mut self) {
        if let Some(length) = (self.objective().max_length)(self) {
            self.data.max_length = Some(length);
        }
    }

    /// Checks the objective's table, and that no other objective has one.
    pub(crate) fn check_objective(&self) -> std::result::Result<(), ConfigProblem> {
        let chosen = self.objective();
        let others = KINDS.iter().filter(|kind| kind.name != chosen.name);
        if let Some(other) = others.into_iter().find(|kind| (kind.has_table)(self)) {
            let (table, chosen) = (other.name, chosen.name);
            return Err(ConfigProblem::OtherObjective { table, chosen });
        }
        if self.reference.is_some() && !(chosen.reference)(self) {
            return Err(ConfigProblem::NoReference(chosen.name));
        }
        (chosen.check)(self)
    }
}

/// `training.objective`: what a model is trained for.
#[derive(Clone, Copy)]
pub struct ObjectiveName(&'static Kind);

impl ObjectiveName {
    /// The objective with this name.
    pub fn find(name: &str) -> Option<Self> {
        let kind = KINDS.into_iter().find(|kind| kind.name == name)?;
        Some(Self(kind))
    }

    /// Its entry.
    pub fn kind(self) -> &'static Kind {
        self.0
    }

    /// Whether it is that of a language model, which needs no table.
    pub fn is_default(&self) -> bool {
        self.0.name == SFT.name
    }
}

impl FromStr for ObjectiveName {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        Self::find(name).ok_or_else(|| format!("give one of {}", NAMES.join(", ")))
    }
}

impl fmt::Display for ObjectiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name)
    }
}

impl Default for ObjectiveName {
    fn default() -> Self {
        Self(&SFT)
    }
}

impl fmt::Debug for ObjectiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectiveName({})", self.0.name)
    }
}

impl PartialEq for ObjectiveName {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Serialize for ObjectiveName {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

static NAMES: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| KINDS.iter().map(|kind| kind.name).collect());

impl JsonSchema for ObjectiveName {
    fn schema_name() -> Cow<'static, str> {
        "ObjectiveName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": &*NAMES })
    }
}

/// Read like an enum with all names.
impl<'de> Deserialize<'de> for ObjectiveName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = ObjectiveName;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("enum ObjectiveName")
            }

            fn visit_enum<A: EnumAccess<'de>>(
                self,
                data: A,
            ) -> std::result::Result<ObjectiveName, A::Error> {
                let (name, variant) = data.variant::<String>()?;
                variant.unit_variant()?;
                ObjectiveName::find(&name).ok_or_else(|| A::Error::unknown_variant(&name, &NAMES))
            }
        }

        deserializer.deserialize_enum("ObjectiveName", &NAMES, Names)
    }
}
