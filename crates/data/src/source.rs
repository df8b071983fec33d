//! Files of rows, read as a stream: JSONL, a JSON array, CSV, plain text, Parquet.

use crate::config::{FILE_KINDS, SampleBy};
use crate::error::{DataError, Result};
use crate::folder::folder_and_split;
use crate::slice::SlicedPath;
use indicatif::ProgressBar;
use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

/// One row: named values.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Where it stands in its file, counted from 1: a line, or a row where there are no lines.
    pub number: usize,
    /// Its values by column.
    pub columns: Map<String, Value>,
}

/// Finds the files of a data set that is no path, such as one on the Hub: `None` where the name
/// cannot be one. The error is to be read on its own.
pub type Finder<'a> =
    &'a (dyn Fn(&str) -> std::result::Result<Option<Vec<PathBuf>>, String> + Sync);

/// A file of rows, or several that are read one after the other.
#[derive(Clone, Debug)]
pub struct Source {
    /// How errors call it: the path or name without its slice.
    pub name: String,
    /// What [`Row::number`] counts: `line` or `row`.
    pub unit: &'static str,
    /// Whether the one row is a long text, to be cut into windows.
    pub document: bool,
    /// The name with its slice.
    spec: String,
    files: Vec<(PathBuf, Kind)>,
    sample_by: SampleBy,
}

/// A row that may still have to be parsed, which is the other threads' work.
pub(crate) struct Record {
    number: usize,
    content: Content,
}

enum Content {
    Json(String),
    Value(Value),
    Columns(Map<String, Value>),
}

/// Rows as they come from a file.
pub(crate) type Records<'a> = Box<dyn Iterator<Item = Result<Record>> + 'a>;

impl Source {
    /// Opens a file; `spec` is its path with an optional slice such as `[:500]`. What is no file
    /// is left to `find`.
    ///
    /// # Errors
    /// A file that is missing or of an unknown kind.
    pub fn open(spec: &str, sample_by: SampleBy, find: Finder<'_>) -> Result<Self> {
        let sliced = sliced(spec);
        let name = sliced.path;
        let in_folder = folder_and_split(name).is_some();
        let paths = match Path::new(name).exists() && !in_folder {
            true => vec![name.into()],
            false => find(name)
                .map_err(DataError::Hub)?
                .ok_or_else(|| DataError::NotFound(name.into()))?,
        };
        // Of a folder's files errors name the one that it is.
        let called = match &paths[..] {
            [path] if in_folder => path.display().to_string(),
            _ => name.to_string(),
        };
        let kind = |path: PathBuf| Kind::of(&path, name).map(|kind| (path, kind));
        let files: Vec<_> = paths.into_iter().map(kind).collect::<Result<_>>()?;
        let only = |kind| files.iter().all(|(_, k)| *k == kind);
        if sample_by != SampleBy::Line && !only(Kind::Text) {
            let problem = format!("is for plain text (.txt) only, and data is {name}");
            return Err(DataError::Setting {
                key: "sample_by",
                problem,
            });
        }
        let has_lines = files.len() == 1 && !only(Kind::Array) && !only(Kind::Parquet);
        Ok(Self {
            name: called,
            unit: if has_lines { "line" } else { "row" },
            document: sample_by == SampleBy::Document,
            spec: spec.into(),
            files,
            sample_by,
        })
    }

    /// The files, in the order they are read in.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|(path, _)| path.as_path())
    }

    /// The slice of the rows that is wanted.
    pub(crate) fn slice(&self) -> SlicedPath<'_> {
        sliced(&self.spec)
    }

    /// Bytes of all files.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = |path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
        self.paths().map(bytes).sum()
    }

    /// How an error calls a row: `reviews.jsonl line 17`.
    pub fn place(&self, row: usize) -> String {
        format!("{} {} {row}", self.name, self.unit)
    }

    /// All rows, parsed.
    ///
    /// # Errors
    /// An unreadable file, and a row that is not one, with its number.
    pub fn rows(&self) -> Result<impl Iterator<Item = Result<Row>> + '_> {
        let records = self.records(&ProgressBar::hidden())?;
        Ok(records.map(|record| self.parse(record?)))
    }

    /// All rows as they come; `bar` hears of the bytes read.
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
            return crate::parquet::records(&self.name, file, bar);
        }
        let name = self.name.clone();
        let mut reader = BufReader::new(bar.wrap_read(file));
        skip_byte_order_mark(&mut reader).map_err(DataError::io(path))?;
        let lines = Lines {
            reader,
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
            (Kind::Array, _) => Box::new(array(&lines.rest()?, &self.name)?),
            (Kind::Csv(delimiter), _) => csv_rows(lines.reader, delimiter, self.name.clone())?,
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
            Content::Json(line) => serde_json::from_str(&line).map_err(|error| {
                // serde_json counts lines within the line; only its column helps.
                let text = error.to_string();
                let what = text.rsplit_once(" at line ");
                let what = what.map_or(text.as_str(), |(what, _)| what);
                bad(format!("is not JSON: {what} at column {}", error.column()))
            })?,
        };
        match value {
            Value::Object(columns) => Ok(Row { number, columns }),
            _ => Err(bad("is not a JSON object: {…}".into())),
        }
    }
}

impl Record {
    /// A row that needs no parsing.
    #[cfg(feature = "parquet")]
    pub fn columns(number: usize, columns: Map<String, Value>) -> Self {
        let content = Content::Columns(columns);
        Self { number, content }
    }
}

/// A path that is there may itself end in brackets.
fn sliced(spec: &str) -> SlicedPath<'_> {
    match Path::new(spec).exists() {
        true => SlicedPath::whole(spec),
        false => SlicedPath::new(spec),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Lines,
    Array,
    Csv(u8),
    Text,
    Parquet,
}

