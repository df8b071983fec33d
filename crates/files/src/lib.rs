//! Reads text files as people have them, and writes files that are complete or absent.
//!
//! The other crates read and write files through this one, so that a message about a file is the
//! same wherever it comes from. It knows bytes and names, not what the files mean.
//!
//! ```text
//! a file ──> read_text ──> its text, without a byte order mark
//!                │
//!                └──> FileError: what it is instead (a Git LFS pointer, compressed data, UTF-16, …)
//!
//! bytes in memory ──> foreign, foreign_to_text     the same for a part of a file
//! a stream        ──> begin_text
//! a library's or the system's message ──> plain_words, json_problem, without_os_errors
//!
//! bytes ──> atomic::write ──> a temporary file, flushed to the disk, then renamed
//! ```
//!
//! ```
//! use burn_peft_files::{atomic, read_text};
//!
//! let folder = tempfile::tempdir()?;
//! let file = folder.path().join("config.json");
//! atomic::write(&file, b"{\"r\": 8}")?;
//! assert_eq!(read_text(&file)?, "{\"r\": 8}");
//!
//! atomic::write(&file, b"version https://git-lfs.github.com/spec/v1\n")?;
//! let error = read_text(&file).unwrap_err();
//! assert!(error.problem().starts_with("is a Git LFS pointer, not the file itself"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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
