//! The commands, one file each.

pub mod chat;
pub mod combine;
pub mod completions;
pub mod convert;
pub mod data;
pub mod devices;
pub mod doctor;
pub mod eval;
pub mod export;
pub mod forward;
pub mod generate;
pub mod init;
pub mod inspect;
pub mod man;
pub mod merge;
pub mod new;
pub mod predict;
pub mod schema;
pub mod train;