impl Kind {
    fn of(path: &Path, name: &str) -> Result<Self> {
        let extension = path.extension().unwrap_or_default();
        Ok(match extension.to_string_lossy().to_lowercase().as_str() {
            "jsonl" | "ndjson" => Self::Lines,
            // Many a `.json` file holds one object a line.
            "json" if starts_with_brace(path)? => Self::Lines,
            "json" => Self::Array,
            "csv" => Self::Csv(b','),
            "tsv" => Self::Csv(b'\t'),
            "txt" | "text" | "md" => Self::Text,
            "parquet" => Self::Parquet,
            other => {
                let problem = format!(
                    "ends in {other:?}, a kind of file that is not read; \
                     read are {FILE_KINDS}"
                );
                return Err(DataError::File {
                    file: name.into(),
                    problem,
                });
            }
        })
    }
}

fn open(path: &Path) -> Result<File> {
    File::open(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => DataError::NotFound(path.display().to_string()),
        _ => DataError::io(path)(source),
    })
}

fn starts_with_brace(path: &Path) -> Result<bool> {
    let mut reader = BufReader::new(open(path)?);
    skip_byte_order_mark(&mut reader).map_err(DataError::io(path))?;
    let filled =
        |byte: &std::io::Result<u8>| !matches!(byte, Ok(byte) if byte.is_ascii_whitespace());
    let first = reader.bytes().find(filled).transpose();
    Ok(first.map_err(DataError::io(path))? == Some(b'{'))
}

fn skip_byte_order_mark(reader: &mut impl BufRead) -> std::io::Result<()> {
    if reader.fill_buf()?.starts_with("\u{feff}".as_bytes()) {
        reader.consume('\u{feff}'.len_utf8());
    }
    Ok(())
}

/// The lines of a text file, without their ends, with their numbers.
struct Lines<R> {
    reader: R,
    path: PathBuf,
    name: String,
    number: usize,
}

impl<R: BufRead> Lines<R> {
    /// Lines that are not blank.
    fn filled(self) -> impl Iterator<Item = Result<(usize, String)>> {
        self.filter(|line| !matches!(line, Ok((_, line)) if line.trim().is_empty()))
    }

    /// All that is left.
    fn rest(mut self) -> Result<String> {
        let mut bytes = Vec::new();
        let read = self.reader.read_to_end(&mut bytes);
        read.map_err(DataError::io(&self.path))?;
        self.utf8(bytes, "")
    }

    fn utf8(&self, bytes: Vec<u8>, place: &str) -> Result<String> {
        String::from_utf8(bytes).map_err(|error| DataError::File {
            file: self.name.clone(),
            problem: format!("is not UTF-8 text: {}{place}", error.utf8_error()),
        })
    }
}

impl<R: BufRead> Iterator for Lines<R> {
    type Item = Result<(usize, String)>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        match self.reader.read_until(b'\n', &mut line) {
            Ok(0) => return None,
            Ok(_) => self.number += 1,
            Err(error) => return Some(Err(DataError::io(&self.path)(error))),
        }
        for end in [b'\n', b'\r'] {
            if line.last() == Some(&end) {
                line.pop();
            }
        }
        let place = format!(" of line {}", self.number);
        Some(self.utf8(line, &place).map(|line| (self.number, line)))
    }
}

fn text(number: usize, text: String) -> Record {
    let columns = Map::from_iter([("text".into(), Value::from(text))]);
    let content = Content::Columns(columns);
    Record { number, content }
}

/// The blocks between blank lines.
fn paragraphs<R: BufRead>(mut lines: Lines<R>) -> impl Iterator<Item = Result<Record>> {
    std::iter::from_fn(move || {
        let mut block: Option<(usize, String)> = None;
        for line in lines.by_ref() {
            let (number, line) = match line {
                Ok(line) => line,
                Err(error) => return Some(Err(error)),
            };
            match (&mut block, line.trim().is_empty()) {
                (None, true) => {}
                (Some(_), true) => break,
                (None, false) => block = Some((number, line)),
                (Some((_, text)), false) => {
                    text.push('\n');
                    text.push_str(&line);
                }
            }
        }
        block.map(|(number, block)| Ok(text(number, block)))
    })
}

fn array(content: &str, name: &str) -> Result<impl Iterator<Item = Result<Record>> + use<>> {
    let values: Vec<Value> = match content.trim().is_empty() {
        true => Vec::new(),
        false => serde_json::from_str(content).map_err(|error| DataError::File {
            file: name.into(),
            problem: format!("is not a JSON array of objects: {error}"),
        })?,
    };
    let record = |(number, value)| {
        let content = Content::Value(value);
        Ok(Record { number, content })
    };
    Ok((1..).zip(values).map(record))
}

fn csv_rows<'a>(reader: impl Read + 'a, delimiter: u8, name: String) -> Result<Records<'a>> {
    let bad = move |error: csv::Error| DataError::File {
        file: name.clone(),
        problem: format!("is not CSV: {error}"),
    };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .from_reader(reader);
    let header = reader.headers().map_err(&bad)?.clone();
    Ok(Box::new(reader.into_records().map(move |record| {
        let record = record.map_err(&bad)?;
        let position = record.position();
        let cells = header.iter().zip(record.iter());
        let columns = cells.map(|(name, cell)| (name.into(), Value::from(cell)));
        let content = Content::Columns(columns.collect());
        Ok(Record {
            number: position.map_or(0, |position| position.line() as usize),
            content,
        })
    })))
}

#[cfg(test)]
mod tests;
