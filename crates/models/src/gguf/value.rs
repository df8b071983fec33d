//! The values of a GGUF file's keys.

use super::cursor::{Cursor, Result};

const TEXT: u32 = 8;
const LIST: u32 = 9;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Whole(i128),
    Single(f32),
    Double(f64),
    Flag(bool),
    Text(&'a str),
    List(List<'a>),
}

/// A list, whose values are read when they are requested.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct List<'a> {
    kind: u32,
    pub count: usize,
    bytes: &'a [u8],
}

impl<'a> Value<'a> {
    /// Reads a value of this type.
    pub fn read(cursor: &mut Cursor<'a>, kind: u32, what: &str) -> Result<Self> {
        if let Some(size) = size(kind) {
            return Ok(number(kind, cursor.take(size, what)?));
        }
        match kind {
            TEXT => Ok(Self::Text(cursor.text(what)?)),
            LIST => List::read(cursor, what).map(Self::List),
            _ => Err(no_kind(kind, what, cursor.at())),
        }
    }

    /// Its description, for messages.
    pub fn kind(&self) -> String {
        match self {
            Self::Whole(whole) => format!("the whole number {whole}"),
            Self::Single(number) => format!("the number {number}"),
            Self::Double(number) => format!("the number {number}"),
            Self::Flag(flag) => flag.to_string(),
            Self::Text(text) if text.chars().count() > 60 => {
                let start: String = text.chars().take(60).collect();
                format!("the text {start:?}…")
            }
            Self::Text(text) => format!("the text {text:?}"),
            Self::List(list) => format!("a list of {}", list.count),
        }
    }

    /// A number; one of 32 bits is converted by its shortest decimal form.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Whole(whole) => Some(*whole as f64),
            Self::Single(number) => number.to_string().parse().ok(),
            Self::Double(number) => Some(*number),
            _ => None,
        }
    }
}

impl<'a> List<'a> {
    fn read(cursor: &mut Cursor<'a>, what: &str) -> Result<Self> {
        let kind = cursor.u32(what)?;
        // A string takes at least its length field.
        let least = match (kind, size(kind)) {
            (_, Some(size)) => size,
            (TEXT, None) => 8,
            (LIST, None) => {
                let at = cursor.at();
                return Err(format!("{what} at byte {at} is a list of lists"));
            }
            _ => return Err(no_kind(kind, what, cursor.at())),
        };
        let count = cursor.count(least, &format!("the length of {what}"))?;
        let start = cursor.at();
        let bytes = match size(kind) {
            Some(size) => cursor.take(size * count as u64, what)?,
            None => {
                for index in 0..count {
                    let text = cursor.text(what);
                    text.map_err(|reason| format!("{reason}; it is item {index} of a list"))?;
                }
                cursor.since(start)
            }
        };
        Ok(Self { kind, count, bytes })
    }

    /// The strings, if it is a list of strings.
    pub fn texts(&self) -> Option<impl Iterator<Item = &'a str> + use<'a>> {
        let mut cursor = Cursor::new(self.bytes);
        let count = self.count;
        let text = move |_| cursor.text("").expect("it was read before");
        (self.kind == TEXT).then(|| (0..count).map(text))
    }

    /// The numbers, if it is a list of numbers.
    pub fn numbers(&self) -> Option<impl Iterator<Item = Value<'a>> + use<'a>> {
        let (kind, size) = (self.kind, size(self.kind)? as usize);
        let values = self.bytes.chunks_exact(size);
        Some(values.map(move |bytes| number(kind, bytes)))
    }
}

/// The size in bytes of a number of this type.
fn size(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// A number of a type that [`size`] knows.
fn number<'a>(kind: u32, bytes: &[u8]) -> Value<'a> {
    let mut wide = [0; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let unsigned = u64::from_le_bytes(wide);
    match kind {
        1 => Value::Whole((unsigned as i8).into()),
        3 => Value::Whole((unsigned as i16).into()),
        5 => Value::Whole((unsigned as i32).into()),
        6 => Value::Single(f32::from_bits(unsigned as u32)),
        7 => Value::Flag(unsigned != 0),
        11 => Value::Whole((unsigned as i64).into()),
        12 => Value::Double(f64::from_bits(unsigned)),
        _ => Value::Whole(unsigned.into()),
    }
}

fn no_kind(kind: u32, what: &str, at: usize) -> String {
    format!("{what} at byte {at} is of kind {kind}, and GGUF has kinds 0 to 12")
}
