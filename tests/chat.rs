//! `peft chat`: the answers, which adapter gives them, and which part of the conversation is kept.

use burn_peft_data::message;
use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::common::{Answer, Lab, PEFT, assert_has, values, with_keys};

/// The model's positions.
const POSITIONS: usize = 64;

/// The template writes a role as one letter, so that conversations are short. `END` ends an answer
/// of the assistant.
const TEMPLATE: &str = "{% for m in messages %}{{ m.role[0] }} {{ m.content }}\
     {% if m.role == 'assistant' %}END{% endif %}{{ '\\n' }}{% endfor %}\
     {% if add_generation_prompt %}a {% endif %}";

/// A chat model.
pub fn chat_lab() -> Lab {
    let lab = Lab::new();
    let mut config = lab.config();
    config["n_positions"] = POSITIONS.into();
    lab.write("config.json", config.to_string());
    let init = ["init", "config.json", "--output", "chat", "--seed", "3"];
    lab.ok(&init);
    lab.write("chat/tokenizer.json", lab.read("model/tokenizer.json"));
    set_template(&lab, TEMPLATE, json!({}));
    lab
}

fn set_template(lab: &Lab, template: &str, added_tokens: Value) {
    let config = json!({
        "chat_template": template, "tokenizer_class": "GPT2Tokenizer",
        "eos_token": "<|endoftext|>", "added_tokens_decoder": added_tokens,
    });
    lab.write("chat/tokenizer_config.json", config.to_string());
}

/// Talks to the chat model, with lines from a pipe.
pub fn chat(lab: &Lab, more: &[&str], lines: &[&str]) -> Answer {
    let mut command = lab.command(PEFT);
    command
        .args(["chat", "chat", "--max-new-tokens", "4"])
        .args(more);
    let pipes = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    // A command that refuses its arguments reads no lines.
    child.stdin.take().unwrap().write_all(text.as_bytes()).ok();
    child.wait_with_output().unwrap().into()
}

/// As [`chat`] with `--json`: the objects that a successful call prints.
#[track_caller]
pub fn objects(lab: &Lab, more: &[&str], lines: &[&str]) -> Vec<Value> {
    let answer = chat(lab, &[&["--json"], more].concat(), lines);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    parsed(&answer)
}

