//! Files that are whole or not there, whenever the process or the machine stops.

use std::fs::{self, File};
use std::io::{Result, Write};
use std::path::Path;

use tempfile::NamedTempFile;

/// What the names of files begin with that are not whole yet.
pub const PREFIX: &str = ".tmp-";

/// An empty file in the folder of `path` that vanishes unless it is [`put`] in place.
///
/// # Errors
/// If it cannot be made.
pub fn temporary_file(path: &Path) -> Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX);
    #[cfg(unix)]
    {
        // As any other file, not 0600: the process's umask still applies.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder(path))
}

/// Flushes a temporary file to the disk and gives it its name.
///
/// # Errors
/// If any of that fails; an earlier file of that name is as before.
pub fn put(file: NamedTempFile, path: &Path) -> Result<()> {
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_folder(folder(path))
}

/// Writes a file under a temporary name beside it, flushes it to the disk and renames it.
///
/// # Errors
/// As [`put`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = temporary_file(path)?;
    file.write_all(bytes)?;
    put(file, path)
}

/// Flushes the names in a folder to the disk, where the system can.
///
/// # Errors
/// If that fails.
pub fn sync_folder(folder: &Path) -> Result<()> {
    match cfg!(unix) {
        true => File::open(folder)?.sync_all(),
        false => Ok(()),
    }
}

/// The folder a file lies in; the working directory's own has an empty name.
fn folder(path: &Path) -> &Path {
    let folder = path.parent();
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}
