//! What encoders have besides classifiers (those are in `classify`): the heads that predict masked
//! tokens, BERT's words, and the commands. Compared with transformers (`fixtures/encoders`, made by
//! `make.py` there).

use std::fs;
use std::path::PathBuf;

use burn_peft_data::Tokenizer;
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{AutoConfig, AutoModel, GenerationConfig, Pretrained, generate};
use serde_json::Value;

use crate::common::{Lab, anew, device};
use crate::conformance::fixtures;
use crate::families::close;

const MASKED: [&str; 6] = [
    "bert",
    "bert_untied",
    "roberta",
    "xlm_roberta",
    "distilbert",
    "modernbert",
];

fn folder(name: &str) -> PathBuf {
    fixtures().join("encoders").join(name)
}

/// A copy of a fixture's folder, to be changed.
fn copied(lab: &Lab, name: &str) {
    fs::create_dir(lab.path(name)).unwrap();
    for entry in fs::read_dir(folder(name)).unwrap() {
        let entry = entry.unwrap();
        let file = format!("{name}/{}", entry.file_name().to_str().unwrap());
        lab.write(&file, fs::read(entry.path()).unwrap());
    }
}

/// The logits of a model's own inputs, with zeros for padding as in the fixtures.
fn logits(lab: &Lab, model: &str, case: &str) -> Vec<f32> {
    let input = folder(case).join("expected.safetensors");
    let input = input.to_str().unwrap();
    lab.ok(&[
        "forward", "--model", model, "--input", input, "--output", "logits",
    ]);
    let (shape, mut logits) = lab.floats("logits", "logits");
    let bytes = fs::read(input).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mask = tensors.tensor("attention_mask").unwrap();
    let rows = logits.chunks_mut(shape[2]).zip(mask.data().chunks(8));
    rows.filter(|(_, mask)| mask[0] == 0)
        .for_each(|(row, _)| row.fill(0.0));
    logits
}

#[test]
fn masked_tokens_are_predicted_as_by_transformers() {
    let lab = Lab::new();
    for case in MASKED {
        let base = folder(case);
        let expected = base.join("expected.safetensors");
        let (_, expected) = lab.floats(expected.to_str().unwrap(), "logits");
        let found = logits(&lab, base.to_str().unwrap(), case);
        close(case, &found, &expected).unwrap();
        // Written back, it is the same, under the same names.
        let model = AutoModel::from_files(&ModelFiles::folder(&base), &device()).unwrap();
        model.save_pretrained(lab.path(case)).unwrap();
        let found = logits(&lab, case, case);
        close(&format!("{case} saved"), &found, &expected).unwrap();
        let names = |folder: PathBuf| {
            let bytes = fs::read(folder.join("model.safetensors")).unwrap();
            let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
            let mut names: Vec<String> = tensors.names().into_iter().map(str::to_string).collect();
            names.retain(|name| name != "cls.predictions.bias");
            names.sort();
            names
        };
        assert_eq!(names(lab.path(case)), names(base), "{case}");
    }
}

#[test]
fn words_are_cut_into_pieces_as_by_bert_tokenizer() {
    let tokenizer = Tokenizer::load(folder("wordpiece")).unwrap();
    let text = fs::read_to_string(fixtures().join("encoders/wordpiece.json")).unwrap();
    let rows: Vec<Value> = serde_json::from_str(&text).unwrap();
    for row in rows {
        let max = row["max_length"]
            .as_u64()
            .map_or(usize::MAX, |max| max as usize);
        let first = row["text"].as_str().unwrap();
        let found = tokenizer
            .encode_within(first, row["second"].as_str(), max)
            .unwrap();
        assert_eq!(serde_json::json!(found.ids), row["ids"], "{row}");
        if row.get("types").is_some() {
            assert_eq!(serde_json::json!(found.types), row["types"], "{row}");
        }
        assert_eq!(found.was_cut, found.ids.len() == max, "{row}");
        if max == usize::MAX && row.get("second").is_none() {
            assert_eq!(
                serde_json::json!(tokenizer.encode(first).unwrap()),
                row["ids"]
            );
        }
    }
}

