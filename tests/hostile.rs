//! Files that are made to do harm: each gives an error, quickly, in little memory and without a
//! panic.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::common::Lab;

const DATA: [&str; 4] = ["data", "rows.jsonl", "--model", "model"];

#[test]
fn a_chat_template_that_never_ends_is_stopped() {
    let lab = Lab::new();
    let message = json!({"role": "user", "content": "the cat"});
    let row = json!({"messages": [message, {"role": "assistant", "content": "sat"}]});
    lab.write("rows.jsonl", format!("{row}\n").repeat(3000));
    let loops = "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}\
                 {% endfor %}{% endfor %}{% endfor %}";
    let doubled = "{% set ns = namespace(s='ab') %}{% for i in range(60) %}\
                   {% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}";
    for template in [loops, doubled] {
        lab.write("model/chat_template.jinja", template);
        let start = Instant::now();
        lab.fails(
            &DATA,
            &[
                "rows.jsonl line 1 ",
                "model/chat_template.jinja",
                "10000000 steps",
                "128 MiB",
            ],
        );
        assert!(start.elapsed() < Duration::from_secs(60));
    }
    lab.write(
        "model/chat_template.jinja",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    );
    lab.fails(&DATA, &["model/chat_template.jinja", "fails"]);
    lab.write("model/chat_template.jinja", "{% include '/etc/passwd' %}");
    lab.fails(&DATA, &["model/chat_template.jinja", "other templates"]);
}

#[test]
fn json_nested_without_end_is_refused() {
    let lab = Lab::with_adapter();
    let deep = "[".repeat(200_000);
    let inspect: [&str; 5] = ["inspect", "--model", "model", "--adapter", "out"];
    let row = format!("{{\"text\": {deep}\n");
    lab.write("rows.jsonl", row);
    lab.fails(&DATA, &["rows.jsonl line 1"]);
    for (file, args) in [
        ("model/config.json", &inspect[..]),
        ("out/adapter_config.json", &inspect),
        ("model/tokenizer.json", &DATA),
        ("model/tokenizer_config.json", &DATA),
    ] {
        let whole = lab.path(file).is_file().then(|| lab.read(file));
        lab.write(file, format!("{{\"a\": {deep}"));
        lab.fails(args, &[file]);
        match whole {
            Some(whole) => lab.write(file, whole),
            None => std::fs::remove_file(lab.path(file)).unwrap(),
        }
    }
    let data = "{\"data\": [".to_string() + &deep;
    lab.write("rows.json", data);
    lab.fails(&["data", "rows.json", "--model", "model"], &["rows.json"]);
}

#[test]
fn sizes_beyond_any_memory_are_refused() {
    let lab = Lab::new();
    for (key, value) in [
        ("vocab_size", json!(10_u64.pow(15))),
        ("n_positions", json!(u64::MAX)),
        ("n_embd", json!(16_000_000)),
        ("n_layer", json!(10_u64.pow(9))),
        ("n_inner", json!(10_u64.pow(12))),
        ("n_head", json!(0)),
    ] {
        let mut config = lab.config();
        config[key] = value;
        lab.write("huge.json", config.to_string());
        lab.fails(
            &["init", "huge.json", "--output", "new"],
            &["huge.json", key],
        );
        lab.write("model/config.json", config.to_string());
        lab.fails(
            &["inspect", "--model", "model"],
            &["model/config.json", key],
        );
    }
    assert!(!lab.path("new").exists());
}

/// A pattern for which a backtracking matcher would take forever.
#[test]
fn a_split_pattern_that_never_ends_is_stopped() {
    let lab = Lab::new();
    let mut tokenizer = lab.json("model/tokenizer.json");
    tokenizer["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": "(?=(a|a)*b)(a|a)*c"}, "behavior": "Isolated", "invert": false},
        tokenizer["pre_tokenizer"],
    ]});
    lab.write("model/tokenizer.json", tokenizer.to_string());
    let row = json!({"text": "a".repeat(31)});
    lab.write("rows.jsonl", format!("{row}\n"));
    let start = Instant::now();
    let answer = lab.peft(&DATA);
    assert!(start.elapsed() < Duration::from_secs(60), "{answer:?}");
    assert!(!answer.err.contains("panicked"), "{answer:?}");
}

/// `script` gives a command a terminal.
#[cfg(target_os = "linux")]
#[test]
fn a_terminal_without_colours_gets_none() {
    let lab = Lab::new();
    lab.write("rows.jsonl", "{\"text\": \"\"}\n{\"text\": \"the cat\"}\n");
    let run = |variable: &str| {
        let command = format!("'{}' data rows.jsonl --model model", crate::common::PEFT);
        let mut script = lab.command("script");
        let (name, value) = variable.split_once('=').unwrap();
        script.env("TERM", "xterm").env(name, value);
        script.args(["-qec", &command, "/dev/null"]);
        script
            .output()
            .map(|output| String::from_utf8(output.stdout).unwrap())
    };
    let Ok(coloured) = run("TERM=xterm") else {
        eprintln!("skipped: there is no `script`");
        return;
    };
    assert!(coloured.contains("\u{1b}[32m"), "{coloured}");
    for variable in ["NO_COLOR=1", "TERM=dumb", "CLICOLOR=0"] {
        let plain = run(variable).unwrap();
        assert!(!plain.contains('\u{1b}'), "{variable}: {plain:?}");
        assert!(
            plain.contains("t[he cat<|endoftext|>]") || plain.contains("the[ cat<|endoftext|>]"),
            "{variable}: {plain}"
        );
    }
}
