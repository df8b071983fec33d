//! `tojson` as in transformers: Python's `json.dumps`, without HTML escapes.

use super::TEXT;
use super::arguments::bind;
use super::budget::{BYTES, charge, cost};
use super::python::{DEPTH, float, number, text, too_deep};
use minijinja::value::{Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Error, ErrorKind, State};
use std::fmt::Write as _;

/// The filter.
pub(super) fn to_json(
    state: &mut State,
    value: Value,
    options: Rest<ValueOrKwargs>,
) -> Result<String, Error> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ascii, indent, separators, sorted] = bind("tojson", names, &options.into_values())?;
    let is_true = |option: Option<Value>| option.is_some_and(|value| value.is_true());
    let indent = indent.filter(|indent| !indent.is_none());
    let indent = indent.map(|indent| spaces(&indent)).transpose()?;
    let comma = if indent.is_some() { "," } else { ", " };
    let mut writer = Writer {
        out: String::new(),
        comma: comma.into(),
        colon: ": ".into(),
        indent,
        ascii: is_true(ascii),
        sorted: is_true(sorted),
    };
    if let Some(pair) = separators.filter(|pair| !pair.is_none()) {
        writer.comma = text(&pair.get_item_by_index(0)?)?.into();
        writer.colon = text(&pair.get_item_by_index(1)?)?.into();
    }
    let each = writer.comma.len().max(writer.colon.len()).max(2);
    let indent = writer.indent.as_ref().map_or(0, String::len);
    charge(state, cost(&value)?.saturating_mul(each) + indent)?;
    writer.write(&value, 0)?;
    charge(state, writer.out.len())?;
    Ok(writer.out)
}

/// What a level is indented by: a number of spaces, or a text.
fn spaces(indent: &Value) -> Result<String, Error> {
    if let Some(text) = indent.as_str() {
        return Ok(text.into());
    }
    let width = i64::try_from(indent.clone())?.max(0) as usize;
    match width {
        0..=BYTES => Ok(" ".repeat(width)),
        _ => Err(ErrorKind::OutOfFuel.into()),
    }
}

struct Writer {
    out: String,
    comma: String,
    colon: String,
    /// `None`: everything on one line.
    indent: Option<String>,
    ascii: bool,
    sorted: bool,
}

impl Writer {
    fn write(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > DEPTH {
            return Err(too_deep());
        }
        match value.kind() {
            ValueKind::None => self.out += "null",
            ValueKind::Bool => self.out += if value.is_true() { "true" } else { "false" },
            ValueKind::Number => self.out += &written(value)?,
            ValueKind::String => self.quote(value.as_str().unwrap_or_default()),
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sorted {
                    keys.sort();
                }
                self.open('{', '}', keys, depth, |writer, key| {
                    let name = match key.kind() {
                        ValueKind::String => text(key)?.into_owned(),
                        ValueKind::None => "null".into(),
                        ValueKind::Bool => key.is_true().to_string(),
                        ValueKind::Number => written(key)?,
                        _ => return Err(no_json(key)),
                    };
                    writer.quote(&name);
                    writer.out += &writer.colon;
                    writer.write(&value.get_item(key)?, depth + 1)
                })?;
            }
            ValueKind::Seq => {
                let items = value.try_iter()?.collect();
                self.open('[', ']', items, depth, |writer, item| {
                    writer.write(item, depth + 1)
                })?;
            }
            _ => return Err(no_json(value)),
        }
        Ok(())
    }

    /// Items between brackets, each written by `each`.
    fn open(
        &mut self,
        open: char,
        close: char,
        items: Vec<Value>,
        depth: usize,
        each: impl Fn(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out += &self.comma;
            }
            self.line(depth + 1)?;
            each(self, item)?;
        }
        if !items.is_empty() {
            self.line(depth)?;
        }
        self.out.push(close);
        Ok(())
    }

    /// A new line, if the output has several.
    fn line(&mut self, depth: usize) -> Result<(), Error> {
        let Some(indent) = &self.indent else {
            return Ok(());
        };
        // Longer than any chat may be; the buffer doubles as it grows.
        if self.out.len() + indent.len().saturating_mul(depth) > TEXT {
            return Err(ErrorKind::OutOfFuel.into());
        }
        self.out.push('\n');
        self.out += &indent.repeat(depth);
        Ok(())
    }

    fn quote(&mut self, text: &str) {
        self.out.push('"');
        for character in text.chars() {
            match character {
                '"' => self.out += "\\\"",
                '\\' => self.out += "\\\\",
                '\n' => self.out += "\\n",
                '\r' => self.out += "\\r",
                '\t' => self.out += "\\t",
                '\x0c' => self.out += "\\f",
                '\x08' => self.out += "\\b",
                '\0'..' ' => self.escape(character),
                ' '..='~' => self.out.push(character),
                _ if self.ascii => self.escape(character),
                _ => self.out.push(character),
            }
        }
        self.out.push('"');
    }

    fn escape(&mut self, character: char) {
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a `String` cannot fail.
            let _ = write!(self.out, "\\u{unit:04x}");
        }
    }
}

fn written(value: &Value) -> Result<String, Error> {
    if value.is_integer() {
        return Ok(text(value)?.into());
    }
    Ok(match float(number(value)).as_str() {
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        "nan" => "NaN".into(),
        finite => finite.into(),
    })
}

fn no_json(value: &Value) -> Error {
    let problem = format!("tojson: {} has no JSON", value.kind());
    Error::new(ErrorKind::InvalidOperation, problem)
}
