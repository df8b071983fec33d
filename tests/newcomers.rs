//! The quick start's file trains a model of any family without a flag for the family, and all
//! commands take the result.

use std::fs;

use serde_json::{Value, json};

use crate::common::{Answer, Lab, quick_start};
use crate::conformance::fixtures;

/// One family of each layout: separate and fused projections; norms before, after and beside the
/// parts, and of queries and keys; windows, caps, tied heads, biases, LayerNorm.
const FAMILIES: [&str; 9] = [
    "llama_bias",
    "qwen3",
    "gemma3",
    "gemma2",
    "phi3",
    "gpt_neox",
    "cohere2",
    "olmo2",
    "stablelm",
];

/// The loss of a model that knows nothing about its 1,024 tokens.
const RANDOM: f64 = 6.93;

/// Writes a folder `base` with random weights of a tiny model of the family, and the quick start's
/// tokenizer.
fn lab(family: &str) -> Lab {
    let lab = Lab::new();
    let folder = fixtures().join("families/base").join(family);
    let text = fs::read_to_string(folder.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    let changes = [
        ("vocab_size", json!(1024)),
        ("max_position_embeddings", json!(128)),
        ("eos_token_id", json!(0)),
        ("dtype", json!("float32")),
        // Large enough for four steps to have an effect.
        ("initializer_range", json!(0.1)),
    ];
    for (key, value) in changes {
        config[key] = value;
    }
    lab.write("config.json", config.to_string());
    lab.ok(&["init", "config.json", "--output", "base", "--seed", "1"]);
    let assets = fixtures().join("../../assets/tiny-gpt2");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(assets.join(name), lab.path("base").join(name)).unwrap();
    }
    lab
}

/// `peft train configs/quickstart.toml --set model=base` on a few of its rows, with more keys and
/// options.
fn try_train(lab: &Lab, output: &str, keys: &[&str], more: &[&str]) -> Answer {
    let data = fixtures().join("../../data/quickstart");
    let rows = |part: &str, end| {
        let file = data.join(format!("{part}.jsonl"));
        format!("data.{part}={}[:{end}]", file.display())
    };
    let output = format!("training.output_dir={output}");
    let (train, validation) = (rows("train", 16), rows("validation", 4));
    let fixed = [
        &train,
        &validation,
        &output,
        "model=base",
        "training.num_train_epochs=2",
        "training.warmup_steps=0",
    ];
    let args = quick_start(&[&fixed[..], keys].concat());
    let args = args.iter().map(String::as_str);
    lab.peft(&args.chain(more.iter().copied()).collect::<Vec<_>>())
}

/// As [`try_train`], which has to succeed. Returns the losses of its four steps.
fn train(lab: &Lab, output: &str, keys: &[&str]) -> Vec<f64> {
    let keys = [&["training.logging_steps=1"], keys].concat();
    let answer = try_train(lab, output, &keys, &[]);
    assert_eq!(answer.code, Some(0), "{keys:?}: {answer:?}");
    lab.losses(output)
}

#[track_caller]
fn near(what: &str, found: &[f64], expected: &[f64], tolerance: f64) {
    let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs());
    let off = off.fold(0.0, f64::max);
    assert!(
        found.len() == expected.len() && off < tolerance,
        "{what}: {found:?} in place of {expected:?}"
    );
}

#[test]
fn the_quick_start_trains_a_model_of_every_layout() {
    for family in FAMILIES {
        let lab = lab(family);
        let losses = train(&lab, "out", &[]);
        assert_eq!(losses.len(), 4, "{family}");
        assert!((losses[0] - RANDOM).abs() < 0.3, "{family}: {losses:?}");
        assert!(losses[3] < losses[0] - 0.05, "{family}: {losses:?}");

        // The merged weights include the adapter's effect.
        let adapter = ["--model", "base", "--adapter", "out"];
        lab.ok(&[&["merge"], &adapter[..], &["--output", "merged"]].concat());
        let data = fixtures().join("../../data/quickstart/validation.jsonl");
        let data = format!("{}[:4]", data.display());
        let loss = |model: &[&str]| lab.loss(&data, model);
        let (adapted, merged) = (loss(&adapter), loss(&["--model", "merged"]));
        near(family, &[merged], &[adapted], 1e-4);
        assert!(adapted < losses[0] - 0.05, "{family}: {adapted}");

        let prompts = ["--prompt", "One sunny morning, Tom", "--prompt", "Then"];
        let generate = |model: &[&str]| {
            let args = ["generate", "--json", "--max-new-tokens", "9"];
            let answers = lab.ok_json(&[&args[..], &prompts, model].concat());
            [0, 1].map(|index| answers[index]["token_ids"].clone())
        };
        assert_eq!(
            generate(&adapter),
            generate(&["--model", "merged"]),
            "{family}"
        );
        let tree = lab.ok(&[&["inspect"], &adapter[..]].concat());
        assert!(tree.contains("lora_A"), "{family}: {tree}");
    }
}