/// The model is told which text of a pair each token belongs to.
#[test]
fn pairs_are_judged_as_by_transformers() {
    let lab = Lab::new();
    let base = folder("pairs");
    let (base, rows) = (base.to_str().unwrap(), base.join("rows.jsonl"));
    let rows = rows.to_str().unwrap();
    let data = ["--model", base, "--data", rows, "--max-length", "14"];
    for size in ["1", "4"] {
        let predict = [&["predict"][..], &data, &["--batch-size", size]].concat();
        let said = lab.ok(&predict);
        let expected = fs::read_to_string(rows).unwrap();
        for (line, row) in said.lines().zip(expected.lines()) {
            let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            let (line, row) = (read(line), read(row));
            let found = (0..3).map(|id| line["probabilities"][format!("LABEL_{id}")].as_f64());
            let found: Vec<f32> = found.map(|found| found.unwrap() as f32).collect();
            let expected = row["probabilities"].as_array().unwrap().iter();
            let expected: Vec<f32> = expected.map(|of| of.as_f64().unwrap() as f32).collect();
            close("probabilities", &found, &expected).unwrap();
        }
        assert_eq!(said.lines().count(), 4);
    }
    assert!(lab.ok_json(&[&["eval"][..], &data, &["--json"]].concat())["loss"].is_number());
}

const TRAIN: &str = "model = \"pairs\"\n[data]\ntrain = \"pairs/rows.jsonl\"\nvalidation = \
    \"pairs/rows.jsonl\"\nmax_length = 14\n[peft]\npeft_type = \"LORA\"\nr = 4\n[training]\n\
    objective = \"classify\"\noutput_dir = \"out\"\nmax_steps = 3\nlearning_rate = 1e-3\n";

/// From a new model to a merged one, with every kind of base and training.
#[test]
fn an_encoder_is_trained_in_every_way_that_a_decoder_is() {
    let lab = Lab::new();
    copied(&lab, "pairs");
    lab.write("train.toml", TRAIN);
    for set in [
        "training.seed=1",
        "training.gradient_checkpointing=true",
        "training.bf16=true",
        "quantization_config.load_in_8bit=true",
        "quantization_config.load_in_4bit=true",
        "peft.target_modules=all-linear",
        "peft.peft_type=IA3",
        "peft.peft_type=BOTTLENECK",
        "peft.peft_type=NONE",
    ] {
        // The rank is a key of LoRA.
        let is_lora = !set.starts_with("peft.peft_type");
        let toml = if is_lora {
            TRAIN.into()
        } else {
            TRAIN.replace("r = 4\n", "")
        };
        lab.write("train.toml", toml);
        let mut train = anew("train.toml", &[set]);
        if set.ends_with("BOTTLENECK") {
            // With a bottleneck of a single feature, ReLU may leave only zeros.
            train.extend(["--set", "peft.reduction_factor=2"]);
        }
        let said = lab.ok(&train);
        assert!(said.contains("accuracy"), "{set}: {said}");
    }
}

