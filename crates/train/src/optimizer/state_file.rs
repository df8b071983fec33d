//! An optimizer's state as a file: Burn's record, with the names of parameters in place of Burn's
//! ids, which are new in every process.

use std::collections::HashMap;
use std::path::Path;

use burn::optim::{ModuleOptimizer, OptimizerRecord};
use burn_pack::{Bytes, Reader, Tensor, Writer};
use burn_peft::parameters::NamedParameter;

use crate::error::{OptimizerProblem, Result, TrainError};

/// Separates a parameter's name from the name of a part of its state.
const SEPARATOR: char = '/';

/// The contents of the file.
pub(crate) fn to_bytes(record: OptimizerRecord, parameters: &[NamedParameter]) -> Result<Bytes> {
    let names: HashMap<String, &str> = parameters
        .iter()
        .map(|parameter| (parameter.id.val().to_string(), parameter.name.as_str()))
        .collect();
    let lost = |id: &str| failed(OptimizerProblem::NoParameter(id.into()));
    let rename = |key: &str| {
        let (id, part) = key.split_once('.').unwrap_or((key, ""));
        let name = names.get(id).ok_or_else(|| lost(id))?;
        Ok(format!("{name}{SEPARATOR}{part}"))
    };
    let bytes = record.into_bytes().map_err(of_burn)?;
    rewritten(bytes, rename, |_| None)?
        .into_bytes()
        .map_err(of_burn)
}

/// Loads the state in a file into an optimizer.
///
/// # Errors
/// If the file is malformed, or holds the state of other parameters or of another optimizer.
pub(crate) fn load(
    optimizer: ModuleOptimizer,
    path: &Path,
    parameters: &[NamedParameter],
) -> Result<ModuleOptimizer> {
    // The file is read whole: a mapped file could not be replaced with its checkpoint.
    let bytes = std::fs::read(path).map_err(TrainError::io(path))?;
    from_bytes(optimizer, bytes, path, parameters)
}

/// As [`load`], for a state that is stored in a file with other things.
pub(crate) fn from_bytes(
    optimizer: ModuleOptimizer,
    bytes: Vec<u8>,
    path: &Path,
    parameters: &[NamedParameter],
) -> Result<ModuleOptimizer> {
    let ids: HashMap<&str, u64> = parameters
        .iter()
        .map(|parameter| (parameter.name.as_str(), parameter.id.val()))
        .collect();
    let id = |key: &str| {
        let name = key.rsplit_once(SEPARATOR).map_or(key, |(name, _)| name);
        ids.get(name).copied()
    };
    let rename = |key: &str| {
        let (name, part) = key.rsplit_once(SEPARATOR).unwrap_or((key, ""));
        let other = || failed(OptimizerProblem::OtherModel(name.into()));
        let id = ids.get(name).ok_or_else(other)?;
        Ok(match part {
            "" => id.to_string(),
            part => format!("{id}.{part}"),
        })
    };
    let load = || {
        let bytes = rewritten(Bytes::from_bytes_vec(bytes), rename, id)?;
        let record = OptimizerRecord::from_bytes(bytes.into_bytes().map_err(of_burn)?);
        let record = record.map_err(of_burn)?;
        let tensors = record.len();
        let optimizer = optimizer.load_record(record);
        // Burn leaves out silently what it cannot use.
        match optimizer.to_record().len() {
            loaded if loaded == tensors => Ok(optimizer),
            taken => Err(failed(OptimizerProblem::OtherOptimizer { taken, tensors })),
        }
    };
    load().map_err(|error| match error {
        TrainError::Optimizer { problem, .. } => TrainError::Optimizer {
            path: path.to_path_buf(),
            problem,
        },
        other => other,
    })
}

/// The same record with other keys; `id` returns the parameter that a key belongs to.
fn rewritten(
    bytes: Bytes,
    rename: impl Fn(&str) -> Result<String>,
    id: impl Fn(&str) -> Option<u64>,
) -> Result<Writer> {
    let reader = Reader::from_bytes(bytes).map_err(of_burn)?;
    let (scalars, paths) = (reader.scalars().clone(), reader.metadata().clone());
    let mut tensors = Vec::new();
    for tensor in reader.into_tensors().map_err(of_burn)? {
        let (name, dtype, shape, _, bytes) = tensor.into_parts().map_err(of_burn)?;
        let id = id(&name);
        tensors.push(Tensor::new(rename(&name)?, dtype, shape, id, bytes));
    }
    // Burn's order is that of a hash map.
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    let mut writer = Writer::new(tensors);
    for (key, value) in scalars {
        writer = writer.with_scalar(&rename(&key)?, value);
    }
    for (key, value) in paths {
        writer = writer.with_metadata(&rename(&key)?, &value);
    }
    Ok(writer)
}

fn of_burn(error: impl ToString) -> TrainError {
    failed(OptimizerProblem::Record(error.to_string()))
}

fn failed(problem: OptimizerProblem) -> TrainError {
    TrainError::Optimizer {
        path: crate::checkpoint::saved::OPTIMIZER_NAME.into(),
        problem,
    }
}
