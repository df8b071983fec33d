//! Detecting whether `mpirun`, `srun` or another launcher has started several processes.

use std::env;
use std::path::Path;

use anyhow::{Result, bail};
use burn_peft_train::Exchange;

/// The launcher that started this process together with others.
#[derive(Debug, PartialEq, Eq)]
struct Launch {
    /// The number of processes, if known.
    processes: Option<usize>,
    /// The environment variable that says so, with its value.
    sign: String,
}

/// Checks that processes that were started together know of each other; `size` is the number that
/// this one knows of. Otherwise each would train by itself, and all of them into one folder.
///
/// # Errors
/// If they do not; the error says what to build, or how to start them.
pub fn check(size: usize, output_dir: &Path) -> Result<()> {
    let Some(Launch { processes, sign }) = launch(|name| env::var(name).ok()) else {
        return Ok(());
    };
    if size > 1 {
        return Ok(());
    }
    let several = match processes {
        Some(processes) => format!("{processes} processes"),
        None => "several processes".to_string(),
    };
    let way_out = if cfg!(feature = "mpi") {
        "start them with the launcher of the MPI that peft was built with (mpirun --version), under \
         Slurm with srun --mpi=pmix"
    } else {
        "build peft with MPI: cargo install --path crates/cli --features mpi (docs/distributed.md)"
    };
    bail!(
        "{several} were started ({sign}), and they do not know of each other: each would train \
         alone, all of them into {}; {way_out}; or start one",
        output_dir.display()
    )
}

/// The launcher according to the environment; `None` if this process is, or may be, alone.
fn launch(variable: impl Fn(&str) -> Option<String>) -> Option<Launch> {
    let number = |name| variable(name)?.trim().parse::<usize>().ok();
    let launch = |processes, name, value| Launch {
        processes,
        sign: format!("{name} = {value}"),
    };
    // The innermost launcher first: mpirun within a Slurm job sees Slurm's variables too.
    for name in [
        "OMPI_COMM_WORLD_SIZE",
        "MV2_COMM_WORLD_SIZE",
        "PMI_SIZE",
        "SLURM_STEP_NUM_TASKS",
    ] {
        if let Some(size) = number(name) {
            return (size > 1).then(|| launch(Some(size), name, size));
        }
    }
    // PMIx does not give their number, but any rank above 0 shows that there are several.
    let name = "PMIX_RANK";
    if let Some(rank) = number(name).filter(|&rank| rank > 0) {
        return Some(launch(None, name, rank));
    }
    // The script of a job is a single process, however large the job.
    let is_script = variable("ENVIRONMENT").is_some_and(|value| value == "BATCH");
    number("SLURM_PROCID").filter(|_| !is_script)?;
    let name = "SLURM_NTASKS";
    let size = number(name).filter(|&size| size > 1)?;
    Some(launch(Some(size), name, size))
}

/// Lets one process of each host do what leaves something on its disk (tokenised data) first; the
/// others then find it there.
pub(super) fn once_a_host<T>(exchange: &dyn Exchange, load: impl Fn() -> Result<T>) -> Result<T> {
    if exchange.local_size() == 1 && exchange.size() == 1 {
        return load();
    }
    let first = match exchange.local_rank() {
        0 => Some(load()?),
        _ => None,
    };
    exchange.any(false)?;
    first.map_or_else(load, Ok)
}

#[cfg(test)]
mod tests {
    use super::launch;

    fn processes(variables: &[(&str, &str)]) -> Option<Option<usize>> {
        let found = launch(|name| {
            let mut variables = variables.iter();
            let found = variables.find(|(other, _)| *other == name);
            found.map(|(_, value)| value.to_string())
        });
        found.map(|launch| launch.processes)
    }

    #[test]
    fn launchers_are_known_by_what_they_set() {
        for (variables, expected) in [
            (&[][..], None),
            (&[("OMPI_COMM_WORLD_SIZE", "4")], Some(Some(4))),
            (&[("OMPI_COMM_WORLD_SIZE", "1")], None),
            (&[("PMI_SIZE", "2"), ("PMI_RANK", "0")], Some(Some(2))),
            (&[("MV2_COMM_WORLD_SIZE", "3")], Some(Some(3))),
            (&[("PMIX_RANK", "1")], Some(None)),
            (&[("PMIX_RANK", "0")], None),
            // srun.
            (
                &[("SLURM_STEP_NUM_TASKS", "8"), ("SLURM_PROCID", "0")],
                Some(Some(8)),
            ),
            (
                &[("SLURM_NTASKS", "8"), ("SLURM_PROCID", "0")],
                Some(Some(8)),
            ),
            // A script of sbatch -n 8; a shell of salloc -n 8; srun -n 1 in either.
            (
                &[
                    ("SLURM_NTASKS", "8"),
                    ("SLURM_PROCID", "0"),
                    ("ENVIRONMENT", "BATCH"),
                ],
                None,
            ),
            (&[("SLURM_NTASKS", "8")], None),
            (
                &[
                    ("SLURM_NTASKS", "8"),
                    ("SLURM_PROCID", "0"),
                    ("SLURM_STEP_NUM_TASKS", "1"),
                ],
                None,
            ),
            // mpirun -n 1 in a job of four tasks.
            (
                &[("OMPI_COMM_WORLD_SIZE", "1"), ("SLURM_STEP_NUM_TASKS", "4")],
                None,
            ),
            (&[("OMPI_COMM_WORLD_SIZE", "four")], None),
        ] {
            assert_eq!(processes(variables), expected, "{variables:?}");
        }
    }
}
