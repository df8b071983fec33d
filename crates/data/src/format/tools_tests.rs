//! Tools and reasoning under templates of different kinds. The templates are this project's own; the
//! texts are what transformers 5.23 makes of the same chat in `apply_chat_template`.

use crate::config::DataConfig;
use crate::error::Result;
use crate::message as say;
use crate::tokenizer::Tokenizer;
use crate::tokenizer::bpe::tiny;
use crate::tokens::example::{IGNORE_INDEX, Limits};
use crate::tokens::lm::Lm;
use crate::tokens::seen::{SeenRow, see_rows};
use crate::tokens::train_on::TrainOn;
use serde_json::{Value, json};

const BRACKETS: &str = "{% if tools %}[tools]{{ tools | tojson }}{{ '\\n' }}{% endif %}\
    {% for m in messages %}[{{ m.role }}]\
    {% if m.reasoning_content and enable_thinking is not false %}({{ m.reasoning_content }}){% endif %}\
    {{ m.content }}\
    {% for c in m.tool_calls %}[call]{{ c.function.name }}={{ c.function.arguments | tojson }}{% endfor %}\
    {{ '\\n' }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
const TAGS: &str = "{% if tools %}<tools>{{ tools | tojson }}</tools>{{ '\\n' }}{% endif %}\
    {% for m in messages %}[{{ m.role }}]\
    {% if m.role == 'tool' %}<tool_response>{{ '\\n' + m.content + '\\n' }}</tool_response>\
    {% else %}{{ m.content }}{% endif %}\
    {% for c in m.tool_calls %}<tool_call>{{ '\\n' }}\
    {{ {'name': c.function.name, 'arguments': c.function.arguments} | tojson }}{{ '\\n' }}</tool_call>{% endfor %}\
    {{ '\\n' }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
/// Arguments are text, which the template concatenates, as DeepSeek's templates do.
const TEXT: &str = "{% for m in messages %}[{{ m.role }}]{{ m.content }}\
    {% for c in m.tool_calls %}[call]{{ c.function.name + '=' + c.function.arguments }}{% endfor %}\
    {{ '\\n' }}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}";
const PLAIN: &str = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{{ '\\n' }}{% endfor %}\
    {% if add_generation_prompt %}[assistant]{% endif %}";

const TOOLS: &str = r#"[{"type": "function", "function": {"name": "sky", "description": "Looks up.", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}]"#;
const CALLED: &str = "[call]sky={\"city\": \"Rome\", \"days\": 2}\n";

/// The rows of a file as training sees them, and the error at its end, if there is one.
fn seen(
    template: &str,
    rows: &[Value],
    change: impl FnOnce(&mut DataConfig),
) -> (Vec<SeenRow>, Result<()>) {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    tiny().save(path("tokenizer.json")).unwrap();
    std::fs::write(path("chat_template.jinja"), template).unwrap();
    let lines: Vec<String> = rows.iter().map(|row| format!("{row}\n")).collect();
    std::fs::write(path("a.jsonl"), lines.concat()).unwrap();
    let mut config = DataConfig::new(path("a.jsonl").to_str().unwrap());
    change(&mut config);
    let limits = Limits {
        max_positions: usize::MAX,
        positions_key: "n_positions",
        has_last_position: true,
        adapter_positions: 0,
        vocab_size: 270,
    };
    let tokenizer = Tokenizer::load(dir.path()).unwrap();
    let mut seen = Vec::new();
    let ended = see_rows(
        &config.train.sets()[0].path,
        &config,
        Some(&tokenizer),
        limits,
        &|_| Ok(None),
        &Lm,
        &mut |rows| {
            seen.extend(rows);
            true
        },
    );
    (seen, ended)
}

/// The text of a single row, and the parts that are learnt.
#[track_caller]
fn one(template: &str, row: Value) -> (String, Vec<String>) {
    let (mut rows, ended) = seen(template, &[row], |_| ());
    ended.unwrap();
    let row = rows.remove(0);
    (row.text.clone().unwrap(), learnt(&row))
}

