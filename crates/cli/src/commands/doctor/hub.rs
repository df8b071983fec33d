//! The Hub: its address, and whether it answers.

use std::path::PathBuf;

use burn_peft_models::hub::{HubAnswer, HubOptions};
use serde_json::{Value, json};

use super::private::address;

/// The Hub, as the report shows it.
pub struct Hub {
    options: HubOptions,
    answer: Option<HubAnswer>,
}

impl Hub {
    /// Reads the options, and asks the server unless they forbid it.
    pub fn look() -> Self {
        let options = HubOptions::from_env();
        let answer = (!options.offline).then(|| options.ask());
        Self { options, answer }
    }

    /// The folder of models.
    pub fn cache(&self) -> Option<PathBuf> {
        self.options.cache.clone()
    }

    fn said(&self) -> String {
        let answer = self.answer.as_ref().map(HubAnswer::to_string);
        answer.unwrap_or("not asked: HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set".to_string())
    }

    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let token = if self.options.token.is_some() {
            "set (not shown)"
        } else {
            "none: public models only"
        };
        vec![
            ("server", address(&self.options.endpoint)),
            ("access", self.said()),
            ("token", token.to_string()),
        ]
    }

    pub fn json(&self) -> Value {
        let is_reached = self.answer.as_ref().map(HubAnswer::is_reached);
        json!({
            "server": address(&self.options.endpoint),
            "offline": self.options.offline,
            "reached": is_reached,
            "said": self.said(),
            "has_token": self.options.token.is_some(),
        })
    }
}