fn parsed(answer: &Answer) -> Vec<Value> {
    let lines = answer.out.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

pub fn content(object: &Value) -> &str {
    object["content"]
        .as_str()
        .unwrap_or_else(|| panic!("{object}"))
}

/// What `peft generate` makes of a text, from scratch.
pub fn generated(lab: &Lab, prompt: &str, more: &[&str]) -> Value {
    let args = [
        "generate",
        "--model",
        "chat",
        "--max-new-tokens",
        "4",
        "--json",
        "--prompt",
        prompt,
    ];
    lab.ok_json(&[&args[..], more].concat())
}

#[test]
fn a_conversation_goes_on_as_its_text_from_scratch() {
    let lab = chat_lab();
    let lines = ["the cat", "a dog sat", "the mat"];
    let mut text = "s the dog\n".to_owned();
    let said = objects(&lab, &["--system", "the dog"], &lines);
    assert_eq!(said.len(), 3);
    for (line, object) in lines.iter().zip(&said) {
        text += &format!("u {line}\na ");
        let expected = generated(&lab, &text, &[]);
        assert_eq!(content(object), expected["text"], "{text}");
        let tokens = expected["prompt_token_ids"].as_array().unwrap().len();
        assert_eq!(object["prompt_tokens"], tokens);
        assert_eq!(object["completion_tokens"], 4);
        assert_eq!(object["finish_reason"], "length");
        assert!(object["tokens_per_second"].as_f64().unwrap() > 0.0);
        assert_eq!(object.get("adapter"), None);
        text += &format!("{}END\n", content(object));
    }
    // The same as plain text. Empty lines are skipped.
    let plain = chat(
        &lab,
        &["--system", "the dog"],
        &["the cat", "", "a dog sat", "  ", "the mat"],
    );
    assert_eq!(plain.code, Some(0), "{plain:?}");
    let texts = said.iter().map(|object| format!("{}\n", content(object)));
    assert_eq!(plain.out, texts.collect::<String>());
    assert!(
        plain.err.contains("cut off after 4 tokens"),
        "{}",
        plain.err
    );
    // `--model` can be given instead of MODEL.
    let lines = "the cat\n";
    lab.write("lines.txt", lines);
    let stdin = std::fs::File::open(lab.path("lines.txt")).unwrap();
    let args = [
        "chat",
        "--model",
        "chat",
        "--system",
        "the dog",
        "--max-new-tokens",
        "4",
    ];
    let output = lab.command(PEFT).args(args).stdin(stdin).output().unwrap();
    assert_eq!(Answer::from(output).out, format!("{}\n", content(&said[0])));
}

#[test]
fn an_answer_ends_where_the_template_ends_it() {
    let lab = chat_lab();
    let prompt = "u the cat\na ";
    let more = ["--max-new-tokens", "12"];
    let generate = ["generate", "--model", "chat", "--json", "--prompt", prompt];
    let expected = lab.ok_json(&[&generate[..], &more].concat());
    let ids: Vec<u64> = expected["token_ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap())
        .collect();
    let vocab = lab.json("model/tokenizer.json")["model"]["vocab"].clone();
    let spelled = |id: u64| {
        let mut tokens = vocab.as_object().unwrap().iter();
        tokens.find(|(_, known)| **known == id).unwrap().0.clone()
    };
    // A token that occurs in the answer and nowhere else.
    let is_new = |at: &usize| {
        let token = spelled(ids[*at]);
        !ids[..*at].contains(&ids[*at]) && !prompt.contains(&token) && !token.contains('Ċ')
    };
    let at = (1..ids.len()).find(is_new).unwrap();
    let end = spelled(ids[at]);
    let token = json!({
        "content": end, "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    });
    let endoftext = json!({
        "content": "<|endoftext|>", "single_word": false, "lstrip": false, "rstrip": false,
        "normalized": false, "special": true,
    });
    set_template(
        &lab,
        &TEMPLATE.replace("END", &end),
        json!({"0": endoftext, ids[at].to_string(): token}),
    );
    let args = ["chat", "chat", "--json"];
    lab.write("lines.txt", "the cat\n");
    let run = |more: &[&str]| -> Value {
        let stdin = std::fs::File::open(lab.path("lines.txt")).unwrap();
        let output = lab
            .command(PEFT)
            .args(args)
            .args(more)
            .stdin(stdin)
            .output()
            .unwrap();
        parsed(&output.into()).remove(0)
    };
    let found = run(&more);
    assert_eq!(found["finish_reason"], "stop", "{found}");
    assert_eq!(found["completion_tokens"], at);
    assert!(
        expected["text"]
            .as_str()
            .unwrap()
            .starts_with(content(&found))
    );
    let whole = run(&["--max-new-tokens", "12", "--ignore-eos"]);
    assert_eq!(whole["completion_tokens"], 12);
}

#[test]
fn what_is_taken_back_is_not_seen() {
    let lab = chat_lab();
    let plain = objects(&lab, &[], &["the cat", "a mat"]);
    let undone = objects(
        &lab,
        &[],
        &["the cat", "the dog and the mat", "/undo", "a mat"],
    );
    assert_eq!(content(&undone[2]), content(&plain[1]));
    assert_eq!(undone[2]["prompt_tokens"], plain[1]["prompt_tokens"]);
    let reset = objects(
        &lab,
        &[],
        &["a mat and a dog", "a cat", "/reset", "the cat", "a mat"],
    );
    assert_eq!(content(&reset[3]), content(&plain[1]));
    // The system message is changed, and then removed.
    let system = objects(
        &lab,
        &["--system", "the dog"],
        &[
            "/system none",
            "the cat",
            "/undo",
            "/system the dog",
            "the cat",
        ],
    );
    assert_eq!(content(&system[0]), content(&plain[0]));
    let with = objects(&lab, &["--system", "the dog"], &["the cat"]);
    assert_eq!(content(&system[1]), content(&with[0]));
    assert_ne!(content(&system[1]), content(&system[0]));
}

#[test]
fn a_conversation_is_saved_as_a_row_that_trains() {
    let lab = chat_lab();
    let said = objects(
        &lab,
        &["--system", "a mat"],
        &[
            "the cat",
            "the dog",
            "/save chats.jsonl",
            "/reset",
            "a dog",
            "/save chats.jsonl",
        ],
    );
    let rows = lab.text("chats.jsonl");
    let rows = values(&rows);
    let messages = [
        message("system", "a mat"),
        message("user", "the cat"),
        message("assistant", content(&said[0])),
        message("user", "the dog"),
        message("assistant", content(&said[1])),
    ];
    assert_eq!(rows[0], json!({ "messages": messages }));
    assert_eq!(rows[1]["messages"].as_array().unwrap().len(), 3);
    let shown = lab.ok(&["data", "chats.jsonl", "--model", "chat"]);
    assert!(shown.contains("the dog"), "{shown}");
    let set = [
        "model=chat",
        "data.train=chats.jsonl",
        "data.validation=chats.jsonl",
        "training.max_steps=1",
    ];
    lab.ok(&with_keys("train.toml", &set));

    let refused = chat(
        &lab,
        &[],
        &["/save chats.jsonl", "the cat", "/save train.toml", "/save"],
    );
    assert_eq!(refused.out.lines().count(), 1);
    refused.failed_with(&[
        "nothing was said yet",
        "train.toml.jsonl",
        "/save needs a file",
    ]);
    assert_eq!(lab.text("chats.jsonl").lines().count(), 2);
}

impl Answer {
    /// Checks that lines failed, with these words.
    #[track_caller]
    fn failed_with(&self, named: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert_has(&self.err, named);
    }
}

#[test]
fn unknown_commands_are_named_and_not_sent() {
    let lab = chat_lab();
    let answer = chat(
        &lab,
        &["--json"],
        &["/quit", "the cat", "/undo now", "/exit", "the dog"],
    );
    let kinds: Vec<bool> = (parsed(&answer).iter())
        .map(|said| said.get("content").is_some())
        .collect();
    assert_eq!(kinds, [false, true, false], "{answer:?}");
    answer.failed_with(&[
        "no command /quit",
        "/system TEXT",
        "/exit",
        "/undo takes no argument",
        "2 failed",
    ]);
    // A line that only looks like a command.
    let sent = objects(&lab, &[], &[" /quit"]);
    assert_eq!(
        content(&sent[0]),
        generated(&lab, "u /quit\na ", &[])["text"]
    );
    let help = chat(&lab, &[], &["/help"]);
    assert_eq!((help.code, help.out.as_str()), (Some(0), ""));
    assert!(help.err.contains("/adapter NAME|base"), "{}", help.err);
}

#[test]
fn a_long_conversation_loses_its_oldest_turns() {
    let lab = chat_lab();
    let lines = [
        "the cat sat on the mat",
        "the dog sat on the cat",
        "a cat and a dog sat",
        "the mat and the dog",
        "the cat",
    ];
    let answer = chat(&lab, &["--json", "--system", "a dog"], &lines);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let said = parsed(&answer);
    assert_eq!(said.len(), lines.len());
    for object in &said {
        assert!(
            object["prompt_tokens"].as_u64().unwrap() as usize + 4 <= POSITIONS,
            "{object}"
        );
        assert_eq!(object["completion_tokens"], 4);
    }
    let named = "too long for 64 positions: from here on the model does not see 2 messages of it: \
                 \"the cat sat on the mat\", with the answer";
    assert!(answer.err.contains(named), "{}", answer.err);
    // The model still sees the rest of the conversation, and always the system message.
    let left_out = answer.err.matches("too long for").count();
    let mut text = "s a dog\n".to_owned();
    for (line, object) in lines.iter().zip(&said).take(4).skip(left_out) {
        text += &format!("u {line}\na {}END\n", content(object));
    }
    text += "u the cat\na ";
    assert_eq!(
        content(&said[4]),
        generated(&lab, &text, &[])["text"],
        "{}",
        answer.err
    );

    let long = "the cat ".repeat(40);
    let answer = chat(&lab, &["--json"], &["the cat", &long, "a mat"]);
    let said = parsed(&answer);
    assert!(
        said[1]["error"]
            .as_str()
            .unwrap()
            .contains("64 positions (n_positions)"),
        "{answer:?}"
    );
    let plain = objects(&lab, &[], &["the cat", "a mat"]);
    assert_eq!(content(&said[2]), content(&plain[1]));
    answer.failed_with(&["shorten it", "1 failed"]);
}

#[test]
fn what_cannot_be_talked_to_is_named_with_the_way_out() {
    let lab = chat_lab();
    lab.fails(
        &["chat", "model"],
        &["no chat template", "`peft generate", "--tokenizer"],
    );
    let wanted = ["chat", "chat", "--max-new-tokens", "64"];
    lab.fails(
        &wanted,
        &[
            "--max-new-tokens 64 leaves no room",
            "64 positions (n_positions)",
        ],
    );
    let refuses =
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}a";
    set_template(&lab, refuses, json!({}));
    lab.fails(
        &["chat", "chat", "--system", "the cat"],
        &["does not accept this system message", "no system here"],
    );
    let kept = chat(&lab, &[], &["/system the cat", "the cat"]);
    kept.failed_with(&["no system here"]);
    assert_eq!(kept.out.lines().count(), 1, "{kept:?}");
    for (args, said) in [
        (&["chat"][..], "MODEL"),
        (&["chat", "chat", "--model", "chat"], "cannot be used with"),
        (
            &["chat", "chat", "the cat"],
            "the model is the only argument",
        ),
    ] {
        let answer = lab.peft(args);
        assert_eq!(answer.code, Some(2), "{args:?}: {answer:?}");
        assert!(answer.err.contains(said), "{args:?}: {}", answer.err);
    }
}
