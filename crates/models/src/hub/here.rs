//! Errors for somebody who meant a path, and may be in another folder than they think.

use std::path::Path;

use super::HubError;
use crate::error::ModelError;

/// That something is not to be had from the Hub, nor is there `what` of this name.
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

/// That a path, which cannot be the name of a model on the Hub, is no folder.
pub(super) fn no_folder(path: &Path) -> ModelError {
    let reason = format!(
        "there is no such folder{}, and a Hub id is written `name` or `organisation/name`, with \
         `@revision` where wanted",
        seen_from(path)
    );
    ModelError::file(path, reason)
}

/// From where a relative path is seen.
fn seen_from(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    match path.is_relative() {
        true => format!(" here ({})", here.display()),
        false => String::new(),
    }
}
