//! A function that is called with every input of a layer.

use std::fmt;
use std::sync::Arc;

use burn::tensor::Tensor;

/// A function that is called with every input of a layer, `[tokens, d_in]`.
#[derive(Clone)]
pub(crate) struct Probe(Arc<dyn Fn(Tensor<2>) + Send + Sync>);

impl Probe {
    /// A probe that calls `see`.
    pub fn new(see: impl Fn(Tensor<2>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(see))
    }

    /// Calls the function with an input.
    pub fn see(&self, input: Tensor<2>) {
        (self.0)(input);
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Probe")
    }
}
