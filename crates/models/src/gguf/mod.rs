//! Models in llama.cpp's files.
//!
//! A file holds keys and tensors ([`Gguf`]). It is read like a model folder: its keys become the
//! small files of a folder, and its tensors are [`Weights`](crate::weights::Weights) under
//! transformers' names, in float32.

mod adapter;
mod architecture;
mod change;
mod config;
mod cursor;
mod file;
mod folder;
mod pieces;
mod rope;
mod splits;
#[cfg(test)]
mod tests;
mod tokenizer;
mod types;
mod value;
mod weights;
mod write;

pub use adapter::read_adapter;
pub use file::Gguf;
pub(crate) use file::parts;
pub(crate) use folder::Translated;
pub use folder::{own_folder, remove_folders};
pub use write::{Contents, GgufAdapter, GgufModel, KeyValue, OutType, tokenizer_keys};
