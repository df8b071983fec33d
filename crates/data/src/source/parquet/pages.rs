//! Checks the sizes that the pages of a Parquet file claim, before they are read.
//!
//! The `parquet` crate allocates what the header of a page claims to hold, which in a damaged file
//! may be anything.

use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

/// The size that any page may have: writers make pages of about 1 MiB.
const ALWAYS: u64 = 3 << 19;
/// By how many times a larger page may exceed its compressed size: the most that gzip reaches.
const RATIO: u64 = 1032;
/// How deep the header of a page may be nested.
const DEPTH: usize = 16;

type Result<T> = std::result::Result<T, ParquetError>;

/// Rejects a column whose pages claim to hold far more than their bytes can.
///
/// # Errors
/// If there is such a page, or one whose header cannot be read.
pub(super) fn check(file: &File, column: &ColumnChunkMetaData) -> Result<()> {
    let (start, length) = column.byte_range();
    let (mut at, end) = (start, start.saturating_add(length));
    while at < end {
        let mut reader = BufReader::with_capacity(256, file);
        reader.seek(SeekFrom::Start(at))?;
        let mut head = Thrift { reader, read: 0 };
        let sizes = head.page_sizes()?;
        if sizes.uncompressed > ALWAYS.max(RATIO.saturating_mul(sizes.compressed)) {
            return Err(ParquetError::General(format!(
                "a page of `{}` has {} bytes and claims to hold {}",
                column.column_path(),
                sizes.compressed,
                sizes.uncompressed
            )));
        }
        at = at.saturating_add(head.read + sizes.compressed);
    }
    Ok(())
}

/// The sizes in the header of a page.
#[derive(Debug, Default, PartialEq)]
struct Sizes {
    uncompressed: u64,
    compressed: u64,
}

/// Thrift's compact protocol, as much of it as is needed to skip through a page header.
struct Thrift<R> {
    reader: R,
    /// The bytes read.
    read: u64,
}

impl<R: Read> Thrift<R> {
    /// Reads a `PageHeader`, whose fields 2 and 3 are the sizes.
    fn page_sizes(&mut self) -> Result<Sizes> {
        let mut sizes = Sizes::default();
        let mut id = 0;
        while let Some(kind) = self.field(&mut id)? {
            match (id, kind) {
                (2, 5) => sizes.uncompressed = self.size()?,
                (3, 5) => sizes.compressed = self.size()?,
                _ => self.skip(kind, 0)?,
            }
        }
        Ok(sizes)
    }

    /// The kind of the next field of a struct, whose number follows `id`; `None` at the end of the
    /// struct.
    fn field(&mut self, id: &mut u64) -> Result<Option<u8>> {
        let head = self.byte()?;
        if head == 0 {
            return Ok(None);
        }
        *id = match head >> 4 {
            0 => self.varint()? >> 1,
            step => id.saturating_add(step.into()),
        };
        Ok(Some(head & 0x0f))
    }

    fn skip(&mut self, kind: u8, depth: usize) -> Result<()> {
        if depth > DEPTH {
            return Err(broken());
        }
        match kind {
            // The kind of a boolean field is its value.
            1 | 2 => Ok(()),
            3 => self.pass(1),
            4..=6 => self.varint().map(drop),
            7 => self.pass(8),
            8 => {
                let length = self.varint()?;
                self.pass(length)
            }
            9 | 10 => {
                let head = self.byte()?;
                let count = match head >> 4 {
                    15 => self.varint()?,
                    count => count.into(),
                };
                (0..count).try_for_each(|_| self.element(head & 0x0f, depth))
            }
            11 => {
                let count = self.varint()?;
                let kinds = if count == 0 { 0 } else { self.byte()? };
                (0..count).try_for_each(|_| {
                    self.element(kinds >> 4, depth)?;
                    self.element(kinds & 0x0f, depth)
                })
            }
            12 => {
                let mut id = 0;
                while let Some(kind) = self.field(&mut id)? {
                    self.skip(kind, depth + 1)?;
                }
                Ok(())
            }
            _ => Err(broken()),
        }
    }

    /// A value in a list or map, where a boolean takes a byte.
    fn element(&mut self, kind: u8, depth: usize) -> Result<()> {
        match kind {
            1 | 2 => self.pass(1),
            kind => self.skip(kind, depth + 1),
        }
    }

    /// A size: an integer that is not negative.
    fn size(&mut self) -> Result<u64> {
        match self.varint()? {
            zigzag if zigzag & 1 == 0 => Ok(zigzag >> 1),
            _ => Err(broken()),
        }
    }

    fn varint(&mut self) -> Result<u64> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(broken())
    }

    fn byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.reader.read_exact(&mut byte)?;
        self.read += 1;
        Ok(byte[0])
    }

    fn pass(&mut self, bytes: u64) -> Result<()> {
        let passed = std::io::copy(&mut (&mut self.reader).take(bytes), &mut std::io::sink())?;
        self.read += passed;
        if passed == bytes {
            Ok(())
        } else {
            Err(broken())
        }
    }
}

fn broken() -> ParquetError {
    ParquetError::General("the head of a page cannot be read".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(bytes: &[u8]) -> Option<(Sizes, u64)> {
        let mut head = Thrift {
            reader: bytes,
            read: 0,
        };
        let sizes = head.page_sizes().ok()?;
        Some((sizes, head.read))
    }

    /// Bytes as the specification of Thrift's compact protocol defines them.
    #[test]
    fn the_head_of_a_page_is_passed_over() {
        // type 0, sizes 300 and 100, a struct of an integer, a boolean, a text, a list and a map.
        let head = [
            0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0xc8, 0x01, // i32 0, 300, 100
            0x1c, 0x15, 0x0e, 0x11, 0x18, 0x02, b'h', b'i', // { 7, true, "hi",
            0x19, 0x21, 0x01, 0x02, 0x1b, 0x01, 0x58, 0x02, 0x01, b'x',
            0x00, // [..], {1: "x"} }
            0x00, 0xff,
        ];
        let expected = Sizes {
            uncompressed: 300,
            compressed: 100,
        };
        assert_eq!(sizes(&head), Some((expected, head.len() as u64 - 1)));
        // Cut off, a negative size, a text longer than the file, a kind that does not exist.
        assert_eq!(sizes(&head[..9]), None);
        assert_eq!(sizes(&[0x25, 0x01, 0x00]), None);
        assert_eq!(sizes(&[0x18, 0xff, 0xff, 0x03, 0x00]), None);
        assert_eq!(sizes(&[0x1e, 0x00]), None);
    }
}
