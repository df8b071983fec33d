//! From rows to a file of tokens: in parallel, once, with a progress bar on a terminal.

use crate::config::DataConfig;
use crate::error::{DataError, EmptyProblem, Result, SettingProblem};
use crate::format::{Note, Row, Rows, Shape, describe, left_out};
use crate::source::part::Part;
use crate::source::{Finder, Record, Source};
use crate::tokenizer::Tokenizer;
use crate::tokens::asked::AskedRow;
use crate::tokens::cache::{Key, default_cache_dir};
use crate::tokens::encode::{Encoded, RowEncoder};
use crate::tokens::example::Limits;
use crate::tokens::pipeline::{Chunks, beside};
use crate::tokens::rows::{RowCounts, cut_by};
use crate::tokens::seen::{Seen, SeenRow};
use crate::tokens::store::{Store, StoreWriter};
use crate::tokens::task::Task;
use crate::tokens::train_on::TrainOn;
use burn_peft_files::atomic::{put, temporary_file};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Rows that are parsed and tokenised at a time, by all cores.
const CHUNK: usize = 2048;
/// Rows that are shown at a time.
const SEEN: usize = 256;

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
    pub warning: Option<String>,
    pub cache_file: PathBuf,
    pub store: Store,
}

/// What is stored beside the tokens.
#[derive(Default, Serialize, Deserialize)]
struct Meta {
    shape: Shape,
    rows: RowCounts,
    notes: Vec<String>,
}

/// How the rows of a file are processed.
struct Walk<J> {
    /// The number of rows at a time.
    size: usize,
    /// The progress bar, which is told of the bytes read.
    bar: ProgressBar,
    /// What to make from a row, and what to count.
    job: J,
}

