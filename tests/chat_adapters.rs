//! `peft chat` with adapters: which one answers, and what each has computed already.

use serde_json::Value;

use crate::chat::{chat, chat_lab, content, generated, objects};
use crate::common::with_keys;

#[test]
fn nothing_is_computed_twice() {
    let lab = chat_lab();
    let both = ["-v", "--adapter", "out"];
    lab.ok(&["train", "train.toml", "--set", "model=chat"]);
    let lines = [
        "the cat",
        "/undo",
        "the cat",
        "/undo",
        "the dog",
        "/undo",
        "/adapter base",
        "the dog",
        "/undo",
        "/adapter out",
        "the dog",
    ];
    let answer = chat(&lab, &both, &lines);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let computed: Vec<String> = answer
        .err
        .lines()
        .filter_map(|line| line.split_once(" of the prompt's "))
        .map(|(before, after)| {
            let new = before.rsplit(' ').next().unwrap();
            let all = after.split(' ').next().unwrap();
            format!("{new} of {all}")
        })
        .collect();
    // The tokens are `u`, ` `, `the`, ` `, `cat` or `dog`, and so on. The model alone has computed
    // nothing yet.
    let tokens = generated(&lab, "u the cat\na ", &[])["prompt_token_ids"].clone();
    let (cat, dog) = (
        tokens.as_array().unwrap().clone(),
        generated(&lab, "u the dog\na ", &[])["prompt_token_ids"].clone(),
    );
    let dog = dog.as_array().unwrap();
    let same = cat.iter().zip(dog).take_while(|(a, b)| a == b).count();
    let of = |tokens: &[Value], new: usize| format!("{new} of {}", tokens.len());
    let expected = [
        of(&cat, cat.len()),
        of(&cat, 1),
        of(dog, dog.len() - same),
        of(dog, dog.len()),
        of(dog, 1),
    ];
    assert_eq!(computed, expected);
}

#[test]
fn adapters_answer_in_turn() {
    let lab = chat_lab();
    for (name, steps) in [("first", "3"), ("second", "6")] {
        let output = format!("training.output_dir=runs/{name}");
        let steps = format!("training.max_steps={steps}");
        let set = ["model=chat", &output, &steps, "training.learning_rate=0.2"];
        lab.ok(&with_keys("train.toml", &set));
    }
    let both = ["--adapter", "runs/first", "--adapter", "runs/second/"];
    let lines = [
        "the cat",
        "/undo",
        "/adapter second",
        "the cat",
        "/undo",
        "/adapter base",
        "the cat",
        "/adapter first",
        "a mat",
        "/undo",
        "/adapter base",
        "a mat",
    ];
    let said = objects(&lab, &both, &lines);
    let names: Vec<_> = said
        .iter()
        .map(|object| object["adapter"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["first", "second", "base", "first", "base"]);
    let text = |adapter: Option<&str>, prompt: &str| {
        let adapter = adapter.map(|adapter| ["--adapter", adapter]);
        generated(&lab, prompt, adapter.as_ref().map_or(&[], |args| &args[..]))["text"].clone()
    };
    let first = "u the cat\na ";
    assert_eq!(content(&said[0]), text(Some("runs/first"), first));
    assert_eq!(content(&said[1]), text(Some("runs/second"), first));
    assert_eq!(content(&said[2]), text(None, first));
    assert_ne!(content(&said[0]), content(&said[2]));
    // Each adapter sees the answers that the other gave.
    let second = format!("{first}{}END\nu a mat\na ", content(&said[2]));
    assert_eq!(content(&said[3]), text(Some("runs/first"), &second));
    assert_eq!(content(&said[4]), text(None, &second));
    let unknown = chat(&lab, &both, &["/adapter third"]);
    unknown.failed(&["no adapter third", "base, first, second", "--adapter DIR"]);
}
