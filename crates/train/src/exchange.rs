//! What several processes that train one model together tell each other: some numbers are added up, some
//! bytes are handed out.

#[cfg(feature = "mpi")]
pub(crate) mod mpi;
pub mod threads;

use std::fmt::Debug;

use crate::error::Result;

/// One of several processes, its rank, and how it reaches the others.
///
/// Every rank makes the same calls in the same order; each waits for all others.
pub trait Exchange: Debug + Send + Sync {
    /// The number of this process, from 0.
    fn rank(&self) -> usize;

    /// How many processes there are.
    fn size(&self) -> usize;

    /// Its number among those of its host, from 0.
    fn local_rank(&self) -> usize;

    /// How many of them its host has.
    fn local_size(&self) -> usize;

    /// The name of its host.
    fn host(&self) -> String;

    /// Adds up what the ranks hold at each place; all of them have the same bits after it.
    ///
    /// # Errors
    /// If a rank cannot be reached.
    fn sum(&self, values: &mut [f32]) -> Result<()>;

    /// Hands out the bytes of the rank `root`; what others hold is replaced.
    ///
    /// # Errors
    /// If a rank cannot be reached.
    fn broadcast(&self, root: usize, bytes: &mut Vec<u8>) -> Result<()>;

    /// This process as errors name it: `rank 2 of 4 on node7`.
    fn name(&self) -> String {
        format!("rank {} of {} on {}", self.rank(), self.size(), self.host())
    }

    /// The bytes that this process has handed to [`sum`](Self::sum) and
    /// [`broadcast`](Self::broadcast), or got from them, with those that were [counted](Self::count).
    fn bytes(&self) -> u64 {
        0
    }

    /// Counts more [`bytes`](Self::bytes): those of the processes that a run goes on from.
    fn count(&self, _bytes: u64) {}

    /// Ends all processes at once, this one with `code`.
    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }

    /// Leaves the others in good order, at the end: nothing is exchanged after it.
    fn finish(&self) {}

    /// Whether this is the rank that writes and speaks.
    fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// The bytes of every rank, in their order.
    ///
    /// # Errors
    /// If a rank cannot be reached.
    fn gather(&self, own: Vec<u8>) -> Result<Vec<Vec<u8>>> {
        let mut all = vec![Vec::new(); self.size()];
        all[self.rank()] = own;
        for (root, bytes) in all.iter_mut().enumerate() {
            self.broadcast(root, bytes)?;
        }
        Ok(all)
    }

    /// Whether something is so on any rank; waits until every rank is here.
    ///
    /// # Errors
    /// If a rank cannot be reached.
    fn any(&self, is_so: bool) -> Result<bool> {
        let mut ranks = [if is_so { 1.0 } else { 0.0 }];
        self.sum(&mut ranks)?;
        Ok(ranks[0] > 0.0)
    }
}

/// A process of its own: nothing is exchanged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Exchange for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn local_rank(&self) -> usize {
        0
    }

    fn local_size(&self) -> usize {
        1
    }

    fn host(&self) -> String {
        "this host".into()
    }

    fn sum(&self, _values: &mut [f32]) -> Result<()> {
        Ok(())
    }

    fn broadcast(&self, _root: usize, _bytes: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}
