//! From text files to batches of tokens.
//!
//! Each step is a plain type that can be inspected. A [`Source`] is a file, whose rows hold a
//! [`Content`] according to the file's [`Shape`]. A [`Task`] and a [`Tokenizer`] turn a row into an
//! [`Example`], a [`Sampler`] chooses which examples come next, and several of them form a
//! [`Batch`]. [`DataSet::load`] does all of this for the `[data]` table of a training file, and
//! [`Examples::of_rows`] for rows that are not in a file.
//!
//! ```text
//! Source ──> Row ──> Content ──> Example ──> Examples ──> Sampler ──> Batch
//!  a file     its     a text,     tokens      in the       which       some,
//!             columns a prompt,   and labels  cache, that  come next   one after
//!                     a chat …                is mapped                the other
//!                   Shape    Task, Tokenizer
//! ```
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
//! let limits = Limits {
//!     max_positions: 64,
//!     positions_key: "max_position_embeddings",
//!     has_last_position: true,
//!     adapter_positions: 0,
//!     vocab_size: tokenizer.vocab_size(),
//! };
//! let data = DataSet::load(&config, Some(&tokenizer), limits, 42)?;
//! assert_eq!(data.train.len(), 2);
//!
//! let sampler = Sampler::new(data.train.sequences(), 2, 42, true)?;
//! for indices in sampler.batches(0) {
//!     let batch = data.train.batch(&indices);
//!     assert!(batch.tokens() <= batch.len() * batch.width);
//! }
//! # std::fs::remove_file(file)?;
//! # std::fs::remove_dir_all(dir.join("burn-peft-data-example"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batches;
mod config;
mod dataset;
mod error;
mod format;
mod labels;
mod mixture;
mod parts;
mod questions;
mod source;
#[cfg(test)]
mod testing;
mod tokenizer;
mod tokens;
mod train_set;

pub use batches::batch::Batch;
pub use batches::sampler::Sampler;
pub use batches::stats::{Padding, histogram};
pub use config::{DataConfig, SampleBy};
pub use dataset::DataSet;
pub use error::{
    DataError, EmptyProblem, FILE_KINDS, FileProblem, Result, RowProblem, SettingProblem,
    TemplateProblem, TokenizerProblem, WantedColumn,
};
pub use format::overview::Overview;
pub use format::suggest::{holds_pairs, suggest_columns, suggest_objective};
pub use format::{Chat, Content, Row, Rows, Shape, example_prompt, instruction_prompt};
pub use labels::{has_several_labels, labels_of, text_columns};
pub use mixture::{Mixture, StoppingStrategy};
pub use questions::{Asked, Question, Questions};
pub use source::folder::folder_and_split;
pub use source::slice::SlicedPath;
pub use source::{Finder, Source};
pub use tokenizer::bpe::train_bpe;
pub use tokenizer::chat::{ChatTemplate, message};
pub use tokenizer::stream::TextStream;
pub use tokenizer::{END_OF_TEXT, Tokenizer, Tokens};
pub use tokens::asked::{ASKED_AT_ONCE, AskedRow, ask_rows};
pub use tokens::cache::default_cache_dir;
pub use tokens::classes::{Classes, LABELS_PER_TOKEN, LabelKind};
pub use tokens::example::{Example, IGNORE_INDEX, Limits};
pub use tokens::examples::Examples;
pub use tokens::lm::Lm;
pub use tokens::preference::{DEFAULT_LENGTH, Judged, Pairs, PromptTokens, ScoredPairs};
pub use tokens::seen::{SeenRow, see_rows};
pub use tokens::tags::Tags;
pub use tokens::task::{Encoder, Labelled, Task, with_eos};
pub use tokens::texts::Texts;
pub use tokens::train_on::TrainOn;
pub use train_set::{TrainSet, TrainSets};
