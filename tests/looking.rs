//! Looking before training: rows that are too long, rows without a model, folders of rows, help
//! texts.

use std::fs;

use serde_json::json;

use crate::common::{Lab, N_POSITIONS, TEXTS, adapted};

fn words(count: usize) -> String {
    format!("{}\n", json!({ "text": vec!["cat"; count].join(" ") }))
}

#[test]
fn rows_that_are_too_long_are_counted_and_seen() {
    let lab = Lab::new();
    lab.write("a.jsonl", words(40) + &words(5) + &words(60));
    let out = lab.ok(&["data", "a.jsonl", "--model", "model"]);
    for part in [
        "3 examples",
        "2 rows are too long, with more tokens than the model's n_positions 32",
        "data.max_length = 32",
        "longest 61",
        "█",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let report = lab.ok_json(&["data", "a.jsonl", "--model", "model", "--summary"]);
    assert_eq!(report["too_long"], 2);
    assert_eq!(report["packed_to"], N_POSITIONS);
    // Training still refuses these rows. If they are cut, none is too long.
    lab.fails(
        &["train", "train.toml", "--set", "data.train=a.jsonl"],
        &["a.jsonl line 1 has 41 tokens", "data.max_length to 32"],
    );
    let out = lab.ok(&["data", "a.jsonl", "--model", "model", "--max-length", "32"]);
    assert!(
        out.contains("2 of 3 rows cut to data.max_length") && !out.contains("too long"),
        "{out}"
    );
}

#[test]
fn positions_that_an_adapter_takes_are_told_apart() {
    let lab = Lab::new();
    let prefix = |more: &[&str]| {
        let file = lab.text("train.toml");
        let (before, rest) = file.split_once("[peft]").unwrap();
        let (_, training) = rest.split_once("[training]").unwrap();
        let peft = "[peft]\npeft_type = \"PREFIX_TUNING\"\nnum_virtual_tokens = 8\n[training]";
        lab.write("prefix.toml", format!("{before}{peft}{training}"));
        let args = [&["train", "prefix.toml"], more].concat();
        lab.peft(&args)
    };
    let set = |change: &str| prefix(&["--set", change]);
    let named = [
        "24 positions",
        "n_positions is 32",
        "8 of them are the adapter's",
    ];
    set("data.max_length=32").failed(&named);
    lab.write("long.jsonl", words(28));
    set("data.train=long.jsonl").failed(&named);
    set(&format!("prompt={}", vec!["cat"; 30].join(" "))).failed(&named);
    set("data.pad_to_multiple_of=32").failed(&named);
    assert_eq!(prefix(&[]).code, Some(0));
    let prompt = vec!["cat"; 30].join(" ");
    lab.fails(
        &adapted("generate", &["--prompt", &prompt]),
        &["32 positions", "8 of them the adapter's"],
    );
}

#[test]
fn a_new_file_fits_the_model() {
    let lab = Lab::new();
    let max_length = |model: &str| {
        lab.ok(&["new", "run", "--force", "--model", model]);
        let file = lab.text("run.toml");
        let line = file
            .lines()
            .find_map(|line| line.strip_prefix("max_length = "));
        line.unwrap().parse::<usize>().unwrap()
    };
    assert_eq!(max_length("model"), N_POSITIONS);
    assert_eq!(max_length("not-here-yet"), 512);
}

#[test]
fn rows_are_shown_without_a_model() {
    let lab = Lab::new();
    let out = lab.ok(&["data", "train.jsonl"]);
    let longest = TEXTS.iter().map(|text| text.chars().count()).max().unwrap();
    for part in [
        "train.jsonl: text (column `text`)",
        "columns: `text`",
        "6 rows",
        &format!("longest {longest}"),
        "[the cat sat on the mat]",
        "--model",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let report = lab.ok_json(&["data", "train.jsonl[:2]", "--summary"]);
    assert_eq!(
        (&report["rows"], &report["columns"]),
        (&json!(2), &json!(["text"]))
    );
    let characters = TEXTS[0].len() + TEXTS[1].len();
    assert_eq!(report["characters"], characters);
    lab.fails(&["data", "none.jsonl"], &["none.jsonl"]);
    let help = lab.peft(&["eval", "--model", "models/none", "--data", "train.jsonl"]);
    help.failed(&["models/none", "there is no such folder here"]);
}

#[test]
fn paths_that_were_meant_from_the_files_folder_are_found_out() {
    let lab = Lab::new();
    fs::create_dir(lab.path("project")).unwrap();
    for name in ["model", "train.jsonl", "train.toml"] {
        fs::rename(lab.path(name), lab.path(&format!("project/{name}"))).unwrap();
    }
    let train = ["train", "project/train.toml"];
    lab.fails(
        &train,
        &[
            "model = \"model\" is not here",
            "--set model=project/model",
            "no such folder here",
        ],
    );
    let with_model = [&train[..], &["--set", "model=project/model"]].concat();
    lab.fails(
        &with_model,
        &["--set data.train=project/train.jsonl", "train.jsonl"],
    );
}

#[test]
fn a_folder_of_splits_is_read() {
    let lab = Lab::new();
    fs::create_dir(lab.path("set")).unwrap();
    let row = |text: &str| format!("{}\n", json!({ "text": text }));
    lab.write("set/train.jsonl", TEXTS.map(row).concat());
    lab.write("set/valid.jsonl", row(TEXTS[0]).repeat(2));
    lab.write("set/test.jsonl", row(TEXTS[1]).repeat(3));
    let examples = |spec: &str| {
        let report = lab.ok_json(&["data", spec, "--model", "model", "--summary"]);
        report["examples"].as_u64().unwrap()
    };
    for (spec, rows) in [
        ("set", 6),
        ("set[:4]", 4),
        ("set:train", 6),
        ("set:valid", 2),
        ("set:validation", 2),
        ("set:test[1:]", 2),
    ] {
        assert_eq!(examples(spec), rows, "{spec}");
    }
    let out = lab.ok(&["data", "set"]);
    assert!(
        out.contains("see also set:validation: set/valid.jsonl"),
        "{out}"
    );
    let eval = |data: &str| {
        let report = lab.ok_json(&["eval", "--model", "model", "--data", data, "--json"]);
        report["examples"].as_u64().unwrap()
    };
    assert_eq!((eval("set"), eval("set:train")), (3, 6));

    // If the file names no validation rows, those of the folder are used.
    let file = lab.text("train.toml");
    let file = file.replace("\"train.jsonl\"", "\"set\"");
    let without = file.replace("validation = \"train.jsonl[4:]\"\n", "");
    assert_ne!(file, without);
    lab.write("folder.toml", without);
    let out = lab.ok(&["train", "folder.toml"]);
    assert!(
        out.contains("set/valid.jsonl: 2 examples to evaluate on"),
        "{out}"
    );
    let error = lab.fails(&["data", "set:dev2"], &["no file of the split", "set"]);
    assert!(error.contains("valid.jsonl"), "{error}");

    // Names as `datasets` has them, with any type of file.
    fs::create_dir_all(lab.path("csv/data")).unwrap();
    lab.write("csv/data/train-00000-of-00001.csv", "text\nthe cat\n");
    lab.write(
        "csv/data/validation-00000-of-00001.csv",
        "text\na dog\na cat\n",
    );
    assert_eq!((examples("csv"), examples("csv:validation")), (1, 2));
}

#[test]
fn help_names_what_is_read_and_the_device_last() {
    let lab = Lab::new();
    for command in ["data", "eval", "train"] {
        let help = lab.ok(&[command, "--help"]);
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            ".jsonl",
            ".ndjson",
            ".json,",
            ".csv",
            ".tsv",
            ".txt",
            ".md",
            ".parquet",
            "`text`",
            "`prompt`",
            "`instruction`",
            "`messages`",
            "`conversations`",
            "`input_ids`",
        ] {
            assert!(help.contains(part), "{command}: {part}");
        }
    }
    for (command, computes) in [
        ("train", true),
        ("generate", true),
        ("eval", true),
        ("merge", true),
        ("inspect", true),
        ("forward", true),
        ("convert", true),
        ("new", false),
        ("data", false),
        ("combine", false),
        ("init", false),
    ] {
        let help = lab.ok(&[command, "--help"]);
        let options = help
            .lines()
            .map(str::trim_start)
            .filter(|line| line.starts_with('-'));
        let options: Vec<&str> = options.collect();
        let at = options.iter().position(|line| line.starts_with("--device"));
        assert_eq!(at.is_some(), computes, "{help}");
        if let Some(at) = at {
            // Only the options that every command has may follow.
            let after = options[at + 1..].iter();
            let own = after.filter(|line| {
                !["-v", "-h", "-V", "-q"]
                    .iter()
                    .any(|short| line.starts_with(short))
            });
            assert_eq!(own.count(), 0, "{help}");
        }
    }
}
