//! Values as Python prints them.

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};
use std::borrow::Cow;
use std::fmt::Write as _;

/// How deeply values may be nested.
pub(super) const DEPTH: usize = 128;

/// Python's `str(value)`, which is how it appears in a text.
pub(super) fn text(value: &Value) -> Result<Cow<'_, str>, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.into());
    }
    let mut out = String::new();
    if !value.is_undefined() {
        represent(value, &mut out, 0)?;
    }
    Ok(out.into())
}

/// Appends Python's `repr(value)`, which is how it appears in a list.
fn represent(value: &Value, out: &mut String, depth: usize) -> Result<(), Error> {
    if depth > DEPTH {
        return Err(too_deep());
    }
    match value.kind() {
        ValueKind::String => quote(value.as_str().unwrap_or_default(), out),
        ValueKind::Number if !value.is_integer() => *out += &float(number(value)),
        ValueKind::Undefined => *out += "Undefined",
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter()?.enumerate() {
                *out += if index > 0 { ", " } else { "" };
                represent(&key, out, depth + 1)?;
                *out += ": ";
                represent(&value.get_item(&key)?, out, depth + 1)?;
            }
            out.push('}');
        }
        ValueKind::Seq => {
            let is_tuple = value.is_tuple();
            out.push(if is_tuple { '(' } else { '[' });
            for (index, item) in value.try_iter()?.enumerate() {
                *out += if index > 0 { ", " } else { "" };
                represent(&item, out, depth + 1)?;
            }
            *out += match (is_tuple, value.len()) {
                (true, Some(1)) => ",)",
                (true, _) => ")",
                (false, _) => "]",
            };
        }
        _ => {
            // Writing to a `String` cannot fail.
            let _ = write!(out, "{value}");
        }
    }
    Ok(())
}

pub(super) fn too_deep() -> Error {
    let problem = "a value contains itself, or is nested too deeply";
    Error::new(ErrorKind::InvalidOperation, problem)
}

/// A number as a float.
pub(super) fn number(value: &Value) -> f64 {
    f64::try_from(value.clone()).unwrap_or(f64::NAN)
}

/// A float with as many digits as are needed to read it back, and an exponent where Python uses
/// one.
pub(super) fn float(number: f64) -> String {
    if !number.is_finite() {
        let sign = if number < 0.0 { "-" } else { "" };
        return format!("{sign}{}", if number.is_nan() { "nan" } else { "inf" });
    }
    let short = format!("{number:e}");
    let (digits, exponent) = short.split_once('e').unwrap_or((&short, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = number.to_string();
        let end = if plain.contains('.') { "" } else { ".0" };
        return plain + end;
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// A text in single quotes; in double quotes if it contains single ones and no double ones.
fn quote(text: &str, out: &mut String) {
    let double = text.contains('\'') && !text.contains('"');
    let mark = if double { '"' } else { '\'' };
    out.push(mark);
    for character in text.chars() {
        match character {
            '\n' => *out += "\\n",
            '\r' => *out += "\\r",
            '\t' => *out += "\\t",
            '\\' => *out += "\\\\",
            character if character == mark => {
                out.push('\\');
                out.push(mark);
            }
            character if is_printable(character) => out.push(character),
            character => {
                let code = character as u32;
                let _ = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
            }
        }
    }
    out.push(mark);
}

/// Whether `repr` leaves a character unescaped. Rust's rule is the same, except that it escapes a
/// character that combines with the one before if there is none: here there is one.
fn is_printable(character: char) -> bool {
    let (mut buffer, before) = ([0; 4], "a");
    let text = [before, character.encode_utf8(&mut buffer)].concat();
    let escaped = text.escape_debug().to_string();
    matches!(character, '"' | '\'') || !escaped[before.len()..].starts_with('\\')
}

/// Whether Python's `str.isspace` is true for a character.
pub(super) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\x1c'..='\x1f').contains(&character)
}

/// Python's `str.splitlines`, with line ends if they are to be kept.
pub(super) fn lines(text: &str, keep: bool) -> Vec<&str> {
    let ends = [
        '\n', '\r', '\x0b', '\x0c', '\x1c', '\x1d', '\x1e', '\u{85}', '\u{2028}', '\u{2029}',
    ];
    let (mut lines, mut rest) = (Vec::new(), text);
    while let Some(at) = rest.find(ends) {
        let length = if rest[at..].starts_with("\r\n") {
            2
        } else {
            rest[at..].chars().next().map_or(0, char::len_utf8)
        };
        lines.push(&rest[..at + if keep { length } else { 0 }]);
        rest = &rest[at + length..];
    }
    if !rest.is_empty() {
        lines.push(rest);
    }
    lines
}
