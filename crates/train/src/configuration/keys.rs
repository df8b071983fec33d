//! The known keys, for errors about misspelt or unsupported ones.

use burn_peft::LoraConfig;
use burn_peft::methods::known_keys;
use burn_peft_data::{DataConfig, TrainSet};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::forward_to_deserialize_any;
use toml::{Table, Value};

use crate::configuration::arguments::TrainingArguments;
use crate::configuration::config::TrainConfig;
use crate::configuration::distributed::DistributedConfig;
use crate::configuration::quantization::{self, BitsAndBytesConfig};
use crate::configuration::words::foreign_key;
use crate::error::ConfigProblem;
use crate::objective::registry::KINDS;

/// The keys of `TrainingArguments` (transformers 4 and 5) that are not supported yet: an error that
/// says so is better than one that calls them unknown, or than ignoring them.
pub(crate) const UNSUPPORTED_ARGUMENTS: &str = "
    accelerator_config adafactor auto_find_batch_size average_tokens_across_devices
    batch_eval_metrics bf16_full_eval data_seed dataloader_drop_last dataloader_num_workers
    dataloader_persistent_workers dataloader_pin_memory dataloader_prefetch_factor ddp_backend
    ddp_broadcast_buffers ddp_bucket_cap_mb ddp_find_unused_parameters ddp_timeout debug deepspeed
    disable_tqdm do_eval do_predict do_train enable_jit_checkpoint eval_accumulation_steps
    eval_delay eval_do_concat_batches eval_use_gather_object evaluation_strategy
    fp16_backend fp16_full_eval fp16_opt_level fsdp fsdp_config full_determinism
    gradient_checkpointing_kwargs
    half_precision_backend hub_always_push hub_model_id hub_private_repo hub_revision hub_strategy
    hub_token ignore_data_skip include_for_metrics include_inputs_for_metrics
    include_num_input_tokens_seen include_tokens_per_second jit_mode_eval label_names
    label_smoothing_factor length_column_name liger_kernel_config local_rank log_level
    log_level_replica log_on_each_node logging_dir logging_first_step logging_nan_inf_filter
    logging_strategy mp_parameters neftune_noise_alpha no_cuda optim_args optim_target_modules
    overwrite_output_dir parallelism_config past_index prediction_loss_only project push_to_hub
    ray_scope remove_unused_columns report_to restore_callback_states_from_checkpoint
    resume_from_checkpoint run_name save_on_each_node save_only_model save_safetensors
    skip_memory_metrics tf32 torch_compile torch_compile_backend torch_compile_mode
    torch_empty_cache_steps torchdynamo tpu_num_cores trackio_space_id use_cache use_cpu use_legacy_prediction_loop use_liger_kernel use_mps_device
";

/// The keys of a training file: those of the file itself, whose table is `""`, and those of its
/// tables.
pub(crate) struct Known {
    tables: Vec<(&'static str, Vec<String>)>,
}

impl Known {
    /// The keys of a file whose `[peft]` names this method.
    pub fn new(peft_type: &str) -> Self {
        let names = |fields: &[&str]| fields.iter().map(ToString::to_string).collect();
        // A misspelt method is reported by itself.
        let peft = known_keys(peft_type).or_else(|| known_keys(LoraConfig::PEFT_TYPE));
        let peft = peft.unwrap_or_default();
        let tables = vec![
            ("", names(fields_of::<TrainConfig>())),
            ("data", names(fields_of::<DataConfig>())),
            ("peft", peft),
            (
                "quantization_config",
                names(fields_of::<BitsAndBytesConfig>()),
            ),
            ("distributed", names(fields_of::<DistributedConfig>())),
            ("training", names(fields_of::<TrainingArguments>())),
        ];
        let objectives = KINDS.iter().filter(|kind| !(kind.keys)().is_empty());
        let objectives = objectives.map(|kind| (kind.name, names((kind.keys)())));
        let tables = tables.into_iter().chain(objectives).collect();
        Self { tables }
    }

    /// The keys of this file.
    pub fn of(file: &Table) -> Self {
        let peft_type = file.get("peft").and_then(|peft| peft.get("peft_type"));
        Self::new(
            peft_type
                .and_then(Value::as_str)
                .unwrap_or(LoraConfig::PEFT_TYPE),
        )
    }

    /// The first unknown key of a file, and what is wrong with it; keys of `[peft]` are left to the
    /// method.
    pub fn first_unknown(&self, file: &Table) -> Option<(Vec<String>, ConfigProblem)> {
        self.tables.iter().find_map(|(table, known)| {
            let (keys, mut path) = match *table {
                "" => (file, Vec::new()),
                "peft" => return None,
                name => (file.get(name)?.as_table()?, vec![name.to_string()]),
            };
            if *table == "data"
                && let Some(unknown) = (["train", "validation"].into_iter())
                    .find_map(|list| self.unknown_of_set(keys, list))
            {
                return Some(unknown);
            }
            let key = keys.keys().find(|key| !known.contains(key))?;
            path.push(key.clone());
            Some((path, self.misspelt(table, key)))
        })
    }

