//! The integration tests: one binary, so that Burn is linked once. They drive the built `peft`.

mod adalora;
mod adapters;
mod bad_input;
mod best_model;
mod bottleneck;
mod checkpointing;
mod common;
mod conformance;
mod data;
mod dropout;
mod eva;
mod examples;
mod exit_codes;
mod forward_and_merge;
mod generate_and_eval;
mod gpt2_files;
mod hub;
mod ia3_sums;
mod init_and_inspect;
#[cfg(feature = "wgpu")]
mod limits;
mod linear_methods;
mod lora_fa;
mod lora_init;
mod methods;
mod nano_sort;
mod optimizers;
mod packing;
mod padding;
mod parity;
mod prompts;
mod resume;
mod seeing;
mod several;
mod train;
mod tying;
