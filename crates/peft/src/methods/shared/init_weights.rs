//! PEFT's `init_weights`: a flag, or the name of a way to start.

use serde::{Deserialize, Serialize};

use crate::{PeftError, Result};

/// How a method's tensors start: PEFT's way (`true`), a random one that changes the output
/// (`false`, for tests), or one with a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected true, false or a name")]
pub enum InitWeights {
    /// `true` or `false`.
    Flag(bool),
    /// A name.
    Named(String),
}

impl InitWeights {
    /// Checks that a name is one of these.
    pub(in crate::methods) fn check(&self, known: &[&str]) -> Result<()> {
        match self {
            Self::Named(name) if !known.contains(&name.as_str()) => Err(PeftError::value(
                "init_weights",
                format!("{name:?}"),
                format!("must be true, false or one of {}", known.join(", ")),
            )),
            _ => Ok(()),
        }
    }
}
