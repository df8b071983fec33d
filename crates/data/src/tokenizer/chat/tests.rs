use super::*;
use crate::format::Chat;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::bpe::tiny;
use serde_json::json;

const CHATML: &str = "{% for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>' + '\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}";

fn template(source: &str) -> ChatTemplate {
    let special = json!({"bos_token": "<s>", "eos_token": "</s>"});
    ChatTemplate::new(
        source,
        "m/chat_template.jinja",
        special.as_object().cloned().unwrap(),
    )
    .unwrap()
}

pub(super) fn messages() -> Vec<Value> {
    vec![
        message("user", "Hi"),
        message("assistant", " Hello "),
        message("user", "Bye"),
        message("assistant", "So long"),
    ]
}

pub(super) fn render(source: &str, messages: Vec<Value>) -> std::result::Result<String, String> {
    let rendered = template(source).render(&messages, &Map::new(), false);
    rendered.map_err(|problem| problem.to_string())
}

/// The parts of a chat's text that are learnt.
fn learnt(source: &str, given: usize) -> std::result::Result<Vec<String>, String> {
    let chat = Chat {
        messages: messages(),
        given,
        ..Chat::default()
    };
    let spans = template(source).answers(&chat);
    let (text, spans) = spans.map_err(|problem| problem.to_string())?;
    assert_eq!(
        text,
        template(source)
            .render(&chat.messages, &chat.extras, false)
            .map_err(|problem| problem.to_string())?
    );
    Ok(spans
        .into_iter()
        .map(|span| text[span].to_string())
        .collect())
}

#[test]
fn renders_as_transformers_does() {
    assert_eq!(
        template(CHATML)
            .render(&messages()[..2], &Map::new(), true)
            .unwrap(),
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello<|im_end|>\n<|im_start|>assistant\n"
    );
    // What published templates use beyond plain Jinja.
    for (source, expected) in [
        (
            "{{ bos_token }}\n  {% if true %}\n  a\n  {% endif %}\nb",
            "<s>\n  a\nb",
        ),
        (
            "{{ messages[0] | tojson }}",
            r#"{"role": "user", "content": "<é>"}"#,
        ),
        (
            "{{ [1, {'a': none}] | tojson(indent=2) }}",
            "[\n  1,\n  {\n    \"a\": null\n  }\n]",
        ),
        (
            "{{ messages[0].content.strip('<>').upper().startswith('É') }}",
            "True",
        ),
        (
            "{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}",
            "1",
        ),
        (
            "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
            "1",
        ),
        (
            "{% for m in messages[::-1] %}{{ loop.previtem is defined }}{{ m.tool_calls is defined }}{% endfor %}",
            "FalseFalse",
        ),
        (
            "{%- macro say(x) -%} {{ x }}! {%- endmacro -%} {{ say('a') }}",
            "a!",
        ),
        (
            "{% for k, v in messages[0].items() %}{{ k }}={{ v }};{% endfor %}",
            "role=user;content=<é>;",
        ),
        ("{{ strftime_now('%Y') | int > 2020 }}", "True"),
    ] {
        let found = render(source, vec![json!({"role": "user", "content": "<é>"})]);
        assert_eq!(found.unwrap(), expected, "{source}");
    }
}

#[test]
fn the_assistants_turns_are_learnt() {
    assert_eq!(
        learnt(CHATML, 0).unwrap(),
        ["Hello<|im_end|>\n", "So long<|im_end|>\n"]
    );
    assert_eq!(learnt(CHATML, 2).unwrap(), ["So long<|im_end|>\n"]);
    // Without a generation prompt: Llama 2.
    let llama = "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token ~ '[INST] ' ~ m.content ~ ' [/INST]' }}{% else %}{{ ' ' ~ m.content | trim ~ ' ' ~ eos_token }}{% endif %}{% endfor %}";
    assert_eq!(learnt(llama, 0).unwrap(), [" Hello </s>", " So long </s>"]);
}

