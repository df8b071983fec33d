//! How a run treats its folder: it locks the folder, protects its results, and can replace them.

use std::fs;

use crate::common::{Lab, adapted, with_keys};
use crate::resume::{lab, start, wait_for_lines};

const LONG: [&str; 4] = ["train", "run.toml", "--set", "training.max_steps=100000"];

#[test]
fn a_second_run_in_a_folder_is_refused_and_a_killed_one_blocks_nobody() {
    let lab = lab();
    let mut first = start(&lab, &LONG);
    assert!(wait_for_lines(&lab, "out", 8, &mut first));
    let said = format!("out is in use by another run (pid {})", first.id());
    let second = [&LONG[..], &["--set", "training.output_dir=./model/../out"]].concat();
    let named = said.trim_start_matches("out");
    lab.fails(&second, &[named]);
    lab.fails(&[&LONG[..], &["--resume"]].concat(), &[&said]);
    lab.fails(&[&LONG[..], &["--force"]].concat(), &[&said]);
    let merge = adapted("merge", &["--output", "out", "--force"]);
    lab.fails(&merge, &[&said]);
    assert!(first.try_wait().unwrap().is_none(), "the first goes on");
    first.kill().unwrap();
    first.wait().unwrap();
    let short = [
        "train",
        "run.toml",
        "--set",
        "training.max_steps=4",
        "--force",
    ];
    lab.ok(&short);
    assert!(!lab.path("out/.peft.lock").exists());
}

#[test]
fn a_folder_that_takes_no_files_is_found_before_the_model() {
    let lab = Lab::new();
    for (dir, why) in [
        ("train.toml/out", "Not a directory"),
        ("train.toml", "File exists"),
        ("/proc/out", "No such file"),
    ] {
        let dir = format!("training.output_dir={dir}");
        let train = ["train", "train.toml", "--set", "model=none", "--set", &dir];
        let error = lab.fails(&train, &["training.output_dir is", why]);
        assert!(!error.contains("model"), "{error}");
    }
    fs::create_dir_all(lab.path("out/metrics.jsonl")).unwrap();
    let train = ["train", "train.toml", "--set", "model=none"];
    lab.fails(&train, &["training.output_dir is out", "metrics.jsonl"]);
    // A run that fails before it begins leaves no folder.
    let dir = "training.output_dir=new/out";
    lab.fails(&[&train[..], &["--set", dir]].concat(), &["none"]);
    assert!(!lab.path("new").exists());
}

#[cfg(unix)]
#[test]
fn all_weights_are_not_trained_into_the_folder_of_their_base() {
    let lab = Lab::new();
    std::os::unix::fs::symlink(lab.path("model"), lab.path("link")).unwrap();
    let base = lab.read("model/model.safetensors");
    for dir in ["model", "link", "./out/../model"] {
        fs::create_dir_all(lab.path("out")).unwrap();
        let dir = format!("training.output_dir={dir}");
        let train = with_keys("train.toml", &["peft.peft_type=NONE", &dir]);
        lab.fails(&train, &["would replace its base"]);
        lab.fails(
            &[&train[..], &["--force"]].concat(),
            &["would replace its base"],
        );
    }
    // A folder whose files are links to the base's.
    fs::create_dir(lab.path("links")).unwrap();
    for name in lab.names("model") {
        let link = lab.path("links").join(&name);
        std::os::unix::fs::symlink(lab.path("model").join(&name), link).unwrap();
    }
    let full = ["--set", "peft.peft_type=NONE", "--set", "model=links"];
    let into = ["--set", "training.output_dir=model", "--force"];
    let train = [&["train", "train.toml"][..], &full, &into].concat();
    lab.fails(
        &train,
        &["model.safetensors: the result would replace its base"],
    );
    assert_eq!(lab.read("model/model.safetensors"), base);
    // Another model is not overwritten either, except with `--force`.
    fs::create_dir_all(lab.path("other")).unwrap();
    lab.write("other/model.safetensors", "another");
    let train = with_keys(
        "train.toml",
        &["peft.peft_type=NONE", "training.output_dir=other"],
    );
    lab.fails(
        &train,
        &["other/model.safetensors already exists", "--force"],
    );
    assert_eq!(lab.read("other/model.safetensors"), b"another");
    lab.ok(&[&train[..], &["--force"]].concat());
}

#[test]
fn an_earlier_run_is_taken_the_place_of_only_with_force_and_then_as_a_whole() {
    let lab = Lab::with_adapter();
    lab.write("out/notes.txt", "mine");
    lab.write("out/checkpoint-3/notes.txt", "mine");
    let adapter = lab.weights("out");
    let short = ["train", "train.toml", "--set", "training.max_steps=2"];
    let named = [
        "out has the result of an earlier run",
        "--resume",
        "--force",
        "output_dir",
    ];
    lab.fails(&short, &named);
    // Commands that only look are allowed.
    lab.ok(&["train", "train.toml", "--print-config"]);
    lab.ok(&["train", "train.toml", "--dry-run"]);
    assert_eq!(lab.weights("out"), adapter);
    // `--resume` without a checkpoint does not overwrite it either.
    let state = lab.read("out/checkpoint-3/trainer_state.toml");
    for name in lab.names("out/checkpoint-3") {
        fs::remove_file(lab.path(&format!("out/checkpoint-3/{name}"))).unwrap();
    }
    lab.fails(
        &[&short[..], &["--resume"]].concat(),
        &["out has the result"],
    );

    lab.write("out/checkpoint-3/trainer_state.toml", state);
    lab.write("out/checkpoint-3/notes.txt", "mine");
    lab.ok(&[&short[..], &["--force"]].concat());
    assert_eq!(lab.names("out/checkpoint-3"), ["notes.txt"]);
    assert!(lab.path("out/checkpoint-2/trainer_state.toml").exists());
    assert_eq!(lab.read("out/notes.txt"), b"mine");

    // A run that continues from the folder that it would remove.
    let on = ["train", "train.toml", "--set", "adapter=out", "--force"];
    lab.fails(&on, &["--force would remove out", "name another"]);
    let from = "adapter=out/checkpoint-2";
    lab.fails(
        &["train", "train.toml", "--set", from, "--force"],
        &["--force would remove out/checkpoint-2"],
    );
}

#[test]
fn an_adapter_that_is_set_goes_on_and_the_log_says_so() {
    let lab = Lab::with_adapter();
    let args = with_keys("train.toml", &["adapter=out", "training.output_dir=more"]);
    let answer = lab.peft(&args);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(
        answer.err.contains("[peft] of train.toml is ignored"),
        "{answer:?}"
    );
    assert!(
        answer.out.contains("continuing with the adapter out"),
        "{answer:?}"
    );
}

#[test]
fn adalora_plans_over_the_steps_of_the_run() {
    let lab = Lab::new();
    // Six rows in batches of two, for two epochs.
    let args = with_keys(
        "train.toml",
        &[
            "peft.peft_type=ADALORA",
            "training.max_steps=-1",
            "training.num_train_epochs=2",
        ],
    );
    let answer = lab.peft(&args);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert_eq!(lab.json("out/adapter_config.json")["total_step"], 6);
    let config = lab.text("out/config.toml");
    assert!(config.contains("total_step = 6"), "{config}");
}
