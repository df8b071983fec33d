//! Hints for a wrong call, for users who know the words of other tools.

use std::ffi::OsString;

use burn_peft::methods::peft_types;
use burn_peft_train::keys_meant_by;
use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Commands of other tools (mlx-lm, axolotl, LLaMA-Factory, torchtune, ollama, the Hub's), and what
/// does their job here.
const COMMANDS: &[(&str, &str)] = &[
    (
        "lora qlora dora finetune fine-tune tune sft fit run fine_tune training trainer lora.py",
        "`peft train FILE` trains an adapter, and `peft new NAME --model M --train DATA` writes the \
         FILE",
    ),
    (
        "full full-finetune pretrain",
        "`peft train FILE` trains all weights if FILE has peft_type = \"NONE\", and \
         `peft new NAME --template full` writes one",
    ),
    (
        "classify classifier classification sentiment ner tag label labels",
        "`peft train FILE` trains a classifier if FILE has training.objective = \"classify\" (texts) or \
         \"tag\" (words), and `peft predict` gives the labels",
    ),
    (
        "dpo orpo kto ppo grpo rlhf reward rm distill",
        "`peft train FILE` learns from preferences if FILE has training.objective = \"dpo\", \"kto\", \
         \"orpo\", \"cpo\" or \"reward\" (docs/preference.md); it does not sample answers while \
         it trains, as PPO and GRPO do",
    ),
    (
        "resume continue",
        "`peft train FILE --resume` continues a run that was stopped",
    ),
    (
        "serve server api deploy vllm openai",
        "peft serves no requests; `peft merge` writes a folder that servers of Hugging Face models \
         accept, and many accept the adapter's folder as it is; `peft export` writes a file for the \
         servers of llama.cpp and Ollama",
    ),
    (
        "save onnx unload merge_and_unload merge-lora mergelora",
        "`peft merge` writes the model with its adapter as a Hugging Face folder, which other tools \
         convert further; `peft export` as a GGUF file",
    ),
    (
        "gguf convert-gguf to-gguf llama.cpp llamacpp ollama lmstudio convert_hf_to_gguf \
         convert_lora_to_gguf save_pretrained_gguf llama-quantize",
        "`peft export --model M --adapter A --output OUT.gguf` writes one file for llama.cpp, Ollama and \
         LM Studio",
    ),
    (
        "talk converse cli repl interactive",
        "`peft chat MODEL` talks to a model, `peft chat MODEL --adapter A` to one with an adapter",
    ),
    (
        "infer inference complete sample ask prompt",
        "`peft generate --model M --adapter A --prompt TEXT` continues a text",
    ),
    (
        "quantize quant quantise bnb awq gptq",
        "models are quantised while they are loaded: --load-in-4bit of `peft generate` and \
         `peft eval`, and [quantization_config] in a training file; `peft export --outtype q4_k_m` writes \
         a GGUF file",
    ),
    (
        "evaluate evaluation test ppl perplexity bench benchmark lm_eval lm-eval score validate",
        "`peft eval --model M --adapter A --data FILE` gives loss and perplexity, with --generate how many \
         questions are answered right",
    ),
    (
        "preprocess tokenize prepare dataset datasets stats lengths",
        "`peft data FILE --model M` shows a file of rows as training sees it; training tokenises it \
         itself",
    ),
    (
        "download pull fetch get cp ls",
        "--model and `model` take the id of a model on the Hub, which is fetched when it is used",
    ),
    (
        "upload push publish share manage",
        "an adapter's folder is uploaded as it is: `hf upload ORGANISATION/NAME DIR`",
    ),
    (
        "login auth token whoami",
        "the Hub's token is read from HF_TOKEN, or from where `hf auth login` puts it",
    ),
    (
        "create config configure template example start setup generate-config",
        "`peft new NAME` writes a training file with a comment on every line",
    ),
    (
        "show info print summary params parameters modules layers list targets tree describe",
        "`peft inspect --model M` shows the tree of a model and which parameters are trained",
    ),
    (
        "mix blend ties dare average add_weighted_adapter mergekit soup",
        "`peft combine --adapter A:0.7 --adapter B:0.3 --output O` combines several adapters into one",
    ),
    (
        "gpu gpus device cuda",
        "`peft devices` lists what this machine and this build can compute on",
    ),
    (
        "env version bug report diagnose check",
        "`peft doctor` shows what a bug report needs",
    ),
    (
        "completion autocomplete",
        "`peft completions SHELL` prints the completion script for a shell",
    ),
    (
        "dashboard tui monitor webui ui studio",
        "`peft train FILE --tui` shows Burn's dashboard; report.html is written by every run",
    ),
    ("logits", "`peft forward` writes the logits of given tokens"),
];

/// Options of other tools that have another name here; those of `peft train` are keys of its file.
const OPTIONS: &[(&str, &str)] = &[
    (
        "adapter_path adapter_name_or_path adapter_file lora lora_path lora_model_dir peft \
         peft_model adapters",
        "--adapter",
    ),
    (
        "model_path model_name_or_path base_model model_name model_id pretrained hf_path m",
        "--model",
    ),
    (
        "max_tokens max_length max_new n_predict num_tokens new_tokens max_gen_len",
        "--max-new-tokens",
    ),
    ("temp", "--temperature"),
    (
        "save_path out out_dir output_dir output_path export_dir save_dir o",
        "--output",
    ),
    ("outfile", "--output"),
    ("ftype out_type quantization_method", "--outtype"),
    ("dataset data_path file input_file", "--data"),
    (
        "tokenizer_path tokenizer_name_or_path tokenizer_name",
        "--tokenizer",
    ),
    ("p text input question message", "--prompt"),
    ("apply_chat_template chat_template chat_mode", "--chat"),
    ("conversation conversations history", "--messages"),
    ("system_prompt system_message", "--system"),
    (
        "predict_with_generate do_predict generative answers",
        "--generate",
    ),
    (
        "quantize quantization bits load_in_4_bit quant",
        "--load-in-4bit",
    ),
    ("torch_dtype precision", "--dtype"),
    ("gpu cuda device_map", "--device"),
    ("batch", "--batch-size"),
    ("resume_from_checkpoint resume_from continue", "--resume"),
    ("overwrite yes f", "--force"),
];

/// Adds a hint to a parser's error about the arguments `args`.
pub fn explain(mut error: clap::Error, args: &[OsString], commands: &clap::Command) -> clap::Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let mut names = args.iter().skip(1).map(|arg| arg.to_string_lossy());
    let command = names.find_map(|arg| commands.find_subcommand(&*arg));
    let tip = match error.kind() {
        ErrorKind::InvalidSubcommand => {
            text(ContextKind::InvalidSubcommand).and_then(|name| command_tip(&name))
        }
        ErrorKind::UnknownArgument => text(ContextKind::InvalidArg)
            .zip(command)
            .and_then(|(option, command)| option_tip(&option, value_of(&option, args), command)),
        ErrorKind::InvalidValue => text(ContextKind::InvalidArg)
            .zip(text(ContextKind::InvalidValue))
            .and_then(|(option, value)| template_tip(&option, &value)),
        _ => None,
    };
    if let Some(tip) = tip {
        // clap's own suggestion would be less likely.
        for kind in [
            ContextKind::SuggestedSubcommand,
            ContextKind::SuggestedArg,
            ContextKind::TrailingArg,
        ] {
            error.remove(kind);
        }
        let tip = ContextValue::StyledStrs(vec![StyledStr::from(tip)]);
        error.insert(ContextKind::Suggested, tip);
    }
    error
}

