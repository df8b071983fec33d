//! Model folders as named tensors on the host, for loading and saving every family.
//!
//! A file format is an implementation of [`Weights`] for reading (`safetensors` here, and
//! [`gguf`](crate::gguf)), and a function that writes [`NamedTensor`]s.

mod error;
mod init;
mod load;
pub(crate) mod mapped;
mod merged;
mod named;
mod pretrained;
mod safetensors;
mod save;
mod shards;

pub use error::WeightsError;
pub use init::initial_weights;
pub(crate) use init::weights_of;
pub use load::load_weights;
pub(crate) use load::name_in;
pub use merged::MergedWeights;
pub use named::NamedTensor;
pub(crate) use pretrained::model_of;
pub use pretrained::{Pretrained, Reading};
pub use safetensors::Checkpoint;
use save::size_of;
pub use save::{SaveOptions, save_model};
pub use shards::weight_files;

use burn::tensor::{Device, Element, FloatDType, TensorData};
use burn_peft_kernels::{BlockWeight, is_specialised};
use half::{bf16, f16};

use crate::error::Result;
use crate::hub::ModelFiles;

const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const CONFIG: &str = "config.json";

/// How many values are converted at a time.
const PIECE: usize = 1 << 18;
/// How many rows are transposed at a time.
const ROWS: usize = 64;

/// The weights in one or several files; nothing is read until it is requested.
pub trait Weights: Send + Sync {
    /// The names of all tensors, sorted.
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_>;

    /// The type of most of them: `F32`, `F16` or `BF16`.
    fn dtype(&self) -> FloatDType;

    /// The default type for writing them: their [`dtype`](Self::dtype), or `F32` if a GGUF file has
    /// tensors of 32 bits that would be rounded.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn written_dtype(&self) -> Result<FloatDType> {
        Ok(self.dtype())
    }

    /// The shape of a tensor, if there is one with this name.
    fn shape(&self, name: &str) -> Option<&[usize]>;

    /// Calls `visit` with the values of a tensor in float32, converted from their stored type:
    /// `piece` values at a time, in order, and the rest at the end.
    ///
    /// # Errors
    /// If there is no tensor with this name, or its type is not one of weights.
    fn read(&self, name: &str, piece: usize, visit: &mut dyn FnMut(&[f32])) -> Result<()>;

    /// A tensor in float32.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn tensor(&self, name: &str) -> Result<TensorData> {
        self.tensor_in(name, FloatDType::F32, false)
    }

    /// A tensor in float32 or a type of 16 bits, read directly in that type; a matrix may be
    /// `transposed`.
    ///
    /// # Errors
    /// As [`read`](Self::read), or if a tensor to be transposed is not a matrix.
    fn tensor_in(&self, name: &str, dtype: FloatDType, transposed: bool) -> Result<TensorData> {
        match dtype {
            FloatDType::BF16 => values(self, name, transposed, bf16::from_f32),
            FloatDType::F16 => values(self, name, transposed, f16::from_f32),
            _ => values(self, name, transposed, |value| value),
        }
    }

    /// A matrix in the file's own blocks, `[d_out, d_in]` for a linear layer, `[vocab, d]` for an
    /// embedding; `None` if the file has no blocks, or stores the matrix differently from the
    /// model.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn blocks(&self, _name: &str) -> Result<Option<BlockWeight>> {
        Ok(None)
    }

    /// The shape of a readable tensor.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn check(&self, name: &str) -> Result<&[usize]>;

    /// Whether two tensors have the same shape and values.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    fn are_equal(&self, a: &str, b: &str) -> Result<bool>;
}

/// The values of a tensor, each converted by `narrow`.
fn values<E: Element>(
    weights: &(impl Weights + ?Sized),
    name: &str,
    transposed: bool,
    narrow: impl Fn(f32) -> E,
) -> Result<TensorData> {
    let shape = weights.check(name)?.to_vec();
    if !transposed {
        let mut values = Vec::with_capacity(shape.iter().product());
        let mut take = |piece: &[f32]| values.extend(piece.iter().map(|&value| narrow(value)));
        weights.read(name, PIECE, &mut take)?;
        return Ok(TensorData::new(values, shape));
    }
    let [rows, columns] = shape[..] else {
        let name = name.to_string();
        return Err(WeightsError::NoMatrix { name, shape }.into());
    };
    let mut values = vec![narrow(0.0); rows * columns];
    let mut first = 0;
    // This many rows fill whole cache lines of the result.
    weights.read(name, ROWS * columns.max(1), &mut |piece| {
        let count = piece.len() / columns.max(1);
        for column in 0..columns {
            let start = column * rows + first;
            for (row, value) in values[start..start + count].iter_mut().enumerate() {
                *value = narrow(piece[row * columns + column]);
            }
        }
        first += count;
    })?;
    Ok(TensorData::new(values, [columns, rows]))
}

/// Whether frozen weights can stay in their file's blocks on a device
/// ([`Pretrained::from_files_in_blocks`]).
pub fn has_blocks(files: &ModelFiles, device: &Device) -> bool {
    files.as_gguf().is_some() && is_specialised(device)
}

/// Opens and checks the weights among a model's files; no tensor is read yet.
///
/// # Errors
/// If there are no weights, or files are malformed. Each error names the file.
pub fn open(files: &ModelFiles) -> Result<Box<dyn Weights>> {
    match files.as_gguf() {
        Some(gguf) => Ok(Box::new(gguf.weights()?)),
        None => Ok(Box::new(Checkpoint::open(files)?)),
    }
}

#[cfg(test)]
mod tests;
