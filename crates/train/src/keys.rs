//! Which keys there are: for errors that help with a misspelt or an unsupported one.

use serde::de::{Deserialize, Deserializer, Error, Visitor};
use serde::forward_to_deserialize_any;
use toml::Table;

/// The keys of `TrainingArguments` (transformers 4 and 5) that are not supported yet: an error that
/// says so is better than one that calls them unknown, or than silence.
pub(crate) const UNSUPPORTED_ARGUMENTS: &str = "
    accelerator_config adafactor auto_find_batch_size average_tokens_across_devices
    batch_eval_metrics bf16_full_eval data_seed dataloader_drop_last dataloader_num_workers
    dataloader_persistent_workers dataloader_pin_memory dataloader_prefetch_factor ddp_backend
    ddp_broadcast_buffers ddp_bucket_cap_mb ddp_find_unused_parameters ddp_timeout debug deepspeed
    disable_tqdm do_eval do_predict do_train enable_jit_checkpoint eval_accumulation_steps
    eval_delay eval_do_concat_batches eval_on_start eval_use_gather_object evaluation_strategy
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

/// What is wrong with the first key of a table that is not `known`, if any is.
///
/// `unsupported` are, between spaces, keys of transformers that do nothing here yet.
pub(crate) fn unknown_key(
    table: &Table,
    prefix: &str,
    known: &[&str],
    unsupported: &str,
) -> Option<String> {
    let key = table.keys().find(|key| !known.contains(&key.as_str()))?;
    if unsupported.split_whitespace().any(|name| name == key) {
        return Some(format!(
            "{prefix}{key} is a key of transformers that this trainer does not support yet; remove it"
        ));
    }
    Some(misspelt(prefix, key, known))
}

/// That a key is not known, with the nearest that are.
pub(crate) fn misspelt(prefix: &str, key: &str, known: &[&str]) -> String {
    let near = nearest(key, known);
    match near.is_empty() {
        false => format!(
            "{prefix}{key} is no known key; did you mean {}?",
            near.join(" or ")
        ),
        true => format!(
            "{prefix}{key} is no known key; known are {}",
            known.join(", ")
        ),
    }
}

/// The keys that a table can have, read off the struct it becomes so that they cannot differ.
pub(crate) fn fields_of<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut fields: &[&str] = &[];
    // It only looks at the names: the error is that there is no value.
    T::deserialize(FieldNames(&mut fields)).ok();
    fields
}

/// A deserializer that takes down the names of a struct's fields, and has nothing to give.
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

/// The names that a misspelt one may have meant, the nearest first; three at most.
fn nearest<'a>(name: &str, names: &[&'a str]) -> Vec<&'a str> {
    let mut near: Vec<_> = names
        .iter()
        .map(|&candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .filter(|(distance, candidate)| {
            *distance <= 1 + candidate.len() / 4 || candidate.starts_with(name)
        })
        .collect();
    near.sort();
    near.into_iter()
        .take(3)
        .map(|(_, candidate)| candidate)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelt_unsupported_and_unknown_keys_are_told_apart() {
        let known = ["learning_rate", "max_steps", "seed"];
        let error = |text: &str| {
            let table = text.parse::<Table>().unwrap();
            unknown_key(&table, "training.", &known, "bf16 fp16")
        };
        assert_eq!(error("seed = 1\nmax_steps = 2"), None);
        assert_eq!(
            error("learnin_rate = 1").unwrap(),
            "training.learnin_rate is no known key; did you mean learning_rate?"
        );
        assert!(
            error("bf16 = true")
                .unwrap()
                .contains("does not support yet")
        );
        assert_eq!(
            error("zzz = 1").unwrap(),
            "training.zzz is no known key; known are learning_rate, max_steps, seed"
        );
    }
}
