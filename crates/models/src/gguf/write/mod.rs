//! Writing GGUF files.

mod check;
mod file;
mod keys;
mod limits;
mod lora;
#[cfg(test)]
mod lora_tests;
mod model;
mod out_type;
mod plan;
#[cfg(test)]
mod plan_tests;
mod rope;
#[cfg(test)]
mod tests;
mod tokenizer;
mod value;
mod vocabulary;

pub use lora::GgufAdapter;
pub use model::{Contents, GgufModel};
pub use out_type::OutType;
use plan::{Plan, Planned};
pub use tokenizer::tokenizer_keys;
pub use value::KeyValue;
