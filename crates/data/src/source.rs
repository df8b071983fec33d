//! Files of rows: JSONL, a JSON array, CSV, plain text.

use crate::config::SampleBy;
use crate::error::{DataError, Result};
use crate::slice::SlicedPath;
use serde_json::{Map, Value};
use std::path::Path;

/// One row: named values.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Where it stands in its file, counted from 1: a line, or an element of a JSON array.
    pub number: usize,
    /// Its values by column.
    pub columns: Map<String, Value>,
}

/// The rows of one file.
#[derive(Clone, Debug)]
pub struct Rows {
    /// The file's path, without the slice.
    pub file: String,
    /// The rows, in the file's order; never empty.
    pub rows: Vec<Row>,
    /// What [`Row::number`] counts: `line` or `row`.
    pub unit: &'static str,
    /// Whether the one row is a long text, to be cut into windows.
    pub document: bool,
}

impl Rows {
    /// Reads a file, `spec` being its path with an optional slice such as `[:500]`.
    ///
    /// # Errors
    /// A file that is missing, unreadable, of an unknown kind or empty; a row that is not one, with
    /// its number; a slice that does not fit.
    pub fn read(spec: &str, sample_by: SampleBy) -> Result<Self> {
        let sliced = match Path::new(spec).is_file() {
            true => SlicedPath::whole(spec),
            false => SlicedPath::new(spec),
        };
        let path = sliced.path;
        let text = read_text(path)?;
        let kind = Kind::of(path, &text)?;
        if sample_by != SampleBy::Line && kind != Kind::Text {
            let problem = format!("is for plain text (.txt) only, and data is {path}");
            return Err(DataError::Setting {
                key: "sample_by",
                problem,
            });
        }

        let mut rows = match kind {
            Kind::Lines => json_lines(path, &text)?,
            Kind::Array => json_array(path, &text)?,
            Kind::Csv(delimiter) => csv_rows(path, &text, delimiter)?,
            Kind::Text => text_rows(&text, sample_by),
        };
        if rows.is_empty() {
            let problem = "the file is empty".into();
            return Err(DataError::Empty {
                file: path.into(),
                problem,
            });
        }
        let range = sliced.range(rows.len())?;
        rows.truncate(range.end);
        rows.drain(..range.start);
        Ok(Self {
            file: path.into(),
            rows,
            unit: if kind == Kind::Array { "row" } else { "line" },
            document: sample_by == SampleBy::Document,
        })
    }

    /// How an error calls a row of this file: `reviews.jsonl line 17`.
    pub fn place(&self, row: usize) -> String {
        format!("{} {} {row}", self.file, self.unit)
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Lines,
    Array,
    Csv(u8),
    Text,
}

impl Kind {
    fn of(path: &str, text: &str) -> Result<Self> {
        let extension = Path::new(path).extension().unwrap_or_default();
        Ok(match extension.to_string_lossy().to_lowercase().as_str() {
            "jsonl" | "ndjson" => Self::Lines,
            // Many a `.json` file holds one object a line.
            "json" if text.trim_start().starts_with('{') => Self::Lines,
            "json" => Self::Array,
            "csv" => Self::Csv(b','),
            "tsv" => Self::Csv(b'\t'),
            "txt" | "text" | "md" => Self::Text,
            other => {
                let problem = format!(
                    "ends in {other:?}, a kind of file that is not read; \
                     read are .jsonl, .json, .csv, .tsv and .txt"
                );
                return Err(DataError::File {
                    file: path.into(),
                    problem,
                });
            }
        })
    }
}

fn read_text(path: &str) -> Result<String> {
    let bytes = std::fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => DataError::NotFound(path.into()),
        _ => DataError::Io {
            path: path.into(),
            source,
        },
    })?;
    let mut text = String::from_utf8(bytes).map_err(|error| DataError::File {
        file: path.into(),
        problem: format!("is not UTF-8 text: {}", error.utf8_error()),
    })?;
    if text.starts_with('\u{feff}') {
        text.drain(..'\u{feff}'.len_utf8());
    }
    Ok(text)
}

