//! Errors for users who meant a path, and may be in another folder than they think.

use std::path::Path;

use super::HubError;
use crate::error::ModelError;

/// The error for something that is not on the Hub, while there is no `what` of this name here
/// either.
pub(super) fn not_here(error: ModelError, what: &'static str) -> ModelError {
    let ModelError::Hub(on_hub) = error else {
        return error;
    };
    let error = HubError::Nowhere {
        on_hub,
        what,
        seen_from: seen_from(Path::new("")),
    };
    error.into()
}

/// The error for a path, which cannot be a model's name on the Hub, that is not a folder.
pub(super) fn no_folder(path: &Path) -> ModelError {
    let reason = format!(
        "there is no such folder{}, and a Hub id is written `name` or `organisation/name`, with \
         `@revision` where wanted",
        seen_from(path)
    );
    ModelError::file(path, reason)
}

/// The folder that a relative path is relative to.
fn seen_from(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    if path.is_relative() {
        format!(" here ({})", here.display())
    } else {
        String::new()
    }
}
