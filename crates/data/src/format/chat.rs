//! Chats as data: what a tokenizer's chat template turns into text.

use crate::tokens::train_on::TrainOn;
use serde_json::{Map, Value};

/// A conversation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chat {
    /// The messages: objects with `role` and, mostly, `content`.
    pub messages: Vec<Value>,
    /// What else the template may use: `tools`, `documents`.
    pub extras: Map<String, Value>,
    /// The number of messages, from the first, that are not learnt.
    pub given: usize,
}

impl Chat {
    /// The assistant's messages that may be learnt, with their indices.
    pub(crate) fn answers(&self) -> impl Iterator<Item = (usize, &Value)> {
        let messages = self.messages.iter().enumerate().skip(self.given);
        messages.filter(|(_, message)| message["role"] == "assistant")
    }

    /// Sets which messages are given: all before the last answer, where only that one is learnt.
    /// Also sets the template's variables, where the row does not set them itself.
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