fn json_lines(path: &str, text: &str) -> Result<Vec<Row>> {
    let lines = text
        .lines()
        .zip(1..)
        .filter(|(line, _)| !line.trim().is_empty());
    let row = |(line, number)| {
        let bad = |problem| DataError::Row {
            place: format!("{path} line {number}"),
            problem,
        };
        let value: Value = serde_json::from_str(line).map_err(|error| {
            // serde_json counts lines within the line; only its column helps.
            let text = error.to_string();
            let what = text
                .rsplit_once(" at line ")
                .map_or(text.as_str(), |(what, _)| what);
            bad(format!("is not JSON: {what} at column {}", error.column()))
        })?;
        object(value, number).ok_or_else(|| bad("is not a JSON object: {…}".into()))
    };
    lines.map(row).collect()
}

fn json_array(path: &str, text: &str) -> Result<Vec<Row>> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let values: Vec<Value> = serde_json::from_str(text).map_err(|error| DataError::File {
        file: path.into(),
        problem: format!("is not a JSON array of objects: {error}"),
    })?;
    let row = |(value, number)| {
        object(value, number).ok_or_else(|| DataError::Row {
            place: format!("{path} row {number}"),
            problem: "is not a JSON object: {…}".into(),
        })
    };
    values.into_iter().zip(1..).map(row).collect()
}

fn object(value: Value, number: usize) -> Option<Row> {
    match value {
        Value::Object(columns) => Some(Row { number, columns }),
        _ => None,
    }
}

fn csv_rows(path: &str, text: &str, delimiter: u8) -> Result<Vec<Row>> {
    let bad = |error: csv::Error| DataError::File {
        file: path.into(),
        problem: format!("is not CSV: {error}"),
    };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .from_reader(text.as_bytes());
    let header = reader.headers().map_err(bad)?.clone();
    let row = |record: csv::Result<csv::StringRecord>| {
        let record = record.map_err(bad)?;
        let number = record
            .position()
            .map_or(0, |position| position.line() as usize);
        let cells = header.iter().zip(record.iter());
        let columns = cells
            .map(|(name, cell)| (name.into(), Value::from(cell)))
            .collect();
        Ok(Row { number, columns })
    };
    reader.records().map(row).collect()
}

