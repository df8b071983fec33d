//! The commands that a run ends with and its report shows.

use std::path::Path;

use burn_peft::config::TaskType;
use burn_peft_data::example_prompt;
use burn_peft_train::TrainConfig;

use super::resume::quoted;

/// What a report suggests: in words, and the command.
pub fn commands(config: &TrainConfig, config_file: &Path, is_chat: bool) -> Vec<(String, String)> {
    let given = std::env::args().skip(1).map(|word| quoted(&word));
    let given: Vec<String> = given.collect();
    let dir = quoted(&config.training.output_dir.display().to_string());
    let again = quoted(&config_file.display().to_string());
    [
        ("this run", format!("peft {}", given.join(" "))),
        (
            "the same run, with every value written out",
            format!("peft train {again}"),
        ),
        ("use the result", generate_command(config, is_chat)),
        (
            "the curves in TensorBoard",
            format!("tensorboard --logdir {dir}"),
        ),
    ]
    .map(|(words, command)| (words.to_string(), command))
    .to_vec()
}

/// How to use the result: a chat model is talked to, another one continues a text.
pub fn generate_command(config: &TrainConfig, is_chat: bool) -> String {
    let dir = quoted(&config.training.output_dir.display().to_string());
    let (model, adapter) = if config.is_full_training() {
        (dir, String::new())
    } else {
        let tokenizer = config.tokenizer.as_ref();
        let tokenizer = tokenizer.map(|path| format!(" --tokenizer {}", quoted(path)));
        let adapter = format!(" --adapter {dir}{}", tokenizer.unwrap_or_default());
        (quoted(&config.model), adapter)
    };
    if config.objective().task_type != TaskType::CausalLm {
        return format!("peft predict --model {model}{adapter} --data FILE");
    }
    if is_chat {
        return format!("peft chat {model}{adapter}");
    }
    let sets = config.data.train.sets().into_iter();
    let mut templates = sets.filter_map(|set| config.data.of_set(&set).template);
    let prompt = templates.next().as_deref().map(example_prompt);
    let prompt = prompt.map_or("TEXT".to_string(), |prompt| quoted(&prompt));
    format!("peft generate --model {model}{adapter} --prompt {prompt}")
}