fn learnt(row: &SeenRow) -> Vec<String> {
    let tokens: Vec<(u32, bool)> = row
        .input_ids
        .iter()
        .flatten()
        .zip(row.labels.iter().flatten())
        .map(|(&id, &label)| (id, label != IGNORE_INDEX))
        .collect();
    let parts = tokens.chunk_by(|a, b| a.1 == b.1).filter(|part| part[0].1);
    let text = |part: &[(u32, bool)]| {
        let ids: Vec<u32> = part.iter().map(|(id, _)| *id).collect();
        tiny().decode(&ids).unwrap()
    };
    parts.map(text).collect()
}

/// One chat in the formats of OpenAI (new and old), ShareGPT and Hermes.
fn one_chat_in_many_ways() -> Vec<(&'static str, Value)> {
    let tools: Value = serde_json::from_str(TOOLS).unwrap();
    let user = json!({"role": "user", "content": "Sun?"});
    let clear = json!({"role": "tool", "content": "clear"});
    let yes = json!({"role": "assistant", "content": "Yes."});
    let arguments = json!({"city": "Rome", "days": 2});
    let function = |arguments: Value| json!({"name": "sky", "arguments": arguments});
    let calling = |call: Value| json!({"role": "assistant", "content": null, "tool_calls": [call]});
    let openai = |call: Value| json!([user, calling(call), clear, yes]);
    let full = |arguments| json!({"type": "function", "function": function(arguments)});
    let as_text = json!("{\"city\": \"Rome\", \"days\": 2}");
    let older = json!([
        user,
        {"role": "assistant", "content": null, "function_call": function(as_text.clone())},
        {"role": "function", "content": "clear"},
        yes,
    ]);
    let call = function(arguments.clone()).to_string();
    let turn = |from: &str, value: &str| json!({"from": from, "value": value});
    let sharegpt = json!([
        turn("human", "Sun?"),
        turn("function_call", &call),
        turn("observation", "clear"),
        turn("gpt", "Yes."),
    ]);
    let python = "{'arguments': {'city': 'Rome', 'days': 2}, 'name': 'sky'}";
    let hermes = |call: &str| {
        json!([
            turn(
                "system",
                &format!(
                    "You have functions within <tools> </tools>.\n<tools>\n{TOOLS}\n</tools>\n\
                Call one so:\n<tool_call>\n{{'arguments': <dict>}}\n</tool_call>"
                )
            ),
            turn("human", "Sun?"),
            turn("gpt", &format!("<tool_call>\n{call}\n</tool_call>")),
            turn("tool", "<tool_response>\nclear\n</tool_response>"),
            turn("gpt", "Yes."),
        ])
    };
    vec![
        (
            "openai",
            json!({"messages": openai(full(arguments.clone())), "tools": tools}),
        ),
        (
            "arguments in text",
            json!({"messages": openai(full(as_text)), "tools": TOOLS}),
        ),
        (
            "bare",
            json!({"messages": openai(function(arguments)), "tools": [tools[0]["function"]]}),
        ),
        (
            "older",
            json!({"messages": older, "functions": [tools[0]["function"]]}),
        ),
        (
            "sharegpt",
            json!({"conversations": sharegpt, "tools": TOOLS}),
        ),
        ("hermes", json!({"conversations": hermes(&call)})),
        ("hermes in Python", json!({"conversations": hermes(python)})),
        (
            "hermes with tools",
            json!({"conversations": hermes(&call), "tools": TOOLS}),
        ),
    ]
}

#[test]
fn calls_are_said_in_the_templates_own_words() {
    let expected =
        format!("[tools]{TOOLS}\n[user]Sun?\n[assistant]{CALLED}[tool]clear\n[assistant]Yes.\n");
    for (way, row) in one_chat_in_many_ways() {
        let (text, learnt) = one(BRACKETS, row);
        assert_eq!(text, expected, "{way}");
        assert_eq!(learnt, [CALLED, "Yes.\n"], "{way}");
    }
}

