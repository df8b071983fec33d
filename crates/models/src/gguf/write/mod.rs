//! GGUF files as they are written.

#[allow(dead_code)]
mod check;
#[allow(dead_code)]
mod keys;
#[allow(dead_code)]
mod plan;
#[cfg(test)]
mod plan_tests;
#[allow(dead_code)]
mod rope;
#[cfg(test)]
mod tests;
mod tokenizer;
mod value;
mod vocabulary;

// Used by `peft export`.
#[allow(unused_imports)]
pub(crate) use plan::{Plan, Planned};
pub use tokenizer::tokenizer_keys;
pub use value::KeyValue;
