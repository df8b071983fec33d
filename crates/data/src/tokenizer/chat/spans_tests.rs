//! What the assistant says, for every way in which templates write it. The ways are those of
//! published models' templates; the expected spans are those that trl's training versions of them
//! mark, apart from what the generation prompt already contains.

use super::{message as say, *};
use crate::format::Chat;
use serde_json::json;

fn learnt(source: &str, messages: Vec<Value>) -> std::result::Result<Vec<String>, String> {
    let chat = Chat {
        messages,
        ..Chat::default()
    };
    let special = Map::from_iter([("eos_token".to_owned(), "</s>".into())]);
    let template = ChatTemplate::new(source, "m", special).unwrap();
    let found = template.answers(&chat);
    let (text, spans) = found.map_err(|problem| problem.to_string())?;
    assert_eq!(
        text,
        template
            .written(&chat.messages, &Map::new(), false)
            .unwrap()
    );
    Ok(spans.into_iter().map(|span| text[span].into()).collect())
}

fn two_turns() -> Vec<Value> {
    let thought = json!({"role": "assistant", "content": "B", "reasoning_content": "R2"});
    let first = json!({"role": "assistant", "content": "A", "reasoning_content": "R1"});
    vec![say("user", "1"), first, say("user", "2"), thought]
}

/// Qwen 3: only answers after the last question keep their reasoning, and get an empty one if they
/// have none.
const LAST_THINKS: &str = "{% set ns = namespace(last=0) %}{% for m in messages %}{% if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}{% endfor %}\
{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' and loop.index0 > ns.last %}<think>\n{{ m.reasoning_content }}\n</think>{% endif %}{{ m.content }}\
{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }}</tool_call>{% endfor %}<|im_end|>\n{% endfor %}\
{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

#[test]
fn an_earlier_answer_may_lose_its_reasoning() {
    let wanted = ["A<|im_end|>\n", "<think>\nR2\n</think>B<|im_end|>\n"];
    assert_eq!(learnt(LAST_THINKS, two_turns()).unwrap(), wanted);
    // The prompt already begins the reasoning (Qwen 3.5): that part is not repeated.
    let begun = LAST_THINKS.replace(
        "<|im_start|>assistant\n{% endif %}",
        "<|im_start|>assistant\n<think>\n{% endif %}",
    );
    assert_ne!(begun, LAST_THINKS);
    let wanted = ["A<|im_end|>\n", "R2\n</think>B<|im_end|>\n"];
    assert_eq!(learnt(&begun, two_turns()).unwrap(), wanted);
    // An answer that only calls a tool.
    let mut calls = two_turns();
    calls[1] =
        json!({"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]});
    let wanted = [
        "<tool_call>f</tool_call><|im_end|>\n",
        "<think>\nR2\n</think>B<|im_end|>\n",
    ];
    assert_eq!(learnt(LAST_THINKS, calls).unwrap(), wanted);
}

/// DeepSeek-R1: the prompt begins reasoning, but existing answers have none.
#[test]
fn a_prompt_may_have_more_than_stands_before_an_answer() {
    let source = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% if m.role == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}\
                  {% if add_generation_prompt %}<|assistant|><think>{% endif %}";
    assert_eq!(learnt(source, two_turns()).unwrap(), ["A</s>", "B</s>"]);
    // An answer that begins like the rest of the prompt.
    let mut tagged = two_turns();
    tagged[1]["content"] = "<b>A</b>".into();
    assert_eq!(learnt(source, tagged).unwrap(), ["<b>A</b></s>", "B</s>"]);
}

/// GPT-OSS: the last answer is closed by another token.
#[test]
fn the_last_answer_may_be_closed_by_another_token() {
    let source = "{% for m in messages %}<|start|>{{ m.role }}<|message|>{{ m.content }}{% if loop.last and not add_generation_prompt %}<|return|>{% else %}<|end|>{% endif %}{% endfor %}\
                  {% if add_generation_prompt %}<|start|>assistant{% endif %}";
    assert_eq!(
        learnt(source, two_turns()).unwrap(),
        ["<|message|>A<|end|>", "<|message|>B<|return|>"]
    );
}

/// GLM-4: an answer ends with the tag of the next turn.
#[test]
fn an_answer_without_a_token_of_its_own_ends_with_the_next_tag() {
    let source = "{% for m in messages %}<|{{ m.role }}|>{{ '\\n' ~ m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";
    assert_eq!(learnt(source, two_turns()).unwrap(), ["\nA<|user|>", "\nB"]);
    // LLaVA: a space after the token does not belong to the answer.
    let source = "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %}{{ ' ' ~ m.content ~ eos_token ~ ' ' }}{% endif %}{% endfor %}";
    assert_eq!(learnt(source, two_turns()).unwrap(), [" A</s>", " B</s>"]);
}

#[test]
fn an_answer_may_come_first() {
    let source = "{% for m in messages %}{% if loop.first %}{{ eos_token }}{% endif %}<|im_start|>{{ m.role ~ '\\n' ~ m.content }}<|im_end|>\n{% endfor %}\
                  {% if not messages %}{{ raise_exception('no messages') }}{% endif %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
    let mut messages = two_turns();
    messages.remove(0);
    let wanted = ["A<|im_end|>\n", "B<|im_end|>\n"];
    assert_eq!(learnt(source, messages).unwrap(), wanted);
}

/// With marks, what is not learnt is told by their number.
#[test]
fn marked_answers_may_be_given() {
    let source = "{% for m in messages %}{{ m.role }}{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}";
    let chat = Chat {
        messages: two_turns(),
        given: 2,
        ..Chat::default()
    };
    let template = ChatTemplate::new(source, "m", Map::new()).unwrap();
    let (text, spans) = template.answers(&chat).unwrap();
    assert_eq!(text, "user1assistantAuser2assistantB");
    assert_eq!(spans.len(), 1);
    assert_eq!(&text[spans[0].clone()], "B");
}

#[test]
fn a_template_that_does_not_tell_is_an_error() {
    // Each message depends on the number of messages.
    let source = "{% for m in messages %}{{ messages | length }}{{ m.content }}{% endfor %}";
    let error = learnt(source, two_turns()).unwrap_err();
    assert!(
        error.contains("message 2 changes the text of those before it"),
        "{error}"
    );
}