#[test]
fn a_tag_of_three_signs_is_an_error() {
    for source in ["{%}", "x{%}{% if true %}", "{%"] {
        assert!(
            ChatTemplate::new(source, "m", Map::new()).is_err(),
            "{source}"
        );
    }
}

#[test]
fn a_template_may_mark_them_itself() {
    let marked = "{% for m in messages %}\n<{{ m.role }}>\n  {% if m.role == 'assistant' %}\n  {%- generation -%}\n  {{ m.content | trim }}.\n  {%- endgeneration %}\n  {% endif %}\n{% endfor %}";
    assert_eq!(learnt(marked, 0).unwrap(), ["Hello.", "So long."]);
    // White space control means the same as without the marks.
    let plain = marked
        .replace("{%- generation -%}", "{%- if true -%}")
        .replace("endgeneration", "endif");
    assert_eq!(
        render(marked, messages()).unwrap(),
        render(&plain, messages()).unwrap()
    );
}

#[test]
fn what_cannot_be_told_is_an_error() {
    let last_only = "{% for m in messages %}{{ m.role }}{% if loop.last %}[{{ m.content }}]{% else %}{{ m.content }}{% endif %}{% endfor %}";
    let error = learnt(last_only, 0).unwrap_err();
    assert!(
        error.contains("message 2 changes") && error.contains("{% generation %}"),
        "{error}"
    );
    let error = render("{{ raise_exception('Roles must alternate') }}", messages()).unwrap_err();
    assert!(
        error.starts_with("the chat template (m") && error.contains("Roles must alternate"),
        "{error}"
    );
    assert!(!error.contains('\n'), "{error}");
    let error = ChatTemplate::new("{% if %}", "m", Map::new())
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("the chat template (m"), "{error}");
}

#[test]
fn a_tokenizer_reads_its_template() {
    let dir = tempfile::tempdir().unwrap();
    tiny().save(dir.path().join("tokenizer.json")).unwrap();
    let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
    let load = || Tokenizer::load(dir.path()).unwrap();
    let error = load()
        .apply_chat_template(&messages(), false)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("it has no chat_template") && error.contains("tokenizer"),
        "{error}"
    );

    let text = "{{ messages[0].content }}{{ eos_token }}";
    write(
        "tokenizer_config.json",
        json!({"chat_template": text}).to_string(),
    );
    let render = || load().apply_chat_template(&messages(), false).unwrap();
    assert_eq!(render(), "Hi<|endoftext|>");
    let named =
        json!([{"name": "tool_use", "template": "no"}, {"name": "default", "template": text}]);
    let config = json!({"chat_template": named, "eos_token": {"content": "t"}});
    write("tokenizer_config.json", config.to_string());
    assert_eq!(render(), "Hit");
    write("chat_template.jinja", CHATML.into());
    assert!(render().starts_with("<|im_start|>user"));

    let chat = Chat {
        messages: messages(),
        ..Chat::default()
    };
    let (ids, trained) = load().encode_chat(&chat, false, "line 1").unwrap();
    let learnt: Vec<u32> = ids
        .iter()
        .zip(&trained)
        .filter(|(_, t)| **t)
        .map(|(id, _)| *id)
        .collect();
    assert_eq!(
        load().decode(&learnt).unwrap(),
        "Hello<|im_end|>\nSo long<|im_end|>\n"
    );
    assert_eq!(load().decode(&ids).unwrap(), render());
}

#[test]
fn turns_may_be_left_out_of_the_loss() {
    let marked = "{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content | trim }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}";
    for (key, value) in [
        ("weight", json!(0)),
        ("loss_weight", json!(0.0)),
        ("train", json!(false)),
        ("training", json!(false)),
        ("training", json!("no")),
        ("train_on_turn", json!(false)),
        ("loss", json!(false)),
        ("loss", json!("False")),
        ("mask", json!(true)),
        ("mask", json!("yes")),
    ] {
        let mut chat = Chat {
            messages: messages(),
            ..Chat::default()
        };
        chat.messages[1][key] = value;
        chat.messages[3]["weight"] = json!(1);
        for (source, expected) in [(CHATML, "So long<|im_end|>\n"), (marked, "So long")] {
            let (text, spans) = template(source).answers(&chat).unwrap();
            let learnt: Vec<&str> = spans.into_iter().map(|span| &text[span]).collect();
            assert_eq!(learnt, [expected], "{key}");
        }
    }
}

