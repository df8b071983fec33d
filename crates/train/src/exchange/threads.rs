//! Ranks that are threads of one process, for tests of several ranks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::error::{Result, TrainError};
use crate::exchange::Exchange;
use crate::lock::lock;

/// A rank that is a thread.
#[derive(Debug)]
pub struct Threads {
    rank: usize,
    meeting: Arc<Meeting>,
    bytes: AtomicU64,
}

#[derive(Debug)]
struct Meeting {
    size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

/// Bytes, each with the rank that they came from.
type Brought = Vec<(usize, Vec<u8>)>;

#[derive(Debug, Default)]
struct State {
    round: usize,
    /// What the ranks that have arrived bring, by rank.
    brought: Brought,
    /// What all ranks brought in the round before.
    all: Arc<Brought>,
    /// A rank has ended.
    broken: bool,
}

/// This many ranks, one for each thread.
pub fn threads(size: usize) -> Vec<Threads> {
    let meeting = Arc::new(Meeting {
        size,
        state: Mutex::default(),
        changed: Condvar::new(),
    });
    let rank = |rank| Threads {
        rank,
        meeting: Arc::clone(&meeting),
        bytes: AtomicU64::new(0),
    };
    (0..size).map(rank).collect()
}

impl Threads {
    /// Brings something, and waits until all ranks have.
    fn meet(&self, own: Vec<u8>) -> Result<Arc<Brought>> {
        let Meeting { state, changed, .. } = &*self.meeting;
        let mut state = lock(state);
        let round = state.round;
        state.brought.push((self.rank, own));
        if state.brought.len() == self.meeting.size {
            let mut all = std::mem::take(&mut state.brought);
            all.sort_by_key(|&(rank, _)| rank);
            state.all = Arc::new(all);
            state.round += 1;
            changed.notify_all();
        }
        while state.round == round {
            if state.broken {
                return Err(TrainError::Exchange("a rank has ended".into()));
            }
            state = changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(Arc::clone(&state.all))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let mut state = lock(&self.meeting.state);
        state.broken = true;
        self.meeting.changed.notify_all();
    }
}

impl Exchange for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.meeting.size
    }

    fn local_rank(&self) -> usize {
        self.rank
    }

    fn local_size(&self) -> usize {
        self.meeting.size
    }

    fn host(&self) -> String {
        "this host".into()
    }

    fn sum(&self, values: &mut [f32]) -> Result<()> {
        let own = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        self.count(size_of_val(values) as u64);
        let all = self.meet(own)?;
        values.fill(0.0);
        for (_, bytes) in all.iter() {
            let (others, _) = bytes.as_chunks::<4>();
            for (value, other) in values.iter_mut().zip(others) {
                *value += f32::from_le_bytes(*other);
            }
        }
        Ok(())
    }

    fn broadcast(&self, root: usize, bytes: &mut Vec<u8>) -> Result<()> {
        let own = if root == self.rank {
            bytes.clone()
        } else {
            Vec::new()
        };
        bytes.clone_from(&self.meet(own)?[root].1);
        self.count(bytes.len() as u64);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn count(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}