#[test]
fn an_encoder_is_no_language_model() {
    let lab = Lab::new();
    copied(&lab, "bert");
    fs::copy(
        folder("wordpiece").join("vocab.txt"),
        lab.path("bert/vocab.txt"),
    )
    .unwrap();
    lab.write(
        "rows.jsonl",
        "{\"text\": \"the cat sat\"}\n{\"text\": \"a dog\"}\n",
    );
    let named = ["encoder", "peft predict"];
    lab.fails(
        &["generate", "--model", "bert", "--prompt", "the cat"],
        &named,
    );
    lab.fails(&["eval", "--model", "bert", "--data", "rows.jsonl"], &named);
    let train = TRAIN
        .replace("\"pairs\"", "\"bert\"")
        .replace("objective = \"classify\"\n", "");
    let train = train.replace("pairs/rows", "rows");
    lab.write("train.toml", train);
    lab.fails(
        &["train", "train.toml"],
        &["bert", "encoder", "\"classify\""],
    );
    let model = AutoModel::from_files(&ModelFiles::folder(folder("bert")), &device()).unwrap();
    let config = GenerationConfig::default();
    let go_on = &mut |_| std::ops::ControlFlow::Continue(());
    let error = generate(&model, &[5], &config, go_on)
        .unwrap_err()
        .to_string();
    assert!(error.contains("encoder"), "{error}");
    let export = ["export", "--model", "bert", "--output", "bert.gguf"];
    lab.fails(&export, &["GGUF"]);
}

#[test]
fn what_makes_another_model_is_refused_by_name() {
    let text = fs::read_to_string(folder("bert").join("config.json")).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    let lab = Lab::new();
    for (key, value, named) in [
        ("is_decoder", Value::from(true), "is_decoder = true"),
        (
            "add_cross_attention",
            true.into(),
            "add_cross_attention = true",
        ),
        (
            "position_embedding_type",
            "relative_key".into(),
            "\"relative_key\"",
        ),
        ("num_attention_heads", 3.into(), "num_attention_heads = 3"),
        (
            "hidden_dropout_prob",
            1.5.into(),
            "hidden_dropout_prob = 1.5",
        ),
        ("layer_norm_eps", 0.into(), "layer_norm_eps = 0"),
        ("hidden_act", "tanh".into(), "hidden_act = \"tanh\""),
        ("type_vocab_size", 0.into(), "type_vocab_size = 0"),
    ] {
        let mut config = config.clone();
        config[key] = value;
        lab.write("config.json", config.to_string());
        let error = AutoConfig::from_file(lab.path("config.json"))
            .unwrap_err()
            .to_string();
        assert!(error.contains(named), "{error}");
    }
    let mut roberta = config;
    roberta["model_type"] = "roberta".into();
    roberta["pad_token_id"] = Value::Null;
    lab.write("config.json", roberta.to_string());
    let error = AutoConfig::from_file(lab.path("config.json"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("pad_token_id = null"), "{error}");
}

/// A checkpoint of the model that predicts tokens has no pooler. A classifier then gets a new one,
/// which is the same every time it is opened.
#[test]
fn a_pooler_that_is_not_there_is_always_the_same() {
    let lab = Lab::new();
    copied(&lab, "bert");
    copied(&lab, "pairs");
    fs::copy(
        folder("wordpiece").join("vocab.txt"),
        lab.path("bert/vocab.txt"),
    )
    .unwrap();
    lab.write(
        "train.toml",
        TRAIN.replace("model = \"pairs\"", "model = \"bert\""),
    );
    lab.ok(&["train", "train.toml", "--set", "training.seed=5"]);
    let data = ["--data", "pairs/rows.jsonl", "--max-length", "14"];
    let found = lab.ok(&[
        &["predict", "--model", "bert", "--adapter", "out"][..],
        &data,
    ]
    .concat());
    let merge = [
        "merge",
        "--model",
        "bert",
        "--adapter",
        "out",
        "--output",
        "merged",
    ];
    lab.ok(&merge);
    fs::copy(lab.path("bert/vocab.txt"), lab.path("merged/vocab.txt")).unwrap();
    let merged = lab.ok(&[&["predict", "--model", "merged"][..], &data].concat());
    let first =
        |said: &str| -> Value { serde_json::from_str(said.lines().next().unwrap()).unwrap() };
    let probability = |said: &str| first(said)["probabilities"]["LABEL_0"].as_f64().unwrap() as f32;
    close("merged", &[probability(&merged)], &[probability(&found)]).unwrap();
    let inspect = ["inspect", "--model", "bert", "--adapter", "out"];
    assert!(lab.ok(&inspect).contains("classifier"));
}
