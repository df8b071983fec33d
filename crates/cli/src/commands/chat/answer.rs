//! An answer, and how it is shown.

use serde_json::{Value, json};

/// Why an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The model said that it is done.
    Stop,
    /// There was no room for more.
    Length,
    /// Ctrl-C.
    Interrupted,
}

impl Finish {
    /// As other tools call it.
    fn name(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Interrupted => "interrupted",
        }
    }
}

/// An answer, and what it took.
#[derive(Debug)]
pub struct Answer {
    /// What the model said.
    pub content: String,
    /// The tokens of the conversation up to the answer.
    pub prompt_tokens: usize,
    /// Those of them that were not computed before.
    pub computed_tokens: usize,
    /// The tokens of the answer, without the one that ended it.
    pub completion_tokens: usize,
    /// The time it took.
    pub seconds: f64,
    /// Why it ended.
    pub finish: Finish,
}

impl Answer {
    /// Whether nothing was said.
    pub fn is_empty(&self) -> bool {
        self.content.trim().is_empty()
    }

    /// The answer as an object; with the name of the adapter where there are some.
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
