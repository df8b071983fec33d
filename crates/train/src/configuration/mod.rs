//! The configuration of a run: the training file, its tables, their keys and values.

pub(crate) mod arguments;
pub(crate) mod config;
pub(crate) mod distributed;
pub(crate) mod keys;
mod method;
mod one_or_several;
pub(crate) mod overrides;
pub(crate) mod peft_table;
pub(crate) mod quantization;
mod read;
pub(crate) mod schema;
pub(crate) mod settings;
pub(crate) mod validate;
pub(crate) mod values;
pub(crate) mod words;
