//! A GGUF file: its keys, and where its tensors are.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::cursor::Cursor;
use super::types::GgmlType;
use super::value::{List, Value};
use super::write::KeyValue;
use crate::error::{ModelError, Result};
use crate::weights::mapped::Mapped;

/// The first bytes of every file.
const MAGIC: &[u8] = b"GGUF";
/// The alignment of tensors, unless `general.alignment` gives another.
pub(super) const ALIGNMENT: u64 = 32;
/// The most dimensions that a tensor may have.
const DIMENSIONS: u32 = 4;
/// The fewest bytes of a key: the length of its name, its type, a value.
const LEAST_KEY: u64 = 8 + 4 + 1;
/// The fewest bytes of a tensor's description: the length of its name, its dimensions, type and
/// offset.
const LEAST_TENSOR: u64 = 8 + 4 + 8 + 4 + 8;

/// A GGUF file of version 2 or 3, or several that form one model, mapped into memory. Everything a
/// file says about itself is checked against its length when it is opened; no tensor is read yet.
#[derive(Debug)]
pub struct Gguf {
    /// The first one has the keys.
    files: Vec<Mapped>,
    /// The type of each key's value, and its position.
    keys: Keys,
    pub(super) tensors: Tensors,
}

/// Where a tensor is, and what it is.
#[derive(Debug)]
pub(super) struct TensorInfo {
    /// The slowest dimension first, as everywhere else; the file has it last.
    pub shape: Vec<usize>,
    pub of: &'static GgmlType,
    /// The index of its file.
    file: usize,
    /// Its bytes in the file.
    pub start: usize,
    pub end: usize,
}