/// Phi-3.5: a text that does not ask for an answer ends after its last message.
#[test]
fn an_end_behind_the_last_message_is_no_part_of_those_before() {
    let phi = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>\n{% else %}{{ eos_token }}{% endif %}";
    assert_eq!(
        learnt(phi, 0).unwrap(),
        [" Hello <|end|>\n", "So long<|end|>\n</s>"]
    );
    // An end that begins like the next turn.
    let special = json!({"eos_token": "<|endoftext|>"});
    let special = special.as_object().cloned().unwrap();
    let template = ChatTemplate::new(phi, "m", special).unwrap();
    let chat = Chat {
        messages: messages(),
        ..Chat::default()
    };
    let (text, spans) = template.answers(&chat).unwrap();
    let learnt: Vec<&str> = spans.into_iter().map(|span| &text[span]).collect();
    assert_eq!(
        learnt,
        [" Hello <|end|>\n", "So long<|end|>\n<|endoftext|>"]
    );
    // Without a generation prompt, the text before an answer has the end too.
    let plain = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}{{ eos_token }}";
    assert_eq!(
        super::tests::learnt(plain, 0).unwrap(),
        ["assistant:  Hello \n", "assistant: So long\n</s>"]
    );
    // The last answer looks like the first; still, it is found by what changes in it.
    let last_only = "{% for m in messages %}{{ m.role }}{% if loop.last %}[{{ m.content }}]{% else %}{{ m.content }}{% endif %}{% endfor %}";
    let mut same = messages();
    same[3]["content"] = same[1]["content"].clone();
    let chat = Chat {
        messages: same,
        ..Chat::default()
    };
    let error = super::tests::template(last_only)
        .answers(&chat)
        .unwrap_err()
        .to_string();
    assert!(error.contains("message 2 changes"), "{error}");
}

/// The expected values are Python's.
#[test]
fn a_slice_is_pythons() {
    for (source, expected) in [
        ("{{ [][::-1] }}", "[]"),
        ("{{ ''[::-1] }}", ""),
        ("{{ ()[::-1] }}", "()"),
        ("{{ messages[9:][::-1] }}", "[]"),
        ("{{ messages[:0][1:][::-1] | length }}", "0"),
        (
            "{% for m in messages[1:][::-1] %}{{ m.content }},{% endfor %}",
            "So long,Bye, Hello ,",
        ),
        ("{{ 'abc'[2:0:-1] }}", "cb"),
        ("{{ 'abc'[-10::-1] }}|{{ 'abc'[0:5:-1] }}", "|"),
        ("{{ (1, 2, 3)[::-2] }}", "(3, 1)"),
        ("{{ [1, 2, 3][-2:] }}{{ [1, 2, 3][:-1] }}", "[2, 3][1, 2]"),
        (
            "{{ 'abcdef'[1:-1:2] }}{{ 'abc'[5:] }}{{ 'abc'[-9:2] }}",
            "bdab",
        ),
    ] {
        assert_eq!(render(source, messages()).unwrap(), expected, "{source}");
    }
    // Qwen 3 goes through the messages from the last to the first, even if there are none.
    let walk = "{% for m in messages[::-1] %}{{ m.role }}{% endfor %}";
    assert_eq!(render(walk, Vec::new()).unwrap(), "");
    assert!(render("{{ messages[::0] }}", messages()).is_err());
}

#[test]
fn what_minijinja_fails_on_is_an_error_that_names_the_template() {
    let template = template("");
    let error = template
        .guarded::<()>(|| panic!("an index"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("(m/chat_template.jinja)"), "{error}");
}
