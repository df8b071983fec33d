//! Reading and writing files as people have them.
//!
//! [`read_text`] reads a text file, without the byte order mark some editors put before it, and
//! says in plain words what a file is that is no text: a Git LFS pointer, compressed bytes, UTF-16.
//! [`foreign`] says the same of bytes that are at hand, [`begin_text`] of a stream. [`atomic`] writes
//! files that are whole or not there.

pub mod atomic;
mod error;
mod foreign;
mod json;
mod text;
mod words;

pub use error::FileError;
pub use foreign::{begin_text, foreign, foreign_to_text};
pub use json::json_problem;
pub use text::read_text;
pub use words::{plain_words, without_os_errors};
