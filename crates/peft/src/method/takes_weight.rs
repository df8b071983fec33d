//! Converting adapters that took a part of the base's weights (PiSSA, OLoRA) for the untouched
//! base.

use std::sync::Arc;

use burn::tensor::TensorData;
use indexmap::IndexMap;

use crate::{Method, Result};

/// The tensors of an adapter by their keys in the file, in the order of the layers.
pub type StateDict = Vec<(String, TensorData)>;

/// A method that can take a part of the base's weights ([`LayerMethod::split`]); returned by
/// [`Method::takes_weight`].
///
/// [`LayerMethod::split`]: crate::LayerMethod::split
pub trait TakesWeight: Method {
    /// The configuration and tensors of an adapter that has the same effect on the untouched base
    /// as `now` has on the base that lost a part of its weights to `initial`. All tensors are by
    /// their keys in the file.
    ///
    /// # Errors
    /// If the two do not fit, or this adapter has taken nothing.
    fn subtract_initial(
        &self,
        now: StateDict,
        initial: IndexMap<String, TensorData>,
    ) -> Result<(Arc<dyn Method>, StateDict)>;
}
