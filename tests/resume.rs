//! A run that is killed, or stopped by Ctrl-C, continues as if it had never stopped.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::Value;

use crate::common::{Answer, Lab, PEFT};

const STEPS: usize = 40;
/// The files that have to be the same to the last bit.
const FILES: [&str; 4] = [
    "adapter_model.safetensors",
    "checkpoint-39/adapter_model.safetensors",
    "checkpoint-39/optimizer.bpk",
    "checkpoint-40/optimizer.bpk",
];

/// A run of forty steps with dropout and two batches per step. An epoch has five and a half steps.
/// It saves every three steps and evaluates every seven.
pub fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("run.toml", RUN);
    let texts = crate::common::TEXTS;
    let row = |i: usize| {
        let text: String = texts[i % 6].chars().skip(i / 6).collect();
        format!("{}\n", serde_json::json!({ "text": text }))
    };
    lab.write("rows.jsonl", (0..22).map(row).collect::<String>());
    lab
}

const RUN: &str = r#"
model = "model"
[data]
train = "rows.jsonl"
validation = "train.jsonl[4:]"
[peft]
peft_type = "LORA"
r = 4
lora_alpha = 8
lora_dropout = 0.2
[training]
output_dir = "out"
max_steps = 40
per_device_train_batch_size = 2
gradient_accumulation_steps = 2
learning_rate = 0.02
warmup_steps = 5
logging_steps = 1
save_steps = 3
save_total_limit = 2
eval_strategy = "steps"
eval_steps = 7
"#;

/// The entries of `metrics.jsonl` without times and memory.
pub fn metrics(lab: &Lab, dir: &str) -> Vec<Value> {
    let entry = |mut entry: Value| {
        for key in ["tokens_per_second", "eval_runtime", "peak_memory_bytes"] {
            entry.as_object_mut().unwrap().remove(key);
        }
        entry
    };
    lab.metrics(dir).into_iter().map(entry).collect()
}

pub fn start(lab: &Lab, args: &[&str]) -> Child {
    let mut command = lab.command(PEFT);
    command.args(args).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits until `metrics.jsonl` has this many lines. Returns false if the run ends before.
pub fn wait_for_lines(lab: &Lab, dir: &str, lines: usize, child: &mut Child) -> bool {
    let path = lab.path(&format!("{dir}/metrics.jsonl"));
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(120), "the run hangs");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        if text.lines().count() >= lines {
            return true;
        }
        std::thread::sleep(Duration::from_micros(300));
    }
    false
}

