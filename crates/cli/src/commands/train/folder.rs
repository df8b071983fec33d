//! Checking the output folder before a run begins, so that nothing is lost.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use burn_peft_models::weights::weight_files;
use burn_peft_train::{CheckpointInfo, OldRun, TrainConfig};

use super::Args;
use super::resume::is_auto;

/// Checks that a run does not overwrite what it is made from: the model in `base`.
pub fn check_sources(config: &TrainConfig, base: &Path) -> Result<()> {
    let output_dir = &config.training.output_dir;
    ensure!(
        !(config.is_full_training() && is_same(output_dir, base)),
        "training.output_dir is {}, the folder of the model that is trained: the result would \
         replace its base; name another folder",
        output_dir.display()
    );
    if config.is_full_training()
        && let Some(file) =
            weights(base).find(|file| file.parent().is_some_and(|of| is_same(of, output_dir)))
    {
        bail!(
            "training.output_dir is {}, and the model that is trained has a link to {}: the result \
             would replace its base; name another folder",
            output_dir.display(),
            file.display()
        );
    }
    Ok(())
}

/// The files of a model's weights, with links resolved.
fn weights(base: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = base.read_dir().into_iter().flatten().flatten();
    let files = entries.filter_map(|entry| entry.path().canonicalize().ok());
    files.filter(|file| file.extension().is_some_and(|end| end == "safetensors"))
}

/// The earlier run in the output folder that this run replaces, if there is one.
///
/// # Errors
/// If `--force` is not given, or this run is made from results of the earlier one.
pub fn old_run(
    args: &Args,
    config: &TrainConfig,
    base: &Path,
    resume: Option<&CheckpointInfo>,
) -> Result<Option<OldRun>> {
    let dir = &config.training.output_dir;
    if resume.is_some_and(|from| from.path.parent().is_some_and(|of| is_same(of, dir))) {
        return Ok(None);
    }
    let place = dir.display();
    let Some(old) = OldRun::find(dir)? else {
        let there = weight_files(dir).with_context(|| format!("cannot read {place}"))?;
        if let Some(weights) = there.first()
            && config.is_full_training()
            && !args.force
        {
            bail!(
                "{} already exists: name another training.output_dir, or give --force to \
                 replace it",
                weights.display()
            );
        }
        return Ok(None);
    };
    // Of a run that `--resume=auto` starts anew, only damaged checkpoints are left.
    let is_lost = is_auto(args) && !old.has_result();
    if !args.force && !is_lost {
        let last = CheckpointInfo::latest(dir).ok().flatten();
        let what = match last.filter(|last| last.step < last.total_steps) {
            Some(CheckpointInfo {
                step, total_steps, ..
            }) => format!("a run that stopped at step {step} of {total_steps}"),
            None => "the result of an earlier run".to_string(),
        };
        bail!(
            "{place} has {what}: --resume continues it, --force removes it and starts over; or \
             name another training.output_dir"
        );
    }
    let adapter = config.adapter.as_ref().map(Path::new);
    let checkpoint = resume.map(|from| from.path.as_path());
    let linked: Vec<PathBuf> = weights(base).collect();
    let linked = linked.iter().map(PathBuf::as_path);
    for source in [Some(base), adapter, checkpoint]
        .into_iter()
        .flatten()
        .chain(linked)
    {
        ensure!(
            !old.holds(source),
            "--force would remove {}, which this run is made from: name another \
             training.output_dir than {place}",
            source.display()
        );
    }
    Ok(Some(old))
}

/// Whether two paths name the same folder, with links and dots resolved.
fn is_same(a: &Path, b: &Path) -> bool {
    let paths = (a.canonicalize(), b.canonicalize());
    matches!(paths, (Ok(a), Ok(b)) if a == b)
}
