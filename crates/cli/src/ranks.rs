//! The processes that train a model together, started by `mpirun` or `srun`.

use std::sync::{Arc, OnceLock};

use anyhow::Result;
use burn_peft_device::{Backend, DeviceName, Which};
use burn_peft_train::{Alone, Exchange};

mod guard;
#[cfg_attr(not(feature = "mpi"), allow(dead_code))]
mod watch;

static EXCHANGE: OnceLock<Arc<dyn Exchange>> = OnceLock::new();

/// Joins the other processes, if there are any, and takes this one's share of the cores. To be
/// called before anything else, once in a process.
pub fn join() -> Result<()> {
    let exchange = joined()?;
    let exchange = EXCHANGE.get_or_init(|| exchange);
    if exchange.local_size() > 1 {
        cores::share(exchange.local_size())?;
    }
    #[cfg(feature = "mpi")]
    if exchange.size() > 1 {
        guard::begin(&**exchange)?;
    }
    Ok(())
}

/// Leaves the others when this process's work is done.
pub fn leave() {
    current().finish();
    guard::done();
}

/// Ends all processes, because this one cannot continue.
pub fn end_all() -> ! {
    guard::failed();
    current().abort(1)
}

#[cfg(feature = "mpi")]
fn joined() -> Result<Arc<dyn Exchange>> {
    // Set by launchers for each process: Open MPI, PMIx (srun), MPICH and Intel (Hydra, srun),
    // MVAPICH.
    const TOLD: [&str; 5] = [
        "OMPI_COMM_WORLD_SIZE",
        "PMIX_RANK",
        "PMI_RANK",
        "PMI_SIZE",
        "MV2_COMM_WORLD_SIZE",
    ];
    if TOLD.iter().any(|name| std::env::var_os(name).is_some()) {
        return Ok(Arc::new(burn_peft_train::Mpi::new()?));
    }
    Ok(Arc::new(Alone))
}

#[cfg(not(feature = "mpi"))]
fn joined() -> Result<Arc<dyn Exchange>> {
    Ok(Arc::new(Alone))
}

/// The group of processes, if this one has joined any.
pub fn current() -> Arc<dyn Exchange> {
    EXCHANGE
        .get()
        .map_or_else(|| Arc::new(Alone) as _, Arc::clone)
}

/// Whether this process writes files and prints.
pub fn is_first() -> bool {
    EXCHANGE.get().is_none_or(|exchange| exchange.is_first())
}

/// The device of this process: each process on a host has its own GPU, unless one is named.
pub fn device(name: DeviceName) -> DeviceName {
    device_of(&*current(), name)
}

fn device_of(exchange: &dyn Exchange, name: DeviceName) -> DeviceName {
    match name {
        DeviceName::Of(backend, Which::First)
            if backend != Backend::Cpu && exchange.local_size() > 1 =>
        {
            DeviceName::Of(backend, Which::Index(exchange.local_rank()))
        }
        name => name,
    }
}

mod cores {
    use anyhow::{Context, Result};

    /// Uses one of this many shares of the cores, unless `RAYON_NUM_THREADS` gives the number of
    /// threads.
    pub fn share(shares: usize) -> Result<()> {
        if std::env::var_os("RAYON_NUM_THREADS").is_some() {
            return Ok(());
        }
        let threads = (all() / shares).max(1);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build_global().context("cannot start threads")
    }

    /// The cores that the processes on this host may use together. `mpirun` binds each of a few
    /// processes to a single core, which is undone because it would leave the others idle.
    #[cfg(target_os = "linux")]
    fn all() -> usize {
        // SAFETY: both calls get a set of its full size; the kernel removes cores that the host's
        // cgroup forbids.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            for cpu in 0..8 * size_of::<libc::cpu_set_t>() {
                libc::CPU_SET(cpu, &mut set);
            }
            libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
            match libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) {
                0 => libc::CPU_COUNT(&set) as usize,
                _ => 1,
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn all() -> usize {
        std::thread::available_parallelism().map_or(1, |cores| cores.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_a_host_has_a_gpu_of_its_own_unless_one_is_named() {
        let ranks = burn_peft_train::threads(2);
        let device =
            |rank: usize, name: &str| device_of(&ranks[rank], name.parse().unwrap()).to_string();
        assert_eq!([device(0, "cuda"), device(1, "cuda")], ["cuda:0", "cuda:1"]);
        assert_eq!(device(1, "vulkan:3"), "vulkan:3");
        assert_eq!(device(1, "cpu"), "cpu");
        let alone = device_of(&Alone, "cuda".parse().unwrap());
        assert_eq!(alone.to_string(), "cuda");
    }
}
