//! The commands, one file each.

pub mod eval;
pub mod forward;
pub mod generate;
pub mod init;
pub mod inspect;
pub mod merge;
pub mod train;
