//! Where a text ends, how the next token is chosen, and which files decide it.

use serde_json::{Value, json};

use crate::common::{Lab, N_POSITIONS, adapted, with_keys};

const GENERATE: [&str; 6] = [
    "generate", "--model", "model", "--prompt", "the cat", "--json",
];

fn ids(lab: &Lab, more: &[&str]) -> Vec<u64> {
    let answer = lab.ok_json(&[&GENERATE[..], more].concat());
    let ids = answer["token_ids"].as_array().unwrap().iter();
    ids.map(|id| id.as_u64().unwrap()).collect()
}

/// How the vocabulary spells a token.
fn spelled(lab: &Lab, id: u64) -> String {
    let tokenizer = lab.json("model/tokenizer.json");
    let vocab = tokenizer["model"]["vocab"].as_object().unwrap();
    let found = vocab.iter().find(|(_, known)| known.as_u64() == Some(id));
    found.unwrap().0.clone()
}

#[test]
fn a_text_ends_at_the_tokens_of_all_files() {
    let lab = Lab::new();
    let all = ids(&lab, &[]);
    // A token that is not in the prompt, and the tokens before it.
    let prompt = "thecatĠ";
    let new = |id: &u64| !spelled(&lab, *id).chars().any(|c| prompt.contains(c));
    let stop = *all.iter().find(|id| new(id)).unwrap();
    let before: Vec<u64> = all.iter().copied().take_while(|id| *id != stop).collect();
    assert!(before.len() < all.len());

    // generation_config.json has one id or a list.
    for eos in [json!(stop), json!([0, stop])] {
        let text = json!({ "eos_token_id": eos }).to_string();
        lab.write("model/generation_config.json", text);
        assert_eq!(ids(&lab, &[]), before, "{eos}");
    }
    std::fs::remove_file(lab.path("model/generation_config.json")).unwrap();
    // The tokenizer's token is used in addition to config.json's 0. As in transformers,
    // special_tokens_map.json takes precedence over tokenizer_config.json.
    let config = json!({"eos_token": "<|endoftext|>"}).to_string();
    lab.write("model/tokenizer_config.json", config);
    assert_eq!(ids(&lab, &[]), all);
    let map = json!({"eos_token": spelled(&lab, stop)}).to_string();
    lab.write("model/special_tokens_map.json", map);
    assert_eq!(ids(&lab, &[]), before);
    let answer = lab.peft(&GENERATE);
    assert!(
        answer
            .err
            .contains("eos_token is \"<|endoftext|>\" in tokenizer_config.json and"),
        "{}",
        answer.err
    );

    // The samples of a training run end there too, and a warning tells of the disagreement.
    let answer = lab.peft(&["train", "train.toml"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let warned = format!("({stop}), and config.json has eos_token_id 0");
    assert!(answer.err.contains(&warned), "{}", answer.err);
    let shown = lab.ok_json(&GENERATE);
    let continued = format!("sample: the cat{}", shown["text"].as_str().unwrap());
    let continued = continued.replace('\n', "\n    ") + "\n";
    assert!(answer.out.contains(&continued), "{}", answer.out);
}

#[test]
fn generation_config_has_the_defaults_of_the_flags() {
    let lab = Lab::new();
    let write = |value: Value| lab.write("model/generation_config.json", value.to_string());
    let greedy = ids(&lab, &[]);
    let flags = [
        "--temperature",
        "2",
        "--top-k",
        "40",
        "--top-p",
        "0.9",
        "--repetition-penalty",
        "1.3",
        "--max-new-tokens",
        "9",
    ];
    let expected = ids(&lab, &flags);
    let sampled = json!({
        "do_sample": true, "temperature": 2.0, "top_k": 40, "top_p": 0.9,
        "repetition_penalty": 1.3, "max_new_tokens": 9,
    });
    write(sampled);
    assert_eq!(ids(&lab, &[]), expected);
    assert_ne!(ids(&lab, &["--seed", "7"]), expected);
    let off = [
        "--temperature",
        "0",
        "--repetition-penalty",
        "1",
        "--max-new-tokens",
        "12",
    ];
    assert_eq!(ids(&lab, &off), greedy[..12.min(greedy.len())]);
    // Without do_sample, transformers takes the most likely token, whatever the other keys are.
    write(json!({"temperature": 2.0, "max_length": 6}));
    let prompt = lab.ok_json(&GENERATE)["prompt_token_ids"]
        .as_array()
        .unwrap()
        .len();
    assert_eq!(ids(&lab, &[]), greedy[..6 - prompt]);
    write(json!({"do_sample": true, "top_p": 3}));
    lab.fails(&GENERATE, &["generation_config.json", "top_p = 3"]);
    write(json!({"num_beams": 4}));
    let answer = lab.peft(&GENERATE);
    assert!(answer.err.contains("num_beams"), "{}", answer.err);
    let help = lab.ok(&["generate", "--help"]);
    assert!(help.contains("generation_config.json"), "{help}");
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let lab = Lab::new();
    for (flag, value, named) in [
        ("--temperature", "-1", "0 (greedy) or greater"),
        ("--temperature", "nan", "0 (greedy) or greater"),
        ("--temperature", "inf", "0 (greedy) or greater"),
        ("--temperature", "warm", "a number"),
        ("--top-p", "0", "above 0 and at most 1"),
        ("--top-p", "1.5", "above 0 and at most 1"),
        ("--top-p", "NaN", "above 0 and at most 1"),
        ("--top-k", "-1", "a whole number, 0 or greater"),
        ("--repetition-penalty", "0", "above 0"),
        ("--repetition-penalty", "-2", "above 0"),
        ("--max-new-tokens", "0", "1 or greater"),
        ("--max-new-tokens", "-3", "1 or greater"),
        ("--seed", "-1", "a whole number, 0 or greater"),
    ] {
        let answer = lab.peft(&[&GENERATE[..], &[flag, value]].concat());
        assert_eq!(answer.code, Some(2), "{flag} {value}: {answer:?}");
        for part in [flag, value, named] {
            assert!(answer.err.contains(part), "{flag} {value}: {}", answer.err);
        }
    }
}

#[test]
fn a_prompt_that_is_too_long_says_how_much() {
    let lab = Lab::new();
    let generate = |words: usize, more: &[&str]| {
        let prompt = vec!["cat"; words].join(" ");
        lab.peft(
            &[
                &["generate", "--model", "model", "--prompt", &prompt][..],
                more,
            ]
            .concat(),
        )
    };
    let tokens = lab.ok_json(&[
        "generate",
        "--model",
        "model",
        "--prompt",
        "cat cat cat",
        "--json",
    ]);
    let each = tokens["prompt_token_ids"]
        .as_array()
        .unwrap()
        .len()
        .div_ceil(3);
    let words = N_POSITIONS / each + 40;
    let error =
        generate(words, &[]).failed(&["the prompt has", "32 positions", "shorten the prompt by"]);
    assert!(!error.contains("max_new_tokens"), "{error}");
    let more = generate(3, &["--max-new-tokens", "500"]);
    let error = more.failed(&["max_new_tokens 500", "32"]);
    assert!(!error.contains("to 0"), "{error}");
}

#[test]
fn choosing_without_a_choice_is_said() {
    let lab = Lab::new();
    let warned = |more: &[&str]| lab.peft(&[&GENERATE[..], more].concat()).err;
    let err = warned(&["--top-p", "0.5", "--seed", "3"]);
    assert!(
        err.contains("--top-p, --seed without effect: at temperature 0"),
        "{err}"
    );
    assert!(warned(&["--top-k", "5", "--temperature", "0"]).contains("--top-k without effect"));
    assert_eq!(warned(&["--top-k", "5", "--temperature", "0.5"]), "");
    assert_eq!(warned(&["--repetition-penalty", "1.2"]), "");
}

/// A tokenizer that adds its end-of-sequence token to every text.
#[test]
fn a_tokenizer_that_closes_every_text_closes_no_prompt() {
    let lab = Lab::new();
    let open = lab.ok_json(&GENERATE);
    let mut tokenizer = lab.json("model/tokenizer.json");
    let end = "<|endoftext|>";
    let text = |id: &str| json!({"Sequence": {"id": id, "type_id": 0}});
    let special = json!({"SpecialToken": {"id": end, "type_id": 0}});
    tokenizer["post_processor"] = json!({
        "type": "TemplateProcessing",
        "single": [text("A"), special], "pair": [text("A"), special, text("B"), special],
        "special_tokens": {end: {"id": end, "ids": [0], "tokens": [end]}},
    });
    lab.write("model/tokenizer.json", tokenizer.to_string());
    let row = json!({"prompt": "the cat", "completion": " sat"});
    lab.write("rows.jsonl", format!("{row}\n"));
    let out = lab.ok(&["data", "rows.jsonl", "--model", "model"]);
    assert!(out.ends_with("\n  the cat[ sat<|endoftext|>]\n"), "{out}");
    let closed = lab.ok_json(&GENERATE);
    for key in ["prompt_token_ids", "token_ids"] {
        assert_eq!(closed[key], open[key], "{key}");
    }
}

/// Full training writes the same files as `peft merge`, so that the result has the same eos token
/// and chat template.
#[test]
fn full_training_writes_what_lies_beside_the_weights() {
    let lab = Lab::with_adapter();
    let files = [
        (
            "tokenizer_config.json",
            json!({"eos_token": "t"}).to_string(),
        ),
        (
            "special_tokens_map.json",
            json!({"eos_token": "t"}).to_string(),
        ),
        ("added_tokens.json", json!({}).to_string()),
        (
            "generation_config.json",
            json!({"eos_token_id": [0]}).to_string(),
        ),
        ("chat_template.jinja", "{{ messages[0].content }}".into()),
        ("additional_chat_templates/tool_use.jinja", "tools".into()),
    ];
    std::fs::create_dir(lab.path("model/additional_chat_templates")).unwrap();
    for (name, text) in &files {
        lab.write(&format!("model/{name}"), text);
    }
    let full = with_keys(
        "train.toml",
        &["peft.peft_type=NONE", "training.output_dir=full"],
    );
    let out = lab.ok(&full);
    lab.ok(&adapted("merge", &["--output", "merged"]));
    // The same into a folder that has these files already.
    let force = adapted("merge", &["--output", "merged", "--force"]);
    lab.ok(&force);
    for folder in ["full", "merged"] {
        for (name, text) in &files {
            let found = lab.read(&format!("{folder}/{name}"));
            assert_eq!(String::from_utf8(found).unwrap(), *text, "{folder}/{name}");
        }
        let tokenizer = lab.read(&format!("{folder}/tokenizer.json"));
        assert_eq!(tokenizer, lab.read("model/tokenizer.json"));
    }
    assert!(out.contains("full/generation_config.json"), "{out}");
    let data = |model: &str| lab.ok(&["data", "train.jsonl", "--model", model]);
    assert_eq!(data("full"), data("model"));

    // The tokenizer is in another folder, here in a file of another name.
    std::fs::create_dir(lab.path("other")).unwrap();
    lab.write("other/mine.json", lab.read("model/tokenizer.json"));
    lab.write(
        "other/tokenizer_config.json",
        json!({"eos_token": "a"}).to_string(),
    );
    lab.ok(&[
        &full[..4],
        &[
            "--set",
            "training.output_dir=mine",
            "--set",
            "tokenizer=other/mine.json",
        ],
    ]
    .concat());
    assert_eq!(lab.read("mine/tokenizer.json"), lab.read("other/mine.json"));
    assert_eq!(lab.json("mine/tokenizer_config.json")["eos_token"], "a");
    assert!(!lab.names("mine").contains(&"chat_template.jinja".into()));
}
