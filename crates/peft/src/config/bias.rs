//! Which biases of the base are trained with an adapter.

use serde::{Deserialize, Serialize};

use crate::{PeftError, Result};

/// Which biases of the base model are trained and saved with the adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bias {
    /// None.
    #[default]
    None,
    /// Every bias of the model.
    All,
    /// The biases of the adapted layers.
    LoraOnly,
}

/// The meaning of a key `bias`: `none`, `all`, or the method's own word for the biases of the
/// adapted layers, such as `vera_only`.
///
/// # Errors
/// If it is another word.
pub fn bias(value: &str, only: &str) -> Result<Bias> {
    match value {
        "none" => Ok(Bias::None),
        "all" => Ok(Bias::All),
        value if value == only => Ok(Bias::LoraOnly),
        value => Err(PeftError::value(
            "bias",
            format!("{value:?}"),
            format!("must be \"none\", \"all\" or \"{only}\""),
        )),
    }
}