/// What is known of a file while it is read.
#[derive(Default)]
struct Begun {
    shape: Option<Shape>,
    notes: BTreeSet<Note>,
    rows: RowCounts,
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
        if let Some(column) = &config.label_field
            && !matches!(task.rows(), Rows::Labelled | Rows::Tagged)
        {
            let problem = SettingProblem::NoLabels(column.clone());
            return Err(DataError::setting("label_field", problem));
        }
        if matches!(task.rows(), Rows::Pairs | Rows::Judged) {
            check_of_answers(config, task.rows())?;
        }
        Ok(Self {
            config,
            tokenizer,
            limits,
            find,
            task,
        })
    }

    /// The examples of a part of a file, from the cache, which is filled first if necessary.
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
        // Each of several sets has a part of them.
        let max_samples = part.max.filter(|max| Some(*max) == self.config.max_samples);
        Ok(Tokenized {
            warning: self.warn(&source.name, &meta),
            file: source.name,
            shape: meta.shape,
            skipped: meta.rows.skipped(),
            truncated: meta.rows.truncated,
            left_out: meta.rows.describe(&self.cut_by(), max_samples),
            cache_file: path,
            store,
        })
    }

    fn cut_by(&self) -> String {
        cut_by(self.config.max_length, self.default_length())
    }

    /// Logs the remarks about a file; returns those about rows without an example.
    fn warn(&self, file: &str, meta: &Meta) -> Option<String> {
        let warning = meta.rows.warning(&self.cut_by());
        for said in meta.notes.iter().chain(&warning) {
            tracing::warn!("{file}: {said}");
        }
        warning
    }

    fn cached(&self, path: &Path) -> Result<Option<(Store, Meta)>> {
        if !path.exists() {
            return Ok(None);
        }
        let store = Store::open(path)?;
        Ok(store.and_then(|store| store.meta().map(|meta| (store, meta))))
    }

    /// The cache file for everything that determines the tokens.
    fn cache_file(&self, source: &Source, spec: &str, part: Part) -> Result<PathBuf> {
        let config = DataConfig {
            // These change how the tokens are used, or where they are stored.
            train: spec.into(),
            stopping_strategy: None,
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
        for number in [max_positions, self.default_length(), vocab_size] {
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
        let mut begun = self.begin(source)?;
        let source = &*source;
        let template = "tokenising {msg} [{wide_bar}] {bytes}/{total_bytes} {eta_precise} left";
        let bar = bar(source, template);
        let mut records = Chunks::new(part.records(source, &bar)?, CHUNK);
        let mut writer = StoreWriter::new(out).map_err(cannot)?;
        let Begun { shape, notes, rows } = &mut begun;
        let mut write = |chunk: Vec<Encoded>| -> Result<()> {
            for encoded in chunk {
                rows.add(encoded.row, encoded.dropped, encoded.truncated);
                rows.tags_cut += encoded.tags_cut;
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
            let encode = || {
                self.each(chunk, source, shape, |encoder, row, place| {
                    encoder.encode(row, place)
                })
            };
            let (encoded, next) = beside(encode, || write(done).map(|()| records.next()));
            let encoded: Result<_> = encoded?.into_iter().collect();
            (done, chunk) = (encoded?, next?);
        }
        records.finish()?;
        write(done)?;
        bar.finish_and_clear();
        let meta = self.end(source, begun)?;
        writer.finish(&meta).map_err(cannot)
    }

    /// Passes the rows of a file, as training sees them, to `take`, some at a time, until it
    /// returns false.
    pub fn see(&self, spec: &str, take: &mut dyn FnMut(Vec<SeenRow>) -> bool) -> Result<()> {
        let source = Source::open(spec, self.config.sample_by, self.find)?;
        let walk = Walk {
            size: SEEN,
            bar: ProgressBar::hidden(),
            job: |encoder: &RowEncoder<'_>, row: &Row, place: &str| {
                let Seen { rows, encoded } = encoder.see(row, place)?;
                Ok((rows, encoded))
            },
        };
        let walked = self.walk(source, walk, &mut |seen| take(seen.concat()))?;
        let Some((source, begun)) = walked else {
            return Ok(());
        };
        let meta = self.end(&source, begun)?;
        self.warn(&source.name, &meta);
        Ok(())
    }

    /// Passes the rows of a file, to be predicted for, to `take`, `size` at a time, until it
    /// returns false. Returns what was cut, in words.
    pub fn ask(
        &self,
        source: Source,
        size: usize,
        bar: ProgressBar,
        take: &mut dyn FnMut(Vec<AskedRow>) -> bool,
    ) -> Result<Vec<String>> {
        let cut_by = self.cut_by();
        let walk = Walk {
            size,
            bar,
            job: |encoder: &RowEncoder<'_>, row: &Row, place: &str| {
                encoder.ask(row, place, &cut_by)
            },
        };
        let Some((source, begun)) = self.walk(source, walk, take)? else {
            return Ok(Vec::new());
        };
        if begun.rows.total == 0 {
            return Err(empty(&source, EmptyProblem::Rows));
        }
        Ok(begun.rows.describe(&cut_by, None))
    }

    /// Passes what a job makes from each row to `take`, until it returns false; returns what is
    /// known of the file once all rows are done. Rows before an invalid one are still passed to
    /// `take`.
    fn walk<T: Default + Send>(
        &self,
        mut source: Source,
        walk: Walk<impl Fn(&RowEncoder<'_>, &Row, &str) -> Result<(T, Encoded)> + Sync>,
        take: &mut dyn FnMut(Vec<T>) -> bool,
    ) -> Result<Option<(Source, Begun)>> {
        let mut begun = self.begin(&mut source)?;
        let mut records = Chunks::new(Part::default().records(&source, &walk.bar)?, walk.size);
        loop {
            let chunk = records.next();
            if chunk.is_empty() {
                break;
            }
            let (mut done, mut failed) = (Vec::new(), None);
            for row in self.each(chunk, &source, &mut begun.shape, &walk.job)? {
                match row {
                    Ok((row, encoded)) => {
                        begun
                            .rows
                            .add(encoded.row, encoded.dropped, encoded.truncated);
                        begun.notes.extend(encoded.notes);
                        done.push(row);
                    }
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            if !take(done) {
                return Ok(None);
            }
            failed.map_or(Ok(()), Err)?;
        }
        records.finish()?;
        Ok(Some((source, begun)))
    }

    /// What is known before the first row: if a file stores its columns, the others need not be
    /// read.
    fn begin(&self, source: &mut Source) -> Result<Begun> {
        self.use_here_first();
        let mut begun = Begun::default();
        if let Some(schema) = source.schema()? {
            let shape = self.shape(&schema, source)?;
            source.read_only(&shape);
            begun.notes.extend(left_out(&shape, &schema));
            begun.shape = Some(shape);
        }
        Ok(begun)
    }

    fn shape(&self, first: &Map<String, Value>, source: &Source) -> Result<Shape> {
        Shape::detect_for(self.task.rows(), first, &source.name, self.config)
    }

    /// The length in tokens that rows are cut to if no setting gives it.
    fn default_length(&self) -> usize {
        let of_task = self.task.default_length(self.limits);
        of_task.unwrap_or(self.limits.default_length())
    }

    /// What is stored of a file once all its rows are read.
    fn end(&self, source: &Source, begun: Begun) -> Result<Meta> {
        let Begun {
            shape,
            mut notes,
            rows,
        } = begun;
        let Some(shape) = shape.filter(|_| rows.total > 0) else {
            return Err(empty(source, EmptyProblem::Rows));
        };
        if let (Rows::Embedded(_), Shape::Text(_)) = (self.task.rows(), &shape) {
            // A text has the same vector whatever its label.
            let is_label = |note: &Note| match note {
                Note::LeftOut(column) => ["label", "labels"].contains(&column.as_str()),
                _ => false,
            };
            notes.retain(|note| !is_label(note));
        }
        let mut notes = describe(&notes, &shape);
        if rows.skipped() == rows.total {
            let mut problem = rows.describe(&self.cut_by(), None);
            problem.append(&mut notes);
            return Err(empty(source, EmptyProblem::LeftOut(problem)));
        }
        Ok(Meta { shape, rows, notes })
    }

    /// The thread that first uses a regular expression owns its cache, and marks every use by a
    /// write that all other threads wait for. So that this is none of rayon's threads, this one
    /// uses it first.
    fn use_here_first(&self) {
        if let Some(tokenizer) = self.tokenizer {
            // An error comes again with the row that causes it, and then has its number.
            let _ = tokenizer.encode_continuation("It's the 1st, \n\n of  all! \n");
        }
    }

    /// What `job` makes from each row of a chunk; the shape is the first row's. What comes after
    /// the first error is not to be used.
    fn each<T: Default + Send>(
        &self,
        chunk: Vec<Record>,
        source: &Source,
        shape: &mut Option<Shape>,
        job: impl Fn(&RowEncoder<'_>, &Row, &str) -> Result<T> + Sync,
    ) -> Result<Vec<Result<T>>> {
        let mut records = chunk.into_iter();
        let first = match shape {
            Some(_) => None,
            None => records
                .next()
                .map(|record| source.parse(record))
                .transpose()?,
        };
        if let Some(row) = &first {
            *shape = Some(self.shape(&row.columns, source)?);
        }
        let Some(encoder) = shape.as_ref().map(|shape| self.encoder(shape, source)) else {
            return Ok(Vec::new());
        };
        let job = |row: Row| job(&encoder, &row, &source.place(row.number));
        let records: Vec<Record> = records.collect();
        // Rows after one that fails are skipped: a chat template that exhausts its budget takes a
        // second for each.
        let failed_at = AtomicUsize::new(usize::MAX);
        let rest = records.into_par_iter().enumerate().map(|(index, record)| {
            if index > failed_at.load(Ordering::Relaxed) {
                return Ok(T::default());
            }
            let done = source.parse(record).and_then(job);
            if done.is_err() {
                failed_at.fetch_min(index, Ordering::Relaxed);
            }
            done
        });
        let rest: Vec<Result<T>> = rest.collect();
        Ok(first.map(job).into_iter().chain(rest).collect())
    }

    fn encoder<'b>(&'b self, shape: &'b Shape, source: &Source) -> RowEncoder<'b> {
        RowEncoder {
            task: self.task,
            shape,
            tokenizer: self.tokenizer,
            limits: self.limits,
            max_length: (self.config.max_length).or(self.task.default_length(self.limits)),
            train_on: self.config.learnt(),
            kwargs: &self.config.chat_template_kwargs,
            document: source.document,
        }
    }
}

/// Checks that no key is set that has no meaning for compared answers.
fn check_of_answers(config: &DataConfig, rows: Rows) -> Result<()> {
    let said = |key, value: String| {
        let problem = SettingProblem::OfAnswers { value };
        Err(DataError::setting(key, problem))
    };
    match (config.train_on, config.completion_only_loss) {
        (Some(train_on), _) if train_on != TrainOn::Answers => {
            return said("train_on", format!("\"{train_on}\""));
        }
        (_, Some(false)) => return said("completion_only_loss", "false".into()),
        _ => {}
    }
    let fields = [
        ("text_field", &config.text_field),
        ("completion_field", &config.completion_field),
    ];
    for (key, field) in fields {
        if let Some(field) = field
            && rows == Rows::Pairs
        {
            return said(key, format!("\"{field}\""));
        }
    }
    Ok(())
}

fn empty(source: &Source, problem: EmptyProblem) -> DataError {
    let file = source.name.clone();
    DataError::Empty { file, problem }
}

/// A bar of the bytes of a source, drawn only on a terminal; `{msg}` is the source's name.
pub(super) fn bar(source: &Source, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    let bar = ProgressBar::new(source.bytes());
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.set_message(source.name.clone());
    bar
}
