//! Data files as users have them: shapes, chats, the cache, and `peft data`.

use burn_peft_data::message;
use std::fs;
use std::io::Write;

use serde_json::{Value, json};

use crate::common::{Lab, jsonl, with_keys};

const CHATML: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}";

fn chat() -> Value {
    json!({"messages": [
        message("user", "a dog"), message("assistant", "the cat"), message("user", "sat"),
    ]})
}

#[test]
fn shapes_are_detected_and_the_trained_tokens_marked() {
    let lab = Lab::new();
    let config = json!({"chat_template": CHATML}).to_string();
    lab.write("model/tokenizer_config.json", config);
    let alpaca = json!({"instruction": "a", "output": "the mat"});
    for (file, content, shape, shown) in [
        (
            "a.txt",
            "the cat\n".to_string(),
            "text (column `text`)",
            " cat<|endoftext|>]",
        ),
        (
            "a.jsonl",
            jsonl([json!({"prompt": "the cat", "completion": " sat"})]),
            "prompt/completion",
            "the cat[ sat<|endoftext|>]",
        ),
        (
            "a.json",
            json!([alpaca]).to_string(),
            "instruction/input/output",
            "### Response:\n  [the mat<|endoftext|>]",
        ),
        (
            "b.csv",
            "text,n\nthe cat,1\n".into(),
            "text (column `text`)",
            "<|endoftext|>]",
        ),
        (
            "c.jsonl",
            jsonl([chat()]),
            "chat (column `messages`)",
            "<user>a dog\n  <assistant>[the cat\n  ]<user>sat",
        ),
    ] {
        lab.write(file, content);
        let out = lab.ok(&["data", file, "--tokenizer", "model"]);
        assert!(
            out.starts_with(&format!("{file}: {shape}\n1 example, ")),
            "{out}"
        );
        assert!(out.contains(shown), "{out}");
    }
    lab.write(
        "ids.jsonl",
        jsonl([json!({"input_ids": [5, 6, 7], "labels": [-100, -100, 7]})]),
    );
    let out = lab.ok(&["data", "ids.jsonl"]);
    assert!(
        out.contains("already tokenised") && out.contains("5 6[7]"),
        "{out}"
    );
}

#[test]
fn lengths_and_padding_are_counted() {
    let lab = Lab::new();
    let rows = (0..64).map(|i| json!({"input_ids": vec![1; 2 + i * 7 % 29]}));
    lab.write("ids.jsonl", jsonl(rows));
    let args = [
        "data",
        "ids.jsonl",
        "--model",
        "model",
        "--batch-size",
        "4",
        "--summary",
    ];
    let report = lab.ok_json(&args);
    let tokens: usize = (0..64).map(|i| 2 + i * 7 % 29).sum();
    assert_eq!(report["examples"], 64);
    assert_eq!(report["tokens"], tokens);
    assert_eq!(report["supervised_tokens"], tokens - 64);
    assert_eq!(
        (&report["length"]["min"], &report["length"]["max"]),
        (&json!(2), &json!(30))
    );
    let bars = report["length"]["histogram"].as_array().unwrap();
    let counted: u64 = bars
        .iter()
        .map(|bar| bar["examples"].as_u64().unwrap())
        .sum();
    assert_eq!(counted, 64);
    let share = |name: &str| report["padding"][name].as_f64().unwrap();
    assert!(share("packing") < share("group_by_length"));
    assert!(share("group_by_length") < share("longest"));
    let packed = report["padding"]["packed_rows"].as_u64().unwrap() as usize;
    assert!(packed >= tokens.div_ceil(32) && packed < 64, "{packed}");
    assert_eq!(report["samples"].as_array().unwrap().len(), 3);
}

#[test]
fn what_is_missing_is_said() {
    let lab = Lab::new();
    lab.write("chat.jsonl", jsonl([chat()]));
    lab.fails(
        &["data", "chat.jsonl", "--model", "model"],
        &[
            "tokenizer model",
            "has no chat_template",
            "chat_template.jinja",
        ],
    );
    lab.fails(
        &["data", "none.jsonl"],
        &["there is no data file none.jsonl"],
    );
    lab.fails(
        &["data", "organisation/reviews:train[:5]", "--model", "model"],
        &["Hub data set organisation/reviews", "HF_HUB_OFFLINE"],
    );
    lab.write("a.parquet", "PAR1");
    lab.fails(
        &["data", "a.parquet", "--model", "model"],
        &["a.parquet is ", "arquet"],
    );
    lab.write(
        "template.jsonl",
        jsonl([json!({"messages": [{"role": "system", "content": "x"}]})]),
    );
    lab.write(
        "model/chat_template.jinja",
        "{{ raise_exception('Conversation must start with a user') }}",
    );
    lab.fails(
        &["data", "template.jsonl", "--model", "model"],
        &[
            "template.jsonl line 1",
            "Conversation must start with a user",
        ],
    );
}

#[test]
fn a_chat_trains() {
    let lab = Lab::new();
    lab.write("model/chat_template.jinja", CHATML);
    lab.write("chat.jsonl", jsonl((0..4).map(|_| chat())));
    let out = lab.ok(&with_keys(
        "train.toml",
        &["data.train=chat.jsonl", "data.validation=chat.jsonl"],
    ));
    assert!(out.contains("chat.jsonl: 4 examples"), "{out}");
    assert!(lab.path("out/adapter_model.safetensors").exists());
}

