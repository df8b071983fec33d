//! [`Exchange`] over MPI, for processes started by `mpirun` or `srun`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use mpi::collective::{CommunicatorCollectives, Root, SystemOperation};
use mpi::environment::{Universe, processor_name};
use mpi::topology::{Communicator, SimpleCommunicator};
use mpi::{Threading, initialize_with_threading};

use crate::error::{Result, TrainError};
use crate::exchange::Exchange;

/// MPI counts the elements of a message in 32 bits; this is the largest message.
const LARGEST: usize = 1 << 28;

/// The processes of `MPI_COMM_WORLD`.
///
/// MPI's own errors end all processes, as is its default. A process that ends without
/// [`finish`](Exchange::finish) takes the others with it.
pub struct Mpi {
    universe: Mutex<Option<Universe>>,
    rank: usize,
    size: usize,
    local: [usize; 2],
    host: String,
    bytes: AtomicU64,
}

impl std::fmt::Debug for Mpi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name())
    }
}

impl Mpi {
    /// Joins the processes that this one was started with; possible once in a process.
    ///
    /// # Errors
    /// If MPI was initialised before, or cannot be called from threads.
    pub fn new() -> Result<Self> {
        let failed = |why: &str| TrainError::Exchange(format!("MPI cannot be used: {why}"));
        let started = initialize_with_threading(Threading::Serialized);
        let (universe, threading) = started.ok_or_else(|| failed("it was initialised before"))?;
        if threading < Threading::Serialized {
            return Err(failed(
                "this library takes no calls from threads (MPI_THREAD_SERIALIZED)",
            ));
        }
        let world = universe.world();
        let local = world.split_shared(world.rank());
        let number = |value: i32| usize::try_from(value).unwrap_or_default();
        Ok(Self {
            rank: number(world.rank()),
            size: number(world.size()),
            local: [number(local.rank()), number(local.size())],
            host: processor_name().unwrap_or_else(|_| "a host without a name".into()),
            universe: Mutex::new(Some(universe)),
            bytes: AtomicU64::new(0),
        })
    }
}

impl Exchange for Mpi {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn local_rank(&self) -> usize {
        self.local[0]
    }

    fn local_size(&self) -> usize {
        self.local[1]
    }

    fn host(&self) -> String {
        self.host.clone()
    }

    fn sum(&self, values: &mut [f32]) -> Result<()> {
        self.count(size_of_val(values) as u64);
        for values in values.chunks_mut(LARGEST) {
            let own = values.to_vec();
            SimpleCommunicator::world().all_reduce_into(&own, values, SystemOperation::sum());
        }
        Ok(())
    }

    fn broadcast(&self, root: usize, bytes: &mut Vec<u8>) -> Result<()> {
        let world = SimpleCommunicator::world();
        let root = world.process_at_rank(root as i32);
        let mut length = bytes.len() as u64;
        root.broadcast_into(&mut length);
        bytes.resize(length as usize, 0);
        for bytes in bytes.chunks_mut(LARGEST) {
            root.broadcast_into(bytes);
        }
        self.count((bytes.len() + size_of_val(&length)) as u64);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn count(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn abort(&self, code: i32) -> ! {
        SimpleCommunicator::world().abort(code)
    }

    fn finish(&self) {
        let universe = self.universe.lock();
        drop(universe.unwrap_or_else(PoisonError::into_inner).take());
    }
}
