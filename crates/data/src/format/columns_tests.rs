//! Columns beside a row's text, and the remarks about them.

use super::tests::{detect, plain, prompted};
use super::*;
use serde_json::json;

/// The remarks of a shape about a row.
fn said(row: Value, config: &DataConfig) -> Vec<String> {
    let columns = row.as_object().cloned().unwrap();
    let shape = Shape::detect(&columns, "a.jsonl", config).unwrap();
    let row = Row { number: 7, columns };
    let content = shape.read(&row, "a.jsonl line 7").unwrap();
    let notes = notes(&shape, &row.columns, &content).into_iter().collect();
    describe(&notes, &shape)
}

fn messages(row: Value) -> Vec<(String, String)> {
    let Content::Chat(chat) = plain(row).unwrap().1 else {
        panic!("no chat");
    };
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let pair = |message: &Value| (text(&message["role"]), text(&message["content"]));
    chat.messages.iter().map(pair).collect()
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = pairs.iter().map(|&(role, text)| (role.into(), text.into()));
    pairs.collect()
}

#[test]
fn the_systems_words_and_earlier_turns_come_before_the_prompt() {
    let row = json!({
        "instruction": "Go on.", "input": "", "output": "yes",
        "system": "Be brief.", "history": [["Hi", "Hello"], ["Why?", "So."]],
    });
    let before = "Be brief.\n\n### Instruction:\nHi\n\n### Response:\nHello\n\n\
                  ### Instruction:\nWhy?\n\n### Response:\nSo.\n\n";
    let prompt = format!("{before}### Instruction:\nGo on.\n\n### Response:\n");
    assert_eq!(plain(row.clone()).unwrap().1, prompted(&prompt, "yes"));
    assert!(said(row, &DataConfig::new("a")).is_empty());
    // The same in a CSV file, where lists are text.
    let row = json!({"instruction": "Go on.", "output": "yes", "system": "", "history": "[[\"Hi\", \"Hello\"]]"});
    let prompt = "### Instruction:\nHi\n\n### Response:\nHello\n\n### Instruction:\nGo on.\n\n### Response:\n";
    assert_eq!(plain(row).unwrap().1, prompted(prompt, "yes"));
    let row = json!({"instruction": "Go on.", "output": "yes", "history": ["Hi"]});
    let error = plain(row).unwrap_err().to_string();
    assert!(
        error.contains("list of pairs [user, assistant] in `history`"),
        "{error}"
    );

    let row = json!({"system_prompt": "Be brief.", "prompt": "2+2=", "response": "4"});
    assert_eq!(plain(row).unwrap().1, prompted("Be brief.\n\n2+2=", "4"));
    let turns = json!([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]);
    let row = json!({"conversations": turns, "system": "Be brief.", "tools": "[]"});
    let expected = [
        ("system", "Be brief."),
        ("user", "Hi"),
        ("assistant", "Hello"),
    ];
    assert_eq!(messages(row), pairs(&expected));
    // A system message in the chat takes precedence over the column.
    let turns =
        json!([{"role": "system", "content": "Be long."}, {"role": "user", "content": "Hi"}]);
    let row = json!({"messages": turns, "system": "Be brief."});
    assert_eq!(
        messages(row),
        pairs(&[("system", "Be long."), ("user", "Hi")])
    );
}

