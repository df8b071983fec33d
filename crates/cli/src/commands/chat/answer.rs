//! An answer of the model.

use serde_json::{Value, json};

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model ended it.
    Stop,
    /// There was no room for more.
    Length,
    /// Ctrl-C.
    Interrupted,
}

impl Finish {
    /// The value that other tools use.
    fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Interrupted => "interrupted",
        }
    }
}

/// An answer, with its statistics.
#[derive(Debug)]
pub struct Answer {
    /// The text.
    pub content: String,
    /// The number of tokens of the conversation up to the answer.
    pub prompt_tokens: usize,
    /// How many of them had to be computed.
    pub computed_tokens: usize,
    /// The number of tokens of the answer, without the one that ended it.
    pub completion_tokens: usize,
    /// The time it took.
    pub seconds: f64,
    /// Why it ended.
    pub finish: Finish,
}

impl Answer {
    /// Whether the answer is empty.
    pub fn is_empty(&self) -> bool {
        self.content.trim().is_empty()
    }

    /// The answer as a JSON object, with the adapter's name if there are adapters.
    pub fn json(&self, adapter: Option<&str>) -> Value {
        let mut object = json!({
            "content": self.content,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "tokens_per_second": (10.0 * self.completion_tokens as f64 / self.seconds).round() / 10.0,
            "finish_reason": self.finish.name(),
        });
        if let Some(adapter) = adapter {
            object["adapter"] = adapter.into();
        }
        object
    }
}
