//! Ctrl-C: once to stop in good order, twice to stop at once.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use burn_peft_train::Interrupter;

use crate::failure::Interrupted;

/// What Ctrl-C does from [`new`](Self::new) on.
pub struct CtrlC {
    pressed: Arc<AtomicBool>,
}

impl CtrlC {
    /// Has the first Ctrl-C stop a run after its current step, and the second end the process.
    pub fn new(interrupter: &Interrupter) -> Result<Self> {
        let pressed = Arc::new(AtomicBool::new(false));
        let (before, interrupter) = (Arc::clone(&pressed), interrupter.clone());
        ctrlc::set_handler(move || {
            if before.swap(true, Ordering::SeqCst) {
                std::process::exit(Interrupted::CODE.into());
            }
            interrupter.stop(Some("Ctrl-C"));
            // Where standard error is closed there is nobody to tell.
            let _ = writeln!(
                std::io::stderr(),
                "\nfinishing the step, then saving; Ctrl-C once more stops at once"
            );
        })
        .context("cannot listen for Ctrl-C")?;
        Ok(Self { pressed })
    }

    /// Has the next Ctrl-C end the process; true where there was one before.
    pub fn end(self) -> bool {
        self.pressed.swap(true, Ordering::SeqCst)
    }
}
