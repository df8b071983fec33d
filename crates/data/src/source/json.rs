//! JSON files that are read as a whole: a list of rows, an object that holds one, or a sequence of
//! objects that may each take several lines.

use super::{Content, Record, Records, begin, open};
use crate::error::{DataError, FileProblem, Result};
use crate::format::is_row;
use serde_json::{Deserializer, Map, Value};
use std::borrow::Cow;
use std::io::{self, BufRead, Read};
use std::path::Path;

/// Keys whose list holds the rows, whatever other keys stand beside them.
const LISTS: &[&str] = &[
    "data",
    "dataset",
    "dev",
    "entries",
    "eval",
    "examples",
    "instances",
    "items",
    "records",
    "rows",
    "samples",
    "test",
    "train",
    "training",
    "val",
    "valid",
    "validation",
];

/// Whether each line of a file is a JSON value. It is not if the file begins with part of a value,
/// or, in a `.json` file (`is_json`), with an object that holds the rows.
pub(super) fn is_lines(path: &Path, name: &str, is_json: bool) -> Result<bool> {
    let mut reader = begin(open(path)?, path, name)?;
    let first = reader.by_ref().bytes().find(is_filled).transpose();
    let first = match first.map_err(DataError::io(path))? {
        Some(b'[') | None if is_json => return Ok(false),
        Some(first) => first,
        None => return Ok(true),
    };
    let mut line = vec![first];
    let read = reader.read_until(b'\n', &mut line);
    read.map_err(DataError::io(path))?;
    // Bytes that are not text are an error of their line.
    let Ok(line) = str::from_utf8(&line) else {
        return Ok(true);
    };
    Ok(match parse(line) {
        Err(error) => !error.is_eof(),
        Ok(Value::Object(object)) if is_json && !is_row(&object) => {
            lists(&object).is_empty() || reader.bytes().any(|byte| is_filled(&byte))
        }
        Ok(_) => true,
    })
}

fn is_filled(byte: &io::Result<u8>) -> bool {
    !byte.as_ref().is_ok_and(u8::is_ascii_whitespace)
}

/// The rows in a file's text; if an object holds several lists, those of `list`. In a `.json` file
/// (`is_json`) a single object may hold the rows; in other files it is a row.
pub(super) fn records(
    content: &str,
    name: &str,
    list: Option<&str>,
    is_json: bool,
) -> Result<Records<'static>> {
    let bad = |problem| DataError::file(name, problem);
    let mut values: Vec<Value> =
        parse_all(content).map_err(|error| bad(FileProblem::Json(error.to_string())))?;
    if values.len() == 1 {
        values = match (values.remove(0), list) {
            (Value::Array(rows), None) => rows,
            (Value::Object(object), _) if is_json => rows(object, name, list).map_err(bad)?,
            (value, _) => vec![value],
        };
    } else if let Some(list) = list {
        return Err(bad(FileProblem::NoObject(list.into())));
    }
    let record = |(number, value)| {
        let content = Content::Value(value);
        Ok(Record { number, content })
    };
    Ok(Box::new((1..).zip(values).map(record)))
}

/// The rows that a file's single object holds, or the object as a row.
fn rows(
    mut object: Map<String, Value>,
    name: &str,
    list: Option<&str>,
) -> std::result::Result<Vec<Value>, FileProblem> {
    let found: Vec<String> = lists(&object).into_iter().map(Into::into).collect();
    let described = || {
        let length = |key: &str| object[key].as_array().map_or(0, Vec::len);
        let described = found.iter().map(|key| format!("`{key}` ({})", length(key)));
        described.collect::<Vec<_>>().join(", ")
    };
    let key = match (list, found.as_slice()) {
        (Some(list), _) if object.get(list).is_some_and(Value::is_array) => list,
        (Some(list), _) => {
            return Err(FileProblem::NoList {
                list: list.into(),
                lists: described(),
            });
        }
        (None, _) if is_row(&object) => return Ok(vec![object.into()]),
        (None, [key])
            if LISTS.contains(&key.as_str()) || !object.values().any(Value::is_string) =>
        {
            key
        }
        (None, [] | [_]) => return Ok(vec![object.into()]),
        (None, [first, ..]) => {
            return Err(FileProblem::SeveralLists {
                lists: described(),
                file: name.into(),
                first: first.clone(),
            });
        }
    };
    match object.remove(key) {
        Some(Value::Array(rows)) => Ok(rows),
        _ => Ok(Vec::new()),
    }
}