    /// The first unknown key of a table in such a list, and what is wrong with it.
    fn unknown_of_set(&self, data: &Table, list: &str) -> Option<(Vec<String>, ConfigProblem)> {
        let own = fields_of::<TrainSet>();
        let own: Vec<String> = own.iter().map(ToString::to_string).collect();
        let entries = data.get(list)?.as_array()?.iter().enumerate();
        let mut keys = entries.flat_map(|(index, entry)| {
            let keys = entry.as_table().into_iter().flat_map(Table::keys);
            keys.map(move |key| (index, key))
        });
        let (index, key) = keys.find(|(_, key)| !own.contains(key))?;
        let (others, note) = self.meant("data", key);
        // `data.train` is the set itself.
        let others = others.into_iter().map(|path| match path.as_str() {
            "data.train" => "path".to_string(),
            other => {
                let short = other.strip_prefix("data.").unwrap_or_default();
                if has(&own, short) {
                    short.to_string()
                } else {
                    path
                }
            }
        });
        let is = |words: &str| words.split_whitespace().any(|word| word == key);
        let word = OF_SETS.iter().find(|(words, _)| is(words));
        let meant = match (word, nearest(key, &own)) {
            (Some((_, ours)), _) => vec![ours.to_string()],
            (None, near) if !near.is_empty() => near.into_iter().map(Into::into).collect(),
            _ => others.collect(),
        };
        let entry = format!("{list}[{index}]");
        let problem = ConfigProblem::UnknownKey {
            key: format!("data.{entry}.{key}"),
            meant,
            note,
            known: own,
        };
        Some((vec!["data".into(), entry, key.clone()], problem))
    }

    /// What is wrong with a key that this table does not have, and what may have been meant.
    pub fn misspelt(&self, table: &str, key: &str) -> ConfigProblem {
        let unsupported = match table {
            "training" => UNSUPPORTED_ARGUMENTS,
            "quantization_config" => quantization::UNSUPPORTED,
            _ => "",
        };
        let written = path(table, key);
        let (meant, note) = self.meant(table, key);
        let is_unsupported = unsupported.split_whitespace().any(|name| name == key);
        if is_unsupported && foreign_key(key).is_none() {
            return ConfigProblem::Unsupported(written);
        }
        // Within one table, the key alone is enough.
        let prefix = path(table, "");
        let short = |path: &String| path.strip_prefix(&prefix).unwrap_or(path).to_string();
        ConfigProblem::UnknownKey {
            key: written,
            meant: meant.iter().map(short).collect(),
            note,
            known: self.keys(table).to_vec(),
        }
    }

    /// The paths of the keys that an unknown key of this table may have meant, the most likely
    /// first, with a remark.
    pub fn meant(&self, table: &str, key: &str) -> (Vec<String>, &'static str) {
        // A word of other tools is more likely to be meant in their sense than as a key of one
        // objective.
        let is_foreign = foreign_key(key).is_some();
        let is_of_objective = |name: &str| KINDS.iter().any(|kind| kind.name == name);
        let elsewhere = self
            .tables
            .iter()
            .filter(|(name, keys)| has(keys, key) && !(is_foreign && is_of_objective(name)));
        let elsewhere: Vec<&str> = elsewhere.map(|(table, _)| *table).collect();
        // Keys of other tables are more likely to be meant than a key of one objective.
        let is_elsewhere = elsewhere.iter().any(|name| !is_of_objective(name));
        let elsewhere = elsewhere.into_iter();
        let elsewhere = elsewhere.filter(|name| !is_elsewhere || !is_of_objective(name));
        let elsewhere: Vec<String> = elsewhere.map(|table| path(table, key)).collect();
        if !elsewhere.is_empty() {
            return (elsewhere, "");
        }
        if let Some((ours, note)) = foreign_key(key) {
            let ours = ours.into_iter().filter(|path| self.has(path));
            let ours: Vec<String> = ours.map(Into::into).collect();
            if !ours.is_empty() || !note.is_empty() {
                return (ours, note);
            }
        }
        let near = |table: &str| -> Vec<String> {
            let near = nearest(key, self.keys(table)).into_iter();
            near.map(|key| path(table, key)).collect()
        };
        let here = near(table);
        if !here.is_empty() || key.len() < SHORT {
            return (here, "");
        }
        let others = self.tables.iter().filter(|(other, _)| *other != table);
        let mut there: Vec<String> = others.flat_map(|(other, _)| near(other)).collect();
        there.truncate(MOST);
        (there, "")
    }

    /// Whether a key with this path exists.
    pub fn has(&self, path: &str) -> bool {
        let (table, key) = path.split_once('.').unwrap_or(("", path));
        has(self.keys(table), key)
    }

