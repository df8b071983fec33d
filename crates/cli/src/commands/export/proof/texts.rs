//! The texts and chats that tokenizers are compared on.

use burn_peft_data::message;
use serde_json::Value;

/// 200 texts in ten scripts, code, emoji, numbers and white space. They are composed (NFC):
/// llama.cpp does not compose texts, which some tokenizers of transformers do.
pub fn probes() -> Vec<String> {
    serde_json::from_str(include_str!("texts.json")).expect("a list of texts")
}

/// Chats that end with a user message.
pub fn chats() -> Vec<Vec<Value>> {
    let system = message("system", "You answer in one word.");
    let user = |content: &str| message("user", content);
    let turns = [
        user("Name a river."),
        message("assistant", "The Rhine."),
        user("And a mountain, s'il vous plaît? 🏔️"),
    ];
    let with_system = |rest: &[Value]| [std::slice::from_ref(&system), rest].concat();
    vec![
        vec![user("Hello")],
        vec![user("def f(x):\n    return x\n\nWhat does this do?")],
        turns.to_vec(),
        with_system(&[user("你好")]),
        with_system(&turns),
    ]
}
