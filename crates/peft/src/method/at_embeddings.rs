//! What a method does at embeddings, in addition to its target layers.

use std::sync::Arc;

use crate::{LayerInfo, LayerMethod, Method, Result};

/// A method that adapts more embeddings than its target modules name; returned by
/// [`Method::at_embeddings`].
pub trait AtEmbeddings: Method {
    /// Whether what is trained for the input embedding also acts on an output layer tied to it.
    fn ensure_weight_tying(&self) -> bool;

    /// Layers, by path, that are adapted in addition to the target modules, such as an embedding
    /// whose rows are trained beside LoRA. `layers` are all layers of the model.
    ///
    /// # Errors
    /// If the configuration does not fit the model.
    fn further_layers(&self, layers: &[LayerInfo]) -> Result<Vec<(String, Arc<dyn LayerMethod>)>>;
}
