//! GGUF files as they are written.

mod value;

pub use value::KeyValue;
