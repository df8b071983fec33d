use super::*;
use serde_json::json;

pub(super) fn detect(value: Value, config: &DataConfig) -> Result<(Shape, Content)> {
    let columns = value.as_object().cloned().unwrap();
    let shape = Shape::detect(&columns, "a.jsonl", config)?;
    let row = Row { number: 7, columns };
    let content = shape.read(&row, "a.jsonl line 7")?;
    Ok((shape, content))
}

pub(super) fn plain(value: Value) -> Result<(Shape, Content)> {
    detect(value, &DataConfig::new("a.jsonl"))
}

pub(super) fn prompted(prompt: &str, completion: &str) -> Content {
    Content::Prompted {
        prompt: prompt.into(),
        completion: completion.into(),
    }
}

#[test]
fn shapes_follow_from_the_columns() {
    let (shape, content) = plain(json!({"label": 1, "text": "good"})).unwrap();
    assert_eq!(shape.to_string(), "text (column `text`)");
    assert_eq!(content, Content::Text("good".into()));

    let (_, content) = plain(json!({"prompt": "2+2=", "completion": "4"})).unwrap();
    assert_eq!(content, prompted("2+2=", "4"));

    let row = json!({"instruction": "Add.", "input": "2, 2", "output": "4"});
    assert_eq!(
        plain(row).unwrap().1,
        prompted(
            "### Instruction:\nAdd.\n\n### Input:\n2, 2\n\n### Response:\n",
            "4"
        )
    );
    let row = json!({"instruction": "Greet.", "input": "", "output": "Hi."});
    let expected = prompted("### Instruction:\nGreet.\n\n### Response:\n", "Hi.");
    assert_eq!(plain(row).unwrap().1, expected);
    assert_eq!(
        plain(json!({"instruction": "Greet.", "output": "Hi."}))
            .unwrap()
            .1,
        expected
    );

    let row = json!({"input_ids": [1, 2, 3], "attention_mask": [1, 1, 0]});
    let expected = Content::Tokens {
        input_ids: vec![1, 2],
        labels: vec![1, 2],
    };
    assert_eq!(plain(row).unwrap(), (Shape::Tokenized, expected));
    let row = json!({"input_ids": [1, 2], "labels": [-100, 2]});
    let expected = Content::Tokens {
        input_ids: vec![1, 2],
        labels: vec![-100, 2],
    };
    assert_eq!(plain(row).unwrap().1, expected);
}

#[test]
fn chats_come_in_three_shapes() {
    let user = json!({"role": "user", "content": "Hi"});
    let assistant = json!({"role": "assistant", "content": "Hello"});
    let chat = |given| {
        let messages = vec![user.clone(), assistant.clone()];
        let extras = Map::new();
        Content::Chat(Chat {
            messages,
            extras,
            given,
        })
    };
    let (shape, content) = plain(json!({"messages": [user, assistant], "tools": null})).unwrap();
    assert_eq!(shape.to_string(), "chat (column `messages`)");
    assert_eq!(content, chat(0));
    let row = json!({"prompt": [user], "completion": [assistant]});
    assert_eq!(
        plain(row).unwrap(),
        (
            Shape::ChatCompletion("prompt".into(), "completion".into()),
            chat(1)
        )
    );
    let row = json!([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]);
    assert_eq!(plain(json!({"conversations": row})).unwrap().1, chat(0));
}

#[test]
fn the_user_may_name_the_text_or_write_a_template() {
    let row = json!({"review": "fine {x}", "stars": 4, "output": "positive"});
    let mut config = DataConfig::new("a.jsonl");
    config.text_field = Some("review".into());
    assert_eq!(
        detect(row.clone(), &config).unwrap().1,
        Content::Text("fine {x}".into())
    );
    config.text_field = Some("body".into());
    assert_eq!(
        detect(row.clone(), &config).unwrap_err().to_string(),
        "data.text_field is \"body\", but a.jsonl has the columns review, stars, output"
    );

    config.text_field = None;
    config.template = Some("{} {review} has {stars} stars:\n{ }{".into());
    let (_, content) = detect(row.clone(), &config).unwrap();
    assert_eq!(
        content,
        prompted("{} fine {x} has 4 stars:\n{ }{", "positive")
    );
    config.template = Some("{revue}".into());
    let error = detect(row, &config).unwrap_err().to_string();
    assert!(
        error.starts_with("data.template asks for {revue}, but a.jsonl has"),
        "{error}"
    );
}

#[test]
fn rows_that_do_not_fit_are_errors() {
    let error = |row| plain(row).unwrap_err().to_string();
    let message = error(json!({"review": "x", "stars": 4}));
    assert!(
        message.contains("review, stars") && message.contains("text_field"),
        "{message}"
    );
    assert_eq!(
        error(json!({"messages": "hello"})),
        "a.jsonl line 7 has no list of messages in `messages`"
    );
    assert_eq!(
        error(json!({"messages": [{"content": "hello"}]})),
        "a.jsonl line 7 has a message without a `role` in `messages`: {\"content\":\"hello\"}"
    );
    assert_eq!(
        error(json!({"text": 3})),
        "a.jsonl line 7 has a number in `text`, where text is expected"
    );
    assert_eq!(
        error(json!({"instruction": "x", "output": null})),
        "a.jsonl line 7 has null in `output`, where text is expected"
    );
    assert_eq!(
        error(json!({"input_ids": [1, "2"]})),
        "a.jsonl line 7 has something other than a list of integers in `input_ids`"
    );
    assert_eq!(
        error(json!({"input_ids": [1, 2], "labels": [1]})),
        "a.jsonl line 7 has 2 `input_ids` and 1 `labels`"
    );
}

#[test]
fn a_content_that_is_no_text_is_not_trained_as_its_name() {
    let chat = |message: Value| {
        let row = json!({"messages": [message]});
        Chat::new(row.as_object().unwrap(), &["messages"], 0)
    };
    let called = json!({"role": "assistant", "content": null, "tool_calls": [{"name": "f"}]});
    assert_eq!(chat(called).unwrap().messages[0]["content"], "");
    for content in [json!(null), json!(true), json!({"a": 1})] {
        let message = json!({"role": "assistant", "content": content, "tool_calls": []});
        let error = chat(message).unwrap_err().to_string();
        assert!(
            error.contains(&format!("`content` is {content} in `messages`")),
            "{error}"
        );
    }
}
