//! Rows with two answers, and rows with a judged answer: their tokens, compared with TRL's, and
//! what is wrong with some.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::{Lab, jsonl, with_keys};
use crate::conformance::fixtures;

const RUN: &str = r#"
model = "model"
[data]
train = "rows.jsonl"
[peft]
r = 4
[training]
output_dir = "out"
max_steps = 1
eval_strategy = "no"
"#;

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("run.toml", RUN);
    lab
}

fn tokenizer() -> String {
    fixtures()
        .join("preference_rows/tokenizer")
        .display()
        .to_string()
}

/// The output of `peft data --json` for some rows.
fn seen(lab: &Lab, objective: &str, rows: &[Value]) -> Vec<Value> {
    lab.write("rows.jsonl", jsonl(rows));
    let tokenizer = tokenizer();
    let command = ["data", "rows.jsonl", "--json", "--tokenizer", &tokenizer];
    let out = lab.ok(&[&command[..], &["--objective", objective]].concat());
    let parse = |line: &str| serde_json::from_str(line).unwrap();
    out.lines().map(parse).collect()
}

#[test]
fn rows_are_the_tokens_that_trl_makes_of_them() {
    let lab = lab();
    let path: PathBuf = fixtures().join("preference_rows/expected.json");
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    for case in cases {
        let objective = case["objective"].as_str().unwrap();
        let found = seen(&lab, objective, case["rows"].as_array().unwrap());
        let expected = case["examples"].as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{case}");
        for (found, expected) in found.iter().zip(expected) {
            assert_eq!(found["answer"], expected["answer"], "{case}");
            assert_eq!(
                found["input_ids"], expected["input_ids"],
                "{objective} {found}"
            );
            let labels = |of: &Value| of["labels"].as_array().unwrap()[1..].to_vec();
            assert_eq!(labels(found), labels(expected), "{objective} {found}");
        }
    }
}

#[test]
fn all_shapes_of_a_pair_are_the_same_pair() {
    let lab = lab();
    let user = json!({"role": "user", "content": "Where is Tom?"});
    let says = |text: &str| json!({"role": "assistant", "content": text});
    let (good, bad) = (says("Home."), says("Away."));
    let chat = json!({"prompt": [user], "chosen": [good], "rejected": [bad]});
    let turns = json!([{"from": "human", "value": "Where is Tom?"}]);
    let same = [
        json!({"chosen": [user, good], "rejected": [user, bad]}),
        // UltraFeedback: the prompt as a text, and again in both answers.
        json!({"prompt": "Where is Tom?", "chosen": [user, good], "rejected": [user, bad]}),
        // LLaMA-Factory's ranking, in ShareGPT's format.
        json!({"conversations": turns, "chosen": {"from": "gpt", "value": "Home."},
               "rejected": {"from": "gpt", "value": "Away."}}),
        json!({"messages": [user], "chosen": good, "rejected": bad}),
        // UltraFeedback's own columns, and a third answer in `messages`.
        json!({"prompt": "Where is Tom?", "messages": [user, good], "chosen": [user, good],
               "rejected": [user, bad]}),
        json!({"prompt": "Where is Tom?", "messages": [user, says("Out.")], "chosen": [user, good],
               "rejected": [user, bad]}),
    ];
    let expected = seen(&lab, "dpo", &[chat]);
    for row in same {
        assert_eq!(
            seen(&lab, "dpo", std::slice::from_ref(&row)),
            expected,
            "{row}"
        );
    }
    // Only the answers have the system message.
    let system = json!({"role": "system", "content": "the cat"});
    let whole = json!({"chosen": [system, user, good], "rejected": [system, user, bad]});
    let mut prompted = whole.clone();
    prompted["prompt"] = "Where is Tom?".into();
    assert_eq!(seen(&lab, "dpo", &[prompted]), seen(&lab, "dpo", &[whole]));
    // LLaMA-Factory's ranking in Alpaca's format, as columns and as lists.
    let columns =
        json!({"instruction": "Tom", "input": "", "chosen": "Home.", "rejected": "Away."});
    let list = json!({"instruction": "Tom", "input": "", "output": ["Home.", "Away."]});
    let expected = seen(&lab, "dpo", &[columns]);
    assert!(
        expected[0]["text"]
            .as_str()
            .unwrap()
            .contains("### Instruction:\nTom"),
        "{expected:?}"
    );
    assert_eq!(seen(&lab, "dpo", &[list]), expected);
    // A pair counts as two judged answers, and in a chat the last message is judged.
    let pair = json!({"prompt": "Tom ", "chosen": "ran.", "rejected": "hid."});
    let [good, bad] = [("ran.", true), ("hid.", false)]
        .map(|(text, label)| json!({"prompt": "Tom ", "completion": text, "label": label}));
    let tokens = |rows: &[Value]| -> Vec<Value> {
        let rows = seen(&lab, "kto", rows).into_iter();
        rows.map(|row| json!([row["answer"], row["input_ids"], row["labels"]]))
            .collect()
    };
    assert_eq!(tokens(&[pair]), tokens(&[good, bad]));
    let chat = json!({"messages": [user, says("Home.")], "kto_tag": "true"});
    let split = json!({"prompt": [user], "completion": [says("Home.")], "label": true});
    assert_eq!(tokens(&[chat]), tokens(&[split]));
}

