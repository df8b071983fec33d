//! Counts what is copied to the device and back, from what wgpu logs.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use log::{Level, LevelFilter, Metadata, Record};

/// Copies between host and device, and pipelines that were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transfers {
    /// Buffers read back, except for timings.
    pub reads: usize,
    /// The bytes of these buffers.
    pub read_bytes: usize,
    /// Kernels timed, to choose the fastest.
    pub timed: usize,
    /// Buffers written: data, and the shapes of launches that did not occur before.
    pub writes: usize,
    /// Pipelines made.
    pub pipelines: usize,
}

impl Transfers {
    /// All transfers since counting began.
    pub fn so_far() -> Self {
        let counts = LOG.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts
            .as_ref()
            .map(|seen| seen.transfers)
            .unwrap_or_default()
    }

    pub fn since(&self, before: &Self) -> Self {
        Self {
            reads: self.reads - before.reads,
            read_bytes: self.read_bytes - before.read_bytes,
            timed: self.timed - before.timed,
            writes: self.writes - before.writes,
            pipelines: self.pipelines - before.pipelines,
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.reads += other.reads;
        self.read_bytes += other.read_bytes;
        self.timed += other.timed;
        self.writes += other.writes;
        self.pipelines += other.pipelines;
    }
}

#[derive(Default)]
struct Seen {
    transfers: Transfers,
    /// The buffers that timings are read back in.
    of_times: HashSet<String>,
}

struct Log(Mutex<Option<Seen>>);

static LOG: Log = Log(Mutex::new(None));

/// Begins to count. Every call of wgpu is logged for this, so nothing that is timed may use it.
#[allow(dead_code)] // benches/gpu includes this file too.
pub fn watch() {
    if log::set_logger(&LOG).is_ok() {
        log::set_max_level(LevelFilter::Trace);
    }
}

impl log::Log for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() == Level::Trace && metadata.target().starts_with("wgpu_core")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let said = record.args().to_string();
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = seen.get_or_insert_default();
        let transfers = &mut seen.transfers;
        if let Some(rest) = said.strip_prefix("Buffer::map_async ") {
            let id = rest.split(' ').next().unwrap_or_default();
            if seen.of_times.contains(id) {
                transfers.timed += 1;
            } else if rest.contains("host: Read") {
                let bytes = rest.split_once("size Some(").map(|(_, rest)| rest);
                let bytes = bytes.and_then(|rest| rest.split(')').next()?.parse().ok());
                transfers.reads += 1;
                transfers.read_bytes += bytes.unwrap_or(0);
            }
        } else if said.starts_with("Queue::write_") {
            transfers.writes += 1;
        } else if said.starts_with("Device::create_compute_pipeline") {
            transfers.pipelines += 1;
        } else if said.starts_with("Device::create_buffer(\"CubeCL gpu -> cpu map buffer\"")
            && let Some((_, id)) = said.split_once(" -> ")
            && let Some(id) = id.rsplit(' ').next()
        {
            seen.of_times.insert(id.to_owned());
        }
    }

    fn flush(&self) {}
}
