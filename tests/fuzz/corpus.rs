//! The files to damage: the project's own fixtures, assets, configurations and data, shortened.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use burn_peft::{LoraConfig, PeftModel, get_peft_model};
use burn_peft_data::{Example, Examples, Shape, train_bpe};
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::weights::{SaveOptions, initial_weights, save_model};
use burn_peft_models::{AutoModel, Gpt2Config, ModelConfig, Pretrained};
use burn_peft_train::{TrainOptions, TrainingArguments, train};
use serde_json::{Value, json};

/// The files of one folder, by name.
pub type Case = Vec<(String, Vec<u8>)>;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const TEXTS: [&str; 3] = [
    "the cat sat on the mat",
    "the dog sat on the cat",
    "a cat and a dog",
];

/// A file of the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(ROOT).join(path)
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn named(name: &str, content: impl Into<Vec<u8>>) -> (String, Vec<u8>) {
    (name.to_string(), content.into())
}

/// A folder as a case.
fn folder(path: &Path, keep: impl Fn(&str) -> bool) -> Case {
    let entries = fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    let files = paths.into_iter().filter(|path| path.is_file());
    let files = files.map(|path| {
        (
            path.file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            path,
        )
    });
    files
        .filter(|(name, _)| keep(name))
        .map(|(name, path)| (name, read(&path)))
        .collect()
}

/// Every folder below this one that has an adapter.
fn adapter_folders(path: &Path, found: &mut Vec<PathBuf>) {
    let mut paths: Vec<PathBuf> = fs::read_dir(path)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    paths.sort();
    for path in paths.into_iter().filter(|path| path.is_dir()) {
        if path.join("adapter_config.json").is_file() {
            found.push(path.clone());
        }
        adapter_folders(&path, found);
    }
}

/// Adapters of every method. Some belong to other models than the one they are loaded into.
pub fn adapters() -> Vec<Case> {
    let mut folders = Vec::new();
    adapter_folders(&project("tests/fixtures"), &mut folders);
    let cases = folders
        .iter()
        .map(|path| folder(path, |name| name.starts_with("adapter_")));
    cases
        .filter(|case| case.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() < 60_000)
        .collect()
}

/// Models with one narrow block, in one file and in shards.
pub fn models(scratch: &Path) -> Vec<Case> {
    let config = tiny_config();
    let [whole, halved] = ["whole", "halved"].map(|name| scratch.join(name));
    for (path, tie) in [(&whole, true), (&halved, false)] {
        let config = Gpt2Config {
            tie_word_embeddings: tie,
            ..config.clone()
        };
        save_model(
            path,
            &config.to_json(),
            initial_weights(&config, 1),
            &SaveOptions::default(),
        )
        .expect("a model is written");
    }
    let whole = folder(&whole, |_| true);
    let mut halved = folder(&halved, |_| true);
    let names = burn_peft::tensor_file::read_tensors(&scratch.join("halved/model.safetensors"))
        .expect("it was written");
    let map: serde_json::Map<String, Value> = names
        .keys()
        .map(|name| (name.clone(), "model-1.safetensors".into()))
        .collect();
    for (name, _) in &mut halved {
        if name == "model.safetensors" {
            *name = "model-1.safetensors".into();
        }
    }
    halved.push(named(
        "model.safetensors.index.json",
        json!({"metadata": {}, "weight_map": map}).to_string(),
    ));
    let families = ["llama_tied", "gemma3", "phi3_longrope", "gpt_neox"];
    let families = families.map(|name| folder(&family(name), |_| true));
    [whole, halved].into_iter().chain(families).collect()
}