#[test]
fn tokens_are_kept_between_runs() {
    let lab = Lab::new();
    let cached = || lab.names("peft-cache");
    lab.ok(&["data", "train.jsonl", "--model", "model"]);
    let first = cached();
    assert_eq!(first.len(), 1);
    let log = lab
        .peft(&["-v", "data", "train.jsonl", "--model", "model"])
        .err;
    assert!(
        log.contains("train.jsonl: tokens from peft-cache/"),
        "{log}"
    );
    assert_eq!(cached(), first);
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(lab.path("train.jsonl"))
        .unwrap();
    writeln!(file, "{}", json!({"text": "a mat"})).unwrap();
    let report = lab.ok_json(&["data", "train.jsonl", "--model", "model", "--summary"]);
    assert_eq!((report["examples"].as_u64(), cached().len()), (Some(7), 2));
}

/// Only the rows that are needed at a time are in memory, not the whole file.
#[test]
fn a_large_file_is_not_held_in_memory() {
    let lab = Lab::new();
    let text = "the cat sat on the mat and the dog sat on the cat ".repeat(40);
    let row = format!("{}\n", json!({"text": text}));
    lab.write("large.jsonl", row.repeat(100 << 20 >> 11));
    let size = fs::metadata(lab.path("large.jsonl")).unwrap().len();
    assert!(size > 90 << 20);
    let peak = |file: &str| {
        let peft = crate::common::PEFT;
        let script = format!(
            "ulimit -v 8000000; {peft} data {file} --model model --max-length 16 >/dev/null && exec true"
        );
        let mut command = lab.command("python3");
        let watch = "import resource,subprocess,sys; subprocess.run(['sh','-c',sys.argv[1]],check=True); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)";
        let output = command.args(["-c", watch, &script]).output();
        let output = output.ok().filter(|output| output.status.success())?;
        String::from_utf8(output.stdout)
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    let (Some(small), Some(large)) = (peak("train.jsonl"), peak("large.jsonl")) else {
        eprintln!("skipped: there is no Python to measure memory with");
        return;
    };
    // In KiB. Half of the file would be 45 MiB.
    assert!(large < small + (45 << 10), "{small} {large}");
}

#[test]
fn what_a_row_says_beside_its_text_is_used_or_named() {
    let lab = Lab::new();
    lab.write("model/chat_template.jinja", CHATML);
    let mut bad = message("assistant", "BAD");
    bad["weight"] = 0.into();
    let messages = [
        message("user", "hi"),
        bad,
        message("User", "so"),
        message("gpt", "good"),
    ];
    let row = json!({"messages": messages, "system": "SYS", "images": ["a.png"]});
    lab.write("chat.jsonl", jsonl([row]));
    for _ in 0..2 {
        // The warning appears again when the tokens come from the cache.
        let answer = lab.peft(&["data", "chat.jsonl", "--model", "model"]);
        assert!(
            answer.err.contains("WARN") && answer.err.contains("`images` left out"),
            "{answer:?}"
        );
        let shown =
            "<system>SYS\n  <user>hi\n  <assistant>BAD\n  <user>so\n  <assistant>[good\n  ]";
        assert!(answer.out.contains(shown), "{}", answer.out);
    }
    lab.write("faq.jsonl", jsonl([json!({"q": "the cat", "a": " sat"})]));
    let args = ["data", "faq.jsonl", "--model", "model", "--template", "{q}"];
    let answer = lab.peft(&args);
    assert!(
        answer.err.contains("data.template leaves out `a`"),
        "{answer:?}"
    );
    let out = lab.ok(&[&args[..], &["--completion-field", "a"]].concat());
    assert!(out.contains("the cat[ sat<|endoftext|>]"), "{out}");
}

#[test]
fn rows_that_are_cut_or_dropped_are_counted_with_the_setting() {
    let lab = Lab::new();
    let row = |prompt: &str, completion: &str| json!({"prompt": prompt, "completion": completion});
    let mut masked = row("a", "b");
    masked["loss_weight"] = 0.0.into();
    let rows = [
        row("the cat", " sat"),
        row("the cat", " sat on the mat and the dog sat on the cat"),
        row("the cat sat on the mat and the dog", " sat"),
        row("", ""),
        masked,
    ];
    lab.write("rows.jsonl", jsonl(rows));
    let said = [
        "1 of 5 rows cut to data.max_length = 6",
        "1 of 5 rows dropped: what is learnt of them lies beyond data.max_length = 6",
        "1 of 5 rows dropped: fewer than 2 tokens",
        "1 of 5 rows dropped: their weight is 0 or their label false",
    ];
    let data = lab.ok(&[
        "data",
        "rows.jsonl",
        "--model",
        "model",
        "--max-length",
        "6",
    ]);
    let train = lab.ok(&with_keys(
        "train.toml",
        &["data.train=rows.jsonl", "data.max_length=6"],
    ));
    for line in said {
        assert!(
            data.contains(line) && train.contains(line),
            "{line}\n{data}\n{train}"
        );
    }
}
