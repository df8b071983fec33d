//! Exit codes, and what goes to standard output and standard error.

use crate::common::{Lab, PEFT};

#[test]
fn help_is_a_result_and_shows_examples() {
    let lab = Lab::new();
    for command in [
        "new", "train", "generate", "eval", "merge", "inspect", "init", "forward",
    ] {
        let help = lab.ok(&[command, "--help"]);
        assert!(help.contains(&format!("\n  peft {command} ")), "{help}");
    }
    assert!(lab.ok(&["--version"]).starts_with("peft 0."));
}

#[test]
fn wrong_usage_is_2() {
    let lab = Lab::new();
    let cases: [&[&str]; 7] = [
        &[],
        &["trian"],
        &["generate", "--model", "model"],
        &[
            "generate", "--model", "model", "--prompt", "a", "--top-k", "-3",
        ],
        &["train", "train.toml", "--set", "training.max_steps"],
        &[
            "forward", "--model", "m", "--merge", "--input", "a", "--output", "b",
        ],
        &[
            "inspect",
            "--model",
            "model",
            "--adapter",
            "a",
            "--config",
            "b",
        ],
    ];
    for args in cases {
        let answer = lab.peft(args);
        assert_eq!(answer.code, Some(2), "{args:?}: {answer:?}");
        assert!(
            answer.out.is_empty() && !answer.err.is_empty(),
            "{answer:?}"
        );
    }
}

#[test]
fn predict_refuses_options_for_answers() {
    let lab = Lab::new();
    let help = lab.ok(&["predict", "--help"]);
    for (option, value) in [("--completion-field", "answer"), ("--train-on", "all")] {
        assert!(!help.contains(option), "{help}");
        let answer = lab.peft(&["predict", "--model", "m", "--data", "d", option, value]);
        assert_eq!(answer.code, Some(2), "{answer:?}");
        assert!(answer.err.contains(option), "{answer:?}");
    }
}

#[test]
fn errors_and_warnings_stay_off_standard_output() {
    let lab = Lab::new();
    let answer = lab.peft(&["inspect", "--model", "nowhere/at/all"]);
    assert!(answer.out.is_empty(), "{answer:?}");
    answer.failed(&["nowhere/at/all"]);

    lab.write(
        "adapter.json",
        r#"{"peft_type": "LORA", "target_modules": ["c_attn"], "spam": 1}"#,
    );
    let args = [
        "inspect",
        "--model",
        "model",
        "--config",
        "adapter.json",
        "--json",
    ];
    let answer = lab.peft(&args);
    assert_eq!(answer.code, Some(0));
    assert!(
        serde_json::from_str::<serde_json::Value>(&answer.out).is_ok(),
        "{}",
        answer.out
    );
    assert!(
        answer.err.contains("WARN") && answer.err.contains("spam"),
        "{}",
        answer.err
    );
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let lab = Lab::new();
    lab.ok_unread(&["inspect", "--model", "model"]);
    lab.ok_unread(&["train", "train.toml"]);
    // The training continued to its end.
    assert!(lab.path("out/adapter_model.safetensors").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn an_output_that_is_full_is_a_failure() {
    let lab = Lab::new();
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let mut command = lab.command(PEFT);
    let output = command
        .args(["inspect", "--model", "model"])
        .stdout(full)
        .output()
        .unwrap();
    crate::common::Answer::from(output).failed(&["standard output", "No space left"]);
}
