//! From text files to batches of tokens.
//!
//! Each step is a plain type that can be looked at: a file is a [`Source`], a row holds a [`Content`]
//! according to the file's [`Shape`], a [`Tokenizer`] makes it an [`Example`], a [`Sampler`] says
//! which come next, and some of them are a [`Batch`]. [`DataSet::load`] does it all, from the
//! `[data]` table of a training file:
//!
//! ```
//! use burn_peft_data::{DataConfig, DataSet, Limits, Sampler, train_bpe};
//!
//! let dir = std::env::temp_dir();
//! let file = dir.join("burn-peft-data-example.jsonl");
//! std::fs::write(&file, "{\"text\": \"one\"}\n{\"text\": \"two three\"}\n")?;
//!
//! let mut config = DataConfig::new(file.display().to_string());
//! config.cache_dir = Some(dir.join("burn-peft-data-example"));
//! let tokenizer = train_bpe(["one two three"], 300)?;
//! let limits = Limits { n_positions: 64, adapter_positions: 0, vocab_size: tokenizer.vocab_size() };
//! let data = DataSet::load(&config, Some(&tokenizer), limits, 42)?;
//! assert_eq!(data.train.len(), 2);
//!
//! let sampler = Sampler::new(data.train.sequences(), 2, 42, true)?;
//! for indices in sampler.batches(0) {
//!     let batch = data.train.batch(&indices);
//!     assert_eq!(batch.input_ids.len(), batch.batch * batch.seq);
//! }
//! # std::fs::remove_file(file)?;
//! # std::fs::remove_dir_all(dir.join("burn-peft-data-example"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod bpe;
mod cache;
mod chat;
mod config;
mod dataset;
mod error;
mod example;
mod examples;
mod folder;
mod format;
mod overview;
mod packing;
mod parquet;
mod part;
mod pipeline;
mod rows;
mod sampler;
mod slice;
mod source;
mod stats;
mod store;
mod stream;
mod suggest;
mod tokenize;
mod tokenizer;

pub use batch::Batch;
pub use bpe::train_bpe;
pub use cache::default_cache_dir;
pub use chat::Chat;
pub use config::{DataConfig, FILE_KINDS, SampleBy};
pub use dataset::DataSet;
pub use error::{DataError, Result};
pub use example::{Example, IGNORE_INDEX, Limits};
pub use examples::Examples;
pub use folder::folder_and_split;
pub use format::{Content, Shape, example_prompt, instruction_prompt};
pub use overview::Overview;
pub use sampler::Sampler;
pub use slice::SlicedPath;
pub use source::{Finder, Row, Source};
pub use stats::{Padding, histogram};
pub use stream::TextStream;
pub use suggest::suggest_columns;
pub use tokenizer::{END_OF_TEXT, Tokenizer};