impl Gguf {
    /// Opens a file and checks it. If it is the first of several (`NAME-00001-of-00003.gguf`),
    /// opens the others too.
    ///
    /// # Errors
    /// If the file is not GGUF, is truncated or contradicts itself; the error has the key or
    /// tensor, the value and the byte. If it is one of several files but not the first.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut opened = Self {
            files: Vec::new(),
            keys: Keys::new(),
            tensors: Tensors::new(),
        };
        opened.keys = opened.add(path)?;
        let count = opened.whole("split.count")?.unwrap_or(1);
        if count <= 1 {
            return Ok(opened);
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let names = parts(&name).filter(|names| names.len() as u64 == count);
        let names = names.filter(|names| names[0] == name).ok_or_else(|| {
            opened.error(format!(
                "split.count = {count}: the model is in that many files; give the first of them, \
                 named NAME-00001-of-{count:05}.gguf, with the others beside it"
            ))
        })?;
        for name in &names[1..] {
            opened.add(&path.with_file_name(name))?;
        }
        Ok(opened)
    }

    /// Opens a file and adds its tensors; returns its keys.
    fn add(&mut self, path: &Path) -> Result<Keys> {
        let file = Mapped::open(path)?;
        let bad = |reason: String| ModelError::file(path, reason);
        let (keys, tensors) = parse(&file).map_err(bad)?;
        for (name, mut info) in tensors {
            info.file = self.files.len();
            if self.tensors.contains_key(&name) {
                let first = self.path().display();
                return Err(bad(format!(
                    "has the tensor {name}, which is in {first} too"
                )));
            }
            self.tensors.insert(name, info);
        }
        self.files.push(file);
        Ok(keys)
    }

    /// The path of the file, or of the first of several.
    pub fn path(&self) -> &Path {
        self.files[0].path()
    }

    /// The bytes of a tensor.
    pub(super) fn bytes(&self, info: &TensorInfo) -> &[u8] {
        &self.files[info.file][info.start..info.end]
    }

    /// The bytes of a tensor; they keep the file mapped while in use.
    pub(super) fn shared(self: &Arc<Self>, info: &TensorInfo) -> Bytes {
        struct Part(Arc<Gguf>, usize);
        impl AsRef<[u8]> for Part {
            fn as_ref(&self) -> &[u8] {
                &self.0.files[self.1]
            }
        }
        Bytes::from_owner(Part(Arc::clone(self), info.file)).slice(info.start..info.end)
    }

    /// Releases the memory of some of a tensor's bytes after they were copied.
    pub(super) fn forget(&self, info: &TensorInfo, from: usize, to: usize) {
        self.files[info.file].forget(info.start + from, info.start + to);
    }

    /// An error about this file.
    pub(super) fn error(&self, reason: impl Into<String>) -> ModelError {
        ModelError::file(self.path(), reason)
    }

    /// The names of all keys.
    #[cfg(test)]
    pub(super) fn key_names(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().map(String::as_str)
    }

    pub(super) fn value(&self, key: &str) -> Option<Value<'_>> {
        let &(kind, at) = self.keys.get(key)?;
        let mut cursor = Cursor::new(&self.files[0][at..]);
        Some(Value::read(&mut cursor, kind, key).expect("it was read before"))
    }

    /// The keys with this prefix, with their raw values.
    pub(super) fn copied(&self, start: &str) -> Vec<(String, KeyValue)> {
        let keys = self.keys.range(start.to_string()..);
        let keys = keys.take_while(|(key, _)| key.starts_with(start));
        let copy = |(key, &(kind, at)): (&String, &(u32, usize))| {
            let bytes = &self.files[0][at..];
            let mut cursor = Cursor::new(bytes);
            Value::read(&mut cursor, kind, key).expect("it was read before");
            let value = [&kind.to_le_bytes()[..], &bytes[..cursor.at()]].concat();
            (key.clone(), KeyValue::Copied(value))
        };
        keys.map(copy).collect()
    }

    /// What `read` returns for a key's value; `None` if there is no such key.
    fn read<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.value(key) else {
            return Ok(None);
        };
        let found = read(&value).ok_or_else(|| {
            let (_, at) = self.keys[key];
            let kind = value.kind();
            self.error(format!("{key} at byte {at} is {kind}: expected {expected}"))
        });
        found.map(Some)
    }

    /// The error for a missing key.
    pub(super) fn missing(&self, key: &str) -> ModelError {
        self.error(format!("has no key {key}, which is needed"))
    }

    /// A string, if the key exists.
    pub(super) fn text(&self, key: &str) -> Result<Option<&str>> {
        self.read(key, "a text", |value| match value {
            Value::Text(text) => Some(*text),
            _ => None,
        })
    }

    /// A whole number of at least 0, if the key exists.
    pub(super) fn whole(&self, key: &str) -> Result<Option<u64>> {
        self.read(key, "a whole number from 0", |value| match value {
            Value::Whole(whole) => u64::try_from(*whole).ok(),
            _ => None,
        })
    }

    /// A whole number, if the key exists.
    fn signed(&self, key: &str) -> Result<Option<i128>> {
        self.read(key, "a whole number", |value| match value {
            Value::Whole(whole) => Some(*whole),
            _ => None,
        })
    }

    /// The id of a special token, if the key exists. An id outside of the vocabulary counts as
    /// missing, as in llama.cpp: converters write such ids, and -1.
    pub(super) fn token(&self, name: &str) -> Result<Option<u64>> {
        let Some(id) = self.signed(&token_key(name))? else {
            return Ok(None);
        };
        let id = u64::try_from(id).ok();
        Ok(id.filter(|&id| self.number_of_tokens().is_none_or(|count| id < count)))
    }

    /// Logs the special tokens whose ids are out of range.
    pub(super) fn warn_of_tokens(&self) -> Result<()> {
        for name in ["bos", "eos", "eot", "eom", "unknown", "padding"] {
            let key = token_key(name);
            if let (Some(id), None) = (self.signed(&key)?, self.token(name)?) {
                let count = self.number_of_tokens().unwrap_or_default();
                tracing::warn!(
                    "{}: {key} = {id}, and there are {count} tokens: it is left out",
                    self.path().display()
                );
            }
        }
        Ok(())
    }

    fn number_of_tokens(&self) -> Option<u64> {
        match self.value("tokenizer.ggml.tokens") {
            Some(Value::List(tokens)) => Some(tokens.count as u64),
            _ => Some(*self.tensors.get("token_embd.weight")?.shape.first()? as u64),
        }
    }

    /// The `top_k` that the authors recommend, if they do; 0 and below stand for all tokens.
    pub(super) fn top_k(&self) -> Result<Option<u64>> {
        let top_k = self.signed("general.sampling.top_k")?;
        Ok(top_k.map(|top_k| u64::try_from(top_k).unwrap_or(0)))
    }

    /// A number, if the key exists.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>> {
        self.read(key, "a number", |value| {
            value.number().filter(|number| number.is_finite())
        })
    }

    /// A boolean, if the key exists.
    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.read(key, "true or false", |value| match value {
            Value::Flag(flag) => Some(*flag),
            _ => None,
        })
    }

    /// A list of strings, if the key exists.
    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.list(key, "a list of texts", |list| {
            list.texts().map(Iterator::collect)
        })
    }

    /// A list of numbers, if the key exists.
    pub(super) fn numbers(&self, key: &str) -> Result<Option<Vec<f64>>> {
        self.list(key, "a list of numbers", |list| {
            list.numbers()?.map(|value| value.number()).collect()
        })
    }

    /// A list of booleans, if the key exists.
    pub(super) fn flags(&self, key: &str) -> Result<Option<Vec<bool>>> {
        let flag = |value| match value {
            Value::Flag(flag) => Some(flag),
            _ => None,
        };
        self.list(key, "a list of what is true or false", |list| {
            list.numbers()?.map(flag).collect()
        })
    }

    fn list<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&List<'a>) -> Option<T>,
    ) -> Result<Option<T>> {
        self.read(key, expected, |value| match value {
            Value::List(list) => read(list),
            _ => None,
        })
    }
}

