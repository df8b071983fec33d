//! Embeddings of texts: what becomes of the hidden states of a model without a head, as
//! sentence-transformers has it.

mod folder;
mod pooling;

pub use folder::{Modules, SENTENCE_FILES};
pub use pooling::{Embedder, Pooling, normalize};
