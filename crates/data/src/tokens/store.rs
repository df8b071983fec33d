//! Tokenised examples, stored one after the other in a memory-mapped file or in memory.
//!
//! ```text
//! header      16 bytes: a magic word and the version of this layout
//! examples    ids, then labels, 4 bytes each; the label u32::MAX is "not learnt"
//! index       of each example: tokens (u32), labels that count (u32), row (u64)
//! meta        JSON
//! footer      56 bytes: BLAKE3 hash of the examples, number of examples (u64), bytes of the meta
//!             (u64), the magic word again
//! ```
//!
//! All numbers are little-endian. Only the index is read at once: 16 bytes an example.

use crate::error::{DataError, Result};
use crate::tokens::example::{Example, IGNORE_INDEX};
use blake3::{Hash, Hasher};
use memmap2::Mmap;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, Write};
use std::ops::{Deref, Range};
use std::path::Path;

const MAGIC: &[u8; 8] = b"BPTOKENS";
/// Changes with the layout, or with how rows are tokenised: older files are replaced.
pub(crate) const VERSION: u64 = 8;
const HEADER: usize = 16;
const HASH: usize = 32;
const FOOTER: usize = HASH + 24;
const ENTRY: usize = 16;

/// Writes examples as they come; the index is kept in memory and written last.
pub(crate) struct StoreWriter<W: Write> {
    out: W,
    hasher: Hasher,
    index: Vec<u8>,
    examples: u64,
}

impl<W: Write> StoreWriter<W> {
    pub fn new(mut out: W) -> io::Result<Self> {
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        Ok(Self {
            out,
            hasher: Hasher::new(),
            index: Vec::new(),
            examples: 0,
        })
    }

    /// Adds an example, of which this many labels count.
    pub fn push(&mut self, example: &Example, supervised: usize) -> io::Result<()> {
        let labels = example.labels.iter();
        let labels = labels.map(|&label| u32::try_from(label).unwrap_or(u32::MAX));
        let words = example.input_ids.iter().copied().chain(labels);
        let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        self.out.write_all(&bytes)?;
        let tokens = example.input_ids.len();
        // The length goes first, so that no two sequences of examples hash alike.
        self.hasher.update(&(tokens as u64).to_le_bytes());
        self.hasher.update(&bytes);
        self.index.extend((tokens as u32).to_le_bytes());
        self.index.extend((supervised as u32).to_le_bytes());
        self.index.extend((example.row as u64).to_le_bytes());
        self.examples += 1;
        Ok(())
    }

    pub fn finish(mut self, meta: &impl Serialize) -> io::Result<W> {
        let meta = serde_json::to_vec(meta)?;
        self.out.write_all(&self.index)?;
        self.out.write_all(&meta)?;
        self.out.write_all(self.hasher.finalize().as_bytes())?;
        self.out.write_all(&self.examples.to_le_bytes())?;
        self.out.write_all(&(meta.len() as u64).to_le_bytes())?;
        self.out.write_all(MAGIC)?;
        Ok(self.out)
    }
}

#[derive(Debug)]
enum Bytes {
    Memory(Vec<u8>),
    Mapped(Mmap),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Memory(bytes) => bytes,
            Self::Mapped(map) => map,
        }
    }
}

/// Tokenised examples, read one at a time.
#[derive(Debug)]
pub(crate) struct Store {
    bytes: Bytes,
    entries: Vec<Entry>,
    meta: Range<usize>,
    hash: Hash,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The first byte of the ids.
    start: u64,
    tokens: u32,
    supervised: u32,
    row: u64,
}

impl Store {
    /// Examples in memory; `supervised` says how many of their labels count.
    pub fn memory(examples: &[Example], supervised: impl Fn(&[i64]) -> usize) -> io::Result<Self> {
        let mut writer = StoreWriter::new(Vec::new())?;
        for example in examples {
            writer.push(example, supervised(&example.labels))?;
        }
        let bytes = writer.finish(&())?;
        Self::new(Bytes::Memory(bytes)).ok_or_else(|| io::Error::other("is not whole"))
    }

