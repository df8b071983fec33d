//! What can be wrong with weights.

use std::path::PathBuf;

use safetensors::Dtype;

/// What can be wrong with weights: those that are read, and those that are written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The model has a weight that the checkpoint lacks.
    #[error("the checkpoint has no tensor {name}")]
    Missing {
        /// The weight.
        name: String,
    },
    /// The checkpoint has tensors that the model lacks: it is another model's.
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
    /// A weight has another shape than the configuration says.
    #[error("the checkpoint's {name} is {found:?}, config.json asks for {expected:?}")]
    Shape {
        /// The weight.
        name: String,
        /// Its shape in the checkpoint.
        found: Vec<usize>,
        /// Its shape in the model.
        expected: Vec<usize>,
    },
    /// A tensor was asked for that is none of these files'.
    #[error("{files}: no tensor `{name}`")]
    NoTensor {
        /// The files.
        files: String,
        /// The tensor.
        name: String,
    },
    /// A tensor of a type that no weight has.
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
    /// A tensor that has to be a matrix and is none.
    #[error("tensor `{name}` is {shape:?}, not a matrix")]
    NoMatrix {
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Two tensors to be written have one name.
    #[error("{}: tensor `{name}` would be written twice", path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
    },
    /// A tensor to be written has another shape than was said.
    #[error("tensor `{name}` has shape {found:?}, not {expected:?}")]
    OtherShape {
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The shape that was said.
        expected: Vec<usize>,
    },
    /// A tensor to be written that is not one of numbers.
    #[error("tensor `{name}`: {reason}")]
    NoNumbers {
        /// The tensor.
        name: String,
        /// What it is.
        reason: String,
    },
    /// A tensor to be written that holds a NaN or an infinity.
    #[error(
        "tensor `{name}` is not finite: value {index} is {value}; nothing was written to {}",
        path.display()
    )]
    NotFinite {
        /// The tensor.
        name: String,
        /// Where the value is.
        index: usize,
        /// The value.
        value: f32,
        /// The file.
        path: PathBuf,
    },
    /// A tensor that the type it is to be written in cannot hold.
    #[error(
        "{}: tensor `{name}` holds {value}, which is beyond {most}",
        path.display()
    )]
    OutOfRange {
        /// The tensor.
        name: String,
        /// The value.
        value: f32,
        /// What of the type it is beyond.
        most: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// A model that gives no numbers.
    #[error("the model's logits are NaN: its weights, or the adapter's, are broken")]
    Broken,
}
