//! The families: a file each, with fields called as in its checkpoints, so that a module's path is
//! its Hugging Face name.

pub mod gpt2;
