//! Counts the kernels that GPUs are asked to run.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use cubecl::hash::StableHash;
use cubecl::launched::LaunchedKernels;
use cubecl::logging::{LaunchObservation, LaunchObserver};

/// Counts every kernel that this process launches on any GPU, for as long as the counter lives. It
/// costs a few microseconds per launch.
///
/// Only one counter counts at a time: a second one replaces the first until it is dropped.
#[derive(Debug)]
pub struct LaunchCounter {
    counts: Arc<Counts>,
    kernels: Option<LaunchedKernels>,
    known: HashSet<StableHash>,
    _watching: LaunchObservation,
}

/// What was launched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Launches {
    /// How often each kind of kernel was launched.
    pub kinds: BTreeMap<String, usize>,
    /// How many kernels were launched for the first time: each was compiled, or read from disk.
    pub first: usize,
}

impl LaunchCounter {
    /// Begins to count.
    #[allow(clippy::new_without_default)] // Making one has an effect.
    pub fn new() -> Self {
        let counts = Arc::<Counts>::default();
        Self {
            counts: Arc::clone(&counts),
            kernels: Some(LaunchedKernels::new()),
            known: HashSet::new(),
            _watching: LaunchObservation::new(counts),
        }
    }

    /// What was launched since the last call.
    ///
    /// Burn launches lazily: sync the device first, or pending work may be counted next time.
    pub fn take(&mut self) -> Launches {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kinds = BTreeMap::new();
        for (name, count) in std::mem::take(&mut *counts) {
            *kinds.entry(kind(name)).or_default() += count;
        }
        drop(counts);
        let launched = self.kernels.replace(LaunchedKernels::new());
        let launched = launched.map(LaunchedKernels::finish).unwrap_or_default();
        let before = self.known.len();
        self.known.extend(launched);
        let first = self.known.len() - before;
        Launches { kinds, first }
    }
}

impl Launches {
    /// The number of all launches.
    pub fn total(&self) -> usize {
        self.kinds.values().sum()
    }

    /// Adds the launches of another count.
    pub fn add(&mut self, other: &Self) {
        for (kind, count) in &other.kinds {
            *self.kinds.entry(kind.clone()).or_default() += count;
        }
        self.first += other.first;
    }
}

#[derive(Debug, Default)]
struct Counts(Mutex<BTreeMap<&'static str, usize>>);

impl LaunchObserver for Counts {
    fn launched(&self, kernel: &'static str) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(kernel).or_default() += 1;
    }
}

/// The kind of a kernel: its type without paths and parameters.
fn kind(name: &str) -> String {
    let name = name.split_once('<').map_or(name, |(name, _)| name);
    let last = name.rsplit("::").next().unwrap_or(name);
    last.to_owned()
}
