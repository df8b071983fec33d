//! Language models with slots for adapters, defined with Burn

pub mod checkpoint;
pub mod config;
mod error;
pub mod hub;
pub mod init;

pub use error::{ModelError, Result};
