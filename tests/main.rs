//! The integration tests: one binary, so that Burn is linked once. They drive the built `peft`.

mod bad_input;
mod best_model;
mod common;
mod conformance;
mod data;
mod exit_codes;
mod forward_and_merge;
mod generate_and_eval;
mod init_and_inspect;
mod nano_sort;
mod optimizers;
mod packing;
mod padding;
mod parity;
mod resume;
mod seeing;
mod train;