#[test]
fn tags_that_are_the_templates_own_stay_text() {
    let call = "<tool_call>\n{\"name\": \"sky\", \"arguments\": {\"city\": \"Rome\", \"days\": 2}}\n</tool_call>\n";
    let turns = format!(
        "[user]Sun?\n[assistant]{call}[tool]<tool_response>\nclear\n</tool_response>\n[assistant]Yes.\n"
    );
    for (way, row) in one_chat_in_many_ways() {
        let (text, learnt) = one(TAGS, row);
        match way {
            // The file's text is unchanged, including the tools in the system message.
            "hermes" | "hermes in Python" => {
                assert!(
                    text.starts_with("[system]You have functions within <tools>"),
                    "{text}"
                );
                assert!(learnt[0].starts_with("<tool_call>\n{"), "{way}");
            }
            "hermes with tools" => {
                assert!(text.starts_with(&format!("<tools>{TOOLS}</tools>\n[user]")))
            }
            _ => {
                assert_eq!(text, format!("<tools>{TOOLS}</tools>\n{turns}"), "{way}");
                assert_eq!(learnt[0], call, "{way}");
            }
        }
        assert!(
            text.contains("[tool]<tool_response>\nclear\n</tool_response>\n"),
            "{way}: {text}"
        );
        assert_eq!(learnt.len(), 2, "{way}");
    }
}

#[test]
fn arguments_are_text_where_the_template_wants_it() {
    for (way, row) in one_chat_in_many_ways() {
        let again = row.clone();
        let (text, learnt) = one(TEXT, row);
        let turns = format!("[user]Sun?\n[assistant]{CALLED}[tool]clear\n[assistant]Yes.\n");
        if way.starts_with("hermes") {
            assert!(
                text.starts_with("[system]") && learnt.len() == 2,
                "{way}: {text}"
            );
        } else {
            assert_eq!(text, turns, "{way}");
        }
        // Only in messages without content, as in DeepSeek-R1's template.
        let null = TEXT
            .replace(
                "{{ m.content }}",
                "{% if m.content is not none %}{{ m.content }}{% else %}",
            )
            .replace("{{ '\\n' }}", "{% endif %}{{ '\\n' }}");
        if !way.starts_with("hermes") {
            assert_eq!(one(&null, again).0, turns, "{way}");
        }
    }
}

/// A template that writes a message differently once more follow, so it is unclear what was said.
#[test]
fn rows_that_a_template_writes_anew_are_left_out_and_counted() {
    let counted = "{% for m in messages %}{{ messages | length }}{{ m.content }}{% endfor %}";
    let turns = |count: usize| {
        let roles = ["user", "assistant"].into_iter().cycle().take(count);
        json!({"messages": roles.map(|role| say(role, "a")).collect::<Vec<_>>()})
    };
    let (rows, ended) = seen(counted, &[turns(4), turns(2)], |_| ());
    let why = rows[0].skipped.as_deref().unwrap();
    assert!(why.contains("writes a message differently"), "{why}");
    assert_eq!(rows[0].text.as_deref(), Some("4a4a4a4a"));
    assert!(ended.is_ok() || rows[1].skipped.is_some());
    // If this concerns all rows, nothing of the file is learnt.
    let (_, ended) = seen(counted, &[turns(4)], |_| ());
    let error = ended.unwrap_err().to_string();
    assert!(
        error.contains("1 of 1 rows") && error.contains("{% generation %}"),
        "{error}"
    );
    let all = |config: &mut DataConfig| config.train_on = Some(TrainOn::All);
    let (rows, ended) = seen(counted, &[turns(4)], all);
    ended.unwrap();
    assert_eq!(rows[0].skipped, None);
}