#[test]
fn roles_have_many_names() {
    let row = json!({"conversations": [
        {"from": "system", "value": "s"}, {"from": "human", "value": "weather?"},
        {"from": "function_call", "value": "CALL"}, {"from": "observation", "value": "sun"},
        {"from": "gpt", "value": "sunny"},
    ]});
    let expected = [
        ("system", "s"),
        ("user", "weather?"),
        ("assistant", "CALL"),
        ("tool", "sun"),
        ("assistant", "sunny"),
    ];
    assert_eq!(messages(row.clone()), pairs(&expected));
    let words = said(row, &DataConfig::new("a"));
    assert!(
        words[0].starts_with("`function_call`, `observation`: calls of tools are learnt"),
        "{words:?}"
    );
    let row = json!({"messages": [
        {"role": "User", "content": "a"}, {"role": "ASSISTANT", "content": "b"},
        {"role": "Human", "content": [{"type": "text", "text": "c"}, {"type": "text", "text": "d"}]},
        {"role": "model", "value": "e"},
    ]});
    let expected = [
        ("user", "a"),
        ("assistant", "b"),
        ("user", "cd"),
        ("assistant", "e"),
    ];
    assert_eq!(messages(row), pairs(&expected));
    let row = json!({"messages": [{"role": "narrator", "content": "a"}, {"role": "user", "content": "b"}]});
    let said = said(row, &DataConfig::new("a"));
    assert!(
        said.len() == 1 && said[0].starts_with("the role `narrator` is not a known one"),
        "{said:?}"
    );
    let row = json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]});
    let error = plain(row).unwrap_err().to_string();
    assert!(
        error.contains("a part of type `image_url` in `messages`; only text is read"),
        "{error}"
    );
}

#[test]
fn preferences_are_refused_unless_the_answer_is_named() {
    let chosen = json!({"from": "gpt", "value": "RIGHT"});
    let turns = json!([{"from": "human", "value": "q1"}]);
    let row = json!({"conversations": turns, "chosen": chosen, "rejected": {"from": "gpt", "value": "WRONG"}});
    let error = plain(row.clone()).unwrap_err().to_string();
    assert!(
        error.starts_with("a.jsonl has preferences (`chosen` and `rejected`)"),
        "{error}"
    );
    let alone = json!({"chosen": "a", "rejected": "b"});
    assert_eq!(plain(alone).unwrap_err().to_string(), error);

    let mut config = DataConfig::new("a.jsonl");
    config.completion_field = Some("chosen".into());
    for row in [
        row,
        json!({"prompt": "q1", "chosen": [chosen]}),
        json!({"prompt": "q1", "chosen": [{"role": "user", "content": "q1"}, chosen]}),
    ] {
        let Content::Chat(chat) = detect(row, &config).unwrap().1 else {
            panic!("no chat");
        };
        let contents: Vec<_> = chat
            .messages
            .iter()
            .map(|m| m["content"].as_str())
            .collect();
        assert_eq!((contents, chat.given), (vec![Some("q1"), Some("RIGHT")], 1));
    }
    let row = json!({"prompt": "q1", "chosen": "RIGHT", "rejected": "WRONG"});
    assert_eq!(
        detect(row.clone(), &config).unwrap().1,
        prompted("q1", "RIGHT")
    );
    assert!(said(row, &config)[0].starts_with("`rejected` left out"));
}

