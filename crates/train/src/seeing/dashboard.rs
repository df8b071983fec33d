//! Burn's dashboard, which fills the terminal.

use burn::train::Interrupter;
use burn::train::renderer::MetricsRenderer;

use crate::error::{DashboardProblem, Result, TrainError};

/// Whether [`dashboard`] can be shown.
///
/// # Errors
/// [`TrainError::Dashboard`] if standard output is not a terminal, or this crate was built without
/// its feature `tui`.
pub fn check_dashboard() -> Result<()> {
    use std::io::IsTerminal;

    let problem = if !cfg!(feature = "tui") {
        DashboardProblem::NotBuilt
    } else if !std::io::stdout().is_terminal() {
        DashboardProblem::NoTerminal
    } else {
        return Ok(());
    };
    Err(TrainError::Dashboard(problem))
}

/// Burn's dashboard. It takes over the whole terminal at once; its keys stop the run through
/// `interrupter`.
///
/// # Errors
/// As [`check_dashboard`].
pub fn dashboard(interrupter: &Interrupter) -> Result<Box<dyn MetricsRenderer>> {
    check_dashboard()?;
    Ok(renderer(interrupter))
}

#[cfg(feature = "tui")]
fn renderer(interrupter: &Interrupter) -> Box<dyn MetricsRenderer> {
    use burn::train::renderer::tui::TuiMetricsRendererWrapper;
    Box::new(TuiMetricsRendererWrapper::new(interrupter.clone(), None))
}

/// Never called, because the check before it fails.
#[cfg(not(feature = "tui"))]
fn renderer(_interrupter: &Interrupter) -> Box<dyn MetricsRenderer> {
    Box::new(crate::ProgressRenderer::hidden())
}
