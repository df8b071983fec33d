//! From rows to a file of tokens: in parallel, once, with a bar on a terminal.

use crate::config::DataConfig;
use crate::error::{DataError, EmptyProblem, Result, SettingProblem};
use crate::format::{Row, Shape, describe, left_out};
use crate::source::part::Part;
use crate::source::{Finder, Record, Source};
use crate::tokenizer::Tokenizer;
use crate::tokens::cache::{Key, default_cache_dir};
use crate::tokens::encode::{Encoded, RowEncoder};
use crate::tokens::example::Limits;
use crate::tokens::pipeline::{Chunks, beside};
use crate::tokens::rows::RowCounts;
use crate::tokens::store::{Store, StoreWriter};
use crate::tokens::task::Task;
use burn_peft_files::atomic::{put, temporary_file};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows that are parsed and tokenised at a time, by all cores.
const CHUNK: usize = 2048;

/// How the rows of all files of a `[data]` table become tokens.
#[derive(Clone, Copy)]
pub(crate) struct Tokenize<'a> {
    pub config: &'a DataConfig,
    pub tokenizer: Option<&'a Tokenizer>,
    pub limits: Limits,
    pub find: Finder<'a>,
    pub task: &'a dyn Task,
}

/// The examples of a part of a file.
pub(crate) struct Tokenized {
    pub file: String,
    pub shape: Shape,
    pub skipped: usize,
    pub truncated: usize,
    /// What was cut and dropped, in words.
    pub left_out: Vec<String>,
    pub cache_file: PathBuf,
    pub store: Store,
}

/// What is kept beside the tokens.
#[derive(Default, Serialize, Deserialize)]
struct Meta {
    shape: Shape,
    rows: RowCounts,
    notes: Vec<String>,
}

impl<'a> Tokenize<'a> {
    /// Checks the table first.
    pub fn new(
        config: &'a DataConfig,
        tokenizer: Option<&'a Tokenizer>,
        limits: Limits,
        find: Finder<'a>,
        task: &'a dyn Task,
    ) -> Result<Self> {
        config.validate(limits)?;
        Ok(Self {
            config,
            tokenizer,
            limits,
            find,
            task,
        })
    }

    /// The examples of a part of a file: from the cache, where they are put first if need be.
    pub fn tokens(&self, spec: &str, part: Part) -> Result<Tokenized> {
        let mut source = Source::open(spec, self.config.sample_by, self.find)?;
        let path = self.cache_file(&source, spec, part)?;
        let (store, meta) = match self.cached(&path)? {
            Some(found) => {
                tracing::info!("{}: tokens from {}", source.name, path.display());
                found
            }
            None => {
                let cannot = |source| DataError::Cache {
                    path: path.clone(),
                    source,
                };
                let folder = path.parent().unwrap_or(Path::new("."));
                std::fs::create_dir_all(folder).map_err(cannot)?;
                let file = BufWriter::new(temporary_file(&path).map_err(cannot)?);
                let file = self.write(&mut source, part, file, &path)?.into_inner();
                let file = file.map_err(|error| cannot(error.into_error()))?;
                put(file, &path).map_err(cannot)?;
                let unreadable = || DataError::Cache {
                    path: path.clone(),
                    source: std::io::Error::other("what was written cannot be read back"),
                };
                self.cached(&path)?.ok_or_else(unreadable)?
            }
        };
        for note in &meta.notes {
            tracing::warn!("{}: {note}", source.name);
        }
        Ok(Tokenized {
            file: source.name,
            shape: meta.shape,
            skipped: meta.rows.skipped(),
            truncated: meta.rows.truncated,
            left_out: self.describe(&meta.rows, part.max),
            cache_file: path,
            store,
        })
    }

    fn describe(&self, rows: &RowCounts, max_samples: Option<usize>) -> Vec<String> {
        let default_length = self.limits.default_length();
        rows.describe(self.config.max_length, default_length, max_samples)
    }

    fn cached(&self, path: &Path) -> Result<Option<(Store, Meta)>> {
        if !path.exists() {
            return Ok(None);
        }
        let store = Store::open(path)?;
        Ok(store.and_then(|store| store.meta().map(|meta| (store, meta))))
    }

    /// The file of the cache for all that decides what the tokens are.
    fn cache_file(&self, source: &Source, spec: &str, part: Part) -> Result<PathBuf> {
        let config = DataConfig {
            // These change what is done with the tokens, or where they are.
            train: spec.into(),
            validation: None,
            validation_split: None,
            max_samples: None,
            pad_to_multiple_of: None,
            packing: false,
            cache_dir: None,
            ..self.config.clone()
        };
        let mut key = Key::new();
        key.add(&serde_json::to_vec(&(config, part)).map_err(|error| self.unhashable(&error))?);
        let Limits {
            max_positions,
            vocab_size,
            ..
        } = self.limits;
        for number in [max_positions, self.limits.default_length(), vocab_size] {
            key.add(&number.to_le_bytes());
        }
        if let Some(tokenizer) = self.tokenizer {
            tokenizer.hash_into(&mut key)?;
        }
        if let Some(task) = self.task.cache_key() {
            key.add(task.as_bytes());
        }
        for path in source.paths() {
            key.add_file(path)?;
        }
        let folder = self.config.cache_dir.clone();
        Ok(key.path(&folder.unwrap_or_else(default_cache_dir)))
    }