    fn keys(&self, table: &str) -> &[String] {
        let found = self.tables.iter().find(|(name, _)| *name == table);
        found.map_or(&[], |(_, keys)| keys)
    }
}

/// The keys of a training file that other tools call `word`, or that are spelt similarly, the most
/// likely first: `training.learning_rate` for `lr`.
pub fn keys_meant_by(word: &str) -> Vec<String> {
    Known::new(LoraConfig::PEFT_TYPE).meant("", word).0
}

fn has(keys: &[String], key: &str) -> bool {
    keys.iter().any(|known| known == key)
}

/// How a key is written after `--set`.
fn path(table: &str, key: &str) -> String {
    match table {
        "" => key.to_string(),
        table => format!("{table}.{key}"),
    }
}

/// The keys that a table can have, taken from its struct so that they cannot differ.
pub(crate) fn fields_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &[&str] = &[];
    // Only the names matter: the error is that there is no value.
    T::deserialize(FieldNames(&mut fields)).ok();
    fields
}

/// A deserializer that records the names of a struct's fields and provides no values.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(Self::Error::custom("no value"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(Self::Error::custom("no struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// Other tools' names for the keys of a data set in a list.
const OF_SETS: [(&str, &str); 2] = [
    (
        "probability probabilities prob proportion ratio fraction share",
        "weight",
    ),
    ("file files data data_files name id", "path"),
];

/// Shorter names are similar to too many others.
const SHORT: usize = 4;
/// The most suggestions that are offered.
const MOST: usize = 3;

/// The names that a misspelt one may have meant, the most similar first.
fn nearest<'a>(name: &str, names: &'a [String]) -> Vec<&'a str> {
    let name = name.to_lowercase().replace('-', "_");
    let mut near: Vec<_> = names
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&name, candidate), candidate))
        .filter(|(distance, candidate)| {
            let few = (1 + candidate.len() / 4).min(candidate.len() - 1);
            *distance <= few || candidate.starts_with(&name)
        })
        .collect();
    near.sort();
    let near = near.into_iter().take(MOST);
    near.map(|(_, candidate)| candidate.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misspelt(path: &str) -> String {
        let (table, key) = path.split_once('.').unwrap_or(("", path));
        let problem = Known::new("LORA").misspelt(table, key).to_string();
        let (_, rest) = problem.split_once(" is ").unwrap();
        let rest = rest.strip_prefix("not a known key; ").unwrap_or(rest);
        rest.strip_prefix("did you mean ")
            .unwrap_or(rest)
            .to_string()
    }

    #[test]
    fn misspelt_unsupported_and_unknown_keys_are_told_apart() {
        assert_eq!(misspelt("training.learnin_rate"), "learning_rate?");
        assert!(misspelt("training.fsdp").contains("does not support yet"));
        assert!(misspelt("data.zzz").starts_with("known: train, validation"));
        assert_eq!(misspelt("data.Max-Length"), "max_length?");
        let file: Table = "model = 'a'\n[training]\nseed = 1".parse().unwrap();
        assert_eq!(Known::of(&file).first_unknown(&file), None);
    }

    #[test]
    fn a_key_of_another_table_is_named_with_its_table() {
        for (key, meant) in [
            ("learning_rate", "training.learning_rate?"),
            ("r", "peft.r?"),
            ("max_length", "data.max_length?"),
            ("load_in_4bit", "quantization_config.load_in_4bit?"),
            ("peft.learning_rate", "training.learning_rate?"),
            ("training.model", "model?"),
            ("training.lora_alpha", "peft.lora_alpha?"),
            ("lerning_rate", "training.learning_rate?"),
        ] {
            assert_eq!(misspelt(key), meant, "{key}");
        }
    }

    #[test]
    fn words_of_other_tools_name_ours() {
        for (key, meant) in [
            ("lora_r", "peft.r?"),
            ("peft.lora_r", "r?"),
            ("peft.lora_rank", "r?"),
            ("peft.rank", "r?"),
            ("peft.alpha", "lora_alpha?"),
            ("peft.dropout", "lora_dropout?"),
            ("training.lr", "learning_rate?"),
            ("training.epochs", "num_train_epochs?"),
            ("num_epochs", "training.num_train_epochs?"),
            ("iters", "training.max_steps?"),
            ("training.batch_size", "per_device_train_batch_size?"),
            ("micro_batch_size", "training.per_device_train_batch_size?"),
            ("training.max_seq_length", "data.max_length?"),
            ("training.warmup", "warmup_steps or warmup_ratio?"),
            ("scheduler", "training.lr_scheduler_type?"),
            ("evaluation_strategy", "training.eval_strategy?"),
            ("lora", "peft?"),
            (
                "train_on_inputs",
                "data.completion_only_loss (it is true where that is false)?",
            ),
            (
                "training.resume_from_checkpoint",
                "peft train FILE --resume continues a run that was stopped",
            ),
        ] {
            assert_eq!(misspelt(key), meant, "{key}");
        }
        // As the file's method calls it.
        let known = Known::new("LOHA");
        assert_eq!(known.meant("peft", "dropout").0, ["peft.module_dropout"]);
        assert_eq!(
            keys_meant_by("batch-size"),
            ["training.per_device_train_batch_size"]
        );
    }
}