#[test]
fn a_run_killed_at_ten_random_moments_ends_like_one_that_was_not() {
    let lab = lab();
    lab.ok(&["train", "run.toml", "--set", "training.output_dir=whole"]);
    let whole = metrics(&lab, "whole");
    assert_eq!(whole.iter().filter(|e| e["loss"].is_f64()).count(), STEPS);

    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut begun_from = Vec::new();
    for round in 0..10 {
        std::fs::remove_dir_all(lab.path("out")).ok();
        // In every second round, the run is resumed and killed once more.
        for _ in 0..=round % 2 {
            let mut child = start(&lab, &["train", "run.toml", "--resume"]);
            let lines = random.random_range(0..whole.len() - 4);
            if wait_for_lines(&lab, "out", lines, &mut child) {
                // Killed anywhere within a step, which takes some two milliseconds, or within a
                // checkpoint.
                std::thread::sleep(Duration::from_micros(random.random_range(0..4_000)));
            }
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let out = lab.ok(&["train", "run.toml", "--resume"]);
        let first = out.lines().next().unwrap().to_string();
        for file in FILES {
            assert!(
                lab.read(&format!("out/{file}")) == lab.read(&format!("whole/{file}")),
                "{file} differs after: {first}"
            );
        }
        assert_eq!(metrics(&lab, "out"), whole, "{first}");
        assert_eq!(lab.names("out"), lab.names("whole"), "after: {first}");
        begun_from.push(first);
    }
    // If all runs had ended, or none had begun, this test would show nothing.
    let middle = |line: &&String| line.starts_with("resuming from") && !line.contains("step 40");
    let middles = begun_from.iter().filter(middle).count();
    assert!(middles >= 5, "{begun_from:?}");
    println!("{begun_from:#?}");
}

#[test]
fn all_weights_go_on_too() {
    let lab = lab();
    let full = [
        "--set",
        "peft.peft_type=NONE",
        "--set",
        "training.learning_rate=0.003",
    ];
    let whole = ["train", "run.toml", "--set", "training.output_dir=whole"];
    lab.ok(&[&whole[..], &full].concat());
    let mut child = start(&lab, &[&["train", "run.toml"][..], &full].concat());
    assert!(wait_for_lines(&lab, "out", 20, &mut child));
    child.kill().unwrap();
    child.wait().unwrap();
    let out = lab.ok(&[&["train", "run.toml", "--resume"][..], &full].concat());
    assert!(out.starts_with("resuming from out/checkpoint-"), "{out}");
    for file in ["model.safetensors", "checkpoint-40/model.safetensors"] {
        assert!(
            lab.read(&format!("out/{file}")) == lab.read(&format!("whole/{file}")),
            "{file} differs"
        );
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let lab = lab();
    let short = ["train", "run.toml", "--set", "training.max_steps=3"];
    let out = lab.ok(&[&short[..], &["--resume"]].concat());
    assert!(
        out.starts_with("there is no checkpoint in out: the run starts from the beginning"),
        "{out}"
    );
    let adapter = lab.weights("out");
    for (set, named) in [
        (
            "training.learning_rate=0.1",
            "cannot resume from out/checkpoint-3: its run had training.learning_rate = 0.02, this \
             one has 0.1",
        ),
        ("training.seed=7", "training.seed"),
        (
            "training.gradient_accumulation_steps=1",
            "training.gradient_accumulation_steps",
        ),
        ("data.max_length=9", "data.max_length"),
        ("peft.lora_alpha=9", "lora_alpha = 8"),
        ("peft.r=2", "r = 4, this run's has 2"),
    ] {
        lab.fails(&["train", "run.toml", "--set", set, "--resume"], &[named]);
    }
    lab.ok(&["init", "config.json", "--output", "other", "--seed", "2"]);
    lab.write("other/tokenizer.json", lab.read("model/tokenizer.json"));
    lab.fails(
        &["train", "run.toml", "--set", "model=other", "--resume"],
        &[
            "its base was model (BLAKE3 of the weights ",
            "this run's is other (BLAKE3 ",
        ],
    );
    let out = lab.ok(&[&short[..1], &short[2..], &["--resume", "run.toml"]].concat());
    assert!(
        out.starts_with("resuming from out/checkpoint-3, step 3 of 3"),
        "{out}"
    );
    lab.fails(
        &["train", "run.toml", "--resume", "model"],
        &["cannot resume from model"],
    );
    assert_eq!(lab.weights("out"), adapter);

    // More steps and another folder are allowed.
    let more = ["train", "run.toml", "--set", "training.max_steps=6"];
    let answer = lab.peft(&[&more[..], &["--resume"]].concat());
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(
        answer
            .err
            .contains("continues to step 6 (training.max_steps was 3 and is 6)"),
        "{answer:?}"
    );
    let elsewhere = [
        "--set",
        "training.output_dir=more",
        "--resume",
        "out/checkpoint-3",
    ];
    lab.ok(&[&more[..], &elsewhere].concat());
    assert_eq!(lab.weights("more"), lab.weights("out"));
    assert_eq!(metrics(&lab, "more"), metrics(&lab, "out"));
}

#[test]
fn other_rows_in_the_same_number_are_named() {
    let lab = lab();
    let run = ["train", "run.toml", "--set", "training.max_steps=3"];
    lab.ok(&run);
    let rows = lab.text("rows.jsonl");
    let turned: String = rows.lines().rev().map(|row| format!("{row}\n")).collect();
    lab.write("rows.jsonl", turned);
    let resume = [&run[..], &["--resume"]].concat();
    lab.fails(
        &resume,
        &[
            "had other rows to train on",
            "give it the same data, or start over without --resume",
        ],
    );
    lab.write("rows.jsonl", rows);
    lab.ok(&resume);
}

#[test]
fn a_broken_checkpoint_is_passed_over() {
    let lab = lab();
    let run = ["train", "run.toml", "--set", "training.max_steps=7"];
    lab.ok(&run);
    let whole = lab.weights("out");
    let newest = "out/checkpoint-7";
    for name in lab.names(newest) {
        let path = format!("{newest}/{name}");
        let content = lab.read(&path);
        let other = lab.read("model/model.safetensors");
        for broken in [&[][..], &content[..content.len() / 2], &other] {
            lab.write(&path, broken);
            let explicit = [&run[..], &["--resume", newest]].concat();
            lab.fails(&explicit, &["out/checkpoint-7"]);
        }
        let answer = lab.peft(&[&run[..], &["--resume"]].concat());
        assert_eq!(answer.code, Some(0), "{name}: {answer:?}");
        assert!(answer.err.contains("is skipped"), "{name}: {answer:?}");
        assert!(
            answer
                .out
                .starts_with("resuming from out/checkpoint-6, step 6 of 7"),
            "{name}: {answer:?}"
        );
        assert_eq!(lab.weights("out"), whole, "{name}");
        assert_eq!(lab.read(&path).is_empty(), content.is_empty());
    }
}

#[test]
fn auto_goes_on_where_it_can_and_begins_anew_where_it_cannot() {
    let lab = lab();
    let run = ["train", "run.toml", "--set", "training.max_steps=7"];
    let auto = [&run[..], &["--resume=auto"]].concat();
    let out = lab.ok(&auto);
    let anew = "there is no checkpoint in out: the run starts from the beginning";
    assert!(out.starts_with(anew), "{out}");
    let adapter = lab.weights("out");
    let out = lab.ok(&auto);
    assert!(
        out.starts_with("resuming from out/checkpoint-7, step 7 of 7"),
        "{out}"
    );

    // As after a power failure: there is no result yet, and no checkpoint is complete.
    std::fs::remove_file(lab.path("out/adapter_model.safetensors")).unwrap();
    for step in [6, 7] {
        lab.write(&format!("out/checkpoint-{step}/optimizer.bpk"), "");
    }
    lab.fails(
        &[&run[..], &["--resume"]].concat(),
        &["every checkpoint in it is broken"],
    );
    let answer = lab.peft(&auto);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.out.starts_with(anew), "{answer:?}");
    assert!(
        answer.err.contains("checkpoint-7/optimizer.bpk"),
        "{answer:?}"
    );
    assert_eq!(lab.weights("out"), adapter);

    // A finished result is not replaced.
    for step in [6, 7] {
        lab.write(&format!("out/checkpoint-{step}/optimizer.bpk"), "");
    }
    lab.fails(&auto, &["out has the result of an earlier run", "--force"]);
    assert_eq!(lab.weights("out"), adapter);
}

/// After a signal, the run finishes its step and saves. Its exit code tells the signal.
#[cfg(target_os = "linux")]
#[test]
fn the_signals_of_schedulers_and_terminals_save_too() {
    let lab = lab();
    let long = ["train", "run.toml", "--set", "training.max_steps=100000"];
    let send = |signal: &str, id: u32| {
        let id = id.to_string();
        let sent = lab.command("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
    };
    for (signal, name, code) in [("-TERM", "SIGTERM", 143), ("-HUP", "SIGHUP", 129)] {
        std::fs::remove_dir_all(lab.path("out")).ok();
        // The tests themselves may run under `nohup`.
        let mut command = lab.command("env");
        command.args(["--default-signal=HUP", PEFT]).args(long);
        command.args(["--set", "training.save_strategy=no"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        assert!(wait_for_lines(&lab, "out", 5, &mut child));
        // Schedulers and shells send a signal more than once.
        send(signal, child.id());
        send(signal, child.id());
        let answer: Answer = child.wait_with_output().unwrap().into();
        assert_eq!(answer.code, Some(code), "{answer:?}");
        let said = format!("stopped by {name} after step ");
        assert!(answer.out.contains(&said), "{answer:?}");
        let checkpoints = lab.names("out");
        let checkpoints = checkpoints.iter().filter(|n| n.starts_with("checkpoint-"));
        assert_eq!(checkpoints.count(), 1, "{answer:?}");
    }

    // Under `nohup`, a closed terminal does not stop the run.
    std::fs::remove_dir_all(lab.path("out")).ok();
    let mut command = lab.command("sh");
    let script = "trap '' HUP; exec \"$0\" train run.toml --set training.max_steps=300";
    let mut child = command
        .args(["-c", script, PEFT])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert!(wait_for_lines(&lab, "out", 5, &mut child));
    send("-HUP", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[cfg(unix)]
#[test]
fn ctrl_c_finishes_the_step_saves_and_says_how_to_go_on() {
    let lab = lab();
    // Long enough not to end before the signal comes.
    let long = ["train", "run.toml", "--set", "training.max_steps=200"];
    let with = |more: &[&'static str]| [&long[..], more].concat();
    lab.ok(&with(&["--set", "training.output_dir=whole"]));
    let mut child = start(&lab, &with(&["--set", "training.save_strategy=no"]));
    assert!(wait_for_lines(&lab, "out", 5, &mut child));
    let id = child.id().to_string();
    let sent = lab.command("kill").args(["-INT", &id]).status().unwrap();
    assert!(sent.success());
    let answer: Answer = child.wait_with_output().unwrap().into();
    assert_eq!(answer.code, Some(130), "{answer:?}");
    let last = answer.out.lines().last().unwrap();
    let command = "continue with: peft train run.toml --set training.max_steps=200 \
                   --set training.save_strategy=no --resume";
    assert_eq!(last, command, "{answer:?}");
    assert!(answer.err.contains("finishing the step"), "{answer:?}");
    let checkpoints: Vec<String> = lab
        .names("out")
        .into_iter()
        .filter(|n| n.starts_with("checkpoint-"))
        .collect();
    assert_eq!(checkpoints.len(), 1, "{answer:?}");
    assert!(
        answer
            .out
            .contains(&format!("saved in out/{}", checkpoints[0])),
        "{answer:?}"
    );

    // With `--resume`, the run ends as if it had not been interrupted.
    let out = lab.ok(&with(&["--resume"]));
    assert!(
        out.starts_with(&format!("resuming from out/{}, step ", checkpoints[0])),
        "{out}"
    );
    assert_eq!(lab.weights("out"), lab.weights("whole"));
    assert_eq!(metrics(&lab, "out"), metrics(&lab, "whole"));
}

#[test]
fn another_configuration_of_the_base_is_named() {
    let lab = lab();
    let run = ["train", "run.toml", "--set", "training.max_steps=3"];
    lab.ok(&run);
    let resume = [&run[..], &["--resume"]].concat();
    let mut config = lab.json("model/config.json");
    config["transformers_version"] = "9.9.9".into();
    lab.write("model/config.json", config.to_string());
    lab.ok(&resume);
    config["layer_norm_epsilon"] = 0.1.into();
    lab.write("model/config.json", config.to_string());
    lab.fails(
        &resume,
        &["out/checkpoint-3: its model's config.json had layer_norm_epsilon = 0.00001, this run's has 0.1"],
    );
}

#[test]
fn a_file_in_the_place_of_a_checkpoint_stops_no_run() {
    let lab = lab();
    let run = ["train", "run.toml", "--set", "training.max_steps=3"];
    lab.ok(&run);
    lab.write("out/checkpoint-6", "mine");
    let out = lab.ok(&[
        "train",
        "run.toml",
        "--set",
        "training.max_steps=6",
        "--resume",
    ]);
    assert!(out.starts_with("resuming from out/checkpoint-3"), "{out}");
    assert_eq!(lab.read("out/checkpoint-6/checkpoint-6"), b"mine");
    assert!(lab.path("out/checkpoint-6/optimizer.bpk").exists());
}

#[test]
fn classifiers_go_on_to_the_last_bit() {
    let lab = Lab::new();
    let row = |i: usize| {
        let text = crate::common::TEXTS[i % 6].chars().skip(i / 6);
        let label = ["up", "down", "left"][i % 3];
        let row = serde_json::json!({ "text": text.collect::<String>(), "label": label });
        format!("{row}\n")
    };
    lab.write("rows.jsonl", (0..18).map(row).collect::<String>());
    for method in ["LORA", "LN_TUNING", "NONE"] {
        let run = format!(
            "model = \"model\"\n[data]\ntrain = \"rows.jsonl\"\n[peft]\npeft_type = \"{method}\"\n\
             [training]\nobjective = \"classify\"\nmax_steps = 9\nsave_steps = 4\n\
             learning_rate = 0.01\nper_device_train_batch_size = 4\n"
        );
        lab.write("run.toml", run);
        for dir in ["whole", "again"] {
            std::fs::remove_dir_all(lab.path(dir)).ok();
        }
        lab.ok(&["train", "run.toml", "--set", "training.output_dir=whole"]);
        let again = "training.output_dir=again";
        let from = ["--resume", "whole/checkpoint-4"];
        lab.ok(&[&["train", "run.toml", "--set", again][..], &from].concat());
        let file = if method == "NONE" {
            "model.safetensors"
        } else {
            "adapter_model.safetensors"
        };
        let same = lab.read(&format!("again/{file}")) == lab.read(&format!("whole/{file}"));
        assert!(same, "{method}");
    }
}
