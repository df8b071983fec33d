//! Several processes without MPI. Those with MPI are tested in `tests/mpi`.
#![cfg(not(feature = "mpi"))]

use crate::common::{Answer, PEFT};
use crate::resume::lab;

/// Four equal runs in one folder are a mistake.
#[test]
fn several_processes_of_a_build_without_mpi_are_refused() {
    let lab = lab();
    for variables in [
        &[("OMPI_COMM_WORLD_SIZE", "4")][..],
        &[("PMI_SIZE", "4")],
        &[("SLURM_NTASKS", "4"), ("SLURM_PROCID", "0")],
        &[("PMIX_RANK", "3")],
    ] {
        let run = |args: &[&str]| -> Answer {
            let mut command = lab.command(PEFT);
            command.args(args).envs(variables.iter().copied());
            command.output().unwrap().into()
        };
        let (name, value) = variables[0];
        let sign = format!("processes were started ({name} = {value})");
        let way_out = "build peft with MPI: cargo install --path crates/cli --features mpi";
        run(&["train", "run.toml"]).failed(&[&sign, "all of them into out", way_out]);
        assert!(!lab.path("out").exists());
        assert_eq!(run(&["train", "run.toml", "--print-config"]).code, Some(0));
    }
    let mut alone = lab.command(PEFT);
    alone
        .args(["train", "run.toml"])
        .env("OMPI_COMM_WORLD_SIZE", "1");
    assert!(alone.output().unwrap().status.success());
}