/// Models and tokenizers in GGUF files.
pub fn gguf() -> Vec<Case> {
    let files = [
        "models/llama_rope3",
        "models/gemma3",
        "models/phi3_longrope",
        "models/gpt_neox",
        "models/starcoder2",
        "models/apertus",
        "models/cohere2",
        "models/ministral3",
        "models/olmo3",
        "models/stablelm_qk",
        "tokenizers/gpt2-qwen2",
        "tokenizers/llama-llama",
        "tokenizers/llama-gemma2",
        "blocks",
    ];
    let path = |name: &str| project("tests/fixtures/gguf").join(name);
    let case = |name| vec![named("model.gguf", read(&path(&format!("{name}.gguf"))))];
    files.map(case).into()
}

/// The folder of a tiny model of another family.
fn family(name: &str) -> PathBuf {
    project("tests/fixtures/families/base").join(name)
}

/// The model for training files.
pub fn tiny_config() -> Gpt2Config {
    let text = json!({"model_type": "gpt2", "vocab_size": 40, "n_positions": 16, "n_embd": 8, "n_layer": 1, "n_head": 2, "eos_token_id": 0, "bos_token_id": 0});
    Gpt2Config::from_json(&text.to_string()).expect("a configuration")
}

/// The models' configurations in the repository.
pub fn configs() -> Vec<Case> {
    let paths = [
        "assets/tiny-gpt2",
        "tests/fixtures/conformance/base-gpt2",
        "tests/fixtures/nano-sort",
    ];
    let families = fs::read_dir(family("")).expect("the families");
    let mut families: Vec<PathBuf> = families.flatten().map(|entry| entry.path()).collect();
    families.sort();
    let case = |path: PathBuf| vec![named("config.json", read(&path.join("config.json")))];
    let lists =
        json!({"model_type": "gpt2", "eos_token_id": [0, 1], "n_inner": 64, "hidden_size": 768});
    let paths = paths.map(project).into_iter().chain(families).map(case);
    paths
        .chain([vec![named("config.json", lists.to_string())]])
        .collect()
}

