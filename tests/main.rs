//! The integration tests: one binary, so that Burn is linked once. They drive the built `peft`.

mod adalora;
mod adapters;
mod bad_input;
mod best_model;
mod checkpointing;
mod common;
mod conformance;
mod data;
mod dropout;
mod examples;
mod exit_codes;
mod forward_and_merge;
mod generate_and_eval;
mod gpt2_files;
mod hub;
mod init_and_inspect;
mod linear_methods;
mod nano_sort;
mod optimizers;
mod packing;
mod padding;
mod parity;
mod resume;
mod seeing;
mod train;
