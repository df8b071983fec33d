//! Text embeddings: what sentence-transformers makes from the hidden states of a model without a
//! head.

mod folder;
mod pooling;

pub use folder::{Modules, SENTENCE_FILES};
pub use pooling::{Embedder, Pooling, normalize};
