//! Folders of rows: `reviews` or `reviews:test`, with a file or files for each split.

use crate::source::Finder;
use crate::source::slice::SlicedPath;
use std::path::Path;

/// The folder and split in a name without its slice, the split if one is named; `None` if it is not
/// a folder.
pub fn folder_and_split(name: &str) -> Option<(&str, Option<&str>)> {
    if Path::new(name).is_dir() {
        return Some((name, None));
    }
    let (folder, split) = name.rsplit_once(':')?;
    (Path::new(folder).is_dir()).then_some((folder, Some(split)))
}

/// The validation rows of the folder whose rows are trained on, if it has some.
pub(crate) fn validation(train: &str, find: Finder<'_>) -> Option<String> {
    let (folder, split) = folder_and_split(SlicedPath::new(train).path)?;
    if split.is_some_and(|split| split != "train") {
        return None;
    }
    let spec = format!("{folder}:validation");
    match find(&spec) {
        Ok(Some(_)) => Some(spec),
        Ok(None) => None,
        Err(problem) => {
            tracing::info!("nothing to evaluate on: {problem}");
            None
        }
    }
}
