//! Whether the Hub answers.

use std::fmt;
use std::time::{Duration, Instant};

use super::HubOptions;

/// How long a server has.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of [`HubOptions::ask`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubAnswer {
    /// It answered; with the account of the token, if there is a token.
    Reached {
        /// How long that took.
        after: Duration,
        /// Whether the token is one of the server's; nothing where there is none, or no word of it.
        token_is_valid: Option<bool>,
    },
    /// It did not, and why.
    Failed(String),
}

impl HubAnswer {
    /// Whether there was one.
    pub fn is_reached(&self) -> bool {
        matches!(self, Self::Reached { .. })
    }
}

impl fmt::Display for HubAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(reason) => write!(f, "none: {reason}"),
            Self::Reached {
                after,
                token_is_valid,
            } => {
                write!(f, "it answers, after {:.1} s", after.as_secs_f64())?;
                match token_is_valid {
                    Some(true) => write!(f, ", and knows the token"),
                    Some(false) => write!(f, ", and does not know the token"),
                    None => Ok(()),
                }
            }
        }
    }
}

impl HubOptions {
    /// Asks the server whether it is there, and whose token this is if there is one. Takes five seconds
    /// at most.
    pub fn ask(&self) -> HubAnswer {
        let agent = ureq::AgentBuilder::new().timeout(PATIENCE).build();
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
