//! Every command that takes an adapter loads what training saves, for every method and for both
//! kinds of training files: the quick start's, which names layers, and that of `peft new`, which
//! has `all-linear`.

use std::fs;

use serde_json::json;

use crate::common::{Lab, adapted, repository};
use crate::methods::METHODS;

/// Methods that act at the model, with the keys they need.
const AT_MODEL: [(&str, &[&str], bool); 3] = [
    ("PROMPT_TUNING", &["num_virtual_tokens=4"], false),
    ("P_TUNING", &["num_virtual_tokens=4"], false),
    ("PREFIX_TUNING", &["num_virtual_tokens=4"], false),
];

/// Trains `peft_type` for one step by `file`, into `out/`.
fn train(lab: &Lab, file: &str, peft_type: &str, keys: &[&str]) {
    let _ = fs::remove_dir_all(lab.path("out"));
    let mut args = vec!["train".to_string(), file.to_string()];
    let keys = keys.iter().map(|key| format!("peft.{key}"));
    let set = [
        "model=model",
        "data.train=train.jsonl",
        "data.max_length=16",
        "training.output_dir=out",
        "training.max_steps=1",
        "training.eval_strategy=no",
        "training.save_strategy=no",
    ];
    // The file of `peft new` holds back rows for evaluation.
    let validation = (file != "fresh.toml").then_some("data.validation=train.jsonl[4:]");
    let set = set
        .into_iter()
        .chain(validation)
        .map(String::from)
        .chain(keys);
    for key in set.chain([format!("peft.peft_type={peft_type}")]) {
        args.extend(["--set".to_string(), key]);
    }
    lab.ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
}

/// Loads `out/` with every command that takes an adapter.
fn load(lab: &Lab, what: &str, can_merge: bool, can_combine: bool) {
    let with = |command: &str, more: &[&str]| {
        let args = [&[command, "--model", "model", "--adapter", "out"], more].concat();
        let answer = lab.peft(&args);
        assert_eq!(answer.code, Some(0), "{what}: {args:?}: {answer:?}");
        answer.out
    };
    with(
        "generate",
        &["--prompt", "the cat", "--max-new-tokens", "2"],
    );
    with("eval", &["--data", "train.jsonl"]);
    assert!(with("inspect", &[]).contains("trainable params"), "{what}");
    let merge = adapted("merge", &["--output", "merged"]);
    if can_merge {
        lab.ok(&merge);
        fs::remove_dir_all(lab.path("merged")).unwrap();
    } else {
        lab.fails(&merge, &["cannot be merged"]);
    }
    let combine = ["combine", "--adapter", "out", "--adapter", "out:0.5"];
    let combine = [&combine[..], &["--method", "linear", "--output", "both"]].concat();
    if can_combine {
        lab.ok(&combine);
        let combined = ["eval", "--model", "model", "--adapter", "both"];
        lab.ok(&[&combined[..], &["--data", "train.jsonl"]].concat());
        fs::remove_dir_all(lab.path("both")).unwrap();
    } else {
        lab.fails(&combine, &[]);
    }
}

#[test]
fn every_method_saves_what_every_command_loads() {
    let lab = Lab::new();
    let quick_start = repository("configs/quickstart.toml").display().to_string();
    lab.ok(&["new", "fresh", "--model", "model", "--train", "train.jsonl"]);
    for (peft_type, keys, can_merge) in METHODS.into_iter().chain(AT_MODEL) {
        for file in [quick_start.as_str(), "fresh.toml"] {
            let what = format!("{peft_type} {keys:?} by {file}");
            println!("{what}");
            train(&lab, file, peft_type, keys);
            let is_lora = peft_type == "LORA" && !keys.iter().any(|k| k.contains("use_dora"));
            load(&lab, &what, can_merge, is_lora || peft_type == "IA3");
        }
    }
}

/// If `feedforward_modules` is a list, PEFT requires every name in it to be in `target_modules`. A
/// pattern is not checked (`IA3Config.__post_init__`). If no feed-forward layer is adapted, there
/// is nothing to name.
#[test]
fn ia3_names_its_feed_forward_layers_in_a_way_that_peft_reads() {
    let lab = Lab::new();
    let pattern = json!(".*(?:mlp\\.c_proj)");
    for (targets, written) in [
        (r#"["c_attn", "c_proj", "c_fc"]"#, pattern.clone()),
        (r#"["c_attn", "mlp.c_proj"]"#, json!(["mlp.c_proj"])),
        (r#"["c_attn"]"#, json!([])),
        ("all-linear", pattern),
        (r#"'.*\.(c_attn|c_proj)'"#, json!(["mlp.c_proj"])),
    ] {
        let targets = format!("target_modules={targets}");
        train(&lab, "train.toml", "IA3", &[&targets]);
        let config = lab.json("out/adapter_config.json");
        assert_eq!(config["feedforward_modules"], written, "{targets}");
        load(&lab, &targets, true, true);
    }
}