#[test]
fn a_new_file_fits_every_layout() {
    for family in FAMILIES {
        let lab = lab(family);
        lab.ok(&["new", "mine", "--model", "base", "--train", "train.jsonl"]);
        let file = lab.text("mine.toml");
        assert!(file.contains("\nmax_length = 128\n"), "{file}");
        let steps = [
            "--set",
            "training.max_steps=1",
            "--set",
            "data.validation_split=2",
        ];
        let out = lab.ok(&[&["train", "mine.toml"], &steps[..]].concat());
        assert!(out.contains("runs/mine/adapter_model.safetensors"), "{out}");
    }
}

#[test]
fn rotary_positions_go_on_where_that_is_asked_for() {
    let lab = lab("llama_bias");
    let positions = |positions: usize| {
        let mut config = lab.json("base/config.json");
        config["max_position_embeddings"] = json!(positions);
        lab.write("base/config.json", config.to_string());
    };
    let train = |output: &str, keys: &[&str]| {
        let answer = try_train(&lab, output, keys, &[]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        answer
    };
    // A row is limited by the default, not by what the model allows.
    positions(131_072);
    let answer = train("a", &["data.packing=true"]);
    let said = "packed into rows of data.max_length = 2048, its default here";
    assert!(answer.out.contains(said), "{answer:?}");
    positions(16);
    let answer = train("b", &[]);
    let said = "16 of 16 rows cut to data.max_length = 16, its default here";
    assert!(answer.out.contains(said), "{answer:?}");
    assert!(!answer.err.contains("may be poor"), "{answer:?}");

    let warned = "max_position_embeddings 16, for which it was trained";
    let answer = train("c", &["data.max_length=40"]);
    assert!(answer.err.contains(warned), "{answer:?}");
    let data = fixtures().join("../../data/quickstart/validation.jsonl");
    let data = format!("{}[:4]", data.display());
    let base = ["--model", "base"];
    for (args, named) in [
        (&["eval", "--data", &data, "--max-length", "40"][..], warned),
        (&["data", &data, "--max-length", "40"], warned),
        (
            &["generate", "--prompt", "Then", "--max-new-tokens", "30"],
            "go beyond the 16 positions",
        ),
    ] {
        let answer = lab.peft(&[args, &base].concat());
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert!(answer.err.contains(named), "{answer:?}");
    }
}

#[test]
fn how_a_model_is_trained_asks_for_no_family() {
    for family in FAMILIES {
        let lab = lab(family);
        let dropout = "peft.lora_dropout=0";
        let plain = train(&lab, "out", &[dropout]);
        let (checkpoints, half) = ("training.gradient_checkpointing=true", "training.bf16=true");
        let [eight, four] =
            [8, 4].map(|bits| format!("quantization_config.load_in_{bits}bit=true"));
        for (keys, tolerance) in [
            (&[checkpoints][..], 1e-6),
            (&[half], 0.03),
            (&[&eight], 0.03),
            (&[&four, half, checkpoints], 0.1),
        ] {
            let found = train(&lab, "other", &[&[dropout], keys].concat());
            near(&format!("{family} {keys:?}"), &found, &plain, tolerance);
            fs::remove_dir_all(lab.path("other")).unwrap();
        }
        // Four rows become one, so there are fewer.
        let answer = try_train(&lab, "packed", &["data.packing=true"], &[]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        let said = "packed into rows of data.max_length = 128, its default here";
        assert!(answer.out.contains(said), "{answer:?}");
    }
}

#[test]
fn all_weights_of_any_family_are_trained_and_resumed() {
    for family in FAMILIES {
        let lab = lab(family);
        let full = [
            "peft.peft_type=NONE",
            "training.save_steps=2",
            "training.learning_rate=3e-3",
        ];
        let losses = train(&lab, "whole", &full);
        assert!(losses[3] < losses[0] - 0.05, "{family}: {losses:?}");
        // Resumed from the checkpoint of the second step, it ends with the same bits.
        let keys = [&["training.logging_steps=1"], &full[..]].concat();
        let answer = try_train(&lab, "again", &keys, &["--resume", "whole/checkpoint-2"]);
        assert_eq!(answer.code, Some(0), "{family}: {answer:?}");
        let begun = "resuming from whole/checkpoint-2, step 2 of 4";
        assert!(answer.out.starts_with(begun), "{family}: {answer:?}");
        let file = |folder: &str| lab.read(&format!("{folder}/model.safetensors"));
        assert!(file("again") == file("whole"), "{family}");
        lab.ok(&[
            "generate",
            "--model",
            "again",
            "--prompt",
            "Then",
            "--max-new-tokens",
            "3",
        ]);
    }
}
