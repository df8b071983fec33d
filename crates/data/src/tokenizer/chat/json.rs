//! `tojson` as transformers has it.

use super::budget::{charge, cost};
use minijinja::value::{Kwargs, Value as Jinja};
use minijinja::{Error, ErrorKind, State};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};
use std::io;

/// Python's `json.dumps`, which transformers puts in place of Jinja's own filter: nothing is
/// escaped for HTML, and a space follows commas and colons.
pub(super) fn to_json(
    state: &mut State,
    value: Jinja,
    options: Kwargs,
) -> std::result::Result<String, Error> {
    let indent = options.get::<Option<usize>>("indent")?;
    let each = indent.unwrap_or(0).saturating_add(2);
    // An empty text costs nothing, and the indentation is made all the same.
    charge(state, cost(&value)?.max(1).saturating_mul(each))?;
    let bad = |error: String| Error::new(ErrorKind::InvalidOperation, error);
    let mut out = Vec::new();
    match indent {
        None => value.serialize(&mut Serializer::with_formatter(&mut out, Spaced)),
        Some(indent) => {
            let indent = " ".repeat(indent);
            let formatter = PrettyFormatter::with_indent(indent.as_bytes());
            value.serialize(&mut Serializer::with_formatter(&mut out, formatter))
        }
    }
    .map_err(|error| bad(error.to_string()))?;
    String::from_utf8(out).map_err(|error| bad(error.to_string()))
}

/// A space after commas and colons.
struct Spaced;

impl Spaced {
    fn separate<W: ?Sized + io::Write>(out: &mut W, first: bool) -> io::Result<()> {
        out.write_all(if first { b"" } else { b", " })
    }
}

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        Self::separate(out, first)
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        Self::separate(out, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(b": ")
    }
}
