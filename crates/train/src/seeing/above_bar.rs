//! Writing to a terminal that shows a progress bar.

use std::sync::{Mutex, MutexGuard};

use indicatif::ProgressBar;

use crate::lock::lock;

/// The bar that is on the terminal now, if any.
static SHOWN: Mutex<Option<ProgressBar>> = Mutex::new(None);

fn shown() -> MutexGuard<'static, Option<ProgressBar>> {
    lock(&SHOWN)
}

/// Sets the bar that is on the terminal from now on.
pub(crate) fn show(bar: Option<ProgressBar>) {
    *shown() = bar;
}

/// Writes to standard error above a run's progress bar, if one is shown: writing over it would
/// leave pieces of it on the screen.
pub fn above_bar<R>(write: impl FnOnce(&mut std::io::Stderr) -> R) -> R {
    let bar = shown().clone();
    let write = || write(&mut std::io::stderr());
    match bar {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}