fn token_key(name: &str) -> String {
    format!("tokenizer.ggml.{name}_token_id")
}

/// The most files that a model may consist of.
const PARTS: usize = 10_000;

/// The names of the files that form one model, from the name of one of them.
pub(crate) fn parts(name: &str) -> Option<Vec<String>> {
    let stem = name.strip_suffix(".gguf")?;
    let (start, count) = stem.rsplit_once("-of-")?;
    let (start, number) = start.rsplit_once('-')?;
    let digits = |text: &str| text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
    let count: usize = count
        .parse()
        .ok()
        .filter(|_| digits(count) && digits(number))?;
    let part = |number| format!("{start}-{number:05}-of-{count:05}.gguf");
    (count <= PARTS).then(|| (1..=count).map(part).collect())
}

type Keys = BTreeMap<String, (u32, usize)>;
type Tensors = BTreeMap<String, TensorInfo>;

fn parse(bytes: &[u8]) -> std::result::Result<(Keys, Tensors), String> {
    let mut cursor = Cursor::new(bytes);
    check_start(&mut cursor, bytes)?;
    let tensor_count = cursor.u64("the number of tensors")?;
    let key_count = cursor.count(LEAST_KEY, "the number of keys")?;
    let mut keys = Keys::new();
    for _ in 0..key_count {
        let at = cursor.at();
        let key = cursor.text("the name of a key")?;
        let kind = cursor.u32(key)?;
        let start = cursor.at();
        let value = Value::read(&mut cursor, kind, key)?;
        if key == "general.alignment" {
            check_alignment(&value, start)?;
        }
        if keys.insert(key.to_string(), (kind, start)).is_some() {
            return Err(format!("has the key {key} a second time at byte {at}"));
        }
    }
    let alignment = keys.get("general.alignment").map(|&(kind, at)| {
        let value = Value::read(&mut Cursor::new(&bytes[at..]), kind, "general.alignment");
        value.map(|value| value.number().unwrap_or_default() as u64)
    });
    let alignment = alignment.transpose()?.unwrap_or(ALIGNMENT);
    let left = (bytes.len() - cursor.at()) as u64;
    if tensor_count > left / LEAST_TENSOR {
        return Err(format!(
            "the number of tensors = {tensor_count} at byte 8, and the {left} bytes after the keys \
             cannot hold that many: the file is truncated or broken"
        ));
    }
    let mut tensors = Vec::new();
    for _ in 0..tensor_count {
        tensors.push(tensor(&mut cursor, alignment)?);
    }
    let start = (cursor.at() as u64).next_multiple_of(alignment);
    placed(tensors, start, bytes.len() as u64).map(|tensors| (keys, tensors))
}

