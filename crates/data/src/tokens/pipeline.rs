//! Reading and writing while the other threads tokenise.

use crate::error::{DataError, Result};

/// Splits an iterator into pieces, up to its first error.
pub(crate) struct Chunks<I> {
    items: I,
    size: usize,
    failed: Option<DataError>,
}

impl<T, I: Iterator<Item = Result<T>>> Chunks<I> {
    /// Pieces of `size` items.
    pub fn new(items: I, size: usize) -> Self {
        Self {
            items,
            size,
            failed: None,
        }
    }

    /// The next piece; empty at the end, and after an error.
    pub fn next(&mut self) -> Vec<T> {
        let mut chunk = Vec::new();
        while chunk.len() < self.size && self.failed.is_none() {
            match self.items.next() {
                Some(Ok(item)) => chunk.push(item),
                Some(Err(error)) => self.failed = Some(error),
                None => break,
            }
        }
        chunk
    }

    /// The error that ended the iteration, if any.
    pub fn finish(self) -> Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}

/// Runs `there` on rayon's threads and meanwhile `here` on this one; one after the other if rayon
/// uses a single thread.
pub(crate) fn beside<A: Send, B>(
    there: impl FnOnce() -> A + Send,
    here: impl FnOnce() -> B,
) -> (A, B) {
    if rayon::current_num_threads() == 1 {
        return (there(), here());
    }
    let mut result = None;
    let b = rayon::in_place_scope(|scope| {
        scope.spawn(|_| result = Some(there()));
        here()
    });
    (result.expect("the scope has waited for it"), b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::{ThreadId, current};

    #[test]
    fn chunks_end_at_the_first_error() {
        let bad = || DataError::NotFound("c".into());
        let items = vec![Ok('a'), Ok('b'), Ok('c'), Err(bad()), Ok('d')];
        let mut chunks = Chunks::new(items.into_iter(), 2);
        assert_eq!(chunks.next(), ['a', 'b']);
        assert_eq!(chunks.next(), ['c']);
        assert!(chunks.next().is_empty());
        assert!(chunks.finish().is_err());
        let mut chunks = Chunks::new(std::iter::once(Ok(1)), 2);
        assert_eq!((chunks.next(), chunks.next()), (vec![1], vec![]));
        assert!(chunks.finish().is_ok());
    }

    #[test]
    fn two_threads_read_and_tokenise_at_once_and_one_does_not() {
        let ids = |threads| -> (ThreadId, ThreadId) {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            let pool = pool.build().unwrap();
            // The two can meet only if both run at once.
            let meeting = std::sync::Barrier::new(threads);
            let run = || {
                meeting.wait();
                current().id()
            };
            pool.install(|| beside(run, run))
        };
        let (there, here) = ids(2);
        assert_ne!(there, here);
        let (there, here) = ids(1);
        assert_eq!(there, here);
    }
}
