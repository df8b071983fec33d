//! Recognises files whose first bytes show another kind than their names say.

use std::io::{BufRead, Result};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Says what kind of file begins with these bytes, if it is a Git LFS pointer, an archive,
/// compressed data or a pickle. The text continues a sentence that begins with the file's name.
/// Returns `None` for any other kind, such as safetensors, Parquet, JSON and plain text.
pub fn foreign(bytes: &[u8]) -> Option<&'static str> {
    // The length at the start of a safetensors file may look like any of the signatures below.
    if bytes.get(4..9) == Some(b"\0\0\0\0{") {
        return None;
    }
    Some(match bytes {
        [0x1f, 0x8b, ..] => "is compressed by gzip: unpack it with `gunzip` first",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "is compressed by zstd: unpack it with `unzstd` first",
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => "is compressed by xz: unpack it with `unxz` first",
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => {
            "is compressed by bzip2: unpack it with `bunzip2` first"
        }
        [b'P', b'K', 3, 4, ..] => {
            "is a zip archive, as `torch.save` writes them too: unpack it, or save its tensors as \
             safetensors"
        }
        [0x80, 2..=5, ..] => {
            "is a Python pickle: save what it holds as JSON, or tensors as safetensors"
        }
        _ if bytes.starts_with(b"version https://git-lfs") => {
            "is a Git LFS pointer, not the file itself: run `git lfs pull` in its folder"
        }
        _ => return None,
    })
}

/// As [`foreign`], for bytes that should begin a text: UTF-16 and Parquet are recognised too.
pub fn foreign_to_text(bytes: &[u8]) -> Option<&'static str> {
    const UTF_16: &str = "is text in UTF-16: save it as UTF-8";
    Some(match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => UTF_16,
        // Without a byte order mark: every other byte of plain English is 0.
        [0, first, 0, second, ..] | [first, 0, second, 0, ..] if *first != 0 && *second != 0 => {
            UTF_16
        }
        [b'P', b'A', b'R', b'1', ..] => "is a Parquet file: let its name end in .parquet",
        _ => return foreign(bytes),
    })
}

/// Says what kind of file a reader reads, if it is not text (see [`foreign_to_text`]). A byte order
/// mark is skipped; nothing else is consumed.
///
/// # Errors
/// If the file cannot be read.
pub fn begin_text(reader: &mut impl BufRead) -> Result<Option<&'static str>> {
    let bytes = reader.fill_buf()?;
    let problem = foreign_to_text(without_mark(bytes));
    if bytes.starts_with(BYTE_ORDER_MARK) {
        reader.consume(BYTE_ORDER_MARK.len());
    }
    Ok(problem)
}

pub(crate) fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_text_is_named_by_its_first_bytes() {
        for (bytes, word) in [
            (
                &b"version https://git-lfs.github.com/spec/v1\noid"[..],
                "`git lfs pull`",
            ),
            (b"\x1f\x8b\x08\0", "gzip"),
            (b"PK\x03\x04\x14", "zip archive"),
            (b"\x80\x02\x8a\n", "pickle"),
            (b"\xff\xfe{\0\"\0", "UTF-16"),
            (b"\xfe\xff\0{\0\"", "UTF-16"),
            (b"{\0\"\0a\0", "UTF-16"),
            (b"PAR1\x15", "Parquet"),
        ] {
            let problem = foreign_to_text(bytes).unwrap_or_default();
            assert!(problem.contains(word), "{bytes:?}: {problem}");
        }
        for bytes in [&b""[..], b"{", b"{}", b"version 2", b"\0\0\0\0"] {
            assert_eq!(foreign_to_text(bytes), None, "{bytes:?}");
        }
        // A safetensors file whose header takes 640 bytes.
        assert_eq!(foreign(b"\x80\x02\0\0\0\0\0\0{\"a\":"), None);
    }

    #[test]
    fn a_byte_order_mark_is_passed_over() {
        let mut reader = &b"\xef\xbb\xbf{}"[..];
        assert_eq!(begin_text(&mut reader).unwrap(), None);
        assert_eq!(reader, b"{}");
        let mut reader = &b"\xef\xbb\xbfversion https://git-lfs.github.com"[..];
        assert!(begin_text(&mut reader).unwrap().is_some());
    }
}
