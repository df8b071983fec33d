//! Reading the bytes of a GGUF file in order.

/// What is wrong with a file, and where.
pub(super) type Result<T> = std::result::Result<T, String>;

/// A position in a file.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The number of bytes before this position.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The bytes from an earlier position to this one.
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    /// The next `count` bytes; errors call them `what`.
    pub fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8]> {
        let left = self.bytes.len() - self.at;
        let short = || {
            format!(
                "{what} at byte {} would take {count} bytes, and the file has {left} more: it is \
                 truncated or broken",
                self.at
            )
        };
        let count = usize::try_from(count).ok().filter(|&count| count <= left);
        let count = count.ok_or_else(short)?;
        let taken = &self.bytes[self.at..self.at + count];
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let taken = self.take(N as u64, what)?;
        Ok(taken.try_into().expect("so many were taken"))
    }

    pub fn u32(&mut self, what: &str) -> Result<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, what: &str) -> Result<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A string: its length in bytes, then the bytes.
    pub fn text(&mut self, what: &str) -> Result<&'a str> {
        let length = self.u64(what)?;
        let start = self.at;
        let bytes = self.take(length, what)?;
        str::from_utf8(bytes).map_err(|error| {
            let at = start + error.valid_up_to();
            format!("{what} at byte {start} is not UTF-8 (at byte {at})")
        })
    }

    /// A count of items that take at least `least` bytes each.
    pub fn count(&mut self, least: u64, what: &str) -> Result<usize> {
        let at = self.at;
        let count = self.u64(what)?;
        let left = (self.bytes.len() - self.at) as u64;
        match usize::try_from(count) {
            Ok(whole) if count <= left / least => Ok(whole),
            _ => Err(format!(
                "{what} = {count} at byte {at}, and the {left} bytes after it cannot hold that many: \
                 the file is truncated or broken"
            )),
        }
    }
}
