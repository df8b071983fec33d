//! What encoders have in common: their heads, how they are printed, the names of weights in their
//! checkpoints.
//!
//! An encoder is a [`Decoder`](crate::Decoder) whose tokens see each other in both directions.

mod classifier;
mod masked;
mod names;
mod shown;

pub use classifier::{Classifier, ClassifierNames};
pub use masked::{MaskedHead, MaskedNames, OutputBias};
pub(crate) use names::{EncoderNames, check_unsupported, padding_row};
pub(crate) use shown::{SavedTogether, renamed, with_last, with_padding_row};
