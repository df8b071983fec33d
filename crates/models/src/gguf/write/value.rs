//! The values of keys to be written.

/// The value of a key to be written; the types are those that llama.cpp's converter uses.
#[derive(Clone, Debug, PartialEq)]
pub enum KeyValue {
    /// An unsigned integer of 32 bits.
    U32(u32),
    /// An unsigned integer of 64 bits.
    U64(u64),
    /// A signed integer of 32 bits.
    I32(i32),
    /// A float of 32 bits.
    F32(f32),
    /// A boolean.
    Flag(bool),
    /// A string.
    Text(String),
    /// A list of strings.
    Texts(Vec<String>),
    /// A list of floats.
    F32s(Vec<f32>),
    /// A list of signed integers of 32 bits.
    I32s(Vec<i32>),
    /// A list of booleans.
    Flags(Vec<bool>),
    /// A value copied from another file: its type and its bytes.
    Copied(Vec<u8>),
}

/// What precedes the items of a list: its own type, the items' type, and their number.
fn list(out: &mut Vec<u8>, kind: u32, count: usize) {
    out.extend(9u32.to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend((count as u64).to_le_bytes());
}

fn one(out: &mut Vec<u8>, kind: u32, bytes: &[u8]) {
    out.extend(kind.to_le_bytes());
    out.extend(bytes);
}

/// Appends a string, preceded by its length in bytes.
pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}

impl KeyValue {
    /// The items of a list.
    pub fn count(&self) -> Option<usize> {
        match self {
            Self::Texts(values) => Some(values.len()),
            Self::F32s(values) => Some(values.len()),
            Self::I32s(values) => Some(values.len()),
            Self::Flags(values) => Some(values.len()),
            Self::Copied(bytes) if bytes.starts_with(&9u32.to_le_bytes()) => {
                let count = bytes.get(8..16)?.try_into().ok()?;
                usize::try_from(u64::from_le_bytes(count)).ok()
            }
            _ => None,
        }
    }

    /// Appends the type of the value and the value, as they follow a key's name.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::U32(number) => one(out, 4, &number.to_le_bytes()),
            Self::U64(number) => one(out, 10, &number.to_le_bytes()),
            Self::I32(number) => one(out, 5, &number.to_le_bytes()),
            Self::F32(number) => one(out, 6, &number.to_le_bytes()),
            Self::Flag(flag) => one(out, 7, &[u8::from(*flag)]),
            Self::Text(value) => {
                one(out, 8, &[]);
                text(out, value);
            }
            Self::Texts(values) => {
                list(out, 8, values.len());
                values.iter().for_each(|value| text(out, value));
            }
            Self::F32s(values) => {
                list(out, 6, values.len());
                out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Self::I32s(values) => {
                list(out, 5, values.len());
                out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
            Self::Flags(values) => {
                list(out, 7, values.len());
                out.extend(values.iter().map(|&value| u8::from(value)));
            }
            Self::Copied(bytes) => out.extend(bytes),
        }
    }
}
