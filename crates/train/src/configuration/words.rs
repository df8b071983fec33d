//! Other tools' names for the keys of a training file: peft and transformers, trl, mlx-lm, axolotl,
//! torchtune, unsloth, LLaMA-Factory, litgpt and lightning.

/// Other tools' words, the corresponding keys here, and a remark. If there are several keys, those
/// of the file's method count; if there is none, the remark is the answer.
type Row = (&'static str, &'static str, &'static str);

const ROWS: &[Row] = &[
    // The file itself.
    (
        "base_model base_model_name base_model_name_or_path model_name model_name_or_path model_path \
         model_id pretrained_model pretrained_model_name_or_path checkpoint_dir hf_path",
        "model",
        "",
    ),
    (
        "tokenizer_path tokenizer_name tokenizer_name_or_path tokenizer_config",
        "tokenizer",
        "",
    ),
    (
        "resume_adapter_file lora_model_dir adapter_name_or_path adapter_dir lora_path",
        "adapter",
        "",
    ),
    (
        "sample_prompt sample_prompts test_prompt eval_prompt prompts",
        "prompt",
        "",
    ),
    (
        "lora lora_config lora_parameters lora_args peft_config adapter_config",
        "peft",
        "",
    ),
    (
        "train trainer training_args training_arguments train_args hyperparameters",
        "training",
        "",
    ),
    (
        "quantization quantize quantization_bit bnb bnb_config bitsandbytes qlora bits",
        "quantization_config.load_in_4bit",
        "",
    ),
    // [data]
    (
        "dataset datasets dataset_name dataset_path dataset_dir data_path data_dir train_file \
         train_files train_data train_dataset train_path path",
        "data.train",
        "",
    ),
    (
        "valid val eval test validation_file valid_file eval_file val_file val_data eval_data \
         eval_dataset val_dataset test_dataset test_datasets validation_data",
        "data.validation",
        "",
    ),
    (
        "val_set_size val_size test_size validation_size eval_split val_split split_ratio \
         train_test_split validation_split_percentage",
        "data.validation_split",
        "",
    ),
    (
        "max_seq_length max_seq_len seq_length seq_len sequence_len sequence_length cutoff_len \
         model_max_length block_size context_length max_len max_tokens max_prompt_length",
        "data.max_length",
        "",
    ),
    (
        "text_column dataset_text_field text_key text_feature field column",
        "data.text_field",
        "",
    ),
    (
        "prompt_template prompt_format chat_template_prompt data_template",
        "data.template",
        "",
    ),
    ("sample_packing pack packed", "data.packing", ""),
    (
        "max_train_samples num_samples max_examples num_train_samples max_rows",
        "data.max_samples",
        "",
    ),
    (
        "train_on_inputs train_on_input train_on_source train_on_prompt",
        "data.completion_only_loss",
        "it is true where that is false",
    ),
    (
        "mask_prompt mask_inputs mask_input train_on_responses_only train_on_completions_only \
         assistant_only_loss response_only",
        "data.completion_only_loss",
        "",
    ),
    (
        "mask_history train_on_last_turn last_turn_only last_round",
        "data.train_on",
        "\"last_answer\" learns the last answer alone",
    ),
    (
        "pad_to_sequence_len pad_multiple",
        "data.pad_to_multiple_of",
        "",
    ),
    // [peft]
    (
        "lora_r lora_rank lora_dim rank dim network_dim r_lora",
        "peft.r peft.num_virtual_tokens",
        "",
    ),
    (
        "alpha network_alpha lora_scaling scaling",
        "peft.lora_alpha peft.alpha",
        "",
    ),
    ("scale", "peft.lora_alpha", "mlx-lm's scale times r"),
    (
        "dropout lora_drop adapter_dropout",
        "peft.lora_dropout peft.vera_dropout peft.vblora_dropout peft.hira_dropout \
         peft.boft_dropout peft.gralora_dropout peft.randlora_dropout peft.miss_dropout \
         peft.module_dropout peft.encoder_dropout",
        "",
    ),
    (
        "lora_target_modules lora_modules lora_target target lora_attn_modules keys modules \
         target_layers lora_layers_names",
        "peft.target_modules",
        "",
    ),
    (
        "lora_target_linear apply_lora_to_mlp apply_lora_to_output target_linear",
        "peft.target_modules",
        "\"all-linear\" takes every linear layer",
    ),
    (
        "lora_layers num_layers num_lora_layers n_layers layers",
        "peft.layers_to_transform peft.num_layers",
        "",
    ),
    (
        "lora_modules_to_save additional_target trainable_modules save_modules",
        "peft.modules_to_save",
        "",
    ),
    ("dora lora_use_dora peft_use_dora", "peft.use_dora", ""),
    (
        "rslora lora_use_rslora peft_use_rslora",
        "peft.use_rslora",
        "",
    ),
    (
        "method peft_method adapter_type finetuning_type fine_tune_type train_type \
         tuner_type",
        "peft.peft_type",
        "",
    ),
    (
        "init_weights init_lora lora_init pissa_init peft_init_lora_weights",
        "peft.init_lora_weights",
        "",
    ),
    (
        "virtual_tokens prompt_length prefix_length n_virtual_tokens num_prefix_tokens",
        "peft.num_virtual_tokens",
        "",
    ),
    // [training]
    (
        "output output_path out out_dir save_path save_dir adapter_path checkpoint_path",
        "training.output_dir",
        "",
    ),
    (
        "epochs epoch num_epochs n_epochs max_epochs train_epochs",
        "training.num_train_epochs",
        "",
    ),
    (
        "iters iterations max_iters num_iters steps num_steps total_steps max_train_steps \
         train_steps max_steps_per_epoch num_training_steps",
        "training.max_steps",
        "",
    ),
    (
        "batch_size micro_batch_size batch train_batch_size per_gpu_train_batch_size \
         train_micro_batch_size mini_batch_size per_device_batch_size global_batch_size bs",
        "training.per_device_train_batch_size",
        "",
    ),
    (
        "eval_batch_size val_batch_size per_gpu_eval_batch_size eval_micro_batch_size",
        "training.per_device_eval_batch_size",
        "",
    ),
    (
        "grad_accumulation_steps gradient_accumulation grad_accumulation grad_accum \
         grad_accum_steps accumulate_grad_batches accumulation_steps accumulation",
        "training.gradient_accumulation_steps",
        "",
    ),
    ("lr rate max_lr base_lr", "training.learning_rate", ""),
    ("optimizer optimiser optim_name", "training.optim", ""),
    ("adafactor", "training.optim", "\"adafactor\" is one"),
    ("wd decay weightdecay", "training.weight_decay", ""),
    ("beta1 adam_b1", "training.adam_beta1", ""),
    ("beta2 adam_b2", "training.adam_beta2", ""),
    ("epsilon eps adam_eps", "training.adam_epsilon", ""),
    (
        "grad_clip gradient_clip gradient_clipping gradient_clip_val clip_grad clip_grad_norm \
         clip_grad_max_norm max_norm grad_norm",
        "training.max_grad_norm",
        "",
    ),
    (
        "scheduler lr_scheduler lr_schedule schedule scheduler_type lr_decay_style",
        "training.lr_scheduler_type",
        "",
    ),
    (
        "scheduler_kwargs lr_scheduler_args scheduler_args",
        "training.lr_scheduler_kwargs",
        "",
    ),
    (
        "warmup lr_warmup",
        "training.warmup_steps training.warmup_ratio",
        "",
    ),
    (
        "num_warmup_steps warmup_iters lr_warmup_steps lr_warmup_iters",
        "training.warmup_steps",
        "",
    ),
    (
        "warmup_proportion lr_warmup_ratio warmup_fraction",
        "training.warmup_ratio",
        "",
    ),
    (
        "steps_per_report log_every log_every_n_steps log_steps log_interval log_freq report_every",
        "training.logging_steps",
        "",
    ),
    (
        "evaluation_strategy eval_interval_strategy",
        "training.eval_strategy",
        "",
    ),
    (
        "steps_per_eval eval_every eval_interval eval_freq eval_iters evals_per_epoch \
         val_check_interval evaluation_steps val_steps",
        "training.eval_steps training.eval_strategy",
        "",
    ),
    (
        "save_every save_freq save_interval steps_per_save saves_per_epoch checkpoint_every \
         checkpointing_steps checkpoint_interval",
        "training.save_steps",
        "",
    ),
    (
        "max_checkpoints keep_checkpoints checkpoints_total_limit max_to_keep keep_last_n",
        "training.save_total_limit",
        "",
    ),
    (
        "early_stopping patience early_stop_patience early_stop",
        "training.early_stopping_patience",
        "",
    ),
    (
        "grad_checkpoint gradient_checkpoint grad_checkpointing use_gradient_checkpointing \
         activation_checkpointing enable_activation_checkpointing",
        "training.gradient_checkpointing",
        "",
    ),
    (
        "mixed_precision precision dtype torch_dtype compute_type half bfloat16",
        "training.bf16",
        "",
    ),
    ("float16 half_precision", "training.fp16", ""),
    (
        "random_seed random_state train_seed rng_seed data_seed",
        "training.seed",
        "",
    ),
    (
        "loraplus loraplus_ratio loraplus_lr",
        "training.loraplus_lr_ratio",
        "",
    ),
    (
        "sort_by_length bucket_by_length",
        "training.group_by_length",
        "",
    ),
    (
        "shuffle",
        "training.train_sampling_strategy",
        "\"sequential\" does not shuffle",
    ),
    (
        "resume resume_from_checkpoint resume_from auto_resume_from_checkpoints",
        "",
        "peft train FILE --resume continues a run that was stopped",
    ),
    (
        "overwrite_output_dir overwrite",
        "",
        "peft train FILE --force trains into the folder of a finished run",
    ),
    (
        "device devices device_map no_cuda use_cpu use_cuda gpu accelerator use_mps_device",
        "",
        "peft train FILE --device says where it computes",
    ),
];

/// Other tools' methods and variants, and how a `[peft]` table expresses them.
const METHODS: &[(&str, &str)] = &[
    ("DORA", "peft_type = \"LORA\" with use_dora = true"),
    (
        "QLORA BNB",
        "peft_type = \"LORA\" with load_in_4bit = true in [quantization_config]",
    ),
    (
        "QDORA",
        "peft_type = \"LORA\" with use_dora = true, and load_in_4bit = true in [quantization_config]",
    ),
    ("RSLORA RS", "peft_type = \"LORA\" with use_rslora = true"),
    (
        "LORAPLUS",
        "peft_type = \"LORA\" with loraplus_lr_ratio = 16 in [training]",
    ),
    (
        "LORAFA",
        "peft_type = \"LORA\" with optim = \"lorafa\" in [training]",
    ),
    (
        "PISSA",
        "peft_type = \"LORA\" with init_lora_weights = \"pissa\"",
    ),
    (
        "OLORA",
        "peft_type = \"LORA\" with init_lora_weights = \"olora\"",
    ),
    (
        "EVA",
        "peft_type = \"LORA\" with init_lora_weights = \"eva\"",
    ),
    (
        "LOFTQ",
        "peft_type = \"LORA\" with init_lora_weights = \"loftq\"",
    ),
    (
        "FULL FULLFINETUNING FULLFINETUNE FFT SFT FINETUNE ALL FULLTUNING",
        "peft_type = \"NONE\", which trains all weights",
    ),
    ("IA3 IAAA", "peft_type = \"IA3\""),
    ("PREFIX PREFIXTUNE", "peft_type = \"PREFIX_TUNING\""),
    (
        "PROMPT SOFTPROMPT SOFTPROMPTS PROMPTTUNE",
        "peft_type = \"PROMPT_TUNING\"",
    ),
    ("PTUNE PTUNINGV1", "peft_type = \"P_TUNING\""),
    ("PTUNINGV2", "peft_type = \"PREFIX_TUNING\""),
    (
        "ADAPTER ADAPTERS HOULSBY PFEIFFER PARALLELADAPTER SERIESADAPTER",
        "peft_type = \"BOTTLENECK\"",
    ),
    ("LN LAYERNORM NORM", "peft_type = \"LN_TUNING\""),
    ("LOCON LYCORIS", "peft_type = \"LOHA\" or \"LOKR\""),
    ("FOURIER FT", "peft_type = \"FOURIERFT\""),
];

/// The keys here that correspond to another tool's word, and a remark.
pub(crate) fn foreign_key(word: &str) -> Option<(Vec<&'static str>, &'static str)> {
    let word = plain(word);
    let says = |words: &str| words.split_whitespace().any(|other| plain(other) == word);
    let (_, ours, note) = ROWS.iter().find(|(words, ..)| says(words))?;
    Some((ours.split_whitespace().collect(), note))
}

/// How a `[peft]` table expresses what other tools call `name`.
pub(crate) fn foreign_method(name: &str, known: &[String]) -> Option<String> {
    let name = plain(name);
    if let Some(ours) = known.iter().find(|ours| plain(ours) == name) {
        return Some(format!("peft_type = \"{ours}\""));
    }
    let is = |words: &str| {
        let mut words = words.split_whitespace();
        words.any(|word| plain(word) == name)
    };
    let (_, ours) = METHODS.iter().find(|(words, _)| is(words))?;
    Some(ours.to_string())
}

/// A word without differences in case, dashes and underscores: `batchSize` and `--batch-size` are
/// `batch_size`.
fn plain(word: &str) -> String {
    let letters = word.chars().filter(|c| c.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::keys::Known;

    #[test]
    fn every_word_names_keys_that_there_are_and_stands_once() {
        let mut seen = std::collections::BTreeMap::new();
        for (words, ours, note) in ROWS {
            assert!(!ours.is_empty() || !note.is_empty(), "{words}");
            for path in ours.split_whitespace() {
                let mut methods = burn_peft::methods::peft_types().into_iter();
                assert!(
                    methods.any(|method| Known::new(&method).has(path)),
                    "{words}: {path}"
                );
            }
            for word in words.split_whitespace() {
                let before = seen.insert(plain(word), words);
                assert_eq!(before, None, "{word}");
                assert!(
                    !ours.split_whitespace().any(|path| path == word),
                    "{word} is ours"
                );
            }
        }
    }

    #[test]
    fn methods_of_other_tools_are_said_as_here() {
        let known = burn_peft::methods::peft_types();
        let ours = |name: &str| foreign_method(name, &known).unwrap_or_default();
        assert_eq!(ours("lora"), "peft_type = \"LORA\"");
        assert_eq!(ours("prefix-tuning"), "peft_type = \"PREFIX_TUNING\"");
        assert_eq!(ours("LoRA+"), "peft_type = \"LORA\"");
        assert!(ours("dora").contains("use_dora = true"));
        assert!(ours("QLoRA").contains("load_in_4bit = true"));
        assert!(ours("full").contains("NONE"));
        assert_eq!(ours("SPAM"), "");
    }
}
