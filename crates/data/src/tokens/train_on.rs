//! What is learnt of a row: all its answers, the last one, or the whole row.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What is learnt of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TrainOn {
    /// Answers: a completion, and in a chat everything that the assistant says.
    #[default]
    Answers,
    /// In a chat, only the assistant's last message; in other rows, the completion.
    LastAnswer,
    /// Everything: prompts and answers, and every message of a chat.
    All,
}

/// The names in a training file.
const NAMES: [(&str, TrainOn); 3] = [
    ("answers", TrainOn::Answers),
    ("last_answer", TrainOn::LastAnswer),
    ("all", TrainOn::All),
];

impl fmt::Display for TrainOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, value)| value == self);
        f.write_str(name.map_or("", |(name, _)| name))
    }
}

impl FromStr for TrainOn {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = NAMES.iter().find(|(known, _)| *known == name);
        known
            .map(|(_, value)| *value)
            .ok_or_else(|| "give answers, last_answer or all".into())
    }
}