/// As in SmolVLM's template: a text has no parts, so an empty answer would be learnt.
#[test]
fn rows_whose_text_a_template_leaves_out_are_counted() {
    let parts = "{% for m in messages %}[{{ m.role }}]{% for part in m.content %}\
        {% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}{{ '\\n' }}{% endfor %}\
        {% if add_generation_prompt %}[assistant]{% endif %}";
    let marked = parts.replace("{% for part", "{% generation %}{% for part");
    let marked = marked.replace("{{ '\\n' }}", "{{ '\\n' }}{% endgeneration %}");
    let row = json!({"messages": [say("user", "a"), say("assistant", " b ")]});
    for template in [parts, &*marked] {
        for train_on in [TrainOn::Answers, TrainOn::LastAnswer, TrainOn::All] {
            let change = |config: &mut DataConfig| config.train_on = Some(train_on);
            let (rows, ended) = seen(template, std::slice::from_ref(&row), change);
            let why = rows[0].skipped.as_deref().unwrap();
            assert!(why.contains("leaves out the text of an answer"), "{why}");
            assert_eq!(rows[0].text.as_deref(), Some("[user]\n[assistant]\n"));
            let error = ended.unwrap_err().to_string();
            assert!(error.contains("1 of 1 rows dropped: their chat"), "{error}");
        }
    }
    // A row is not left out because its text has another form, or because its answer is empty.
    let last_line = PLAIN.replace("m.content }}", "m.content.split('\\n')[-1] }}");
    let two_lines = json!({"messages": [say("user", "a"), say("assistant", "a\nb")]});
    let empty = json!({"messages": [say("user", "a"), say("assistant", "")]});
    for (template, row) in [(&*last_line, two_lines), (parts, empty)] {
        let (rows, ended) = seen(template, &[row], |_| ());
        ended.unwrap();
        assert_eq!(rows[0].skipped, None);
    }
}

/// With a template that cannot express calls, an empty answer would be learnt.
#[test]
fn calls_that_a_template_leaves_out_are_not_learnt() {
    let [openai, .., hermes] = &one_chat_in_many_ways()[..] else {
        panic!("few")
    };
    let chat = json!({"messages": [
        {"role": "user", "content": "Sun?"}, {"role": "assistant", "content": "Yes."},
    ]});
    let (rows, ended) = seen(PLAIN, &[openai.1.clone(), chat], |_| ());
    ended.unwrap();
    let why = rows[0].skipped.as_deref().unwrap();
    assert!(why.contains("leaves out `tool_calls`"), "{why}");
    assert_eq!((rows[0].row, rows[0].labels.as_ref()), (1, None));
    assert_eq!(learnt(&rows[1]), ["Yes.\n"]);
    // Calls that are written as text remain text, and are learnt.
    let (_, parts) = one(PLAIN, hermes.1.clone());
    assert!(parts[0].starts_with("<tool_call>"), "{parts:?}");
    // If this concerns all rows, nothing of the file is learnt.
    let (_, ended) = seen(PLAIN, std::slice::from_ref(&openai.1), |_| ());
    let error = ended.unwrap_err().to_string();
    assert!(
        error.contains("has no usable row: 1 of 1 rows dropped: their answers call tools"),
        "{error}"
    );
}

#[test]
fn reasoning_has_the_templates_name() {
    let row = |key: &str| {
        json!({"messages": [
            {"role": "user", "content": "Sun?"}, {"role": "assistant", "content": "Yes.", key: "June"},
        ]})
    };
    for key in ["reasoning_content", "reasoning", "thinking"] {
        let (text, learnt) = one(BRACKETS, row(key));
        assert_eq!(text, "[user]Sun?\n[assistant](June)Yes.\n", "{key}");
        assert_eq!(learnt, ["(June)Yes.\n"], "{key}");
    }
    let parts = json!([{"type": "thinking", "thinking": "June"}, {"type": "text", "text": "Yes."}]);
    let mut in_parts = row("x");
    in_parts["messages"][1]["content"] = parts;
    assert_eq!(one(BRACKETS, in_parts).1, ["(June)Yes.\n"]);
    // As in gpt-oss's template.
    let thinking = BRACKETS.replace("reasoning_content", "thinking");
    assert_eq!(one(&thinking, row("reasoning_content")).1, ["(June)Yes.\n"]);
}

