//! Communication between several processes that train one model together: some numbers are summed,
//! some bytes are broadcast.

#[cfg(feature = "mpi")]
pub(crate) mod mpi;
pub mod threads;

use std::fmt::Debug;

use crate::error::Result;

/// One of several processes: its rank, and how it reaches the others.
///
/// All ranks make the same calls in the same order; each call waits for all ranks.
pub trait Exchange: Debug + Send + Sync {
    /// The rank of this process, from 0.
    fn rank(&self) -> usize;

    /// The number of processes.
    fn size(&self) -> usize;

    /// Its rank among the processes on its host, from 0.
    fn local_rank(&self) -> usize;

    /// The number of processes on its host.
    fn local_size(&self) -> usize;

    /// The name of its host.
    fn host(&self) -> String;

    /// Adds up the ranks' values element by element; afterwards all ranks have the same bits.
    ///
    /// # Errors
    /// If a rank cannot be reached.
    fn sum(&self, values: &mut [f32]) -> Result<()>;

    /// Sends the bytes of the rank `root` to all others, replacing theirs.
    ///
    /// # Errors
    /// If a rank cannot be reached.
    fn broadcast(&self, root: usize, bytes: &mut Vec<u8>) -> Result<()>;

    /// The name of this process in errors: `rank 2 of 4 on node7`.
    fn name(&self) -> String {
        format!("rank {} of {} on {}", self.rank(), self.size(), self.host())
    }

    /// The number of bytes that this process has passed to or received from [`sum`](Self::sum) and
    /// [`broadcast`](Self::broadcast), plus those that were [counted](Self::count).
    fn bytes(&self) -> u64 {
        0
    }

    /// Adds to [`bytes`](Self::bytes): the bytes of the run that this one resumes.
    fn count(&self, _bytes: u64) {}

    /// Ends all processes at once, this one with exit status `code`.
    fn abort(&self, code: i32) -> ! {
        std::process::exit(code)
    }

    /// Leaves the group in good order at the end; nothing can be exchanged afterwards.
    fn finish(&self) {}

    /// Whether this is the rank that writes files and prints.
    fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// The bytes of every rank, in rank order.
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

    /// Whether a condition holds on any rank; waits for all ranks.
    ///
    /// # Errors
    /// If a rank cannot be reached.
    fn any(&self, is_so: bool) -> Result<bool> {
        let mut ranks = [if is_so { 1.0 } else { 0.0 }];
        self.sum(&mut ranks)?;
        Ok(ranks[0] > 0.0)
    }
}

/// A single process: nothing is exchanged.
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
