//! Models in GGUF files, compared with the folders from which they were made (`fixtures/gguf`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
#[cfg(unix)]
use std::time::Duration;

use burn::tensor::{FloatDType, Int, Tensor, TensorData};
use burn_peft_data::Tokenizer;
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::weights::{self, Weights};
use burn_peft_models::{AutoModel, CausalLm, ModelError, ModelInput, Pretrained};
use serde_json::Value;

use crate::common::{Answer, Lab, PEFT, device, with_keys};
use crate::conformance::fixtures;
#[cfg(unix)]
use crate::resume::wait_for_lines;

pub fn models() -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(fixtures().join("gguf/models")).unwrap();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    files.into_iter().map(|path| (name(&path), path)).collect()
}

/// The folder from which a file was made.
fn folder(name: &str) -> PathBuf {
    match name {
        "gpt2" => fixtures().join("conformance/base-gpt2"),
        family => fixtures().join("families/base").join(family),
    }
}

/// A copy of that folder. For settings that GGUF has no key for, it has the values that llama.cpp
/// assumes.
pub fn as_in_llama_cpp(name: &str, into: &Path) {
    for entry in fs::read_dir(folder(name)).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, into.join(path.file_name().unwrap())).unwrap();
    }
    let path = into.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    if name.starts_with("gemma") {
        config["query_pre_attn_scalar"] = config["head_dim"].clone();
    }
    if name == "exaone4" {
        config["sliding_window"] = Value::Null;
        config["layer_types"] = Value::Null;
    }
    if name == "mistral" {
        config["sliding_window"] = Value::Null;
    }
    if name == "smollm3" {
        config["no_rope_layer_interval"] = 4.into();
        config["no_rope_layers"] = Value::Null;
    }
    fs::write(path, config.to_string()).unwrap();
}