    /// Maps a file; `None` if it is not a complete store of this version.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        let file = File::open(path).map_err(DataError::io(path))?;
        // SAFETY: files of the cache are written under another name and never changed.
        let map = unsafe { Mmap::map(&file) }.map_err(DataError::io(path))?;
        Ok(Self::new(Bytes::Mapped(map)))
    }

    fn new(bytes: Bytes) -> Option<Self> {
        let footer = bytes.len().checked_sub(FOOTER)?;
        let whole = bytes.len() >= HEADER + FOOTER
            && bytes[..8] == *MAGIC
            && u64_at(&bytes, 8) == VERSION
            && bytes[footer + HASH + 16..] == *MAGIC;
        if !whole {
            return None;
        }
        let hash = Hash::from_slice(&bytes[footer..footer + HASH]).ok()?;
        let [examples, meta] =
            [footer + HASH, footer + HASH + 8].map(|at| u64_at(&bytes, at) as usize);
        let meta = footer.checked_sub(meta)?..footer;
        let index = meta.start.checked_sub(examples.checked_mul(ENTRY)?)?;
        let mut start = HEADER as u64;
        let entries = bytes[index..meta.start].chunks_exact(ENTRY).map(|entry| {
            let first = start;
            let tokens = u32_at(entry, 0);
            start += 8 * u64::from(tokens);
            Entry {
                start: first,
                tokens,
                supervised: u32_at(entry, 4),
                row: u64_at(entry, 8),
            }
        });
        let entries = entries.collect();
        (start == index as u64).then_some(Self {
            bytes,
            entries,
            meta,
            hash,
        })
    }

    /// The metadata given when writing ended; `None` if it is of another type.
    pub fn meta<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.bytes[self.meta.clone()]).ok()
    }

    /// The BLAKE3 hash of the tokens and labels of all examples, in writing order.
    pub fn hash(&self) -> &Hash {
        &self.hash
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number of tokens of each example.
    pub fn lengths(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.entries.iter().map(|entry| entry.tokens as usize)
    }

    /// The number of labels of an example that count.
    pub fn supervised(&self, index: usize) -> usize {
        self.entries[index].supervised as usize
    }

    /// A copy of an example.
    pub fn get(&self, index: usize) -> Example {
        let entry = self.entries[index];
        let (start, size) = (entry.start as usize, 4 * entry.tokens as usize);
        let words = |bytes: Range<usize>| {
            let words = self.bytes[bytes].as_chunks::<4>().0.iter();
            words.map(|&word| u32::from_le_bytes(word))
        };
        let labels = words(start + size..start + 2 * size).map(|label| match label {
            u32::MAX => IGNORE_INDEX,
            label => i64::from(label),
        });
        Example {
            input_ids: words(start..start + size).collect(),
            labels: labels.collect(),
            row: entry.row as usize,
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let word = bytes[at..].first_chunk();
    word.map_or(0, |&word| u32::from_le_bytes(word))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let word = bytes[at..].first_chunk();
    word.map_or(0, |&word| u64::from_le_bytes(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examples() -> Vec<Example> {
        let example = |n: u32| Example {
            input_ids: (0..n).map(|i| i * 7).collect(),
            labels: (0..n)
                .map(|i| if i < 2 { IGNORE_INDEX } else { 3 })
                .collect(),
            row: n as usize * 10,
        };
        vec![example(4), example(0), example(9)]
    }

    fn count(labels: &[i64]) -> usize {
        labels
            .iter()
            .filter(|&&label| label != IGNORE_INDEX)
            .count()
    }

    #[test]
    fn gives_back_what_was_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut writer = StoreWriter::new(File::create(&path).unwrap()).unwrap();
        for example in examples() {
            writer.push(&example, count(&example.labels)).unwrap();
        }
        writer.finish(&"said").unwrap();
        let mapped = Store::open(&path).unwrap().unwrap();
        for store in [&mapped, &Store::memory(&examples(), count).unwrap()] {
            let found: Vec<Example> = (0..store.len()).map(|i| store.get(i)).collect();
            assert_eq!(found, examples());
            assert_eq!(store.lengths().collect::<Vec<_>>(), [4, 0, 9]);
            assert_eq!((store.supervised(0), store.supervised(2)), (2, 7));
        }
        assert_eq!(
            mapped.hash(),
            Store::memory(&examples(), count).unwrap().hash(),
            "the same examples"
        );
        let mut other = examples();
        other.swap(0, 2);
        assert_ne!(mapped.hash(), Store::memory(&other, count).unwrap().hash());
        assert_eq!(mapped.meta::<String>().unwrap(), "said");
        assert!(mapped.meta::<u64>().is_none());
    }

    #[test]
    fn a_file_that_was_cut_anywhere_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let mut writer = StoreWriter::new(Vec::new()).unwrap();
        for example in examples() {
            writer.push(&example, count(&example.labels)).unwrap();
        }
        let bytes = writer.finish(&"said").unwrap();
        for length in 1..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(Store::open(&path).unwrap().is_none(), "{length}");
        }
    }
}
