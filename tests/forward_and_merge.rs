//! `peft forward` and `peft merge`.

use crate::common::{Lab, adapted, largest_difference};

const ROWS: [i64; 10] = [5, 260, 7, 100, 9, 1, 2, 3, 0, 0];

fn lab() -> Lab {
    let lab = Lab::with_adapter();
    let mask = [1, 1, 1, 1, 1, 1, 1, 1, 0, 0];
    let tensors: [(&str, &[usize], &[i64]); 2] = [
        ("input_ids", &[2, 5], &ROWS),
        ("attention_mask", &[2, 5], &mask),
    ];
    lab.write_integers("in.safetensors", &tensors);
    lab
}

fn logits(lab: &Lab, options: &[&str]) -> Vec<f32> {
    let (shape, values) = lab.logits(options);
    assert_eq!(shape, [2, 5, lab.vocab_size]);
    values
}

#[test]
fn an_adapter_can_be_on_off_or_merged() {
    let lab = lab();
    let adapter = ["--model", "model", "--adapter", "out"];
    let base = logits(&lab, &["--model", "model"]);
    let by_adapter = logits(&lab, &adapter);
    let disabled = logits(&lab, &[&adapter[..], &["--disable"]].concat());
    let merged = logits(&lab, &[&adapter[..], &["--merge"]].concat());
    assert_eq!(disabled, base);
    assert!(largest_difference(&by_adapter, &base) > 1e-2);
    let off = largest_difference(&by_adapter, &merged);
    assert!(off < 1e-4, "{off}");
}

#[test]
fn what_is_padding_changes_no_token() {
    let lab = lab();
    let padded = logits(&lab, &["--model", "model"]);
    lab.write_integers(
        "in.safetensors",
        &[("input_ids", &[2, 5], &[&ROWS[..8], &[9, 9]].concat())],
    );
    let changed = logits(&lab, &["--model", "model"]);
    let tokens = 8 * lab.vocab_size;
    assert!(largest_difference(&padded[..tokens], &changed[..tokens]) < 1e-6);
    assert!(largest_difference(&padded[tokens..], &changed[tokens..]) > 1e-2);
}

#[test]
fn a_merged_model_needs_no_adapter() {
    let lab = lab();
    let by_adapter = logits(&lab, &["--model", "model", "--adapter", "out"]);
    let merge = adapted("merge", &["--output", "new/merged"]);
    let out = lab.ok(&merge);
    let (_, change) = out.lines().next().unwrap().split_once("merging: ").unwrap();
    assert!(change.parse::<f64>().unwrap() < 1e-4, "{out}");
    assert_eq!(
        lab.names("new/merged"),
        ["config.json", "model.safetensors", "tokenizer.json"]
    );
    assert_eq!(lab.names("new"), ["merged"]);
    assert_eq!(
        lab.read("new/merged/tokenizer.json"),
        lab.read("model/tokenizer.json")
    );
    let merged = logits(&lab, &["--model", "new/merged"]);
    assert!(largest_difference(&by_adapter, &merged) < 1e-4);

    // It merges a second time only with `--force`, and then replaces its own files only.
    lab.fails(&merge, &["new/merged", "not empty", "--force"]);
    lab.write("new/merged/notes", "mine");
    lab.write("new/merged/model.safetensors", "broken");
    lab.ok(&[&merge[..], &["--force"]].concat());
    assert_eq!(logits(&lab, &["--model", "new/merged"]), merged);
    assert_eq!(lab.read("new/merged/notes"), b"mine");
}

#[test]
fn a_merged_model_without_a_tokenizer_is_told_of_and_can_be_given_one() {
    let lab = lab();
    let tokenizer = lab.read("model/tokenizer.json");
    std::fs::create_dir(lab.path("words")).unwrap();
    std::fs::rename(
        lab.path("model/tokenizer.json"),
        lab.path("words/tokenizer.json"),
    )
    .unwrap();
    let merge = |more: &[&str]| {
        let args = adapted("merge", &["--output"]);
        lab.peft(&[&args[..], more].concat())
    };
    let answer = merge(&["bare"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(
        answer.err.contains("bare has no tokenizer") && answer.err.contains("--tokenizer"),
        "{answer:?}"
    );
    for (output, given) in [("a", "words"), ("b", "words/tokenizer.json")] {
        let answer = merge(&[output, "--tokenizer", given]);
        assert_eq!(
            (answer.code, answer.err.as_str()),
            (Some(0), ""),
            "{answer:?}"
        );
        assert_eq!(lab.read(&format!("{output}/tokenizer.json")), tokenizer);
        lab.ok(&["generate", "--model", output, "--prompt", "the cat"]);
    }
    merge(&["c", "--tokenizer", "nowhere/at/all"]).failed(&["nowhere/at/all"]);
    lab.write("odd.json", &tokenizer);
    assert!(!lab.path("c").exists());
    // The tokenizer gets the name under which programs look for it.
    assert_eq!(merge(&["c", "--tokenizer", "odd.json"]).code, Some(0));
    assert_eq!(lab.read("c/tokenizer.json"), tokenizer);
}

#[test]
fn logits_that_are_no_numbers_are_written_and_told() {
    let lab = lab();
    let file = "model/model.safetensors";
    let mut weights = lab.read(file);
    let end = weights.len();
    weights[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    lab.write(file, weights);
    let args = [
        "forward",
        "--input",
        "in.safetensors",
        "--output",
        "out.safetensors",
    ];
    let answer = lab.peft(&[&args[..], &["--model", "model"]].concat());
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.err.contains("logits are not finite"), "{answer:?}");
    let (_, values) = lab.floats("out.safetensors", "logits");
    assert!(values.iter().any(|logit| logit.is_nan()));
}

/// Waits for the folder into which the model is written, and ends the process then.
#[cfg(unix)]
#[test]
fn a_merge_or_an_export_that_a_signal_ends_leaves_nothing() {
    let lab = Lab::with_adapter();
    let mut config = lab.config();
    config["vocab_size"] = 200_000.into();
    lab.write("config.json", config.to_string());
    lab.ok(&["init", "config.json", "--output", "wide"]);
    for (command, output) in [("merge", "merged"), ("export", "exported.gguf")] {
        ended_by_a_signal(&lab, command, output);
    }
}

#[cfg(unix)]
fn ended_by_a_signal(lab: &Lab, command: &str, output: &str) {
    let hidden = || {
        let names = lab.names(".").into_iter();
        names
            .filter(|name| name.starts_with(".peft-merge-"))
            .count()
    };
    let args = ["--model", "wide", "--adapter", "out", "--output", output];
    for _ in 0..20 {
        std::fs::remove_dir_all(lab.path(output)).ok();
        std::fs::remove_file(lab.path(output)).ok();
        let mut command = lab
            .command(crate::common::PEFT)
            .arg(command)
            .args(args)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        while hidden() == 0 && command.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_micros(200));
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
        let id = command.id().to_string();
        lab.command("kill").args(["-TERM", &id]).output().unwrap();
        let code = command.wait().unwrap().code();
        assert_eq!(hidden(), 0, "{code:?}");
        if code == Some(143) && !lab.path(output).exists() {
            return;
        }
    }
    panic!("no signal came in time");
}
