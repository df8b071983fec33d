//! Files that are complete or absent, whenever the process or the machine stops.

use std::fs::{self, File};
use std::io::{Result, Write};
use std::path::Path;

use tempfile::NamedTempFile;

/// The prefix of the names of incomplete files.
pub const PREFIX: &str = ".tmp-";

/// Creates an empty file in the folder of `path`, which is removed unless it is [`put`] in place.
///
/// # Errors
/// If it cannot be created.
pub fn temporary_file(path: &Path) -> Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX);
    #[cfg(unix)]
    {
        // The permissions of any other file rather than 0600; the process's umask still applies.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    builder.tempfile_in(folder(path))
}

/// Flushes a temporary file to the disk and renames it to `path`.
///
/// # Errors
/// If any of that fails. An existing file of that name is then unchanged, unless only the last step
/// failed, which flushes the folder.
pub fn put(file: NamedTempFile, path: &Path) -> Result<()> {
    file.as_file().sync_all()?;
    file.persist(path)?;
    sync_folder(folder(path))
}

/// Writes a file under a temporary name in the same folder, flushes it to the disk and renames it.
///
/// # Errors
/// As [`put`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = temporary_file(path)?;
    file.write_all(bytes)?;
    put(file, path)
}

/// Flushes a folder's entries to the disk, if the system can.
///
/// # Errors
/// If that fails.
pub fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()
    } else {
        Ok(())
    }
}

/// The folder of a file; `.` if the path names none.
fn folder(path: &Path) -> &Path {
    let folder = path.parent();
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}
