//! CSV and TSV files.

use super::{Content, Record, Records};
use crate::error::{DataError, FileProblem, Result};
use csv::{ErrorKind, Position};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::rc::Rc;

/// The rows of a file; `name` is the file's name in errors.
pub(super) fn records<'a>(
    reader: impl Read + 'a,
    delimiter: u8,
    name: String,
) -> Result<Records<'a>> {
    let starts = Starts::default();
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .from_reader(Watched {
            reader,
            starts: starts.clone(),
            bytes: 0,
            line: 1,
            is_line_begun: false,
        });
    let lines = starts.clone();
    let file = name.clone();
    let of_file = |problem| DataError::file(&name, problem);
    let bad = move |error: csv::Error| DataError::file(&file, explain(&error, &lines));
    let header = reader.headers().map_err(&bad)?.clone();
    if let (1, Some(column)) = (header.len(), header.get(0))
        && let Some(other) = [b';', b'\t', b'|', b',']
            .into_iter()
            .find(|other| *other != delimiter && are_names(column, *other))
    {
        return Err(of_file(FileProblem::OneColumn {
            column: column.into(),
            separator: called(other),
        }));
    }
    let named = || header.iter().filter(|name| !name.is_empty());
    if let Some(twice) = named().find(|name| named().filter(|n| n == name).count() > 1) {
        return Err(of_file(FileProblem::ColumnTwice(twice.into())));
    }
    Ok(Box::new(reader.into_records().map(move |record| {
        let record = record.map_err(&bad)?;
        let cells = header.iter().zip(record.iter());
        let columns = cells.map(|(name, cell)| (name.into(), Value::from(cell)));
        let content = Content::Columns(columns.collect());
        let number = record.position().map_or(0, |at| line_of(&starts, at));
        Ok(Record { number, content })
    })))
}

/// Whether the name of a column looks like several names with a separator between them.
fn are_names(column: &str, separator: u8) -> bool {
    let mut names = column.split(char::from(separator));
    let is_name = |name: &str| !name.is_empty() && !name.starts_with(' ');
    column.contains(char::from(separator)) && names.all(is_name)
}

/// A separator in words.
fn called(separator: u8) -> &'static str {
    match separator {
        b'\t' => "a tab",
        b';' => "a semicolon (;)",
        b'|' => "a bar (|)",
        _ => "a comma",
    }
}

/// Where non-empty lines begin: the byte, and the number of the line.
type Starts = Rc<RefCell<VecDeque<(u64, usize)>>>;

/// Counts the lines that are read. The csv crate's own line numbers lag behind if lines end in
/// `\r\n`, since it ends a record at the `\r`.
struct Watched<R> {
    reader: R,
    starts: Starts,
    bytes: u64,
    line: usize,
    is_line_begun: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        for &byte in &buffer[..read] {
            match byte {
                b'\n' => {
                    self.line += 1;
                    self.is_line_begun = false;
                }
                b'\r' => self.is_line_begun = false,
                _ if !self.is_line_begun => {
                    self.is_line_begun = true;
                    let start = (self.bytes, self.line);
                    self.starts.borrow_mut().push_back(start);
                }
                _ => {}
            }
            self.bytes += 1;
        }
        Ok(read)
    }
}

/// The line in which a record begins. To be called in the order of the file: earlier lines are
/// forgotten.
fn line_of(starts: &Starts, at: &Position) -> usize {
    let mut starts = starts.borrow_mut();
    while starts.front().is_some_and(|(byte, _)| *byte < at.byte()) {
        starts.pop_front();
    }
    starts.front().map_or(0, |(_, line)| *line)
}

fn explain(error: &csv::Error, starts: &Starts) -> FileProblem {
    let line = |at: &Option<Position>| at.as_ref().map(|at| line_of(starts, at));
    match error.kind() {
        ErrorKind::Io(error) => FileProblem::Read(error.to_string()),
        ErrorKind::UnequalLengths {
            pos,
            expected_len,
            len,
        } => FileProblem::Values {
            line: line(pos),
            values: *len,
            columns: *expected_len,
        },
        ErrorKind::Utf8 { pos, err } => FileProblem::RecordUtf8 {
            line: line(pos),
            error: err.to_string(),
        },
        _ => FileProblem::Csv(error.to_string()),
    }
}
