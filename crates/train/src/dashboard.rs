//! Burn's dashboard, which fills the terminal.

use burn::train::Interrupter;
use burn::train::renderer::MetricsRenderer;

use crate::error::{Result, TrainError};

/// Burn's dashboard, whose keys can stop the run through `interrupter`.
///
/// # Errors
/// [`TrainError::Dashboard`] where standard output is no terminal, or where this crate was built
/// without its feature `tui`.
#[cfg(feature = "tui")]
pub fn dashboard(interrupter: &Interrupter) -> Result<Box<dyn MetricsRenderer>> {
    use burn::train::renderer::tui::TuiMetricsRendererWrapper;
    use std::io::IsTerminal;

    if !std::io::stdout().is_terminal() {
        let problem = "needs a terminal, and standard output is none; leave --tui out";
        return Err(TrainError::Dashboard(problem));
    }
    let interrupter = interrupter.clone();
    Ok(Box::new(TuiMetricsRendererWrapper::new(interrupter, None)))
}

/// Burn's dashboard, whose keys can stop the run through `interrupter`.
///
/// # Errors
/// [`TrainError::Dashboard`], as this crate was built without its feature `tui`.
#[cfg(not(feature = "tui"))]
pub fn dashboard(_interrupter: &Interrupter) -> Result<Box<dyn MetricsRenderer>> {
    let problem = "is not part of this build, which keeps it small; \
                   build it with: cargo build --release --features tui";
    Err(TrainError::Dashboard(problem))
}