#[test]
fn what_the_template_is_told_comes_from_the_row_or_the_table() {
    let mut row = json!({"messages": [
        {"role": "user", "content": "Sun?"},
        {"role": "assistant", "content": "Yes.", "reasoning_content": "June"},
    ]});
    let without = "[user]Sun?\n[assistant]Yes.\n";
    let with = "[user]Sun?\n[assistant](June)Yes.\n";
    let text = |row: &Value, told: Option<bool>| {
        let change = |config: &mut DataConfig| {
            if let Some(told) = told {
                let kwargs = &mut config.chat_template_kwargs;
                kwargs.insert("enable_thinking".into(), told.into());
            }
        };
        seen(BRACKETS, std::slice::from_ref(row), change).0[0]
            .text
            .clone()
            .unwrap()
    };
    assert_eq!(text(&row, None), with);
    assert_eq!(text(&row, Some(false)), without);
    row["chat_template_kwargs"] = json!({"enable_thinking": false});
    assert_eq!(
        (text(&row, None), text(&row, Some(true))),
        (without.into(), without.into())
    );
    row["chat_template_kwargs"] = json!("{\"enable_thinking\": false}");
    assert_eq!(text(&row, None), without);
    row["enable_thinking"] = json!("True");
    assert_eq!(text(&row, Some(false)), with);
    row["chat_template_kwargs"] = json!([1]);
    let error = seen(BRACKETS, &[row], |_| ()).1.unwrap_err().to_string();
    assert!(
        error.contains("something other than an object in `chat_template_kwargs`"),
        "{error}"
    );
}

#[test]
fn what_is_learnt_is_said_by_train_on() {
    let chat = [
        say("user", "a"),
        say("assistant", "b"),
        say("user", "c"),
        say("assistant", "d"),
    ];
    let turns = ["human", "gpt", "human", "gpt"];
    let sharegpt = turns.iter().zip(["a", "b", "c", "d"]);
    let sharegpt: Vec<Value> = sharegpt
        .map(|(from, value)| json!({"from": from, "value": value}))
        .collect();
    let rows = [
        json!({"messages": chat}),
        json!({"conversations": sharegpt}),
        json!({"prompt": chat[..1], "completion": chat[1..]}),
    ];
    let all = "[user]a\n[assistant]b\n[user]c\n[assistant]d\n";
    for row in rows {
        let parts = |train_on| {
            let change = |config: &mut DataConfig| config.train_on = train_on;
            learnt(&seen(PLAIN, std::slice::from_ref(&row), change).0[0])
        };
        assert_eq!(parts(None), ["b\n", "d\n"], "{row}");
        assert_eq!(parts(Some(TrainOn::Answers)), ["b\n", "d\n"], "{row}");
        assert_eq!(parts(Some(TrainOn::LastAnswer)), ["d\n"], "{row}");
        assert_eq!(parts(Some(TrainOn::All)), [all], "{row}");
    }
    // If the row is not a chat, the last answer is the completion.
    let row = json!({"prompt": "a", "completion": "b"});
    let change = |config: &mut DataConfig| config.train_on = Some(TrainOn::LastAnswer);
    assert_eq!(
        learnt(&seen(PLAIN, &[row], change).0[0]),
        ["b<|endoftext|>"]
    );
}

#[test]
fn rows_that_are_left_out_say_why() {
    let unlearnt = json!({"role": "assistant", "content": "b", "weight": 0});
    let rows = [
        json!({"messages": [say("user", "a")]}),
        json!({"messages": [say("user", "a"), unlearnt]}),
        json!({"messages": [say("user", "aaaaaaaaaaaaaaaaaaaaaaaa"), say("assistant", "b")]}),
        json!({"messages": [say("user", "a"), say("assistant", "b")], "weight": 0}),
        json!({"messages": [say("user", "a"), say("assistant", "bbbbbbbbbbbbbbbbbbbbbbbbbbbb")]}),
    ];
    let (seen, ended) = seen(PLAIN, &rows, |config| config.max_length = Some(24));
    ended.unwrap();
    let why = |row: &SeenRow| row.skipped.clone().unwrap_or_default();
    for (row, words) in seen.iter().zip([
        "no message that is to be learnt is the assistant's",
        "the weight of every answer is 0",
        "what is learnt of them lies beyond data.max_length = 24",
        "their weight is 0",
    ]) {
        assert!(why(row).starts_with(words), "{row:?}");
        assert!(row.text.is_some() && row.input_ids.is_some() && row.labels.is_none());
    }
    let cut = &seen[4];
    assert!(cut.truncated && cut.skipped.is_none());
    assert_eq!(cut.input_ids.as_ref().map(Vec::len), Some(24));
    assert!(cut.text.as_ref().unwrap().ends_with("bbb\n"), "{cut:?}");
}
