//! Chats, as data: what a tokenizer's template makes text of.

use serde_json::{Map, Value};

/// A conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chat {
    /// The messages: objects with `role` and, mostly, `content`.
    pub messages: Vec<Value>,
    /// What else a template may ask for: `tools`, `documents`.
    pub extras: Map<String, Value>,
    /// This many messages, at the start, are not learnt.
    pub given: usize,
}
