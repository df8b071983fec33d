//! Every example runs and prints what it promises.

use std::path::Path;
use std::process::Command;

/// Runs an example that `cargo test` has built; its standard output.
fn run(name: &str, args: &[&Path]) -> Option<String> {
    let program = Path::new(env!("CARGO_BIN_EXE_peft"));
    let program = program.with_file_name("examples").join(name);
    if !program.exists() {
        // `cargo test --test suite` builds no examples; the whole `cargo test` does.
        eprintln!("skipped: {} is not built", program.display());
        return None;
    }
    let output = Command::new(program).args(args).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{name}: {}", text(&output.stderr));
    Some(text(&output.stdout))
}

fn prints(name: &str, lines: &[&str]) {
    if let Some(output) = run(name, &[]) {
        for line in lines {
            assert!(output.contains(line), "{name}: no {line:?} in\n{output}");
        }
    }
}

#[test]
fn gpt2_lora() {
    prints(
        "gpt2_lora",
        &[
            "(0-11): 12 x GPT2Block(",
            "trainable params: 294,912 || all params: 124,734,720 || trainable%: 0.2364",
        ],
    );
}

#[test]
fn requires_grad() {
    prints(
        "requires_grad",
        &["trainable params: 220 || all params: 545 || trainable%: 40.3670"],
    );
}

#[test]
fn adapter_roundtrip() {
    prints(
        "adapter_roundtrip",
        &["all three adapted outputs are equal"],
    );
}

#[test]
fn parameter_count() {
    prints("parameter_count", &["   8      294,912      294,912"]);
}

#[test]
fn custom_method() {
    prints("custom_method", &["(linear): gain.Linear("]);
}

#[test]
fn custom_prompt() {
    prints(
        "custom_prompt",
        &[
            "(default): LowRankPrompt(8, 16, r=2)",
            "8 extra positions, loaded: the same loss",
        ],
    );
}

/// The recipe of the shipped model still gives the tokenizer and the data that are shipped.
#[test]
fn tiny_gpt2() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = tempfile::tempdir().unwrap();
    let (output, quickstart) = (
        folder.path().join("output"),
        folder.path().join("quickstart"),
    );
    let flags = ["--output", "--quickstart"].map(Path::new);
    let args = [flags[0], &output, flags[1], &quickstart];
    if run("tiny_gpt2", &args).is_none() {
        return;
    }
    for (made, shipped) in [
        (
            output.join("tokenizer.json"),
            "assets/tiny-gpt2/tokenizer.json",
        ),
        (
            quickstart.join("train.jsonl"),
            "data/quickstart/train.jsonl",
        ),
        (
            quickstart.join("validation.jsonl"),
            "data/quickstart/validation.jsonl",
        ),
    ] {
        let read = |path: &Path| std::fs::read(path).unwrap();
        assert!(
            read(&made) == read(&root.join(shipped)),
            "{shipped} differs"
        );
    }
}
