//! Text read by lines and by paragraphs.

use super::{Content, Record};
use crate::error::{DataError, FileProblem, Result};
use serde_json::{Map, Value};
use std::io::BufRead;
use std::path::PathBuf;

/// The lines of a text file with their numbers, without line ends.
pub(super) struct Lines<R> {
    pub reader: R,
    pub path: PathBuf,
    pub name: String,
    pub number: usize,
}

impl<R: BufRead> Lines<R> {
    /// The lines that are not blank.
    pub fn filled(self) -> impl Iterator<Item = Result<(usize, String)>> {
        self.filter(|line| !matches!(line, Ok((_, line)) if line.trim().is_empty()))
    }

    /// All the remaining text.
    pub fn rest(mut self) -> Result<String> {
        let mut bytes = Vec::new();
        let read = self.reader.read_to_end(&mut bytes);
        read.map_err(DataError::io(&self.path))?;
        self.utf8(bytes, None)
    }

    fn utf8(&self, bytes: Vec<u8>, line: Option<usize>) -> Result<String> {
        String::from_utf8(bytes).map_err(|error| {
            let error = error.utf8_error();
            DataError::file(&self.name, FileProblem::Utf8 { line, error })
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
        let text = self.utf8(line, Some(self.number));
        Some(text.map(|line| (self.number, line)))
    }
}

/// A row that holds one text.
pub(super) fn text(number: usize, text: String) -> Record {
    let columns = Map::from_iter([("text".into(), Value::from(text))]);
    let content = Content::Columns(columns);
    Record { number, content }
}

/// The blocks of text between blank lines.
pub(super) fn paragraphs<R: BufRead>(mut lines: Lines<R>) -> impl Iterator<Item = Result<Record>> {
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
