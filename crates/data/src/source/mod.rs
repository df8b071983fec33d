//! Data files, most of them read as a stream: JSONL, JSON, CSV, plain text, Parquet.

use crate::config::SampleBy;
use crate::error::{DataError, FileProblem, Result, RowProblem, SettingProblem};
use crate::format::{Row, Shape};
use crate::source::folder::folder_and_split;
use crate::source::slice::SlicedPath;
use burn_peft_files::begin_text;
use indicatif::ProgressBar;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

mod delimited;
pub(crate) mod folder;
mod json;
mod lines;
pub(crate) mod parquet;
pub(crate) mod part;
pub(crate) mod slice;

use lines::{Lines, paragraphs, text};

/// Finds the files of a data set whose name is not a path, such as one on the Hub; `None` if it
/// cannot be such a name. The error is a complete sentence.
pub type Finder<'a> =
    &'a (dyn Fn(&str) -> std::result::Result<Option<Vec<PathBuf>>, String> + Sync);

/// A data file, or several that are read one after the other.
#[derive(Clone, Debug)]
pub struct Source {
    /// Its name in errors: the path or name without the slice.
    pub name: String,
    /// What [`Row::number`] counts: `line` or `row`.
    pub unit: &'static str,
    /// Whether the only row is a long text, to be cut into windows.
    pub document: bool,
    /// The name with the slice.
    spec: String,
    files: Vec<(PathBuf, Kind)>,
    /// The key of the wanted list, if an object holds several lists of rows.
    list: Option<String>,
    /// The columns to read, in files that need not be read as a whole; all unless set.
    columns: Option<Vec<String>>,
    sample_by: SampleBy,
}

/// A row that may not be parsed yet, so that other threads can do it.
pub(crate) struct Record {
    number: usize,
    content: Content,
}

enum Content {
    Json(String),
    Value(Value),
    Columns(Map<String, Value>),
}

/// The rows of a file, as they are read.
pub(crate) type Records<'a> = Box<dyn Iterator<Item = Result<Record>> + 'a>;

impl Source {
    /// Opens a file. `spec` is its path with an optional slice such as `[:500]` and, for a `.json`
    /// file whose object holds several lists of rows, the key of one: `reviews.json:train`. A name
    /// that is not a file is looked up by `find`.
    ///
    /// # Errors
    /// If the file does not exist or is of an unknown kind.
    pub fn open(spec: &str, sample_by: SampleBy, find: Finder<'_>) -> Result<Self> {
        let sliced = sliced(spec);
        let name = sliced.path;
        let in_folder = folder_and_split(name).is_some();
        let in_file = name.rsplit_once(':');
        let in_file = in_file.filter(|(path, _)| Path::new(path).is_file());
        let mut list = None;
        let paths = if Path::new(name).exists() && !in_folder {
            vec![name.into()]
        } else if let Some((path, key)) = in_file {
            list = Some(key.to_owned());
            vec![path.into()]
        } else {
            find(name)
                .map_err(DataError::Hub)?
                .ok_or_else(|| DataError::NotFound(name.into()))?
        };
        let kind = |path: PathBuf| {
            let kind = Kind::of(&path, name, list.is_some());
            kind.map(|kind| (path, kind))
        };
        // For the files of a folder, errors name the file.
        let called = match &paths[..] {
            [path] if in_folder => path.display().to_string(),
            _ => name.to_string(),
        };
        let files: Vec<_> = paths.into_iter().map(kind).collect::<Result<_>>()?;
        let only = |kind| files.iter().all(|(_, k)| *k == kind);
        if sample_by != SampleBy::Line && !only(Kind::Text) {
            let problem = SettingProblem::NoText(name.into());
            return Err(DataError::setting("sample_by", problem));
        }
        let has_lines = files.len() == 1 && !only(Kind::Json) && !only(Kind::Parquet);
        Ok(Self {
            name: called,
            unit: if has_lines { "line" } else { "row" },
            document: sample_by == SampleBy::Document,
            spec: spec.into(),
            files,
            list,
            columns: None,
            sample_by,
        })
    }

    /// The files, in reading order.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// For files that store their columns, the columns, each with a value of its kind.
    pub(crate) fn schema(&self) -> Result<Option<Map<String, Value>>> {
        match self.files.first() {
            Some((path, Kind::Parquet)) => {
                crate::source::parquet::schema(&self.name, open(path)?).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Skips the columns that a shape does not read, in files that need not be read as a whole.
    pub(crate) fn read_only(&mut self, shape: &Shape) {
        let columns = shape.columns().into_iter().map(Into::into);
        self.columns = Some(columns.collect());
    }

    /// The wanted slice of the rows.
    pub(crate) fn slice(&self) -> SlicedPath<'_> {
        sliced(&self.spec)
    }

    /// The size of all files in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = |path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        self.paths().map(bytes).sum()
    }

    /// The name of a row in errors: `reviews.jsonl line 17`.
    pub fn place(&self, row: usize) -> String {
        format!("{} {} {row}", self.name, self.unit)
    }

    /// All rows, parsed.
    ///
    /// # Errors
    /// If the file cannot be read, or a row is invalid; the error has its number.
    pub fn rows(&self) -> Result<impl Iterator<Item = Result<Row>> + '_> {
        let records = self.records(&ProgressBar::hidden())?;
        Ok(records.map(|record| self.parse(record?)))
    }

