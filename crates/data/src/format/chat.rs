//! Chats, as data: what a tokenizer's template makes text of.

use crate::tokens::train_on::TrainOn;
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

impl Chat {
    /// The assistant's messages that may be learnt, with their places.
    pub(crate) fn answers(&self) -> impl Iterator<Item = (usize, &Value)> {
        let messages = self.messages.iter().enumerate().skip(self.given);
        messages.filter(|(_, message)| message["role"] == "assistant")
    }

    /// Sets what is given: all before the last answer, where that alone is learnt; and what the
    /// template is told, where the row itself says nothing of it.
    pub(crate) fn prepare(&mut self, train_on: TrainOn, kwargs: &Map<String, Value>) {
        if train_on == TrainOn::LastAnswer
            && let Some((last, _)) = self.answers().last()
        {
            self.given = last;
        }
        for (name, value) in kwargs {
            let said = self.extras.entry(name);
            said.or_insert_with(|| value.clone());
        }
    }
}
