//! Rows as training sees them, `train_on`, and the messages about rows that teach nothing.

use burn_peft_data::message;
use serde_json::{Value, json};

use crate::common::{Lab, anew, values, with_keys};

/// This project's own template. The text below is what transformers' `apply_chat_template` makes of
/// it.
const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ '\\n' }}{% endfor %}\
    {% if add_generation_prompt %}<assistant>{% endif %}";

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("model/chat_template.jinja", TEMPLATE);
    lab
}

fn chat(answers: [&str; 2], weight: u8) -> String {
    let mut messages = [
        message("user", "a"),
        message("assistant", answers[0]),
        message("user", "a"),
        message("assistant", answers[1]),
    ];
    for message in &mut messages {
        message["weight"] = weight.into();
    }
    format!("{}\n", json!({ "messages": messages }))
}

fn rows(out: &str) -> Vec<Value> {
    values(out)
}

/// For each token, whether its label is the token itself; otherwise it is -100.
fn is_learnt(row: &Value) -> Vec<bool> {
    let list = |key: &str| row[key].as_array().unwrap().clone();
    let pairs = list("input_ids").into_iter().zip(list("labels"));
    let learnt = pairs.map(|(id, label)| {
        assert!(label == id || label == -100, "{row}");
        label == id
    });
    learnt.collect()
}

#[test]
fn every_row_is_printed_as_training_sees_it() {
    let lab = lab();
    lab.write(
        "chat.jsonl",
        chat(["the cat", "the dog"], 1) + &chat(["a", "a"], 0),
    );
    let data = ["data", "chat.jsonl", "--tokenizer", "model", "--json"];
    let printed = |more: &[&str]| {
        let answer = lab.peft(&[&data[..], more].concat());
        assert_eq!(answer.code, Some(0), "{answer:?}");
        (rows(&answer.out), answer.err)
    };
    let (seen, said) = printed(&[]);
    assert_eq!((&seen[0]["row"], &seen[1]["row"]), (&json!(1), &json!(2)));
    let text = "<user>a\n<assistant>the cat\n<user>a\n<assistant>the dog\n";
    assert_eq!(seen[0]["text"], text);
    assert!(seen[1].get("labels").is_none());
    let why = seen[1]["skipped"].as_str().unwrap();
    assert!(why.starts_with("the weight of every answer is 0"), "{why}");
    let named =
        "nothing is learnt of 1 of 2 rows, more than a tenth: 1 of 2 rows dropped: the weight";
    assert!(said.contains(named), "{said}");
    let count = |seen: &[Value]| is_learnt(&seen[0]).iter().filter(|is| **is).count();
    let (answers, last) = (
        count(&seen),
        count(&printed(&["--train-on", "last_answer"]).0),
    );
    let (all, _) = printed(&["--train-on", "all"]);
    assert!(is_learnt(&all[0]).iter().all(|is| *is));
    assert!(0 < last && last < answers && answers < count(&all));
    // Training counts the same number.
    let summary = ["data", "chat.jsonl", "--tokenizer", "model", "--summary"];
    assert_eq!(lab.ok_json(&summary)["supervised_tokens"], answers);
    let (cut, _) = printed(&["--max-length", "30"]);
    assert_eq!(cut[0]["truncated"], true);
    assert_eq!(cut[0]["input_ids"].as_array().unwrap().len(), 30);

    lab.write(
        "plain.jsonl",
        "{\"prompt\": \"the cat\", \"completion\": \" sat\"}\n",
    );
    let plain = rows(&lab.ok(&["data", "plain.jsonl", "--model", "model", "--json"]));
    assert_eq!(plain[0]["text"], "the cat sat<|endoftext|>");
    lab.write(
        "ids.jsonl",
        "{\"input_ids\": [5, 6], \"labels\": [-100, 6]}\n",
    );
    assert_eq!(
        lab.ok(&["data", "ids.jsonl", "--json"]),
        "{\"row\":1,\"input_ids\":[5,6],\"labels\":[-100,6]}\n"
    );
    lab.fails(
        &["data", "chat.jsonl", "--json"],
        &["--json prints the tokens", "--model", "--tokenizer"],
    );
    let answer = lab.peft(&["data", "chat.jsonl", "--train-on", "nothing"]);
    assert!(
        answer.err.contains("answers, last_answer or all"),
        "{answer:?}"
    );
    // Rows before the one that cannot be read are printed.
    lab.write("bad.jsonl", "{\"text\": \"the cat\"}\n{\"text\": 3}\n");
    let answer = lab.peft(&["data", "bad.jsonl", "--model", "model", "--json"]);
    assert_eq!(rows(&answer.out).len(), 1);
    answer.failed(&["bad.jsonl line 2 has a number"]);
}

#[test]
fn a_reader_of_rows_may_leave() {
    let lab = Lab::new();
    lab.write(
        "many.jsonl",
        "{\"text\": \"the cat sat on the mat\"}\n".repeat(20_000),
    );
    lab.ok_unread(&["data", "many.jsonl", "--model", "model", "--json"]);
}

#[test]
fn a_file_of_which_nothing_is_learnt_is_refused_with_the_reasons() {
    let lab = lab();
    let unanswered = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n";
    lab.write("none.jsonl", chat(["a", "b"], 0).repeat(2) + unanswered);
    let reasons = [
        "none.jsonl has no usable row",
        "1 of 3 rows dropped: no message that is to be learnt is the assistant's",
        "2 of 3 rows dropped: the weight of every answer is 0",
    ];
    for args in [
        &with_keys(
            "train.toml",
            &["data.train=none.jsonl", "data.max_length=24"],
        )[..],
        &["data", "none.jsonl", "--model", "model"],
        &[
            "data",
            "none.jsonl",
            "--model",
            "model",
            "--max-length",
            "24",
            "--json",
        ],
        &[
            "eval",
            "--data",
            "none.jsonl",
            "--model",
            "model",
            "--max-length",
            "24",
        ],
    ] {
        lab.fails(args, &reasons);
    }
    let all = [
        "data",
        "none.jsonl",
        "--model",
        "model",
        "--train-on",
        "all",
    ];
    assert_eq!(lab.peft(&all).code, Some(0));

    // If it is more than a tenth of the rows, there is a warning: in training too, and also if the
    // tokens come from the cache.
    lab.write(
        "some.jsonl",
        chat(["a", "b"], 1).repeat(4) + &chat(["a", "b"], 0),
    );
    let named = "some.jsonl: nothing is learnt of 1 of 5 rows, more than a tenth";
    let args = anew(
        "train.toml",
        &[
            "data.train=some.jsonl",
            "data.validation=some.jsonl[:2]",
            "data.max_length=24",
        ],
    );
    for _ in 0..2 {
        let answer = lab.peft(&args);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert!(answer.err.contains(named), "{answer:?}");
    }
    let answer = lab.peft(&[
        "eval",
        "--data",
        "some.jsonl",
        "--model",
        "model",
        "--max-length",
        "24",
    ]);
    assert!(answer.err.contains(named), "{answer:?}");
    // Each reason is given once.
    assert_eq!(
        answer.err.matches("the weight of every answer").count(),
        1,
        "{answer:?}"
    );
    lab.fails(
        &anew(
            "train.toml",
            &[
                "data.train_on=last_answer",
                "data.completion_only_loss=false",
            ],
        ),
        &["data.train_on is \"last_answer\" and data.completion_only_loss is false"],
    );
}