#[test]
fn rows_that_teach_nothing_are_counted_by_number() {
    let lab = lab();
    let pair = |prompt: &str, chosen: &str, rejected: &str| json!({"prompt": prompt, "chosen": chosen, "rejected": rejected});
    let rows = [
        pair("the ", "cat", "mat"),
        pair("the ", "cat", "cat"),
        pair("the ", " ", "cat"),
        pair("the cat and the mat and the cat and the mat", "cat", "mat"),
    ];
    lab.write("rows.jsonl", jsonl(&rows));
    let run = [
        "train",
        "run.toml",
        "--set",
        "data.train=rows.jsonl",
        "--set",
    ];
    let run = |more: &[&str]| lab.ok(&[&run[..], &["training.objective=dpo"], more].concat());
    let out = run(&["--set", "data.max_length=8"]);
    for said in [
        "1 of 4 rows dropped, the first is row 2: chosen and rejected are the same",
        "1 of 4 rows dropped, the first is row 3: an answer without any text",
        "1 of 4 rows dropped, the first is row 4: the prompt alone fills data.max_length = 8",
    ] {
        assert!(out.contains(said), "{out}");
    }
    let seen = seen(&lab, "dpo", &rows);
    assert_eq!(seen[2]["skipped"], "chosen and rejected are the same");

    // The answers differ only in the part that is cut off.
    let far = [
        pair("the ", "cat and the mat", "cat and the cat"),
        pair("the ", "cat", "mat"),
    ];
    lab.write("rows.jsonl", jsonl(&far));
    let out = run(&["--set", "data.max_length=4", "--force"]);
    let said = "1 of 2 rows dropped, the first is row 1: chosen and rejected are the same";
    assert!(out.contains(said), "{out}");

    for (objective, rows, said) in [
        (
            "dpo",
            json!({"question": "a", "chosen": "b", "rejected": "c"}),
            "data.template = \"{question}\\n\"",
        ),
        (
            "orpo",
            json!({"Query": "a", "chosen": "b", "rejected": "c"}),
            "`Query` looks like the prompt of both answers",
        ),
        (
            "dpo",
            json!({"text": "a"}),
            "has no pairs of answers, which this objective compares",
        ),
        (
            "kto",
            json!({"prompt": "a", "completion": "b"}),
            "does not say which answers are good: its columns are `prompt`, `completion`",
        ),
        (
            "kto",
            json!({"prompt": "a", "completion": "b", "label": "perhaps"}),
            "line 1 has \"perhaps\" in `label`, where true or false is expected",
        ),
        (
            "kto",
            json!({"prompt": "a", "completion": "b", "label": true}),
            "has good answers only, and this objective needs both good and bad ones",
        ),
        (
            "sft",
            pair("a", "b", "c"),
            "choose an objective that does (training.objective = \"dpo\")",
        ),
    ] {
        lab.write("rows.jsonl", jsonl(&[rows]));
        let set = format!("training.objective={objective}");
        let run = [
            "train",
            "run.toml",
            "--set",
            "data.train=rows.jsonl",
            "--set",
            &set,
            "--force",
        ];
        lab.fails(&run, &[said]);
    }
}

