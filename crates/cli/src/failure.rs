//! From an error to standard error and an exit status.

use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, PanicHookInfo};
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Error, Result};
use burn_peft_device::DeviceName;
use burn_peft_files::without_os_errors;

use crate::{interrupt, ranks};

/// The message of the last panic, for [`run`].
static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

/// Runs the job; returns 0 if it succeeds, and 1, with the reason on standard error, if it fails.
///
/// A panic is a bug of this program, or of the driver of a `gpu`, and is reported as one. Libraries
/// that catch their own panics stay silent.
pub fn run(gpu: Option<DeviceName>, job: impl FnOnce() -> Result<()>) -> ExitCode {
    std::panic::set_hook(Box::new(note));
    let report = match std::panic::catch_unwind(AssertUnwindSafe(job)) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => match error.downcast_ref::<Interrupted>() {
            Some(interrupted) => {
                ranks::leave();
                return ExitCode::from(interrupted.code());
            }
            None => describe(&error),
        },
        Err(_) => {
            let said = LAST_PANIC
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            match gpu {
                None => format!("error: this is a bug in peft, please report it: {said}\n"),
                Some(gpu) => format!(
                    "error: {gpu} failed, for lack of memory or because of a bug in its driver or in peft; \
                     --device cpu tells which, and a smaller batch takes less: {said}\n"
                ),
            }
        }
    };
    let exchange = ranks::current();
    if exchange.size() == 1 {
        tell(&report);
        return ExitCode::FAILURE;
    }
    interrupt::failed();
    if !exchange.is_first() {
        // If all ranks have the same error, the first one reports it, and ends the others.
        std::thread::sleep(Duration::from_secs(2));
    }
    tell(&format!("{}: {report}", exchange.name()));
    ranks::end_all()
}

/// Writes to standard error.
pub fn tell(report: &str) {
    // If standard error is closed, there is nobody to tell.
    let _ = std::io::stderr().write_all(report.as_bytes());
}

/// A job that was stopped by a signal, after its user was told.
#[derive(Debug)]
pub struct Interrupted {
    /// The number of the signal.
    pub signal: i32,
}

impl Interrupted {
    /// The exit status: 128 plus the signal, as a shell reports it.
    pub fn code(&self) -> u8 {
        128 + self.signal as u8
    }

    /// The usual name of the signal.
    pub fn name(&self) -> &'static str {
        match self.signal {
            1 => "SIGHUP",
            15 => "SIGTERM",
            _ => "Ctrl-C",
        }
    }
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "stopped by {}", self.name())
    }
}

impl std::error::Error for Interrupted {}

fn note(panic: &PanicHookInfo<'_>) {
    tracing::debug!("{panic}");
    let mut last = LAST_PANIC
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    *last = panic.to_string().replace('\n', " ");
}

/// The error and its causes, a line for each.
pub fn describe(error: &Error) -> String {
    let mut told = error.to_string();
    let mut report = format!("error: {told}\n");
    for cause in error.chain().skip(1) {
        let text = cause.to_string();
        // Many messages already end with their cause.
        if !told.ends_with(&text) {
            let _ = writeln!(report, "  caused by: {text}");
        }
        told = text;
    }
    without_os_errors(&report).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_the_system_is_told() {
        let folder = std::env::temp_dir();
        let error = std::fs::read_to_string(&folder).unwrap_err();
        let said = describe(&Error::new(error).context("cannot read it"));
        assert!(!said.contains("os error"), "{said}");
    }

    #[test]
    fn causes_are_told_once_and_one_a_line() {
        let missing = std::io::Error::other("no such file");
        let error = Error::new(missing)
            .context("a.json: no such file")
            .context("cannot load a");
        assert_eq!(
            describe(&error),
            "error: cannot load a\n  caused by: a.json: no such file\n"
        );
    }
}