fn check_start(cursor: &mut Cursor, bytes: &[u8]) -> std::result::Result<(), String> {
    if bytes.starts_with(b"version https://git-lfs") {
        return Err("is a pointer of Git LFS, not the file: run `git lfs pull`".into());
    }
    if cursor.take(4, "the first word")? != MAGIC {
        let start = bytes[..4].escape_ascii();
        return Err(format!(
            "is not a GGUF file: it begins with \"{start}\", not \"GGUF\""
        ));
    }
    match cursor.u32("the version")? {
        2 | 3 => Ok(()),
        version if (1..=3).contains(&version.swap_bytes()) => Err(format!(
            "is in the byte order of big-endian machines (version {} at byte 4): only little-endian \
             files are read",
            version.swap_bytes()
        )),
        version => Err(format!(
            "version = {version} at byte 4: versions 2 and 3 are read; make the file again with a \
             newer llama.cpp"
        )),
    }
}

fn check_alignment(value: &Value, at: usize) -> std::result::Result<(), String> {
    match value {
        Value::Whole(whole) if (1..=1 << 20).contains(whole) && whole & (whole - 1) == 0 => Ok(()),
        other => Err(format!(
            "general.alignment at byte {at} is {}: expected a power of two",
            other.kind()
        )),
    }
}

/// A tensor's description. Its offset counts from where the tensors begin.
struct Said {
    name: String,
    info: TensorInfo,
    offset: u64,
    bytes: u64,
}

fn tensor(cursor: &mut Cursor, alignment: u64) -> std::result::Result<Said, String> {
    let name = cursor.text("the name of a tensor")?.to_string();
    let at = cursor.at();
    let what = format!("tensor {name}");
    let bad = |reason: String| format!("{what} at byte {at}: {reason}");
    let dimensions = cursor.u32(&what)?;
    if dimensions == 0 || dimensions > DIMENSIONS {
        return Err(bad(format!(
            "{dimensions} dimensions, and there are 1 to {DIMENSIONS}"
        )));
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(cursor.u64(&what)?);
    }
    let number = cursor.u32(&what)?;
    let of = GgmlType::of(number).ok_or_else(|| {
        let known = GgmlType::readable();
        bad(format!("type {number} is not known; known: {known}"))
    })?;
    let offset = cursor.u64(&what)?;
    // If one dimension were 0, nothing would limit the others.
    let values = (shape.iter()).try_fold(1u64, |values, &size| values.checked_mul(size));
    let values = values.filter(|&values| values > 0);
    let bytes = values.and_then(|values| (values / of.values as u64).checked_mul(of.bytes as u64));
    let (true, Some(bytes)) = (shape[0].is_multiple_of(of.values as u64), bytes) else {
        return Err(bad(format!(
            "shape {shape:?} does not fit {}, whose blocks have {} values",
            of.name, of.values
        )));
    };
    if offset % alignment != 0 {
        return Err(bad(format!(
            "offset {offset} is not a multiple of the alignment, {alignment}"
        )));
    }
    shape.reverse();
    let info = TensorInfo {
        shape: shape.into_iter().map(|size| size as usize).collect(),
        of,
        file: 0,
        start: 0,
        end: 0,
    };
    Ok(Said {
        name,
        info,
        offset,
        bytes,
    })
}

/// Sets the positions of tensors in a file of `length` bytes, in which they begin at `start`.
fn placed(mut tensors: Vec<Said>, start: u64, length: u64) -> std::result::Result<Tensors, String> {
    tensors.sort_by_key(|tensor| tensor.offset);
    let mut placed = Tensors::new();
    let (mut taken, mut before) = (0, String::new());
    for Said {
        name,
        mut info,
        offset,
        bytes,
    } in tensors
    {
        if offset < taken {
            return Err(format!(
                "tensor {name} has the offset {offset}, where {before} still is (to {taken})"
            ));
        }
        let from = start.checked_add(offset);
        let to = from.and_then(|from| from.checked_add(bytes));
        let (Some(from), Some(to)) = (from, to.filter(|&to| to <= length)) else {
            return Err(format!(
                "tensor {name} has {bytes} bytes at the offset {offset} from byte {start}, and the \
                 file has {length} bytes: it is truncated or broken"
            ));
        };
        (info.start, info.end) = (from as usize, to as usize);
        (taken, before) = (offset + bytes, name.clone());
        if placed.insert(name, info).is_some() {
            return Err(format!("has the tensor {before} twice"));
        }
    }
    Ok(placed)
}