/// The keys of an object that hold lists of objects. If none of them is a known key for rows, known
/// keys that hold other lists, such as empty ones, are included.
fn lists(object: &Map<String, Value>) -> Vec<&str> {
    let holds_rows = |value: &Value| {
        let list = value.as_array().filter(|list| !list.is_empty());
        list.is_some_and(|list| list.iter().all(Value::is_object))
    };
    let is_known = |key: &str| LISTS.contains(&key);
    let has_known = object
        .iter()
        .any(|(key, value)| is_known(key) && holds_rows(value));
    let lists = object.iter().filter(|(key, value)| {
        holds_rows(value) || (!has_known && is_known(key) && value.is_array())
    });
    lists.map(|(key, _)| key.as_str()).collect()
}

/// Parses one JSON value, with what Python's `json` writes beyond the standard (see [`repaired`]).
pub(super) fn parse(text: &str) -> serde_json::Result<Value> {
    serde_json::from_str(text).or_else(|error| match repaired(text) {
        Cow::Borrowed(_) => Err(error),
        Cow::Owned(text) => serde_json::from_str(&text),
    })
}

/// As [`parse`], for any number of values.
fn parse_all(text: &str) -> serde_json::Result<Vec<Value>> {
    let parse = |text: &str| {
        Deserializer::from_str(text)
            .into_iter()
            .collect::<serde_json::Result<Vec<_>>>()
    };
    parse(text).or_else(|error| match repaired(text) {
        Cow::Borrowed(_) => Err(error),
        Cow::Owned(text) => parse(&text),
    })
}

/// JSON made standard: `NaN` and infinite numbers, also those too large to represent (`1e999`),
/// become null; half a surrogate pair becomes the character `�`, as in other decoders.
fn repaired(text: &str) -> Cow<'_, str> {
    let (mut out, mut rest, mut is_string) = (String::new(), text, false);
    let mut is_changed = false;
    let is_of_note = |c: char| matches!(c, '"' | '\\' | 'N' | 'I' | '-' | '0'..='9');
    while let Some(at) = rest.find(is_of_note) {
        out += &rest[..at];
        rest = &rest[at..];
        let word = ["NaN", "-NaN", "Infinity", "-Infinity"].into_iter();
        let mut word = word.filter(|word| !is_string && rest.starts_with(word));
        let null;
        let (read, written) = if let Some(word) = word.next() {
            // As long as the word, so that errors name the right column (except for `NaN`).
            (word.len(), &"null     "[..word.len().max(4)])
        } else if is_string && rest.starts_with('\\') {
            match (code_unit(rest), rest.get(6..).and_then(code_unit)) {
                (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => (12, &rest[..12]),
                (Some(0xD800..=0xDFFF), _) => (6, "\\ufffd"),
                // An escaped quote does not end a string.
                _ => {
                    let escaped = rest[1..].chars().next().map_or(0, char::len_utf8);
                    (1 + escaped, &rest[..1 + escaped])
                }
            }
        } else if !is_string
            && rest.starts_with(['-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9'])
        {
            let is_part = |c: char| matches!(c, '0'..='9' | '.' | 'e' | 'E' | '+' | '-');
            let length = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            let number = rest[..length].parse::<f64>();
            if number.is_ok_and(f64::is_infinite) {
                null = format!("{:length$}", "null");
                (length, null.as_str())
            } else {
                (length, &rest[..length])
            }
        } else {
            is_string ^= rest.starts_with('"');
            (1, &rest[..1])
        };
        is_changed |= rest[..read] != *written;
        out += written;
        rest = &rest[read..];
    }
    if is_changed {
        Cow::Owned(out + rest)
    } else {
        Cow::Borrowed(text)
    }
}

/// The code unit of an escape `\uXXXX` at the start of the text.
fn code_unit(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("\\u")?.get(..4)?, 16).ok()
}
