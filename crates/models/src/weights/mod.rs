//! Model folders as named tensors on the host: what every family is loaded from and written to.
//!
//! A file format is one file here (`safetensors`): an implementation of [`Weights`] to read it, a
//! function that writes [`NamedTensor`]s.

mod init;
mod load;
mod named;
mod pretrained;
mod safetensors;
mod save;
mod shards;

pub use init::initial_weights;
pub(crate) use init::weights_of;
pub use load::load_weights;
pub use named::NamedTensor;
pub use pretrained::Pretrained;
pub use safetensors::Checkpoint;
use save::size_of;
pub use save::{SaveOptions, save_model};
pub use shards::weight_files;

use burn::tensor::{FloatDType, TensorData};

use crate::Result;
use crate::hub::ModelFiles;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const CONFIG: &str = "config.json";

/// The weights in a file or several, of which nothing is read until it is asked for.
pub trait Weights: Send + Sync {
    /// The names of all tensors, sorted.
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_>;

    /// The type that most of them are kept in: `F32`, `F16` or `BF16`.
    fn dtype(&self) -> FloatDType;

    /// The shape of a tensor, if there is one of this name.
    fn shape(&self, name: &str) -> Option<&[usize]>;

    /// A tensor in float32, converted from the type it is kept in.
    ///
    /// # Errors
    /// No tensor of this name, or one of a type that is none of weights.
    fn tensor(&self, name: &str) -> Result<TensorData>;

    /// The shape of a tensor that can be read.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    fn check(&self, name: &str) -> Result<&[usize]>;

    /// Whether two tensors have the same shape and values.
    ///
    /// # Errors
    /// As [`tensor`](Self::tensor).
    fn are_equal(&self, a: &str, b: &str) -> Result<bool>;
}

/// Opens the weights among a model's files and checks them; no tensor is read yet.
///
/// # Errors
/// No weights, or files that are broken. Each error names the file.
pub fn open(files: &ModelFiles) -> Result<Box<dyn Weights>> {
    Ok(Box::new(Checkpoint::open(files)?))
}

#[cfg(test)]
mod tests;
