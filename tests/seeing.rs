//! What a run shows: the log, the report, TensorBoard's events; and the files that `peft new`
//! writes.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::{Lab, TEXTS, assert_has, quick_start, tree, values};

/// A run with evaluations.
const EVALUATED: [&str; 4] = [
    "--set",
    "training.eval_strategy=steps",
    "--set",
    "training.eval_steps=2",
];

#[test]
fn the_log_has_every_value_and_the_samples() {
    let lab = Lab::new();
    let out = lab.ok(&[&["train", "train.toml"], &EVALUATED[..]].concat());
    let mut entries = lab.metrics("out");
    // The first entry is the model before training.
    let before: Vec<Value> = entries.drain(..2).collect();
    assert!(before.iter().all(|entry| entry["step"] == 0), "{before:?}");
    assert!(before[0]["eval_runtime"].as_f64().unwrap() > 0.0);
    assert!(before[1]["sample"].is_string());
    let keys =
        |entry: &Value| -> Vec<String> { entry.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(
        keys(&entries[0]),
        [
            "step",
            "epoch",
            "loss",
            "learning_rate",
            "grad_norm",
            "tokens_per_second",
            "num_input_tokens_seen",
            "peak_memory_bytes"
        ]
    );
    assert_eq!(
        keys(&entries[2]),
        [
            "step",
            "epoch",
            "eval_loss",
            "eval_perplexity",
            "eval_runtime"
        ]
    );
    assert_eq!(keys(&entries[3]), ["step", "epoch", "sample"]);
    assert_eq!(entries.len(), 5);
    if cfg!(target_os = "linux") {
        // The weights and the program need at least some megabytes.
        assert!(entries[0]["peak_memory_bytes"].as_u64().unwrap() > 4_000_000);
    }
    // If the output is a pipe, each logged step is a line.
    let lines: Vec<_> = out
        .lines()
        .filter(|line| line.starts_with("step "))
        .collect();
    assert_eq!(lines.len(), 4, "{out}");
    let parts = [
        "step 1/3  epoch ",
        "loss ",
        "learning_rate ",
        "grad_norm ",
        "tokens/s",
        " left",
    ];
    assert_has(lines[0], &parts);
    assert!(lines[2].starts_with("step 2/3  eval_loss "), "{}", lines[2]);
    assert!(lines[2].contains("  in 0:0"), "{}", lines[2]);
    // Before training, at step 2 and at the end.
    assert_eq!(out.matches("\n  sample: the cat").count(), 3, "{out}");
    assert!(!out.contains("e0") && !out.contains("in 0 s"), "{out}");
}

#[test]
fn the_report_is_whole_in_itself() {
    let lab = Lab::new();
    lab.ok(&[
        &["train", "train.toml", "--set", "prompt='the <b>cat'"],
        &EVALUATED[..],
    ]
    .concat());
    let page = lab.text("out/report.html");
    for bad in [
        "<script", "http:", "https:", "src=", "url(", "@import", "<b>cat",
    ] {
        assert!(!page.contains(bad), "{bad} in the report");
    }
    let parts = [
        "<title>out</title>",
        "model on train.jsonl",
        "aria-label=\"Loss: loss ",
        "aria-label=\"Learning rate: ",
        "aria-label=\"Gradient norm",
        "aria-label=\"Tokens per second",
        "before training<td",
        "<th class=\"key\">step 2<td",
        "<th class=\"key\">step 3, after training<td",
        "<tr><td class=\"number\">0<td",
        "<tr><td class=\"number\">3<td",
        "loss (nats per token)",
        "time (s)",
        concat!(" UTC · peft ", env!("CARGO_PKG_VERSION"), " · "),
        "the &lt;b&gt;cat",
        "<td class=\"dim\">flag",
        "learning_rate = 0.05",
        "peft train train.toml --set &#39;prompt=",
        "peft train out/config.toml",
        "<b>512</b><small>trained parameters (",
    ];
    assert_has(&page, &parts);
}

#[test]
fn a_run_that_goes_on_reports_its_beginning() {
    let lab = Lab::new();
    let args = [&["train", "train.toml"], &EVALUATED[..]].concat();
    lab.ok(&[&args[..], &["--set", "training.max_steps=2"]].concat());
    lab.ok(&[&args[..], &["--resume"]].concat());
    let page = lab.text("out/report.html");
    assert_has(
        &page,
        &["before training<td", "<tr><td class=\"number\">0<td", " → "],
    );
}

#[test]
fn a_config_names_no_variant_that_nobody_asked_for() {
    let lab = Lab::with_adapter();
    let shown = lab.ok(&["train", "train.toml", "--print-config"]);
    let saved = lab.read("out/adapter_config.json");
    let saved = String::from_utf8(saved).unwrap();
    let config = lab.text("out/config.toml");
    for text in [shown, saved, config] {
        for key in [
            "megatron",
            "qalora",
            "corda",
            "velora",
            "alora",
            "layer_replication",
        ] {
            assert!(!text.contains(key), "{key} in {text}");
        }
        assert!(text.contains("lora_alpha"), "{text}");
    }
}

#[test]
fn a_config_says_where_every_value_came_from_and_reads_back() {
    let lab = Lab::new();
    let args = ["--set", "training.max_steps=2", "--print-config"];
    let out = lab.ok(&[&["train", "train.toml"], &args[..]].concat());
    let origin = |key: &str| {
        let line = out
            .lines()
            .find(|line| line.starts_with(&format!("{key} = ")));
        let line = line.unwrap_or_else(|| panic!("{key} is not in {out}"));
        line.rsplit("# ").next().unwrap().to_string()
    };
    let keys = ["model", "r", "bias", "max_steps", "learning_rate", "seed"];
    assert_eq!(
        keys.map(origin),
        ["file", "file", "default", "flag", "file", "default"]
    );
    assert!(!lab.path("out").exists());

    lab.write("again.toml", &out);
    lab.ok(&["train", "again.toml", "--set", "training.output_dir=again"]);
    lab.ok(&["train", "train.toml", "--set", "training.max_steps=2"]);
    assert_eq!(lab.weights("again"), lab.weights("out"));
    lab.fails(
        &["train", "train.toml", "--set", "peft.lora_alfa=1"],
        &["peft.lora_alfa", "did you mean lora_alpha?"],
    );
}

#[test]
fn a_dry_run_says_what_a_run_takes_and_leaves_no_result() {
    let lab = Lab::new();
    // The tokens stay in their cache for the run.
    let files = || {
        let mut files = tree(&lab.path("."));
        files.retain(|name| !name.starts_with("peft-cache"));
        files
    };
    let before = files();
    // Six rows, two in a batch: three steps per epoch, 30 in all.
    let epochs = [
        "--set",
        "training.max_steps=-1",
        "--set",
        "training.num_train_epochs=10",
    ];
    let out = lab.ok(&[&["train", "train.toml", "--dry-run"], &epochs[..]].concat());
    let tokens = tokens_of(&lab) * 10;
    let parts = [
        "dry run: two steps were done, the output folder was not touched",
        "the second: loss ",
        &format!("a run: 30 steps, about {tokens} tokens"),
        "estimated time: ",
        "estimated memory: ",
    ];
    assert_has(&out, &parts);
    assert_eq!(files(), before);
    // A step ends with its epoch, however many batches it may have.
    let all = "training.gradient_accumulation_steps=9223372036854775807";
    let all = ["--dry-run", "--set", all];
    let out = lab.ok(&[&["train", "train.toml"], &all[..], &epochs[..]].concat());
    assert!(out.contains("a run: 10 steps"), "{out}");
    let full = ["--dry-run", "--set", "peft.peft_type=NONE"];
    lab.ok(&[&["train", "train.toml"], &full[..]].concat());
    assert_eq!(files(), before);
}

/// The dry run predicts the memory of the run, although the rows have all lengths.
#[test]
fn a_dry_run_predicts_the_memory() {
    let lab = Lab::new();
    for key in [
        "training.gradient_checkpointing=false",
        "training.gradient_checkpointing=true",
        "quantization_config.load_in_4bit=true",
        "peft.peft_type=NONE",
    ] {
        let fixed = ["training.max_steps=12", "training.logging_steps=1"];
        let size = "training.per_device_train_batch_size=24";
        let rate = "training.learning_rate=1e-3";
        let args = quick_start(&[&fixed[..], &[size, rate, key]].concat());
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        std::fs::remove_dir_all(lab.path("out")).ok();
        lab.ok(&args);
        let lines = lab.metrics("out").into_iter();
        let peaks = lines.filter_map(|line: Value| line["peak_memory_bytes"].as_u64());
        let measured = peaks.max().unwrap() as f64 / 1e6;
        args.push("--dry-run");
        let out = lab.ok(&args);
        let line = out.lines().find(|line| line.contains("estimated memory: "));
        let words: Vec<&str> = line.unwrap().split_whitespace().collect();
        assert_eq!(words[3], "MB", "{words:?}");
        let estimated: f64 = words[2].parse().unwrap();
        println!("{key}: {estimated} MB, {measured} MB");
        assert!(
            (estimated - measured).abs() < 0.2 * measured,
            "{key}: {estimated} MB, {measured} MB in the run"
        );
    }
}

/// The number of tokens in the training file, as the command counts them.
fn tokens_of(lab: &Lab) -> usize {
    let out = lab.ok(&["train", "train.toml", "--dry-run"]);
    let line = out.lines().find(|line| line.starts_with("train.jsonl: "));
    let words: Vec<_> = line.unwrap().split(' ').collect();
    assert_eq!(words[1], TEXTS.len().to_string());
    words[3].parse().unwrap()
}

#[test]
fn a_new_file_trains_as_it_is() {
    let lab = Lab::new();
    for template in ["lora", "full"] {
        lab.ok(&[
            "new",
            template,
            "--template",
            template,
            "--model",
            "model",
            "--train",
            "train.jsonl",
        ]);
        let file = format!("{template}.toml");
        let settings = [
            "--set",
            "training.max_steps=2",
            "--set",
            "data.validation_split=2",
            "--set",
            "prompt=the cat",
        ];
        lab.ok(&[&["train", &file], &settings[..]].concat());
        assert!(lab.path(&format!("runs/{template}/report.html")).exists());
        // Keys without a comment would not help.
        let text = lab.text(&file);
        assert!(text.lines().filter(|line| line.starts_with('#')).count() > 12);
    }
    let before = lab.read("lora.toml");
    lab.fails(&["new", "lora"], &["lora.toml", "--force"]);
    assert_eq!(lab.read("lora.toml"), before);
    lab.ok(&["new", "lora.toml", "--force"]);
    assert_ne!(lab.read("lora.toml"), before);
    lab.fails(&["new", "nowhere/run"], &["nowhere/run.toml"]);
}

#[test]
fn train_without_a_file_offers_one() {
    let lab = Lab::new();
    let answer = lab.peft(&["train"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(answer.out.is_empty());
    for part in ["needs a training file", "peft new my-run"] {
        assert!(answer.err.contains(part), "{}", answer.err);
    }
}

/// Prints what TensorBoard's own reader finds, one JSON object for each value.
const READ_EVENTS: &str = "
import json, sys
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util import tensor_util
for event in EventFileLoader(sys.argv[1]).Load():
    for value in event.summary.value:
        found = tensor_util.make_ndarray(value.tensor).flatten()[0]
        found = found.decode() if isinstance(found, bytes) else float(found)
        print(json.dumps([event.step, value.tag, value.metadata.plugin_data.plugin_name, found]))
";

#[test]
fn tensorboard_reads_the_events_that_were_logged() {
    // If `python3` does not have the package, TENSORBOARD_PYTHON names a Python that does.
    let python = std::env::var("TENSORBOARD_PYTHON").unwrap_or_else(|_| "python3".into());
    let has_it = Command::new(&python)
        .args(["-c", "import tensorboard"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_it {
        eprintln!("skipped: {python} has no package tensorboard");
        return;
    }
    let lab = Lab::new();
    lab.ok(&[&["train", "train.toml"], &EVALUATED[..]].concat());
    let events = lab.path("out/events.out.tfevents.peft");
    assert!(Path::new(&events).exists());
    let mut command = lab.command(&python);
    let output = command
        .args(["-c", READ_EVENTS])
        .arg(&events)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{error}");
    let text = String::from_utf8(output.stdout).unwrap();
    let found: Vec<Value> = values(&text);

    let mut expected = 0;
    for entry in lab.metrics("out") {
        for (key, value) in entry.as_object().unwrap() {
            if key == "step" || value.is_null() {
                continue;
            }
            let (tag, plugin) = match (key.strip_prefix("eval_"), value.is_string()) {
                (Some(name), _) => (format!("eval/{name}"), "scalars"),
                (None, true) => (format!("train/{key}"), "text"),
                (None, false) => (format!("train/{key}"), "scalars"),
            };
            let fits = |found: &&Value| found[0] == entry["step"] && found[1] == tag.as_str();
            let of_tag: Vec<_> = found.iter().filter(fits).collect();
            // Every entry has an epoch, so several of this tag may have the same step.
            let right = of_tag
                .iter()
                .any(|found| match (found[3].as_f64(), value.as_f64()) {
                    (Some(a), Some(b)) => (a - b).abs() <= 1e-6 * b.abs(),
                    _ => &found[3] == value,
                });
            assert!(right, "{tag} = {value} is not in {of_tag:?}");
            assert!(of_tag.iter().all(|found| found[2] == plugin), "{of_tag:?}");
            expected += 1;
        }
    }
    assert_eq!(found.len(), expected);
}
