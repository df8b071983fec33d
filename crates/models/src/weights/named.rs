//! A tensor to be written.

use burn::tensor::TensorData;

use crate::Result;

/// A named tensor whose values are made or fetched only when they are written, so that a model is
/// never in memory a second time.
pub struct NamedTensor<'a> {
    /// Name in the file.
    pub name: String,
    /// Shape in the file.
    pub shape: Vec<usize>,
    load: Box<dyn FnOnce() -> Result<TensorData> + 'a>,
}

impl<'a> NamedTensor<'a> {
    /// A tensor with this name and shape; `load` returns its values.
    pub fn new(
        name: impl Into<String>,
        shape: impl Into<Vec<usize>>,
        load: impl FnOnce() -> Result<TensorData> + 'a,
    ) -> Self {
        Self {
            name: name.into(),
            shape: shape.into(),
            load: Box::new(load),
        }
    }

    /// The values.
    ///
    /// # Errors
    /// If they cannot be read or computed.
    pub fn load(self) -> Result<TensorData> {
        (self.load)()
    }
}

impl From<(String, TensorData)> for NamedTensor<'_> {
    fn from((name, data): (String, TensorData)) -> Self {
        Self::new(name, data.shape().to_vec(), move || Ok(data))
    }
}
