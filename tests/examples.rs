//! Every example runs and prints what it promises.

use std::path::Path;
use std::process::Command;

use crate::common::{Lab, adapted, repository};

/// Runs an example that `cargo test` has built, and returns its standard output.
fn run(name: &str, args: &[&Path]) -> Option<String> {
    run_in(Path::new("."), name, args)
}

/// The same in a folder.
fn run_in(folder: &Path, name: &str, args: &[&Path]) -> Option<String> {
    let program = Path::new(env!("CARGO_BIN_EXE_peft"));
    let program = program.with_file_name("examples").join(name);
    if !program.exists() {
        // `cargo test --test suite` builds no examples; the whole `cargo test` does.
        eprintln!("skipped: {} is not built", program.display());
        return None;
    }
    let mut command = Command::new(program);
    let output = command.current_dir(folder).args(args).output().unwrap();
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
fn custom_objective() {
    prints("custom_objective", &["4 pairs, 8 texts", "learnt: true"]);
}

#[test]
fn burn_dataset() {
    prints(
        "burn_dataset",
        &[
            "20 examples of people",
            "resumed bit for bit: true",
            "Burn's loader, epoch 3",
        ],
    );
}

#[test]
fn image_classifier_and_encoder() {
    for name in ["image_classifier", "encoder"] {
        for method in ["lora", "ia3", "loha", "lokr"] {
            let folder = tempfile::tempdir().unwrap();
            let args = [folder.path(), Path::new("--method"), Path::new(method)];
            let Some(output) = run(name, &args) else {
                return;
            };
            for line in ["learnt: true", "the merged model is the trained one: true"] {
                assert!(
                    output.contains(line),
                    "{name}, {method}: no {line:?} in\n{output}"
                );
            }
            let adapter = folder.path().join("adapter/adapter_model.safetensors");
            assert!(adapter.exists());
        }
    }
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

/// The README's program, which writes into the current folder.
#[test]
fn own_model() {
    let folder = tempfile::tempdir().unwrap();
    let Some(output) = run_in(folder.path(), "own_model", &[]) else {
        return;
    };
    let counts = "trainable params: 220 || all params: 545 || trainable%: 40.3670";
    assert!(output.contains(counts), "{output}");
    assert!(output.contains("step 50: loss 0."), "{output}");
    assert!(
        output.contains("the loaded model is the trained one: true"),
        "{output}"
    );
    let written = folder.path().join("adapter/adapter_model.safetensors");
    assert!(written.exists());
}

#[test]
fn custom_method() {
    prints("custom_method", &["(linear): gain.Linear("]);
}

/// With arguments, the example is `peft` with its method: from a training file to the merged model.
#[test]
fn custom_method_as_a_peft_of_its_own() {
    let lab = Lab::new();
    let gain = |line: &str| {
        let args: Vec<&Path> = line.split(' ').map(Path::new).collect();
        run_in(&lab.path("."), "custom_method", &args)
    };
    let train = "train train.toml --set peft.peft_type=GAIN --set peft.max_gain=0.25";
    if gain(train).is_none() {
        return;
    }
    assert_eq!(lab.json("out/adapter_config.json")["max_gain"], 0.25);
    gain("eval --model model --adapter out --data train.jsonl");
    gain("merge --model model --adapter out --output merged");
    // Without the method, its name is unknown.
    let named = ["\"GAIN\" is not supported"];
    lab.fails(&adapted("inspect", &[]), &named);
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

/// One method of each kind, for a few steps: at layers, at the model, and all weights.
#[test]
fn compare_methods() {
    let folder = tempfile::tempdir().unwrap();
    let flags = [
        "--steps",
        "2",
        "--methods",
        "all weights,LoRA,prefix tuning",
    ]
    .map(Path::new);
    let args = [&flags[..], &["--output".as_ref(), folder.path()]].concat();
    let Some(output) = run("compare_methods", &args) else {
        return;
    };
    let table = std::fs::read_to_string(folder.path().join("methods.md")).unwrap();
    assert!(output.contains(&table), "{output}");
    let cells = |name: &str| -> Vec<&str> {
        let start = format!("| {name} |");
        let row = table.lines().find(|line| line.starts_with(&start));
        let cells = row
            .unwrap_or_else(|| panic!("no {name} in\n{table}"))
            .split('|');
        cells.map(str::trim).collect()
    };
    // LoRA: 4 blocks, each layer r (in + out). Prefix tuning: 16 positions, 4 layers, keys and
    // values, 128 wide.
    let lora = 4 * 8 * ((128 + 384) + (128 + 128) + 2 * (128 + 512));
    for (name, trainable, merges) in [
        ("all weights", 940_800, "–"),
        ("LoRA", lora, "yes"),
        ("prefix tuning", 16 * 4 * 2 * 128, "no"),
    ] {
        let cells = cells(name);
        assert_eq!(cells[2].replace(',', ""), trainable.to_string(), "{table}");
        assert_eq!(cells[7], merges, "{table}");
        let loss: f64 = cells[4].parse().unwrap();
        assert!(loss > 0.5 && loss < 8.0, "{table}");
    }
    let chart = std::fs::read_to_string(folder.path().join("methods.svg")).unwrap();
    assert_eq!(chart.matches("<circle").count(), 3, "{chart}");
}

/// The recipe of the shipped model still gives the tokenizer and the data that are shipped.
#[test]
fn tiny_gpt2() {
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
            read(&made) == read(&repository(shipped)),
            "{shipped} differs"
        );
    }
}

/// The recipe of the second quick start still gives its sentences and its model.
#[test]
fn sentiment() {
    let lab = Lab::new();
    let flags = ["--data", "--model"].map(Path::new);
    let (data, model) = (lab.path("data"), lab.path("recipe"));
    let args = [flags[0], &data, flags[1], &model];
    if run("sentiment", &args).is_none() {
        return;
    }
    lab.ok(&[
        "init",
        "recipe/config.json",
        "--output",
        "tiny-bert",
        "--seed",
        "0",
    ]);
    for (made, shipped) in [
        ("data/train.jsonl", "data/sentiment/train.jsonl"),
        ("data/validation.jsonl", "data/sentiment/validation.jsonl"),
        ("recipe/tokenizer.json", "assets/tiny-bert/tokenizer.json"),
        (
            "recipe/tokenizer_config.json",
            "assets/tiny-bert/tokenizer_config.json",
        ),
        ("tiny-bert/config.json", "assets/tiny-bert/config.json"),
        (
            "tiny-bert/model.safetensors",
            "assets/tiny-bert/model.safetensors",
        ),
    ] {
        let shipped_bytes = std::fs::read(repository(shipped)).unwrap();
        assert!(lab.read(made) == shipped_bytes, "{shipped} differs");
    }
}

/// The recipe of the shipped chats still gives these chats.
#[test]
fn island_chats() {
    let chats = repository("assets/chats");
    let folder = tempfile::tempdir().unwrap();
    if run("island_chats", &["--output".as_ref(), folder.path()]).is_none() {
        return;
    }
    for name in ["train.jsonl", "held-out.jsonl", "general.jsonl"] {
        let read = |folder: &Path| std::fs::read(folder.join(name)).unwrap();
        assert!(read(folder.path()) == read(&chats), "{name} differs");
    }
}

/// A question finds the text that has the same words.
#[test]
fn search() {
    let lab = Lab::new();
    let texts = ["the cat sat", "two and two", "red as a rose"];
    let rows = texts.map(|text| format!("{}\n", serde_json::json!({ "text": text })));
    lab.write("texts.jsonl", rows.concat());
    let args = ["model", "texts.jsonl", "two and two"].map(Path::new);
    if let Some(output) = run_in(&lab.path("."), "search", &args) {
        assert!(output.starts_with("1.000  two and two\n"), "{output}");
        assert_eq!(output.lines().count(), 3);
    }
}
