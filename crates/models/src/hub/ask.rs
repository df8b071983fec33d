//! Whether the Hub answers.

use std::fmt;
use std::time::{Duration, Instant};

use super::HubOptions;

/// How long to wait for a server.
const PATIENCE: Duration = Duration::from_secs(5);

/// The result of [`HubOptions::ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubAnswer {
    /// It answered.
    Reached {
        /// The time it took.
        after: Duration,
        /// Whether the server accepts the token; `None` without a token, or if it did not say.
        token_is_valid: Option<bool>,
    },
    /// It did not answer, and why.
    Failed(String),
}

impl HubAnswer {
    /// Whether it answered.
    pub fn is_reached(&self) -> bool {
        matches!(self, Self::Reached { .. })
    }
}

impl fmt::Display for HubAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) => write!(f, "no answer: {reason}"),
            Self::Reached {
                after,
                token_is_valid,
            } => {
                write!(f, "answers after {:.1} s", after.as_secs_f64())?;
                match token_is_valid {
                    Some(true) => write!(f, ", and accepts the token"),
                    Some(false) => write!(f, ", and rejects the token"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl HubOptions {
    /// Asks the server for an answer, and whether it accepts the token if there is one. Takes at most
    /// five seconds.
    pub fn ask(&self) -> HubAnswer {
        // Through the environment's proxy, as for downloads.
        let agent = ureq::AgentBuilder::new()
            .timeout(PATIENCE)
            .try_proxy_from_env(true)
            .build();
        let begun = Instant::now();
        let answer = match &self.token {
            Some(token) => agent
                .get(&format!("{}/api/whoami-v2", self.endpoint))
                .set("authorization", &format!("Bearer {token}"))
                .call(),
            None => agent.head(&self.endpoint).call(),
        };
        let status = match answer {
            Ok(response) => response.status(),
            Err(ureq::Error::Status(status, _)) => status,
            Err(ureq::Error::Transport(error)) => {
                return HubAnswer::Failed(error.kind().to_string());
            }
        };
        HubAnswer::Reached {
            after: begun.elapsed(),
            token_is_valid: match (&self.token, status) {
                (Some(_), 200) => Some(true),
                (Some(_), 401) => Some(false),
                _ => None,
            },
        }
    }
}
