//! What a method does at embeddings beside its target layers.

use std::sync::Arc;

use crate::{LayerInfo, LayerMethod, Method, Result};

/// A method that does more at embeddings than its target modules say: what
/// [`Method::at_embeddings`] answers.
pub trait AtEmbeddings: Method {
    /// Whether what is trained of the input embedding acts on an output layer tied to it too.
    fn ensure_weight_tying(&self) -> bool;

    /// Layers that are adapted whatever the target modules are, by path: rows of the embedding
    /// beside LoRA. `layers` are all of the model.
    ///
    /// # Errors
    /// If the configuration does not fit the model.
    fn further_layers(&self, layers: &[LayerInfo]) -> Result<Vec<(String, Arc<dyn LayerMethod>)>>;
}