#[test]
fn keys_of_objectives_are_checked() {
    let lab = lab();
    lab.write(
        "rows.jsonl",
        jsonl(&[json!({"prompt": "the ", "chosen": "cat", "rejected": "mat"})]),
    );
    let fails = |sets: &[&str], said: &str| {
        let keys = [&["data.train=rows.jsonl"], sets].concat();
        lab.fails(&with_keys("run.toml", &keys), &[said]);
    };
    let dpo = "training.objective=dpo";
    fails(
        &["training.objective=ppo"],
        "unknown value `ppo`, expected one of `sft`, `dpo`, `kto`, `orpo`, `cpo`",
    );
    fails(
        &[dpo, "dpo.betta=0.2"],
        "dpo.betta is not a known key; did you mean beta?",
    );
    fails(
        &[dpo, "dpo.beta=0"],
        "dpo.beta is 0; it must be more than 0",
    );
    fails(&[dpo, "dpo.loss_type=sigmoidal"], "`sigmoidal`");
    fails(
        &["dpo.beta=0.2"],
        "has a table [dpo], and training.objective = \"sft\": set training.objective = \"dpo\"",
    );
    fails(
        &["reference=base"],
        "has `reference`, and training.objective = \"sft\" compares with no",
    );
    fails(
        &[dpo, "dpo.max_length=9", "data.max_length=8"],
        "dpo.max_length is 9 and data.max_length 8: both cut rows, leave one out",
    );
    fails(
        &[dpo, "data.packing=true"],
        "data.packing is true, but the 2 examples of a row stay",
    );
    fails(
        &[dpo, "data.train_on=all"],
        "data.train_on is \"all\", and this objective compares answers",
    );
    fails(
        &[
            "training.objective=kto",
            "training.per_device_train_batch_size=1",
        ],
        "training.per_device_train_batch_size is 1; with objective = \"kto\" it must be 2 or more",
    );
    fails(
        &[
            "training.objective=kto",
            "training.per_device_eval_batch_size=1",
        ],
        "training.per_device_eval_batch_size is 1; with objective = \"kto\" it must be 2 or more",
    );
    let judged = |is_good| json!({"prompt": "the ", "completion": "cat", "label": is_good});
    lab.write("judged.jsonl", jsonl([true, false].map(judged).as_slice()));
    let eval = [
        "eval",
        "--model",
        "model",
        "--data",
        "judged.jsonl",
        "--objective",
        "kto",
        "--batch-size",
    ];
    lab.fails(
        &[&eval[..], &["1"]].concat(),
        &["--batch-size is 1; with --objective kto it must be 2 or more"],
    );
    lab.ok(&[&eval[..], &["2"]].concat());
    fails(
        &[dpo, "training.metric_for_best_model=perplexity"],
        "rewards/accuracies",
    );
    let run = with_keys("run.toml", &["data.train=rows.jsonl", dpo, "dpo.beta=0.3"]);
    let shown = lab.ok(&[&run[..], &["--print-config"]].concat());
    assert!(shown.contains("[dpo]\nbeta = 0.3"), "{shown}");
    assert!(shown.contains("objective = \"dpo\""), "{shown}");
}