/// A tokenizer of 300 tokens, as `tokenizer.json` with all files that may lie beside it.
fn tokenizer(scratch: &Path) -> Case {
    let path = scratch.join("tokenizer.json");
    let tokenizer = train_bpe(TEXTS, 280).expect("a tokenizer");
    tokenizer.save(&path).expect("it is written");
    let beside = json!({
        "add_prefix_space": false, "bos_token": "<|endoftext|>", "model_max_length": 64, "tokenizer_class": "GPT2Tokenizer",
        "eos_token": {"content": "<|endoftext|>", "lstrip": false, "special": true}, "add_bos_token": false, "add_eos_token": false,
        "added_tokens_decoder": {"0": {"content": "<|endoftext|>", "lstrip": false, "normalized": false, "rstrip": false, "single_word": false, "special": true}},
        "chat_template": CHATML,
    });
    vec![
        named("tokenizer.json", read(&path)),
        named("tokenizer_config.json", beside.to_string()),
        named(
            "special_tokens_map.json",
            r#"{"eos_token": "<|endoftext|>", "pad_token": {"content": "<|endoftext|>"}}"#,
        ),
        named("added_tokens.json", r#"{"<extra>": 280}"#),
        named(
            "generation_config.json",
            r#"{"eos_token_id": [0, 1], "temperature": 0.7, "top_p": 0.9, "top_k": 5}"#,
        ),
        named(
            "config.json",
            r#"{"eos_token_id": 0, "model_type": "gpt2"}"#,
        ),
    ]
}

const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}\
{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
const MARKED: &str = "{%- for message in messages -%}\n  {%- if message.role == 'assistant' -%}\n    {% generation %}{{ message.content | trim }}{{ eos_token }}{% endgeneration %}\n  \
{%- else -%}\n    [{{ message.role.upper() }}] {{ message.content }}\n  {%- endif -%}\n{%- endfor -%}";
const TOOLS: &str = "{% set ns = namespace(n=0) %}{% if tools %}{{ tools | tojson(indent=2) }}{% endif %}{% for m in messages if m.role != 'system' %}{% set ns.n = ns.n + 1 %}\
{{ loop.index0 }}{{ m.content[:10] }}{{ ns.n }}{% if not loop.last %}, {% endif %}{% endfor %}{% macro f(a, b=2) %}{{ a ~ b }}{% endmacro %}{{ f(1) }}{{ strftime_now('%d') }}";

/// Tokenizers from `tokenizer.json`, and from `vocab.json` with `merges.txt`.
pub fn tokenizers(scratch: &Path) -> Vec<Case> {
    let whole = tokenizer(scratch);
    let json: Value = serde_json::from_slice(&whole[0].1).expect("it was written");
    let merges = json["model"]["merges"].as_array().into_iter().flatten();
    let merges = merges.map(|merge| match merge.as_array() {
        Some(pair) => format!(
            "{} {}\n",
            pair[0].as_str().unwrap_or_default(),
            pair[1].as_str().unwrap_or_default()
        ),
        None => format!("{}\n", merge.as_str().unwrap_or_default()),
    });
    let mut old = whole[1..].to_vec();
    old.push(named("vocab.json", json["model"]["vocab"].to_string()));
    old.push(named(
        "merges.txt",
        format!("#version: 0.2\n{}", merges.collect::<String>()),
    ));
    vec![whole, old]
}

/// Chat templates, each with a row that uses everything in it.
pub fn templates() -> Vec<Case> {
    let row = json!({
        "messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "the cat?"}, {"role": "assistant", "content": "the mat"}],
        "tools": [{"name": "f", "parameters": {"x": [1, null]}}],
    });
    let case = |template: &str| {
        vec![
            named("chat_template.jinja", template),
            named("rows.jsonl", format!("{row}\n")),
        ]
    };
    [CHATML, MARKED, TOOLS].map(case).into()
}

/// Rows of every shape, in every type of file.
pub fn rows() -> Vec<Case> {
    let shapes = [
        json!([{"text": "the cat sat"}, {"text": "é日🦀 \\ud83d", "label": 1}, {"text": "the dog"}]),
        json!([{"prompt": "the cat", "completion": " sat"}, {"prompt": "the", "completion": " mat", "weight": 0.5}]),
        json!([{"instruction": "say", "input": "", "output": "yes"}, {"instruction": "say", "input": "no", "output": "no"}]),
        json!([{"messages": [{"role": "user", "content": "the"}, {"role": "assistant", "content": "cat"}], "tools": null}]),
        json!([{"conversations": [{"from": "human", "value": "the"}, {"from": "gpt", "value": "cat"}], "system": "s"}]),
        json!([{"prompt": [{"role": "user", "content": "a"}], "completion": [{"role": "assistant", "content": "b"}]}]),
        json!([{"input_ids": [1, 2, 3], "labels": [-100, 2, 3], "attention_mask": [1, 1, 1]}, {"input_ids": [4, 5]}]),
    ];
    let mut cases = Vec::new();
    for shape in &shapes {
        let lines = shape
            .as_array()
            .into_iter()
            .flatten()
            .map(|row| format!("{row}\n"));
        cases.push(vec![named("rows.jsonl", lines.collect::<String>())]);
        cases.push(vec![named("rows.json", shape.to_string())]);
    }
    let csv = "text,label\n\"the cat, sat\",1\n\"the \"\"dog\"\"\",2\r\na mat,3\n";
    cases.push(vec![named("rows.csv", csv)]);
    cases.push(vec![named(
        "rows.tsv",
        "prompt\tcompletion\nthe\tcat\na\tmat\n",
    )]);
    cases.push(vec![named(
        "rows.txt",
        "\u{feff}the cat\n\nthe dog\r\na mat\n",
    )]);
    let mut utf16: Vec<u8> = vec![0xff, 0xfe];
    utf16.extend(
        "{\"text\": \"the cat\"}\n"
            .encode_utf16()
            .flat_map(u16::to_le_bytes),
    );
    cases.push(vec![named("rows.jsonl", utf16)]);
    let lines = read(&project("data/quickstart/train.jsonl"));
    let lines: Vec<u8> = lines
        .split_inclusive(|byte| *byte == b'\n')
        .take(4)
        .collect::<Vec<_>>()
        .concat();
    cases.push(vec![named("rows.jsonl", lines)]);
    cases
}

/// Parquet files of several shapes and codecs.
pub fn parquet() -> Vec<Case> {
    let files = folder(&project("tests/fuzz/corpus"), |name| {
        name.ends_with(".parquet")
    });
    files
        .into_iter()
        .map(|(_, bytes)| vec![named("rows.parquet", bytes)])
        .collect()
}

/// Training files: those of the repository, and one for every adapter's configuration.
pub fn training_files() -> Vec<Case> {
    let mut cases: Vec<Case> = folder(&project("configs"), |name| name.ends_with(".toml"))
        .into_iter()
        .map(|(_, bytes)| vec![named("train.toml", bytes)])
        .collect();
    for case in adapters() {
        let config = case.iter().find(|(name, _)| name == "adapter_config.json");
        let config = config.and_then(|(_, bytes)| serde_json::from_slice::<Value>(bytes).ok());
        let Some(Value::Object(mut keys)) = config else {
            continue;
        };
        keys.retain(|_, value| !value.is_null());
        let file = json!({"model": "m", "data": {"train": "a.jsonl"}, "training": {"output_dir": "out"}, "peft": keys});
        let text = toml::to_string(&file);
        cases.extend(text.ok().map(|text| vec![named("train.toml", text)]));
    }
    cases
}

/// The arguments of a run of two steps with a checkpoint after each.
pub fn arguments(output_dir: &Path) -> TrainingArguments {
    TrainingArguments {
        max_steps: 2,
        save_steps: 1,
        logging_steps: 1,
        per_device_train_batch_size: 2,
        ..TrainingArguments::new(output_dir)
    }
}

/// Rows of the tiny model.
pub fn examples() -> Examples {
    let example = |row: usize| {
        let input_ids: Vec<u32> = (0..6).map(|n| (row as u32 * 7 + n) % 40).collect();
        let labels = input_ids.iter().map(|&id| i64::from(id)).collect();
        Example {
            input_ids,
            labels,
            row,
        }
    };
    let rows: Vec<Example> = (1..8).map(example).collect();
    Examples::new("rows.jsonl", Shape::Tokenized, &rows).expect("rows in memory")
}

/// The rows to train on.
pub fn trainee(base: AutoModel) -> PeftModel<AutoModel> {
    get_peft_model(base, LoraConfig::new().with_r(2)).expect("an adapter")
}

/// A checkpoint. Its paths are relative to `scratch`, and its times are fixed, so that every run
/// damages the same bytes.
pub fn checkpoints(scratch: &Path) -> Vec<Case> {
    let model = AutoModel::from_files(&ModelFiles::folder(scratch.join("whole")), &device())
        .expect("a model");
    let out = Path::new("run");
    train(
        trainee(model),
        examples(),
        None,
        &arguments(out),
        TrainOptions::default(),
    )
    .expect("two steps");
    let mut case = folder(&scratch.join("run/checkpoint-1"), |_| true);
    for (name, bytes) in &mut case {
        if name == "trainer_state.toml" {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let fixed = text.lines().map(|line| match line.split_once(" = ") {
                Some((key @ ("saved_at" | "seconds"), _)) => format!("{key} = 1\n"),
                _ => format!("{line}\n"),
            });
            *bytes = fixed
                .collect::<String>()
                .replace("seconds = 1\n", "seconds = 1.0\n")
                .into_bytes();
        }
    }
    vec![case]
}

/// The device of all models.
pub fn device() -> Device {
    Device::flex()
}
