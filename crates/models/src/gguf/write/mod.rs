//! GGUF files as they are written.

#[cfg(test)]
mod tests;
mod tokenizer;
mod value;
mod vocabulary;

pub use tokenizer::tokenizer_keys;
pub use value::KeyValue;