    fn unhashable(&self, error: &serde_json::Error) -> DataError {
        DataError::setting("train", SettingProblem::NoJson(error.to_string()))
    }

    fn write<W: Write>(&self, source: &mut Source, part: Part, out: W, path: &Path) -> Result<W> {
        let cannot = |source| DataError::Cache {
            path: path.into(),
            source,
        };
        // A file may tell its columns before it is read: then no others need be read.
        let schema = source.schema()?;
        let detect = |first: &_| Shape::detect(first, &source.name, self.config);
        let mut shape = schema.as_ref().map(detect).transpose()?;
        if let Some(shape) = &shape {
            source.read_only(shape);
        }
        let source = &*source;
        let bar = bar(source);
        self.use_here_first();
        let mut records = Chunks::new(part.records(source, &bar)?, CHUNK);
        let mut writer = StoreWriter::new(out).map_err(cannot)?;
        let mut meta = Meta::default();
        let mut notes = BTreeSet::new();
        if let (Some(shape), Some(schema)) = (&shape, &schema) {
            notes.extend(left_out(shape, schema));
        }
        let mut write = |rows: Vec<Encoded>| -> Result<()> {
            for encoded in rows {
                meta.rows.add(encoded.dropped, encoded.truncated);
                notes.extend(encoded.notes);
                for example in &encoded.examples {
                    let supervised = self.task.supervised(&example.labels);
                    writer.push(example, supervised).map_err(cannot)?;
                }
            }
            Ok(())
        };
        let (mut chunk, mut done) = (records.next(), Vec::new());
        while !chunk.is_empty() {
            let encode = || self.encode(chunk, source, &mut shape);
            let (encoded, next) = beside(encode, || write(done).map(|()| records.next()));
            (done, chunk) = (encoded?, next?);
        }
        records.finish()?;
        write(done)?;
        bar.finish_and_clear();
        let Some(shape) = shape.filter(|_| meta.rows.total > 0) else {
            return Err(empty(source, EmptyProblem::Rows));
        };
        meta.notes = describe(&notes, &shape);
        if meta.rows.skipped() == meta.rows.total {
            let mut problem = self.describe(&meta.rows, None);
            problem.append(&mut meta.notes);
            return Err(empty(source, EmptyProblem::LeftOut(problem)));
        }
        meta.shape = shape;
        writer.finish(&meta).map_err(cannot)
    }

    /// The thread that first uses a regular expression owns what it searches with, and marks every
    /// use by a write that all others wait for. So that none of rayon's threads does, this one is first.
    fn use_here_first(&self) {
        if let Some(tokenizer) = self.tokenizer {
            // An error comes again with the row that makes it, and with its number.
            let _ = tokenizer.encode_continuation("It's the 1st, \n\n of  all! \n");
        }
    }

    /// The rows of a chunk as tokens; the shape is the first row's. An error is the file's first.
    fn encode(
        &self,
        chunk: Vec<Record>,
        source: &Source,
        shape: &mut Option<Shape>,
    ) -> Result<Vec<Encoded>> {
        let mut records = chunk.into_iter();
        let first = match shape {
            Some(_) => None,
            None => records
                .next()
                .map(|record| source.parse(record))
                .transpose()?,
        };
        if let Some(row) = &first {
            *shape = Some(Shape::detect(&row.columns, &source.name, self.config)?);
        }
        let Some(encoder) = shape.as_ref().map(|shape| self.encoder(shape, source)) else {
            return Ok(Vec::new());
        };
        let encode = |row: Row| encoder.encode(&row, &source.place(row.number));
        let records: Vec<Record> = records.collect();
        // Those behind one that fails are left: a chat template that runs out of its budget takes a
        // second for each.
        let failed_at = AtomicUsize::new(usize::MAX);
        let rest = records.into_par_iter().enumerate().map(|(index, record)| {
            if index > failed_at.load(Ordering::Relaxed) {
                return Ok(Encoded::default());
            }
            let encoded = source.parse(record).and_then(encode);
            if encoded.is_err() {
                failed_at.fetch_min(index, Ordering::Relaxed);
            }
            encoded
        });
        // Collected before the first error is looked for, so that it is the file's first.
        let rest: Vec<Result<Encoded>> = rest.collect();
        first.map(encode).into_iter().chain(rest).collect()
    }

    fn encoder<'b>(&'b self, shape: &'b Shape, source: &Source) -> RowEncoder<'b> {
        RowEncoder {
            task: self.task,
            shape,
            tokenizer: self.tokenizer,
            limits: self.limits,
            max_length: self.config.max_length,
            completion_only_loss: self.config.completion_only_loss,
            document: source.document,
        }
    }
}

fn empty(source: &Source, problem: EmptyProblem) -> DataError {
    let file = source.name.clone();
    DataError::Empty { file, problem }
}

/// Drawn on a terminal only.
fn bar(source: &Source) -> ProgressBar {
    let template = "tokenising {msg} [{wide_bar}] {bytes}/{total_bytes} {eta_precise} left";
    let style = ProgressStyle::with_template(template);
    let bar = ProgressBar::new(source.bytes());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(source.name.clone());
    bar
}
