//! Reading and writing files as people have them.
//!
//! [`read_text`] reads a text file, without the byte order mark that some editors put before it,
//! and describes in plain words a file that is not text: a Git LFS pointer, compressed data,
//! UTF-16. [`foreign`] does so for bytes in memory, [`begin_text`] for a stream. [`atomic`] writes
//! files that are complete or absent.
//!
//! The other crates read and write files through it, so that a message about a file is the same
//! wherever it comes from. It knows bytes and names, not what is in them.

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