#[test]
fn columns_that_mean_something_are_used_or_named() {
    let plain = DataConfig::new("a");
    let masked = |row: Value| {
        let columns = row.as_object().cloned().unwrap();
        let shape = Shape::detect(&columns, "a.jsonl", &plain).unwrap();
        is_masked(&shape, &columns)
    };
    for (column, value, is) in [
        ("weight", json!(0), true),
        ("weight", json!("0.0"), true),
        ("loss_weight", json!(0.0), true),
        ("sample_weight", json!(0), true),
        ("sample_weight", json!("no"), true),
        ("kto_tag", json!(false), true),
        ("kto_tag", json!(true), false),
        // One of two classes, in a CSV file.
        ("label", json!("no"), false),
        ("weight", json!(1), false),
        ("label", json!(false), true),
        ("label", json!("False"), true),
        ("label", json!(true), false),
        ("label", json!(0), false),
    ] {
        let row = json!({"prompt": "a", "completion": "b", column: value});
        assert_eq!(masked(row.clone()), is, "{row}");
    }
    // The label of a text does not judge it.
    assert!(!masked(json!({"text": "a", "label": false})));

    for (row, words) in [
        (
            json!({"text": "a", "label": 1, "id": 3}),
            "`label` left out",
        ),
        (
            json!({"prompt": "a", "completion": "b", "images": ["x"], "label": 2}),
            "`images`, `label` left out",
        ),
        (
            json!({"prompt": "a", "completion": "b", "loss_weight": 0.5}),
            "`loss_weight` is neither 0 nor 1",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": "b", "weight": 0.5}]}),
            "`weight` is neither",
        ),
        (
            json!({"text": "a", "completion_mask": [1]}),
            "`completion_mask` left out",
        ),
        (
            json!({"prompt": "a", "completion": "b", "rejected_response": "c", "mask": "User"}),
            "`mask`, `rejected_response` left out",
        ),
        (
            json!({"prompt": "a", "completion": "b", "system": "s", "system_prompt": "t"}),
            "`system_prompt` left out",
        ),
        (
            json!({"instruction": "a", "output": "b", "input": "c", "context": "d"}),
            "`context` left out",
        ),
        (
            json!({"messages": [{"role": "system", "content": "b"}], "system": "other",
                "chat_template_kwargs": {"a": 1}}),
            "`system` left out",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": "b", "train_detail": [1], "mask": 1}]}),
            "`mask`, `train_detail` left out",
        ),
        (
            json!({"messages": [{"role": "assistant", "content": "b", "training": "later"}]}),
            "`training` is neither",
        ),
    ] {
        let said = said(row, &plain);
        assert!(said.len() == 1 && said[0].starts_with(words), "{said:?}");
    }
    for row in [
        json!({"text": "a", "id": 3, "system": "", "history": [], "images": null}),
        json!({"messages": [], "tools": "[]", "system": "s", "weight": 1}),
        json!({"messages": [], "system_message": "s", "system": "s"}),
        json!({"messages": [{"role": "user", "content": "b", "loss": null, "mask": false}]}),
        json!({"prompt": "a", "completion": "b", "kto_tag": true, "sample_weight": "1.0"}),
    ] {
        assert_eq!(said(row, &plain), [""; 0]);
    }
}

#[test]
fn masks_of_tokens_leave_labels_out() {
    for mask in ["completion_mask", "assistant_masks"] {
        let row =
            json!({"input_ids": [5, 6, 7, 8], mask: [0, 0, 1, 1], "attention_mask": [1, 1, 1, 0]});
        let expected = Content::Tokens {
            input_ids: vec![5, 6, 7],
            labels: vec![-100, -100, 7],
        };
        assert_eq!(plain(row).unwrap().1, expected);
    }
    let row = json!({"input_ids": [5, 6], "labels": [5, -100], "completion_mask": [0, 1]});
    let Content::Tokens { labels, .. } = plain(row).unwrap().1 else {
        panic!("no tokens");
    };
    assert_eq!(labels, [-100, -100]);
    for mask in [json!([false, true]), json!([0.0, 1.0]), json!([0, 1])] {
        let row =
            json!({"input_ids": [5, 6], "completion_mask": mask, "attention_mask": [true, 1.0]});
        let Content::Tokens { labels, .. } = plain(row).unwrap().1 else {
            panic!("no tokens");
        };
        assert_eq!(labels, [-100, 6]);
    }
    for (mask, value) in [
        (json!([0, 2]), "2"),
        (json!([0.5, 1]), "0.5"),
        (json!([0, "1"]), "\"1\""),
    ] {
        for column in ["loss_mask", "attention_mask"] {
            let row = json!({"input_ids": [5, 6], column: mask});
            let error = plain(row).unwrap_err().to_string();
            let words = format!("has {value} in `{column}`, where each token needs 0 or 1");
            assert!(error.contains(&words), "{error}");
        }
    }
    let row = json!({"input_ids": [5, 6], "completion_mask": [1]});
    let error = plain(row).unwrap_err().to_string();
    assert!(
        error.ends_with("has 2 `input_ids` and 1 `completion_mask`"),
        "{error}"
    );
}

