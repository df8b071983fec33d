//! Files that are whole or not there. (This crate has no Burn, and so none of `burn_peft::atomic`.)

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use tempfile::{Builder, NamedTempFile};

use crate::error::{DataError, Result};

/// Writes a file under a temporary name beside it, flushes it to the disk, and renames it; `cannot`
/// makes an error of the disk's.
pub(crate) fn write(
    path: &Path,
    cannot: impl Fn(io::Error) -> DataError,
    write: impl FnOnce(BufWriter<NamedTempFile>) -> Result<BufWriter<NamedTempFile>>,
) -> Result<()> {
    let folder = path.parent();
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    let mut builder = Builder::new();
    builder.prefix(".tmp-");
    #[cfg(unix)]
    {
        // As any other file, not 0600: the process's umask still applies.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let file = builder.tempfile_in(folder.unwrap_or(Path::new(".")));
    let mut file = write(BufWriter::new(file.map_err(&cannot)?))?;
    file.flush().map_err(&cannot)?;
    let file = file.into_inner();
    let file = file.map_err(|error| cannot(error.into_error()))?;
    file.as_file().sync_all().map_err(&cannot)?;
    file.persist(path).map_err(|error| cannot(error.error))?;
    Ok(())
}
