//! The conversation so far.

use burn_peft_data::message;
use serde_json::Value;

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The user's message.
    pub user: String,
    /// The model's answer.
    pub assistant: String,
}

/// A conversation, and where the part begins that the model still sees.
#[derive(Clone, Debug, Default)]
pub struct Conversation {
    /// The system message.
    pub system: Option<String>,
    /// The turns.
    pub turns: Vec<Turn>,
    /// How many turns, from the first on, the model no longer sees.
    pub left_out: usize,
}

impl Conversation {
    /// All messages, in the form of chat templates and data files.
    pub fn messages(&self) -> Vec<Value> {
        self.messages_from(0)
    }

    /// The messages that the model sees, and a new one of the user.
    pub fn prompt(&self, user: &str) -> Vec<Value> {
        let mut messages = self.messages_from(self.left_out);
        messages.push(message("user", user));
        messages
    }

    /// Removes all turns.
    pub fn reset(&mut self) {
        self.turns.clear();
        self.left_out = 0;
    }

    /// Removes the last turn. There may be room again for turns that were left out.
    pub fn undo(&mut self) -> Option<Turn> {
        self.left_out = 0;
        self.turns.pop()
    }

    fn messages_from(&self, turn: usize) -> Vec<Value> {
        let system = self.system.iter().map(|text| message("system", text));
        let turns = self.turns.iter().skip(turn);
        let turns = turns.flat_map(|turn| {
            [
                message("user", &turn.user),
                message("assistant", &turn.assistant),
            ]
        });
        system.chain(turns).collect()
    }
}

/// The beginning of a text, in quotes.
pub fn quoted(text: &str) -> String {
    const SHOWN: usize = 40;
    let line = text.lines().next().unwrap_or_default();
    let shown: String = line.chars().take(SHOWN).collect();
    let more = if shown.len() < text.len() { " …" } else { "" };
    format!("\"{shown}{more}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conversation(system: Option<&str>) -> Conversation {
        let turn = |name: &str| Turn {
            user: format!("ask {name}"),
            assistant: format!("say {name}"),
        };
        Conversation {
            system: system.map(Into::into),
            turns: vec![turn("a"), turn("b")],
            left_out: 0,
        }
    }

    #[test]
    fn the_system_message_is_never_left_out() {
        let mut talk = conversation(Some("be kind"));
        talk.left_out = 1;
        let seen = talk.prompt("ask c");
        let said: Vec<_> = seen
            .iter()
            .map(|m| m["content"].as_str().unwrap())
            .collect();
        assert_eq!(said, ["be kind", "ask b", "say b", "ask c"]);
        assert_eq!(talk.messages().len(), 5);
        assert_eq!(conversation(None).messages()[0], message("user", "ask a"));
    }

    #[test]
    fn turns_are_taken_back_one_by_one() {
        let mut talk = conversation(None);
        assert_eq!(talk.undo().unwrap().user, "ask b");
        assert_eq!(talk.messages().len(), 2);
        assert_eq!(talk.undo().unwrap().user, "ask a");
        assert_eq!(talk.undo(), None);
    }

    #[test]
    fn long_texts_are_shown_in_part() {
        assert_eq!(quoted("short"), "\"short\"");
        assert_eq!(quoted("two\nlines"), "\"two …\"");
        assert_eq!(quoted(&"ä".repeat(50)), format!("\"{} …\"", "ä".repeat(40)));
    }
}
