//! Where `peft predict` writes, and what it refuses.

use super::asking::{pets, predict, trained};
use crate::common::adapted;

#[test]
fn what_is_in_the_place_of_the_output_stays_what_it_is() {
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};
    let lab = trained(&pets(), &[]);
    let lines = |bytes: &[u8]| String::from_utf8_lossy(bytes).lines().count();
    let write = |output: &str| {
        lab.ok(&adapted(
            "predict",
            &["--data", "rows.jsonl", "--output", output],
        ))
    };
    // A symbolic link is followed, and the file keeps its permissions.
    lab.write("real.jsonl", "old");
    fs::set_permissions(lab.path("real.jsonl"), fs::Permissions::from_mode(0o600)).unwrap();
    symlink("real.jsonl", lab.path("link.jsonl")).unwrap();
    let said = write("link.jsonl");
    assert!(said.ends_with("link.jsonl: 5 rows\n"), "{said}");
    assert!(lab.path("link.jsonl").is_symlink());
    assert_eq!(lines(&lab.read("real.jsonl")), 5);
    let mode = fs::metadata(lab.path("real.jsonl")).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    symlink("new.jsonl", lab.path("ahead.jsonl")).unwrap();
    write("ahead.jsonl");
    assert!(lab.path("ahead.jsonl").is_symlink());
    assert_eq!(lines(&lab.read("new.jsonl")), 5);
    // A pipe gets the lines directly.
    let pipe = lab.path("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let from = pipe.clone();
    let reader = std::thread::spawn(move || fs::read(from).unwrap());
    write("pipe");
    assert_eq!(lines(&reader.join().unwrap()), 5);
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    let said = write("/proc/self/fd/1");
    assert_eq!(lines(said.as_bytes()), 5, "{said}");
    // The rows themselves are not overwritten.
    let before = lab.read("rows.jsonl");
    symlink("rows.jsonl", lab.path("other.jsonl")).unwrap();
    let args = adapted("predict", &["--data"]);
    for (data, output) in [
        ("rows.jsonl", "rows.jsonl"),
        ("rows.jsonl[:2]", "./rows.jsonl"),
        ("rows.jsonl", "other.jsonl"),
    ] {
        lab.fails(
            &[&args[..], &[data, "--output", output]].concat(),
            &["is the input itself"],
        );
    }
    assert_eq!(before, lab.read("rows.jsonl"));
}

#[test]
fn options_without_a_meaning_are_refused() {
    let lab = trained(&pets(), &[]);
    let args = adapted("predict", &[]);
    let fails = |more: &[&str], named: &[&str]| {
        let data = ["--data", "rows.jsonl"];
        lab.fails(&[&args[..], &data, more].concat(), named);
    };
    fails(&["--objective", "sft"], &["--objective sft", "SEQ_CLS"]);
    fails(&["--prompt-name", "query"], &["--prompt-name"]);
    fails(&["--output", "x.safetensors"], &["lines of JSON"]);
    let zero = [&args[..], &["--data", "rows.jsonl", "--batch-size", "0"]].concat();
    let answer = lab.peft(&zero);
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(answer.err.contains("1 or greater"), "{answer:?}");
    predict(&lab, &["--data", "rows.jsonl", "--objective", "classify"]);
    // A row without a text has a line, and so have the rows after it.
    lab.write(
        "some.jsonl",
        "{\"text\": \"a cat\"}\n{\"body\": \"a dog\"}\n{\"text\": \"a dog\"}\n",
    );
    let found = predict(&lab, &["--data", "some.jsonl"]);
    assert_eq!(found.len(), 3);
    assert_eq!(found[1]["row"], 2);
    let error = found[1]["error"].as_str().unwrap();
    assert!(error.contains("some.jsonl line 2"), "{error}");
    assert!(found[2]["label"].is_string());
}
