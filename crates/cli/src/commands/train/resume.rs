//! Resuming a run that was stopped.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use burn_peft_train::{CheckpointInfo, Exchange, ResumeProblem, TrainError};

use super::Args;
use crate::failure::Interrupted;
use crate::output::say;
use crate::ranks;

/// The value that `--resume=` accepts besides folders (a folder of this name is `./auto`).
const AUTO: &str = "auto";

/// Whether the run starts anew if there is no complete checkpoint, whatever an earlier one has
/// left.
pub fn is_auto(args: &Args) -> bool {
    matches!(&args.resume, Some(Some(path)) if path.as_os_str() == AUTO)
}

/// The checkpoint that the run resumes from, if any.
pub fn checkpoint(args: &Args, output_dir: &Path) -> Result<Option<CheckpointInfo>> {
    let found = match &args.resume {
        None => return Ok(None),
        Some(None) => CheckpointInfo::latest(output_dir)?,
        Some(Some(_)) if is_auto(args) => match CheckpointInfo::latest(output_dir) {
            // A warning has named each of them.
            Err(TrainError::Resume {
                problem: ResumeProblem::AllBroken,
                ..
            }) => None,
            found => found?,
        },
        Some(Some(path)) => Some(CheckpointInfo::find(path)?),
    };
    say(match &found {
        Some(CheckpointInfo {
            path,
            step,
            total_steps,
            ..
        }) => {
            let path = path.display();
            format!("resuming from {path}, step {step} of {total_steps}\n")
        }
        None => {
            let dir = output_dir.display();
            format!("there is no checkpoint in {dir}: the run starts from the beginning\n")
        }
    })?;
    Ok(found)
}

/// The checkpoint that all ranks resume from: the one that the first rank has found.
pub fn of_all(
    exchange: &dyn Exchange,
    find: impl FnOnce() -> Result<Option<CheckpointInfo>>,
) -> Result<Option<CheckpointInfo>> {
    if exchange.size() == 1 {
        return find();
    }
    let found = if exchange.is_first() { find()? } else { None };
    let path = found.map(|found| found.path.display().to_string());
    let mut path = path.unwrap_or_default().into_bytes();
    exchange.broadcast(0, &mut path)?;
    match &*String::from_utf8_lossy(&path) {
        "" => Ok(None),
        path => {
            let found = CheckpointInfo::find(Path::new(path));
            let found = found.context("a checkpoint has to lie on a disk that every host sees")?;
            found.check_same(exchange)?;
            Ok(Some(found))
        }
    }
}

/// Prints what a stopped run has saved, and how to resume it.
pub fn stopped(by: &Interrupted, steps: usize, checkpoints: &[PathBuf]) {
    let name = by.name();
    let said = match checkpoints.last() {
        Some(last) => format!(
            "\nstopped by {name} after step {steps}, which is saved in {}\ncontinue with: {}",
            last.display(),
            resume_command(std::env::args().skip(1))
        ),
        None => format!(
            "\nstopped by {name} before the first step was done: there is nothing to resume from"
        ),
    };
    // If the terminal was closed, nobody hears it; the exit status is the signal's anyway.
    say(said).ok();
}

/// This command with `--resume`, instead of the one it may have.
fn resume_command(words: impl Iterator<Item = String>) -> String {
    let mut command = Vec::new();
    let ranks = ranks::current().size();
    if ranks > 1 {
        let by_mpirun = std::env::var_os("OMPI_COMM_WORLD_SIZE").is_some();
        let launcher = if by_mpirun { "mpirun" } else { "srun" };
        command.push(format!("{launcher} -n {ranks}"));
    }
    command.push("peft".to_string());
    let mut words = words.peekable();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--force" => {}
            "--resume" => {
                drop(words.next_if(|next| !next.starts_with('-') && !Path::new(next).is_file()))
            }
            other if other.starts_with("--resume=") => {}
            other => command.push(quoted(other)),
        }
    }
    command.push("--resume".to_string());
    command.join(" ")
}

/// A word quoted for a shell, on one line.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if word.contains(char::is_control) {
        let escaped = word.chars().map(|c| match c {
            '\n' => r"\n".to_string(),
            '\t' => r"\t".to_string(),
            '\\' | '\'' => format!("\\{c}"),
            c if c.is_control() => format!("\\u{:04x}", c as u32),
            c => c.to_string(),
        });
        return format!("$'{}'", escaped.collect::<String>());
    }
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
