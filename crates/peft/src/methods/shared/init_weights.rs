//! PEFT's `init_weights`: a flag, or the name of an initialisation.

use serde::{Deserialize, Serialize};

use crate::{PeftError, Result};

/// How a method's tensors are initialised: PEFT's way (`true`), at random so that the output
/// changes (`false`, for tests), or a named way.
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
