//! Memory and disks.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::private::paths;
use crate::output::size;

/// The main memory in bytes, as far as the system reports it.
pub struct Memory {
    total: Option<u64>,
    available: Option<u64>,
    /// The limit of the process's control group (a container).
    limit: Option<u64>,
}

impl Memory {
    /// Reads the amounts.
    pub fn look() -> Self {
        let told = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let of = |name: &str| {
            let mut lines = told.lines();
            let rest = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()? << 10)
        };
        let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
        Self {
            total: of("MemTotal"),
            available: of("MemAvailable"),
            limit: limit.and_then(|bytes| bytes.trim().parse().ok()),
        }
    }

    pub fn text(&self) -> String {
        let of = |bytes: Option<u64>| bytes.map_or("unknown".to_string(), size);
        let limit = self
            .limit
            .map(|bytes| format!(", {} for this container", size(bytes)));
        let [total, available] = [self.total, self.available].map(of);
        format!(
            "{total}, {available} of it free{}",
            limit.unwrap_or_default()
        )
    }

    pub fn json(&self) -> Value {
        json!({ "total": self.total, "available": self.available, "limit": self.limit })
    }
}

/// A cache folder.
pub struct Folder {
    /// The content of the folder.
    pub what: &'static str,
    path: PathBuf,
    /// The bytes of its files; `None` if it does not exist.
    bytes: Option<u64>,
    /// The free bytes on its disk.
    free: Option<u64>,
    /// Why nothing can be written there.
    problem: Option<String>,
}

impl Folder {
    /// Reads the amounts.
    pub fn look(what: &'static str, path: PathBuf) -> Self {
        let bytes = path.is_dir().then(|| bytes_in(&path));
        // A folder that does not exist yet will be on the disk of its parent.
        let parent = path.ancestors().find(|path| path.exists());
        let parent = parent.unwrap_or(Path::new("."));
        Self {
            what,
            bytes,
            free: free(parent),
            problem: problem_of(parent),
            path,
        }
    }

    fn shown(&self) -> String {
        paths(&self.path.display().to_string())
    }

    pub fn text(&self) -> String {
        let bytes = self.bytes.map_or("empty".to_string(), size);
        let free = self
            .free
            .map(|bytes| format!(", {} free on its disk", size(bytes)));
        let problem = self.problem.as_ref().map(|why| format!("; {why}"));
        let rest = [free, problem].map(Option::unwrap_or_default).concat();
        format!("{}: {bytes}{rest}", self.shown())
    }

    pub fn json(&self) -> Value {
        json!({
            "what": self.what,
            "path": self.shown(),
            "bytes": self.bytes,
            "free": self.free,
            "problem": self.problem,
        })
    }
}

/// Why nothing can be written to a folder, or below it if it is the parent of a cache.
fn problem_of(folder: &Path) -> Option<String> {
    let shown = paths(&folder.display().to_string());
    if !folder.is_dir() {
        return Some(format!("{shown} is not a folder"));
    }
    // Only an attempt shows this on every system, and for root. The error itself has the whole path.
    let error = tempfile::tempfile_in(folder).err()?;
    Some(format!("cannot write to {shown}: {}", error.kind()))
}

/// The bytes of all files in a folder and below. Links are not followed, so nothing counts twice.
fn bytes_in(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(about) if about.is_dir() => bytes_in(&entry.path()),
        Ok(about) if about.is_file() => about.len(),
        _ => 0,
    };
    entries.map(of).sum()
}

#[cfg(unix)]
fn free(folder: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    // SAFETY: all fields of the struct are numbers, for which zeros are valid values.
    let mut about: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a zero, and the struct belongs to this function.
    let failed = unsafe { libc::statvfs(path.as_ptr(), &mut about) };
    #[allow(clippy::unnecessary_cast, reason = "other systems have other widths")]
    (failed == 0).then(|| about.f_bavail as u64 * about.f_frsize as u64)
}

#[cfg(not(unix))]
fn free(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_the_bytes_of_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("x"), [0; 100]).unwrap();
        fs::write(dir.path().join("y"), [0; 11]).unwrap();
        let folder = Folder::look("tokens", dir.path().to_path_buf());
        assert_eq!(folder.bytes, Some(111));
        assert!(cfg!(not(unix)) || folder.free.is_some());
        let missing = Folder::look("tokens", dir.path().join("no/such"));
        assert_eq!(missing.bytes, None);
        assert_eq!(missing.free.is_some(), folder.free.is_some());
        assert_eq!([folder.problem, missing.problem], [None, None]);
    }

    #[test]
    fn a_cache_that_cannot_be_written_to_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("inner/cache")] {
            let told = Folder::look("tokens", path).text();
            assert!(told.contains("file is not a folder"), "{told}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_path_may_be_no_text() {
        use std::os::unix::ffi::OsStrExt;
        let path = Path::new(std::ffi::OsStr::from_bytes(b"/no/\xff")).to_path_buf();
        let json = Folder::look("tokens", path).json();
        assert_eq!(json["path"], "/no/\u{fffd}");
    }
}