fn text_rows(text: &str, sample_by: SampleBy) -> Vec<Row> {
    let row = |number: usize, text: &str| {
        let columns = Map::from_iter([("text".into(), Value::from(text))]);
        Row { number, columns }
    };
    let lines = || text.lines().zip(1..);
    match sample_by {
        SampleBy::Line => lines()
            .filter(|(line, _)| !line.trim().is_empty())
            .map(|(line, number)| row(number, line))
            .collect(),
        SampleBy::Document if text.trim().is_empty() => Vec::new(),
        SampleBy::Document => vec![row(1, text)],
        SampleBy::Paragraph => {
            let lines: Vec<(&str, usize)> = lines().collect();
            let blocks = lines.split(|(line, _)| line.trim().is_empty());
            let filled = blocks.filter(|block| !block.is_empty());
            let join = |block: &[(&str, usize)]| {
                let text: Vec<&str> = block.iter().map(|(line, _)| *line).collect();
                row(block[0].1, &text.join("\n"))
            };
            filled.map(join).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn read(name: &str, content: &str, sample_by: SampleBy) -> Result<Rows> {
        let dir = tempfile::tempdir().unwrap();
        let (file, slice) = name
            .split_once('[')
            .map_or((name, ""), |(f, _)| (f, &name[f.len()..]));
        let path = dir.path().join(file);
        fs::write(&path, content).unwrap();
        Rows::read(&format!("{}{slice}", path.display()), sample_by)
    }

    fn error(name: &str, content: impl AsRef<[u8]>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        let error = Rows::read(path.to_str().unwrap(), SampleBy::Line)
            .unwrap_err()
            .to_string();
        error.replace(&format!("{}/", dir.path().display()), "")
    }

    fn texts(rows: &Rows) -> Vec<(usize, &str)> {
        let text = |row: &Row| row.columns["text"].as_str().map(str::to_owned);
        assert!(rows.rows.iter().all(|row| text(row).is_some()));
        rows.rows
            .iter()
            .map(|row| (row.number, row.columns["text"].as_str().unwrap()))
            .collect()
    }

    #[test]
    fn reads_the_same_rows_from_every_kind() {
        for (name, content) in [
            (
                "a.jsonl",
                "{\"text\": \"one\", \"label\": 1}\n\n{\"text\": \"two, three\"}\n",
            ),
            (
                "a.json",
                "{\"text\": \"one\"}\n\n{\"text\": \"two, three\"}",
            ),
            (
                "a.csv",
                "\u{feff}label,text\r\n0,one\r\n1,\"two, three\"\r\n",
            ),
            ("a.tsv", "text\tlabel\none\t0\ntwo, three\t1\n"),
            ("a.txt", "one\r\n  \r\ntwo, three"),
            (
                "a.json",
                "[{\"text\": \"one\"}, {\"text\": \"two, three\"}]",
            ),
        ] {
            let rows = read(name, content, SampleBy::Line).unwrap();
            let texts: Vec<&str> = texts(&rows).iter().map(|(_, text)| *text).collect();
            assert_eq!(texts, ["one", "two, three"], "{name}");
        }
    }

    #[test]
    fn numbers_rows_as_an_editor_does() {
        let rows = read(
            "a.jsonl[1:]",
            "{\"text\": \"one\"}\n\n{\"text\": \"two\"}",
            SampleBy::Line,
        );
        assert_eq!(texts(&rows.unwrap()), [(3, "two")]);
        let rows = read("a.csv", "text\n\"one\ntwo\"\nthree\n", SampleBy::Line).unwrap();
        assert_eq!(texts(&rows), [(2, "one\ntwo"), (4, "three")]);
        assert!(rows.place(4).ends_with("a.csv line 4"));
    }

    #[test]
    fn text_by_paragraph_and_as_a_document() {
        let text = "a\nb\n\n\nc\n";
        let rows = read("a.txt", text, SampleBy::Paragraph).unwrap();
        assert_eq!(texts(&rows), [(1, "a\nb"), (5, "c")]);
        let rows = read("a.txt", text, SampleBy::Document).unwrap();
        assert_eq!((texts(&rows), rows.document), (vec![(1, text)], true));
        let error = read("a.jsonl", "{\"text\": \"x\"}", SampleBy::Document).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("data.sample_by is for plain text"),
            "{error}"
        );
    }

    #[test]
    fn bad_files_are_named_with_the_row() {
        assert_eq!(
            error("reviews.jsonl", "{\"text\": \"a\"}\nnot json\n"),
            "reviews.jsonl line 2 is not JSON: expected ident at column 2"
        );
        assert_eq!(
            error("a.jsonl", "[1]"),
            "a.jsonl line 1 is not a JSON object: {…}"
        );
        assert_eq!(
            error("a.json", "[{}, 3]"),
            "a.json row 2 is not a JSON object: {…}"
        );
        assert!(error("a.json", "[{\"text\": \"cut o").starts_with("a.json is not a JSON array"));
        assert!(error("a.csv", "a,b\n1,2\n3\n").contains("line: 3"));
        assert!(error("a.jsonl", b"{\"text\": \"\xff\"}").starts_with("a.jsonl is not UTF-8 text"));
        assert!(error("a.parquet", "PAR1").starts_with("a.parquet ends in \"parquet\""));
        for (name, content) in [
            ("a.jsonl", ""),
            ("a.jsonl", "\n\n"),
            ("a.json", "[]"),
            ("a.json", ""),
            ("a.csv", "text\n"),
            ("a.csv", ""),
            ("a.txt", " \n"),
        ] {
            let message = error(name, content);
            assert_eq!(
                message,
                format!("{name} has no usable row: the file is empty")
            );
        }
    }

    #[test]
    fn missing_files_and_hub_ids_are_errors() {
        for spec in ["missing.jsonl", "stanfordnlp/imdb", "missing.jsonl[:5]"] {
            let error = Rows::read(spec, SampleBy::Line).unwrap_err().to_string();
            let path = spec.trim_end_matches("[:5]");
            assert!(
                error.starts_with(&format!("there is no data file {path};")),
                "{error}"
            );
            assert!(error.contains("Hub"), "{error}");
        }
    }
}