fn bits(weights: &dyn Weights, name: &str) -> Vec<u32> {
    let values: Vec<f32> = weights.tensor(name).unwrap().try_to_vec().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn weights_are_the_folders() {
    let all = models();
    assert_eq!(all.len(), 32);
    for (name, path) in all {
        let found = weights::open(&ModelFiles::gguf(path).unwrap()).unwrap();
        let expected = weights::open(&ModelFiles::folder(folder(&name))).unwrap();
        let mut names: Vec<&str> = expected.names().collect();
        // That file has one block, rounded to 16 bits.
        names.retain(|weight| name != "gpt2" || !weight.contains(".h.1."));
        // That folder also has constants, which are not weights.
        names.retain(|weight| !weight.ends_with("act_fn.beta") && !weight.ends_with("act_fn.eps"));
        assert_eq!(found.names().collect::<Vec<_>>(), names, "{name}");
        for weight in names {
            let mut expected = bits(expected.as_ref(), weight);
            if name == "gpt2" {
                let round = |bits: u32| half::bf16::from_f32(f32::from_bits(bits)).to_f32();
                expected = expected.into_iter().map(|b| round(b).to_bits()).collect();
            }
            assert_eq!(bits(found.as_ref(), weight), expected, "{name}: {weight}");
            let shape = found.shape(weight).unwrap();
            if shape.len() == 2 {
                let whole = found.tensor(weight).unwrap();
                let turned = burn_peft::tensor_file::transpose(whole);
                assert_eq!(
                    found.tensor_in(weight, FloatDType::F32, true).unwrap(),
                    turned,
                    "{name}: {weight}"
                );
            }
        }
    }
}

#[test]
fn logits_are_the_folders() {
    for (name, path) in models() {
        let ids: Vec<i64> = (0..24).map(|at| 3 + (at * 29 + 7) % 90).collect();
        let logits_of = |model: Result<AutoModel, ModelError>| -> Vec<f32> {
            let model = model.unwrap_or_else(|error| panic!("{name}: {error}"));
            let ids = TensorData::new(ids.clone(), [2, 12]);
            let ids = Tensor::<2, Int>::from_data(ids, &device());
            let logits = model.forward(ModelInput::new(ids)).into_data();
            logits.try_to_vec().unwrap()
        };
        let logits = |files: &ModelFiles| logits_of(AutoModel::from_files(files, &device()));
        // Every matrix stays in the file's format.
        let kept = ModelFiles::gguf(&path).unwrap();
        let kept = logits_of(AutoModel::from_files_in_blocks(&kept, &device()));
        let dense = logits(&ModelFiles::gguf(&path).unwrap());
        let off = kept.iter().zip(&dense).map(|(a, b)| (a - b).abs());
        let off = off.fold(0.0, f32::max);
        assert!(off < 1e-5, "{name}: {off}");
        if name == "gpt2" {
            // Its folder has more blocks, so only the number of logits is compared.
            assert_eq!(logits(&ModelFiles::gguf(path).unwrap()).len(), 24 * 199);
            continue;
        }
        let found = logits(&ModelFiles::gguf(path).unwrap());
        let made_of = tempfile::tempdir().unwrap();
        as_in_llama_cpp(&name, made_of.path());
        let expected = logits(&ModelFiles::folder(made_of.path()));
        let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
        let off = off.fold(0.0, f32::max);
        assert!(off < 1e-5, "{name}: {off}");
    }
}

/// The files that `tokenizer_files.py` has written.
fn tokenized() -> (Vec<String>, Value) {
    let text = fs::read_to_string(fixtures().join("gguf/tokenizers.json")).unwrap();
    let mut said: Value = serde_json::from_str(&text).unwrap();
    let texts = serde_json::from_value(said["texts"].take()).unwrap();
    (texts, said["ids"].take())
}

/// Texts in ten scripts, code and emoji.
pub fn texts(count: usize) -> Vec<String> {
    let (texts, _) = tokenized();
    let text = |at: usize| texts[at % texts.len()].as_str();
    (0..count)
        .map(|at| [text(at), text(7 * at + 3)].concat())
        .collect()
}

#[test]
fn tokens_are_transformers() {
    let (texts, ids) = tokenized();
    for (name, ids) in ids.as_object().unwrap() {
        let path = fixtures().join(format!("gguf/tokenizers/{name}.gguf"));
        let files = ModelFiles::gguf(path).unwrap();
        let tokenizer = Tokenizer::load(files.path()).unwrap();
        for (text, ids) in texts.iter().zip(ids.as_array().unwrap()) {
            let ids: Vec<u32> = serde_json::from_value(ids.clone()).unwrap();
            assert_eq!(tokenizer.encode(text).unwrap(), ids, "{name}: {text:?}");
        }
    }
}

/// A lab with `model.gguf`, this number of rows in `rows.jsonl`, and `gguf.toml` to train on them.
fn lab(rows: usize) -> Lab {
    let lab = Lab::new();
    let file = fixtures().join("gguf/models/llama_tied.gguf");
    lab.write("model.gguf", fs::read(file).unwrap());
    lab.write("rows.jsonl", "{\"text\": \"abcabc\"}\n".repeat(rows));
    lab.write("gguf.toml", TRAIN);
    lab
}

#[test]
fn commands_take_a_file_as_a_model() {
    let lab = lab(8);
    let greedy = ["--max-new-tokens", "8", "--temperature", "0"];
    let answer = lab.ok(&[
        &["generate", "--model", "model.gguf", "--prompt", "abc"],
        &greedy[..],
    ]
    .concat());
    lab.ok(&["inspect", "--model", "model.gguf"]);
    lab.ok(&["train", "gguf.toml"]);
    // The merged model is a folder as transformers writes it.
    lab.ok(&[
        "merge",
        "--model",
        "model.gguf",
        "--adapter",
        "out",
        "--output",
        "merged",
    ]);
    let tuned = lab.ok(&[
        &[
            "generate",
            "--model",
            "model.gguf",
            "--adapter",
            "out",
            "--prompt",
            "abc",
        ],
        &greedy[..],
    ]
    .concat());
    let merged = lab.ok(&[
        &["generate", "--model", "merged", "--prompt", "abc"],
        &greedy[..],
    ]
    .concat());
    assert_eq!(merged, tuned);
    assert_ne!(answer, tuned);
}

const TRAIN: &str = r#"
model = "model.gguf"

[data]
train = "rows.jsonl"

[peft]
peft_type = "LORA"
r = 4

[training]
output_dir = "out"
max_steps = 12
per_device_train_batch_size = 4
learning_rate = 5e-2
"#;

/// `peft` with the system's temporary files in `tmp/`.
fn with_tmp(lab: &Lab, args: &[&str]) -> Command {
    fs::create_dir_all(lab.path("tmp")).unwrap();
    let mut command = lab.command(PEFT);
    command.env("TMPDIR", lab.path("tmp")).args(args);
    command
}

#[test]
fn a_run_goes_on_and_what_is_written_names_the_file() {
    let lab = lab(8);
    let peft = |args: &[&str]| Answer::from(with_tmp(&lab, args).output().unwrap());
    let run = ["train", "gguf.toml", "--set", "training.save_steps=6"];
    let answer = peft(&run);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let again = [
        "--set",
        "training.output_dir=again",
        "--resume",
        "out/checkpoint-6",
    ];
    let answer = peft(&[&run[..], &again].concat());
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let begun = "resuming from out/checkpoint-6, step 6 of 12";
    assert!(answer.out.starts_with(begun), "{answer:?}");
    assert!(lab.weights("again") == lab.weights("out"));
    for name in [
        "adapter_config.json",
        "config.toml",
        "README.md",
        "report.html",
    ] {
        let text = lab.text(&format!("again/{name}"));
        assert!(text.contains("model.gguf"), "{name}: {text}");
        assert!(!text.contains("peft-gguf-"), "{name}: {text}");
    }
    // A run is not resumed on other weights. It is on the same weights under another name.
    let mut bytes = lab.read("model.gguf");
    lab.write("same.gguf", &bytes);
    let at = bytes.len() - 40;
    bytes[at] ^= 1;
    lab.write("other.gguf", &bytes);
    let resume = |model| [&run[..], &["--resume", "--set", model]].concat();
    peft(&resume("model=other.gguf")).failed(&[
        "its base was model.gguf (BLAKE3 of the weights ",
        "this run's is other.gguf (BLAKE3 ",
    ]);
    let answer = peft(&resume("model=same.gguf"));
    assert_eq!(answer.code, Some(0), "{answer:?}");
    // None of the temporary folders is left.
    assert_eq!(lab.names("tmp"), Vec::<String>::new());
}

#[cfg(unix)]
#[test]
fn a_run_that_ctrl_c_ends_at_once_leaves_nothing_in_the_temporary_files() {
    use std::os::unix::fs::PermissionsExt;
    use std::process::Stdio;

    let lab = lab(4000);
    // A single step has all rows, so that Ctrl-C interrupts it in the middle.
    let sets = [
        "training.max_steps=100000",
        "training.gradient_accumulation_steps=1000",
        "training.logging_steps=1",
        "training.save_strategy=no",
    ];
    let mut command = with_tmp(&lab, &with_keys("gguf.toml", &sets));
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    assert!(wait_for_lines(&lab, "out", 1, &mut child));
    let folders = lab.names("tmp");
    assert_eq!(folders.len(), 1, "{folders:?}");
    let folder = fs::metadata(lab.path("tmp").join(&folders[0])).unwrap();
    assert_eq!(folder.permissions().mode() & 0o777, 0o700);
    let id = child.id().to_string();
    for _ in 0..2 {
        lab.command("kill").args(["-INT", &id]).status().unwrap();
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(lab.names("tmp"), Vec::<String>::new());
}

#[cfg(unix)]
#[test]
fn a_signal_while_a_file_is_read_leaves_nothing_in_the_temporary_files() {
    use std::process::Stdio;

    let lab = lab(8);
    for signal in ["-TERM", "-INT", "-HUP"] {
        let endless = ["train", "gguf.toml", "--set", "training.max_steps=100000"];
        let mut command = with_tmp(&lab, &endless);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        while lab.names("tmp").is_empty() {
            assert!(child.try_wait().unwrap().is_none(), "it made no folder");
            std::thread::sleep(Duration::from_millis(1));
        }
        let id = child.id().to_string();
        lab.command("kill").args([signal, &id]).status().unwrap();
        assert!(!child.wait().unwrap().success());
        assert_eq!(lab.names("tmp"), Vec::<String>::new(), "{signal}");
        fs::remove_dir_all(lab.path("out")).ok();
    }
}

#[test]
fn a_name_with_another_end_is_told() {
    let lab = lab(1);
    fs::rename(lab.path("model.gguf"), lab.path("model.GGUF")).unwrap();
    lab.ok(&["inspect", "--model", "model.GGUF"]);
    fs::rename(lab.path("model.GGUF"), lab.path("model.bin")).unwrap();
    let told = ["model.bin", "is a GGUF file", "does not end in .gguf"];
    lab.fails(&["inspect", "--model", "model.bin"], &told);
}

#[test]
fn keys_of_one_architecture_are_missed() {
    let lab = Lab::new();
    let fails = |name: &str, from: &str, to: &str, message: &str| {
        let mut bytes = fs::read(fixtures().join(format!("gguf/models/{name}.gguf"))).unwrap();
        let mut places = bytes.windows(from.len());
        let at = places.position(|part| part == from.as_bytes()).unwrap();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        lab.write("model.gguf", &bytes);
        lab.fails(&["inspect", "--model", "model.gguf"], &[message]);
    };
    fails(
        "apertus",
        "xielu.beta",
        "xielu.bela",
        "has no key xielu.beta",
    );
    let window = "cohere2.attention.sliding_window";
    let other = "cohere2.attention.sliding_winduw";
    fails(
        "cohere2",
        window,
        other,
        "has no key cohere2.attention.sliding_window",
    );
}

#[test]
fn a_file_that_is_no_model_here_is_refused() {
    let lab = Lab::new();
    lab.write("model.gguf", "x");
    lab.fails(
        &["inspect", "--model", "model.gguf"],
        &["model.gguf", "first word"],
    );
    let whole = fs::read(fixtures().join("gguf/models/llama_tied.gguf")).unwrap();
    lab.write("model.gguf", &whole[..whole.len() - 64]);
    lab.fails(
        &["inspect", "--model", "model.gguf"],
        &["model.gguf", "truncated"],
    );
    let with = |from: &str, to: &str| {
        let mut bytes = whole.clone();
        let at = bytes
            .windows(from.len())
            .position(|part| part == from.as_bytes())
            .unwrap();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        lab.write("model.gguf", &bytes);
    };
    with("llama.block_count", "llama.block_kount");
    lab.fails(
        &["inspect", "--model", "model.gguf"],
        &["has no key llama.block_count"],
    );
    with("general.architecture", "general.architectura");
    lab.fails(
        &["inspect", "--model", "model.gguf"],
        &["has no key general.architecture"],
    );
    with("blk.1.ffn_up.weight", "blk.1.ffn_vp.weight");
    lab.fails(
        &["inspect", "--model", "model.gguf"],
        &["model.layers.1.mlp.up_proj.weight"],
    );
    with("tokenizer.ggml.merges", "tokenizer.ggml.mergez");
    lab.fails(
        &["inspect", "--model", "model.gguf"],
        &["has no key tokenizer.ggml.merges"],
    );
}
