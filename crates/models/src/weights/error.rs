//! What can be wrong with weights.

use std::path::PathBuf;

use safetensors::Dtype;

/// What can be wrong with weights, when reading or writing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The checkpoint lacks a weight of the model.
    #[error("the checkpoint has no tensor {name}")]
    Missing {
        /// The weight.
        name: String,
    },
    /// The checkpoint has tensors that the model lacks, so it belongs to another model.
    #[error(
        "the checkpoint holds tensors that {model_type} with this config.json does not have (first \
         {})",
        first.join(", ")
    )]
    Unexpected {
        /// The model's family.
        model_type: String,
        /// The first of the tensors.
        first: Vec<String>,
    },
    /// A weight's shape differs from the configuration.
    #[error("the checkpoint's {name} is {found:?}, config.json asks for {expected:?}")]
    Shape {
        /// The weight.
        name: String,
        /// Its shape in the checkpoint.
        found: Vec<usize>,
        /// Its shape in the model.
        expected: Vec<usize>,
    },
    /// A tensor was requested that these files do not have.
    #[error("{files}: no tensor `{name}`")]
    NoTensor {
        /// The files.
        files: String,
        /// The tensor.
        name: String,
    },
    /// A tensor has a type that weights cannot have.
    #[error(
        "{}: tensor `{name}` is {dtype:?}; weights are read from F32, F16 or BF16",
        path.display()
    )]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: Dtype,
    },
    /// A tensor is not a matrix, but has to be.
    #[error("tensor `{name}` is {shape:?}, not a matrix")]
    NoMatrix {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Two tensors to be written have the same name.
    #[error("{}: tensor `{name}` would be written twice", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor to be written has another shape than announced.
    #[error("tensor `{name}` has shape {found:?}, not {expected:?}")]
    OtherShape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The announced shape.
        expected: Vec<usize>,
    },
    /// A tensor to be written does not hold numbers.
    #[error("tensor `{name}`: {reason}")]
    NoNumbers {
        /// The tensor.
        name: String,
        /// What it holds.
        reason: String,
    },
    /// A tensor to be written holds a NaN or an infinity.
    #[error(
        "tensor `{name}` is not finite: value {index} is {value}; nothing was written to {}",
        path.display()
    )]
    NotFinite {
        /// The tensor.
        name: String,
        /// The index of the value.
        index: usize,
        /// The value.
        value: f32,
        /// The file.
        path: PathBuf,
    },
    /// A value is out of the range of the type that it is to be written in.
    #[error(
        "{}: tensor `{name}` holds {value}, which is beyond {most}",
        path.display()
    )]
    OutOfRange {
        /// The tensor.
        name: String,
        /// The value.
        value: f32,
        /// Which limit of the type it exceeds.
        most: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The model computes values that are not numbers.
    #[error("the model's logits are NaN: its weights, or the adapter's, are broken")]
    Broken,
}