fn command_tip(name: &str) -> Option<String> {
    if name.ends_with(".toml") {
        return Some(format!("did you mean `peft train {name}`?"));
    }
    if let Some(end) = [".yaml", ".yml"].iter().find(|end| name.ends_with(**end)) {
        return Some(format!(
            "a training file is TOML, not {end}; `peft new NAME` writes one"
        ));
    }
    let plain = name.to_lowercase();
    let is = |words: &str| words.split_whitespace().any(|word| word == plain);
    let (_, tip) = COMMANDS.iter().find(|(words, _)| is(words))?;
    Some(tip.to_string())
}

/// The hint for a method's name given as a template: a key of the file names the method.
fn template_tip(option: &str, value: &str) -> Option<String> {
    let method = value.to_uppercase().replace('-', "_");
    let is_method = option.starts_with("--template") && peft_types().contains(&method);
    is_method.then(|| {
        format!(
            "the file of the template lora is for every method: `peft train FILE --set \
             peft.peft_type={method}`, or peft_type = \"{method}\" in it"
        )
    })
}

fn option_tip(option: &str, value: Option<&str>, command: &clap::Command) -> Option<String> {
    let has = |name: &str| {
        let mut names = command.get_arguments().filter_map(clap::Arg::get_long);
        names.any(|long| long == name)
    };
    if command.get_name() == "chat" && !option.starts_with('-') {
        return Some(
            "the model is the only argument: messages are typed, or come from a pipe".to_string(),
        );
    }
    let Some(word) = option.strip_prefix('-') else {
        let mut ours = ["--prompt", "--data", "--model"].into_iter();
        let ours = ours.find(|ours| has(&ours[2..]))?;
        return Some(format!("did you mean {ours} \"{option}\"?"));
    };
    let word = word.trim_start_matches('-').to_lowercase();
    let word = word.replace('-', "_");
    let name = command.get_name();
    if word == "device" {
        return Some(if has(&word) {
            format!("--device comes after the command: `peft {name} … --device cuda`")
        } else {
            format!("`peft {name}` does not use a device")
        });
    }
    if name == "generate" && word.starts_with("template") {
        return Some(
            "--prompt takes the whole prompt, as the template of the training would have filled it"
                .to_string(),
        );
    }
    let is = |words: &str| words.split_whitespace().any(|other| other == word);
    let of_file = FILE_OPTIONS
        .iter()
        .any(|(of, words)| *of == name && is(words));
    if of_file {
        return Some(format!("the file is the only argument: `peft {name} FILE`"));
    }
    let as_here = format!("--{}", word.replace('_', "-"));
    let words = OPTIONS.iter().filter(|(words, _)| is(words));
    let mut ours: Vec<&str> = words.map(|(_, ours)| *ours).collect();
    ours.push(&as_here);
    match ours.into_iter().find(|ours| has(&ours[2..])) {
        Some(ours) => Some(format!("did you mean {ours}?")),
        None => (name == "train").then(|| key_tip(&word, value)),
    }
}

