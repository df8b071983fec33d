//! What encoders share: their heads, how they are printed, what their checkpoints call the weights.
//!
//! An encoder is a [`Decoder`](crate::Decoder) whose tokens see each other both ways.

mod classifier;
mod masked;
mod names;
mod shown;

pub use classifier::{Classifier, ClassifierNames};
pub use masked::{MaskedHead, MaskedNames, OutputBias};
pub(crate) use names::{EncoderNames, check_unsupported};
pub(crate) use shown::{SavedTogether, renamed, with_last, with_padding_row};
