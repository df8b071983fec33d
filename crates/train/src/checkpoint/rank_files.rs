//! The state in a checkpoint that each rank has for itself between two exchanges: a file for each
//! rank.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use burn::tensor::DType;
use burn_pack::{Bytes, Reader, Tensor, Writer};

use crate::error::{OptimizerProblem, Result, TrainError};
use crate::exchange::Exchange;

/// The file with the state that all ranks share, apart from the weights: the outer optimizer's
/// momentum.
pub(crate) const OUTER_NAME: &str = "outer.bpk";

const PREFIX: &str = "rank-";
const SUFFIX: &str = ".bpk";

/// The file of a rank.
pub(crate) fn name_of(rank: usize) -> String {
    format!("{PREFIX}{rank}{SUFFIX}")
}

/// Whether it is the file of a rank in a checkpoint folder.
pub(crate) fn is_rank_file(path: &Path) -> bool {
    let name = path.to_str().unwrap_or_default();
    let number = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.strip_suffix(SUFFIX));
    number.is_some_and(|number| number.parse::<usize>().is_ok())
}

/// Encodes named numbers and bytes as a file.
pub(crate) fn to_bytes(numbers: (&str, &[f32]), bytes: Option<(&str, Bytes)>) -> Result<Bytes> {
    let (name, values) = numbers;
    let data = values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect();
    let data = Bytes::from_bytes_vec(data);
    let mut tensors = vec![Tensor::new(
        name.into(),
        DType::F32,
        [values.len()],
        None,
        data,
    )];
    if let Some((name, bytes)) = bytes {
        let shape = [bytes.len()];
        tensors.push(Tensor::new(name.into(), DType::U8, shape, None, bytes));
    }
    Writer::new(tensors)
        .into_bytes()
        .map_err(|error| broken(Path::new(name), &error))
}

/// Decodes named numbers and bytes that [`to_bytes`] has encoded.
///
/// # Errors
/// If the file cannot be read, or has another number of values.
pub(crate) fn read(
    path: &Path,
    (numbers, count): (&str, usize),
    bytes: Option<&str>,
) -> Result<(Vec<f32>, Vec<u8>)> {
    let file = std::fs::read(path).map_err(TrainError::io(path))?;
    let of_pack = |error| broken(path, &error);
    let reader = Reader::from_bytes(Bytes::from_bytes_vec(file)).map_err(of_pack)?;
    let data = reader.tensor_data(numbers).map_err(of_pack)?;
    let (values, _) = data.as_chunks::<4>();
    if values.len() != count {
        let problem = format!("it has {} values, and the model {count}", values.len());
        return Err(broken(path, &problem));
    }
    let bytes = match bytes {
        Some(name) => reader.tensor_data(name).map_err(of_pack)?,
        None => Vec::new(),
    };
    Ok((
        values
            .iter()
            .map(|value| f32::from_le_bytes(*value))
            .collect(),
        bytes,
    ))
}

fn broken(path: &Path, problem: &dyn ToString) -> TrainError {
    TrainError::Optimizer {
        path: path.to_path_buf(),
        problem: OptimizerProblem::Record(problem.to_string()),
    }
}

/// Brings each rank's `own` state into a checkpoint. The first rank names its `folder` and has
/// written [`OUTER_NAME`] there. A rank that can see that folder writes its file there; a rank on a
/// host with other disks sends its bytes to the first.
///
/// # Errors
/// If a file cannot be written, or a rank cannot be reached.
pub(crate) fn collect(exchange: &dyn Exchange, folder: Option<&Path>, own: Vec<u8>) -> Result<()> {
    let mut sign = Vec::new();
    if let Some(folder) = folder {
        sign = hash_of(&folder.join(OUTER_NAME))?.as_bytes().to_vec();
        sign.extend(folder.as_os_str().as_encoded_bytes());
    }
    exchange.broadcast(0, &mut sign)?;
    let (hash, place) = sign.split_at(blake3::OUT_LEN.min(sign.len()));
    let place = PathBuf::from(String::from_utf8_lossy(place).into_owned());
    let sees = hash_of(&place.join(OUTER_NAME)).is_ok_and(|found| found.as_bytes() == hash);
    let mut sends = vec![0.0; exchange.size()];
    match folder {
        None if !sees => sends[exchange.rank()] = 1.0,
        _ => write(folder.unwrap_or(&place), exchange.rank(), &own)?,
    }
    // Whoever resumes from here finds what others have written.
    exchange.sum(&mut sends)?;
    let mut bytes = own;
    for rank in (0..sends.len()).filter(|&rank| sends[rank] > 0.0) {
        if rank != exchange.rank() {
            bytes.clear();
        }
        exchange.broadcast(rank, &mut bytes)?;
        if let Some(folder) = folder {
            write(folder, rank, &bytes)?;
        }
    }
    Ok(())
}

fn hash_of(path: &Path) -> Result<blake3::Hash> {
    let bytes = std::fs::read(path).map_err(TrainError::io(path))?;
    Ok(blake3::hash(&bytes))
}

/// Writes a rank's file and flushes it to the disk, which the first rank cannot do for others.
fn write(folder: &Path, rank: usize, bytes: &[u8]) -> Result<()> {
    let path = folder.join(name_of(rank));
    let written = File::create(&path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(TrainError::io(&path))
}