/// Options of other tools that name the file of a command.
const FILE_OPTIONS: [(&str, &str); 2] = [
    ("train", "config c config_file file f"),
    ("data", "data dataset data_path file f input train"),
];

/// The hint for an option that is a key of the training file here.
fn key_tip(word: &str, value: Option<&str>) -> String {
    let keys = match word {
        // A table of the file.
        "data" => vec!["data.train".to_string()],
        // The keys of the file itself.
        "model" | "tokenizer" | "prompt" | "adapter" => vec![word.to_string()],
        word => keys_meant_by(word),
    };
    let Some(key) = keys.first() else {
        return "the training file says what a run does: `peft train FILE --print-config` shows \
                every key"
            .to_string();
    };
    let value = value.unwrap_or("…");
    let new = match key.as_str() {
        "model" | "data.train" => "; `peft new NAME --model M --train DATA` writes a file with it",
        _ => "",
    };
    format!("the training file says that: `{key}` in it, or --set {key}={value} after it{new}")
}

/// The value that was given to an option: after its `=`, or as the next argument.
fn value_of<'a>(option: &str, args: &'a [OsString]) -> Option<&'a str> {
    let mut args = args.iter().filter_map(|arg| arg.to_str());
    let given = args.by_ref().find(|arg| {
        let rest = arg.strip_prefix(option);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
    })?;
    match given.split_once('=') {
        Some((_, value)) => Some(value),
        None => args.next().filter(|next| !next.starts_with('-')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn every_command_of_another_tool_stands_once_and_is_none_of_ours() {
        let commands = crate::Cli::command();
        let mut seen = std::collections::BTreeSet::new();
        for word in COMMANDS
            .iter()
            .flat_map(|(words, _)| words.split_whitespace())
        {
            assert!(seen.insert(word), "{word}");
            assert!(commands.find_subcommand(word).is_none(), "{word}");
        }
    }

    #[test]
    fn hints_name_commands_that_there_are() {
        let commands = crate::Cli::command();
        for (words, tip) in COMMANDS {
            for call in tip.split("`peft ").skip(1) {
                let name = call.split([' ', '`']).next().unwrap();
                assert!(commands.find_subcommand(name).is_some(), "{words}: {tip}");
            }
        }
    }
}