    /// All rows, in order; `bar` is told of the bytes read.
    pub(crate) fn records(&self, bar: &ProgressBar) -> Result<Records<'_>> {
        let open = |(path, kind): &(PathBuf, Kind)| self.read(path, *kind, bar.clone());
        let mut files = self.files.iter().map(open);
        if self.files.len() == 1 {
            return files
                .next()
                .unwrap_or_else(|| Ok(Box::new(std::iter::empty())));
        }
        let bar = bar.clone();
        let each = self.files.iter().flat_map(move |(path, kind)| {
            match self.read(path, *kind, bar.clone()) {
                Ok(records) => records,
                Err(error) => Box::new(std::iter::once(Err(error))),
            }
        });
        Ok(Box::new(
            (1..)
                .zip(each)
                .map(|(number, record)| Ok(Record { number, ..record? })),
        ))
    }

    fn read(&self, path: &Path, kind: Kind, bar: ProgressBar) -> Result<Records<'_>> {
        let file = open(path)?;
        if kind == Kind::Parquet {
            return crate::source::parquet::records(&self.name, file, bar, self.columns.as_deref());
        }
        let name = self.name.clone();
        let lines = Lines {
            reader: begin(bar.wrap_read(file), path, &name)?,
            path: path.into(),
            name,
            number: 0,
        };
        Ok(match (kind, self.sample_by) {
            (Kind::Lines, _) => Box::new(lines.filled().map(|line| {
                let (number, line) = line?;
                let content = Content::Json(line);
                Ok(Record { number, content })
            })),
            (Kind::Json, _) => {
                let may_hold_rows = path
                    .extension()
                    .is_some_and(|e| e.eq_ignore_ascii_case("json"));
                let content = lines.rest()?;
                json::records(&content, &self.name, self.list.as_deref(), may_hold_rows)?
            }
            (Kind::Csv(delimiter), _) => {
                delimited::records(lines.reader, delimiter, self.name.clone())?
            }
            (_, SampleBy::Line) => Box::new(lines.filled().map(|line| {
                let (number, line) = line?;
                Ok(text(number, line))
            })),
            (_, SampleBy::Paragraph) => Box::new(paragraphs(lines)),
            (_, SampleBy::Document) => {
                let whole = lines.rest()?;
                let filled = !whole.trim().is_empty();
                Box::new(filled.then(|| Ok(text(1, whole))).into_iter())
            }
        })
    }

    /// The columns of a row.
    pub(crate) fn parse(&self, record: Record) -> Result<Row> {
        let number = record.number;
        let bad = |problem| DataError::Row {
            place: self.place(number),
            problem,
        };
        let value = match record.content {
            Content::Columns(columns) => return Ok(Row { number, columns }),
            Content::Value(value) => value,
            Content::Json(line) => json::parse(&line).map_err(|error| {
                // serde_json counts lines within this line, so only its column is of use.
                let text = error.to_string();
                let what = text.rsplit_once(" at line ");
                let what = what.map_or(text.as_str(), |(what, _)| what);
                bad(RowProblem::Json {
                    what: what.into(),
                    column: error.column(),
                })
            })?,
        };
        match value {
            Value::Object(columns) => Ok(Row { number, columns }),
            value => {
                let text = value.to_string();
                let (shown, more) = match text.char_indices().nth(40) {
                    Some((end, _)) => (&text[..end], "…"),
                    None => (text.as_str(), ""),
                };
                Err(bad(RowProblem::NoObject(format!("{shown}{more}"))))
            }
        }
    }
}

impl Record {
    /// A row that is parsed already.
    #[cfg(feature = "parquet")]
    pub fn columns(number: usize, columns: Map<String, Value>) -> Self {
        let content = Content::Columns(columns);
        Self { number, content }
    }
}

/// The path of an existing file may itself end in brackets.
fn sliced(spec: &str) -> SlicedPath<'_> {
    if Path::new(spec).exists() {
        SlicedPath::whole(spec)
    } else {
        SlicedPath::new(spec)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Lines,
    Json,
    Csv(u8),
    Text,
    Parquet,
}

impl Kind {
    /// The kind of a file; for JSON its first line decides. `is_list` if a list inside it is asked
    /// for.
    fn of(path: &Path, name: &str, is_list: bool) -> Result<Self> {
        let extension = path.extension().unwrap_or_default();
        let extension = extension.to_string_lossy().to_lowercase();
        if is_list && extension != "json" {
            return Err(DataError::file(name, FileProblem::ListOfOther));
        }
        Ok(match extension.as_str() {
            "json" if is_list => Self::Json,
            "json" | "jsonl" | "ndjson" => {
                if json::is_lines(path, name, extension == "json")? {
                    Self::Lines
                } else {
                    Self::Json
                }
            }
            "csv" => Self::Csv(b','),
            "tsv" => Self::Csv(b'\t'),
            "txt" | "text" | "md" => Self::Text,
            "parquet" => Self::Parquet,
            other => return Err(DataError::file(name, FileProblem::Kind(other.into()))),
        })
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => DataError::NotFound(path.display().to_string()),
        _ => DataError::io(path)(source),
    })
}

/// Opens a text file after its byte order mark; bytes that are not text are an error.
fn begin<R: Read>(reader: R, path: &Path, name: &str) -> Result<BufReader<R>> {
    let mut reader = BufReader::new(reader);
    let problem = begin_text(&mut reader).map_err(DataError::io(path))?;
    match problem {
        None => Ok(reader),
        Some(problem) => Err(DataError::file(name, problem)),
    }
}

#[cfg(test)]
mod tests;
