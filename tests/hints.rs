//! Messages for users who mistype something or come from another tool.

use crate::common::{Lab, adapted};

/// Calls `peft` in a wrong way. The message has to contain all of `named`, and at most one line may
/// name the mistake.
#[track_caller]
fn wrong(lab: &Lab, args: &[&str], named: &[&str]) -> String {
    let answer = lab.peft(args);
    assert!(answer.out.is_empty(), "{args:?}: {answer:?}");
    assert_ne!(answer.code, Some(0), "{args:?}");
    let words: Vec<&str> = answer.err.split_whitespace().collect();
    let text = words.join(" ");
    for part in named {
        assert!(text.contains(part), "{args:?}: {part:?} is not in: {text}");
    }
    text
}

#[test]
fn a_misspelt_key_is_one_message_with_the_key_that_was_meant() {
    let lab = Lab::new();
    let file = lab.text("train.toml");
    lab.write("wrong.toml", file.replace("\nr = ", "\nlora_r = "));
    let text = wrong(
        &lab,
        &["train", "wrong.toml"],
        &["peft.lora_r is not a known key; did you mean r?"],
    );
    assert_eq!(text.matches("lora_r").count(), 1, "{text}");
    assert!(
        !text.contains("WARN") && !text.contains("no effect"),
        "{text}"
    );
    wrong(
        &lab,
        &["train", "train.toml", "--set", "peft.alpha=3"],
        &["did you mean lora_alpha?"],
    );
}

#[test]
fn words_of_other_tools_are_told_apart_in_the_file_and_behind_set() {
    let lab = Lab::new();
    for (flag, ours) in [
        ("learning_rate=1e-4", "training.learning_rate?"),
        ("r=4", "peft.r?"),
        ("num_epochs=3", "training.num_train_epochs?"),
        ("training.max_seq_length=64", "data.max_length?"),
        (
            "micro_batch_size=2",
            "training.per_device_train_batch_size?",
        ),
        ("train_on_inputs=true", "data.completion_only_loss"),
        ("peft.peft_type=DORA", "use_dora = true"),
        ("peft.peft_type=QLORA", "load_in_4bit = true"),
        ("peft.peft_type=lora", "peft_type = \"LORA\"?"),
    ] {
        let said = format!("did you mean {ours}");
        let said = if ours.contains(" = ") { ours } else { &said };
        wrong(&lab, &["train", "train.toml", "--set", flag], &[said]);
    }
    let file = lab.text("train.toml");
    lab.write(
        "wrong.toml",
        file.replace("[training]", "[training]\nlr = 1e-4"),
    );
    wrong(
        &lab,
        &["train", "wrong.toml"],
        &["wrong.toml: training.lr is not a known key; did you mean learning_rate?"],
    );
}

#[test]
fn commands_of_other_tools_are_answered_with_ours() {
    let lab = Lab::new();
    for (args, ours) in [
        (&["lora"][..], "`peft train FILE`"),
        (&["finetune", "--model", "gpt2"], "`peft new NAME"),
        (&["serve"], "serves no requests"),
        (&["save"], "`peft merge`"),
        (&["convert-gguf"], "`peft export --model M"),
        (&["export", "--model", "m", "--ftype", "f16"], "--outtype"),
        (&["repl"], "`peft chat"),
        (&["quantize"], "--load-in-4bit"),
        (&["train.toml"], "`peft train train.toml`"),
        (&["config.yaml"], "TOML"),
        (&["train", "--model", "gpt2"], "--set model=gpt2"),
        (&["train", "--data", "a.jsonl"], "--set data.train=a.jsonl"),
        (
            &["train", "train.toml", "--iters=5"],
            "--set training.max_steps=5",
        ),
        (
            &["train", "train.toml", "--lora-rank", "8"],
            "--set peft.r=8",
        ),
        (
            &[
                "generate",
                "--model",
                "m",
                "--prompt",
                "a",
                "--max-tokens",
                "5",
            ],
            "--max-new-tokens",
        ),
        (
            &[
                "generate",
                "--model",
                "m",
                "--prompt",
                "a",
                "--max_new_tokens",
                "5",
            ],
            "--max-new-tokens",
        ),
        (&["eval", "--model", "m", "a.jsonl"], "--data \"a.jsonl\""),
        (&["data", "--file", "a.jsonl"], "`peft data FILE`"),
        (&["train", "--config", "a.toml"], "`peft train FILE`"),
        (
            &["init", "gpt2", "--output", "a", "--overwrite"],
            "--force?",
        ),
        (&["train", "a.toml", "--dry_run"], "--dry-run?"),
        (&["train", "a.toml", "--spam"], "--print-config"),
        (&["--device", "cpu", "train", "a.toml"], "after the command"),
        (&["new", "a", "--device", "cpu"], "does not use a device"),
    ] {
        let text = wrong(&lab, args, &[ours]);
        assert_eq!(lab.peft(args).code, Some(2), "{text}");
    }
    // clap itself handles what is only mistyped.
    wrong(&lab, &["trian"], &["similar", "'train'"]);
}

#[test]
fn fuse_is_merge() {
    let lab = Lab::with_adapter();
    lab.ok(&adapted("fuse", &["--output", "fused"]));
    assert!(
        lab.names("fused")
            .contains(&"model.safetensors".to_string())
    );
    assert!(lab.ok(&["--help"]).contains("fuse"));
}

#[test]
fn a_method_that_is_taken_for_a_template_is_told_as_a_key() {
    let lab = Lab::new();
    for (template, method) in [("ia3", "IA3"), ("ln-tuning", "LN_TUNING")] {
        let key = format!("`peft train FILE --set peft.peft_type={method}`");
        wrong(&lab, &["new", "run", "--template", template], &[&key]);
    }
    let text = wrong(&lab, &["new", "run", "--template", "fulll"], &["full"]);
    assert!(!text.contains("peft_type"), "{text}");
}