#[test]
fn the_completion_may_have_any_name() {
    let mut config = DataConfig::new("a.jsonl");
    let row = json!({"question": "Why?", "answer": "BECAUSE", "source": "web"});
    let error = detect(row.clone(), &config).unwrap_err().to_string();
    let way = "`question` and `answer` look like a prompt and its completion: say so with \
               data.template = \"{question}\\n\" and data.completion_field = \"answer\"";
    assert!(error.contains(way), "{error}");
    let shell = "--template $'{question}\\n' --completion-field answer";
    assert!(error.contains(shell), "{error}");
    config.template = Some("Q: {question} A:".into());
    assert_eq!(
        detect(row.clone(), &config).unwrap().1,
        prompted("Q: Why? A:", "BECAUSE")
    );
    assert_eq!(said(row, &config), ["data.template leaves out `source`"]);
    let row = json!({"question": "Why?", "because": "SO"});
    assert!(said(row.clone(), &config)[0].starts_with("data.template leaves out `because`; put {"));
    config.completion_field = Some("because".into());
    assert_eq!(
        detect(row.clone(), &config).unwrap().1,
        prompted("Q: Why? A:", "SO")
    );
    config.template = None;
    let error = detect(row, &config).unwrap_err().to_string();
    assert!(
        error.starts_with("data.completion_field is \"because\", and there is neither"),
        "{error}"
    );
    let error = detect(json!({"question": "Why?"}), &config)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("data.completion_field is \"because\", but a.jsonl has"),
        "{error}"
    );

    let row = json!({"prompt": "Why?", "response": "SO"});
    assert_eq!(plain(row).unwrap().1, prompted("Why?", "SO"));
    // Databricks' Dolly.
    let row = json!({"instruction": "Add.", "context": "2, 2", "response": "4", "category": "qa"});
    let prompt = instruction_prompt("Add.", "2, 2");
    assert_eq!(plain(row).unwrap().1, prompted(&prompt, "4"));
    // A template that contains the answer itself has no completion.
    config = DataConfig::new("a.jsonl");
    config.template = Some("{question}{answer}".into());
    let row = json!({"question": "Why?", "answer": "SO"});
    assert_eq!(
        detect(row, &config).unwrap().1,
        Content::Text("Why?SO".into())
    );
}

#[test]
fn columns_in_capitals_get_the_hint_of_those_without() {
    let error = plain(json!({"Question": "Why?", "ANSWER": "SO"})).unwrap_err();
    let way = "data.template = \"{Question}\\n\" and data.completion_field = \"ANSWER\"";
    assert!(error.to_string().contains(way), "{error}");
    let error = plain(json!({"Text": "a", "n": 1})).unwrap_err();
    assert!(
        error.to_string().contains("data.text_field = \"Text\""),
        "{error}"
    );
}

#[test]
fn an_escape_that_nobody_has_read_is_named() {
    let warning = |template: &str| {
        let mut config = DataConfig::new("a.jsonl");
        config.template = Some(template.into());
        config.template_warning()
    };
    for template in [r"{question}\n", r"{question}\\n", r"{a}\t", r"{a}\r\n"] {
        let said = warning(template).unwrap();
        assert!(
            said.starts_with("data.template holds a backslash"),
            "{said}"
        );
    }
    let said = warning(r#"Who's "{question}"\n"#).unwrap();
    for way in [
        r#"--template $'Who\'s "{question}"\n'"#,
        r#"template = "Who's \"{question}\"\n""#,
    ] {
        assert!(said.contains(way), "{said}");
    }
    assert_eq!(warning("{question}\n"), None);
    assert_eq!(warning(r"C:\data {question}"), None);
}

#[test]
fn the_words_of_the_system_have_three_names() {
    for name in ["system", "system_prompt", "system_message"] {
        let row = json!({"prompt": "a", "completion": "b", name: "Be brief."});
        assert_eq!(plain(row).unwrap().1, prompted("Be brief.\n\na", "b"));
        let row = json!({"messages": [{"role": "user", "content": "a"}], name: "Be brief."});
        assert_eq!(messages(row)[0], ("system".into(), "Be brief.".into()));
    }
}

#[test]
fn a_row_without_columns_is_named() {
    let error = plain(json!({})).unwrap_err().to_string();
    assert_eq!(error, "a.jsonl has a first row without columns: {}");
}
