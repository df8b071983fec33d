use burn_peft_data::{ChatTemplate, message};
use serde_json::{Map, Value, json};

use super::known::{Known, Tokens, recognise};
use super::quoted;

/// Templates of the formats, as models have them: the name, and what the template writes. `M`
/// stands for the loop over all messages.
const TEMPLATES: &[(&str, &str)] = &[
    (
        "ChatML",
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ),
    // As in SmolLM2 and Qwen2.5.
    (
        "ChatML",
        "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou are \"helpful\".<|im_end|>\n' }}{% endif %}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ),
    // The answer begins with an empty reasoning.
    (
        "ChatML",
        "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n<think>\n\n</think>\n\n' }}{% endif %}",
    ),
    (
        "Llama 3",
        "{% for m in messages %}{% set c = '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set c = bos_token + c %}{% endif %}{{ c }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    ),
    // As in Llama 3.1, with a fixed date.
    (
        "Llama 3",
        "{{ bos_token }}{{ '<|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\n' }}{% if messages[0].role == 'system' %}{{ messages[0].content }}{% set messages = messages[1:] %}{% endif %}{{ '<|eot_id|>' }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + '<|end_header_id|>\n\n' + m.content + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    ),
    // As in Gemma 2, which rejects a system message, and in Gemma 3.
    (
        "Gemma",
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + m.content | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    ),
    (
        "Gemma",
        "{{ bos_token }}{% set first = '' %}{% if messages[0].role == 'system' %}{% set first = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}{% endif %}{% for m in messages %}{{ '<start_of_turn>' + ('model' if m.role == 'assistant' else m.role) + '\n' + (first if loop.first else '') + m.content | trim + '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    ),
    (
        "Phi-3",
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
    ),
    (
        "Zephyr",
        "{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content + eos_token + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
    ),
    (
        "OLMo 2",
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'assistant' %}{{ '<|assistant|>\n' + m.content + eos_token + '\n' }}{% else %}{{ '<|' + m.role + '|>\n' + m.content + '\n' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
    ),
    (
        "Granite",
        "{% for m in messages %}{{ '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + '<|end_of_text|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif %}",
    ),
    (
        "GLM-4",
        "[gMASK]<sop>{% for m in messages %}{{ '<|' + m.role + '|>\n' + m.content }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}",
    ),
    (
        "Mistral",
        "{{ bos_token }}{% set system = '' %}{% if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}{% endif %}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + (system if loop.first else '') + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}",
    ),
    (
        "Mistral v3",
        "{{ bos_token }}{% set system = '' %}{% if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}{% endif %}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + (system if loop.last else '') + m.content + '[/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}",
    ),
    (
        "Mistral Nemo",
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ '[SYSTEM_PROMPT]' + m.content + '[/SYSTEM_PROMPT]' }}{% elif m.role == 'user' %}{{ '[INST]' + m.content + '[/INST]' }}{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}",
    ),
    (
        "Llama 2",
        "{% set system = '' %}{% if messages[0].role == 'system' %}{% set system = '<<SYS>>\n' + messages[0].content + '\n<</SYS>>\n\n' %}{% set messages = messages[1:] %}{% endif %}{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + (system if loop.first else '') + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + ' ' + eos_token }}{% endif %}{% endfor %}",
    ),
];

const TOKENS: Tokens = Tokens {
    added: "<s>",
    bos: "<s>",
    eos: "</s>",
};

fn template(source: &str) -> ChatTemplate {
    let tokens = [("bos_token", "<s>"), ("eos_token", "</s>")];
    let tokens = tokens.map(|(name, token)| (name.to_string(), token.into()));
    ChatTemplate::new(source, "test", Map::from_iter(tokens)).unwrap()
}

fn render(source: &str, messages: &[Value]) -> Option<String> {
    template(source).render(messages, &Map::new(), true).ok()
}

fn known(source: &str) -> Result<Known, String> {
    recognise(source, &|messages| render(source, messages), TOKENS)
}

/// Chats with quotes, several lines and several turns, with and without a system message.
fn chats() -> Vec<Vec<Value>> {
    let turns = [
        message("user", "What is \"2 + 2\"?\n\n  {{ it }}"),
        message("assistant", "4 🦀"),
        message("user", "And <|im_end|> then?"),
        message("assistant", "5"),
        message("user", "Why?"),
    ];
    let system = message("system", "Be brief.\nBe kind.");
    [1, 3, 5]
        .into_iter()
        .flat_map(|count| {
            let plain = turns[..count].to_vec();
            [
                [std::slice::from_ref(&system), plain.as_slice()].concat(),
                plain,
            ]
        })
        .collect()
}

/// What Go renders from the templates (`tests/fixtures/gguf/ollama/render.go`).
#[test]
fn go_writes_what_the_chat_template_writes() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/gguf/ollama/rendered.json"
    );
    let mut cases = Vec::new();
    for (name, source) in TEMPLATES {
        let known = known(source).unwrap_or_else(|reason| panic!("{name}: {reason}"));
        assert_eq!(known.format.name, *name);
        cases.push(json!({"template": known.go(), "system": known.default_system}));
    }
    if let Some(asked) = std::env::var_os("BURN_PEFT_GO_CASES") {
        let asked_for = json!({"cases": cases, "chats": chats()});
        return std::fs::write(asked, format!("{asked_for:#}\n")).unwrap();
    }
    let rendered: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(rendered.len(), TEMPLATES.len());
    for (((name, source), case), rendered) in TEMPLATES.iter().zip(cases).zip(rendered) {
        assert_eq!(
            rendered["template"], case["template"],
            "{name}: run render.go again"
        );
        for (chat, found) in chats().iter().zip(rendered["texts"].as_array().unwrap()) {
            let found = found.as_str().unwrap();
            let Some(expected) = render(source, chat) else {
                // Gemma 2 has no system message of its own.
                assert!(
                    found.contains("user\nBe brief.\nBe kind.\n\nWhat"),
                    "{found}"
                );
                continue;
            };
            let expected = expected.strip_prefix("<s>").unwrap_or(&expected);
            assert_eq!(found, expected, "{name}");
        }
    }
}

#[test]
fn a_default_system_message_is_told() {
    assert_eq!(
        known(TEMPLATES[1].1).unwrap().default_system.as_deref(),
        Some("You are \"helpful\".")
    );
    assert_eq!(known(TEMPLATES[0].1).unwrap().default_system, None);
    assert_eq!(
        known(TEMPLATES[4].1).unwrap().before_system,
        "Today Date: 26 Jul 2024\n\n"
    );
}

#[test]
fn what_is_not_known_is_refused() {
    let reason = |source: &str| known(source).unwrap_err();
    for source in [
        // Another mark, another order, a turn that is left out, a text that counts.
        "{% for m in messages %}{{ '<turn>' + m.role + ': ' + m.content + '\n' }}{% endfor %}",
        "{% for m in messages|reverse %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}<|im_start|>assistant\n",
        "{% for m in messages[-2:] %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}<|im_start|>assistant\n",
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}<|im_start|>assistant\n{{ messages|length }}",
    ] {
        assert!(
            reason(source).starts_with("is not one of the known formats (ChatML, "),
            "{source}"
        );
    }
    let refuses = "{{ raise_exception('never') }}";
    assert_eq!(reason(refuses), "refuses a plain question");
    for format in ["%Y-%m-%d", "%d.%m.%Y", "%A"] {
        let today = "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nToday is ' \
                     + strftime_now('FORMAT') + '<|im_end|>\n' }}{% endif %}"
            .replace("FORMAT", format);
        let reason = reason(&(today + TEMPLATES[0].1));
        assert_eq!(reason, "says today's date, which a Modelfile cannot");
    }
}

#[test]
fn no_text_ends_before_its_quotes_do() {
    let mut lines = Vec::new();
    for text in ["say \"\"\" twice", "You are \"helpful\"", "\""] {
        let reason = quoted(&mut lines, "SYSTEM", text).unwrap_err();
        assert!(reason.contains("SYSTEM"), "{reason}");
    }
    quoted(&mut lines, "SYSTEM", "You are \"helpful\".").unwrap();
    assert_eq!(lines, ["SYSTEM \"\"\"You are \"helpful\".\"\"\""]);
}
