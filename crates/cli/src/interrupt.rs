//! Handling Ctrl-C and the signals that end a job (Slurm, Kubernetes, a closed terminal): a run
//! stops in good order.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use burn_peft_models::gguf::remove_folders;
use burn_peft_train::{Interrupter, above_bar};

use crate::failure::Interrupted;
use crate::ranks::{self, is_first};

/// A bit for each signal that this process handles.
static ANSWERED: AtomicU64 = AtomicU64::new(0);
/// A bit for each signal that arrived while nothing handled it.
#[cfg(unix)]
static UNANSWERED: AtomicU64 = AtomicU64::new(0);

/// Lets a signal that nothing else handles remove this process's temporary files before it has its
/// default effect.
#[cfg(unix)]
pub fn clean_up() -> Result<()> {
    use anyhow::Context;
    use signal_hook::consts::{SIGHUP, SIGTERM};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::{emulate_default_handler, register};

    let wanted = [SIGINT, SIGTERM, SIGHUP];
    let wanted = wanted.into_iter().filter(|&signal| !is_ignored(signal));
    let wanted: Vec<i32> = wanted.collect();
    for &signal in &wanted {
        // Checked when the signal arrives: by the time the thread below receives it, something may
        // already handle the next one without having seen this one.
        let note = move || {
            if ANSWERED.load(Ordering::SeqCst) & (1 << signal) == 0 {
                UNANSWERED.fetch_or(1 << signal, Ordering::SeqCst);
            }
        };
        // SAFETY: a signal handler may use atomics, and this one does nothing else.
        unsafe { register(signal, note) }.context("cannot listen for signals")?;
    }
    let mut signals = Signals::new(&wanted).context("cannot listen for signals")?;
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if UNANSWERED.load(Ordering::SeqCst) & (1 << signal) != 0 {
                remove_folders();
                // It cannot fail for these signals.
                emulate_default_handler(signal).ok();
            }
        }
    });
    Ok(())
}

/// On other systems there is at most one listener, and a run's takes precedence.
#[cfg(not(unix))]
pub fn clean_up() -> Result<()> {
    Ok(())
}

/// Ctrl-C, on every system.
const SIGINT: i32 = 2;
/// Signals that end a job.
pub const SIGTERM: i32 = 15;

/// What signals do from [`new`](Self::new) on.
pub struct Signals {
    state: Arc<State>,
}

struct State {
    interrupter: Interrupter,
    /// The first signal; 0 for none.
    first: AtomicI32,
    /// Whether the next signal ends the process.
    ended: AtomicBool,
}

impl Signals {
    /// Lets the first signal stop a run after its current step. A second Ctrl-C ends the process.
    /// The other signals often come twice, and their senders end what takes too long.
    pub fn new(interrupter: &Interrupter) -> Result<Self> {
        let state = Arc::new(State {
            interrupter: interrupter.clone(),
            first: AtomicI32::new(0),
            ended: AtomicBool::new(false),
        });
        let listener = Arc::clone(&state);
        listen(move |signal| listener.received(signal))?;
        Ok(Self { state })
    }

    /// Lets the next signal end the process; returns an earlier one, if there was one.
    pub fn end(self) -> Option<Interrupted> {
        self.state.ended.store(true, Ordering::SeqCst);
        let signal = self.state.first.load(Ordering::SeqCst);
        (signal != 0).then_some(Interrupted { signal })
    }
}

/// Whether this process has failed and only has to exit.
static FAILED: AtomicBool = AtomicBool::new(false);

/// Records that this process has failed: later signals do not stop a run.
pub fn failed() {
    FAILED.store(true, Ordering::SeqCst);
}

impl State {
    fn received(&self, signal: i32) {
        let before = self
            .first
            .compare_exchange(0, signal, Ordering::SeqCst, Ordering::SeqCst);
        let interrupted = Interrupted { signal };
        if self.ended.load(Ordering::SeqCst) || (before.is_err() && signal == SIGINT) {
            end(&interrupted);
        }
        if before.is_ok() {
            self.interrupter.stop(Some(interrupted.name()));
            if !is_first() {
                return;
            }
            if ranks::current().size() == 1 {
                tell_of_saving();
                return;
            }
            // If a rank fails, MPI ends the others by the same signal: they are gone before the
            // wait is over.
            std::thread::spawn(|| {
                std::thread::sleep(Duration::from_millis(1500));
                if !FAILED.load(Ordering::SeqCst) {
                    tell_of_saving();
                }
            });
        }
    }
}

fn tell_of_saving() {
    // If standard error is closed, there is nobody to tell.
    let _ = above_bar(|out| {
        writeln!(
            out,
            "\nfinishing the step, then saving; Ctrl-C once more stops at once"
        )
    });
}

/// A folder that is removed if a signal ends the process, until it is [`kept`](Self::kept).
pub struct Unfinished(Arc<Mutex<Option<PathBuf>>>);

impl Unfinished {
    /// Lets a signal remove the folder before it ends the process.
    pub fn new(folder: &Path) -> Result<Self> {
        let unfinished = Arc::new(Mutex::new(Some(folder.to_path_buf())));
        let of_signal = Arc::clone(&unfinished);
        listen(move |signal| {
            let folder = of_signal.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(folder) = folder.as_deref() {
                // A file may be created in it meanwhile.
                let mut rounds = 0..100;
                while folder.exists() && rounds.next().is_some() {
                    std::fs::remove_dir_all(folder).ok();
                }
            }
            end(&Interrupted { signal });
        })?;
        Ok(Self(unfinished))
    }

    /// Runs the step that makes the folder permanent; a signal during it ends the process
    /// afterwards.
    pub fn kept<T>(self, finish: impl FnOnce() -> T) -> T {
        let mut folder = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *folder = None;
        finish()
    }
}

/// Ctrl-C in a conversation stops the answer being generated; a second one, or one without an
/// answer, ends the process.
pub struct Stop(Arc<AtomicU8>);

/// The state of [`Stop`].
const IDLE: u8 = 0;
const ANSWERING: u8 = 1;
const ASKED: u8 = 2;

impl Stop {
    /// Listens from now on.
    pub fn new() -> Result<Self> {
        let state = Arc::new(AtomicU8::new(IDLE));
        let of_signal = Arc::clone(&state);
        listen_to(&[SIGINT], move |signal| {
            let order = Ordering::SeqCst;
            let first = of_signal.compare_exchange(ANSWERING, ASKED, order, order);
            if first.is_err() {
                end(&Interrupted { signal });
            }
        })?;
        Ok(Self(state))
    }

    /// Generates an answer that Ctrl-C can stop.
    pub fn during<T>(&self, answer: impl FnOnce() -> T) -> T {
        self.0.store(ANSWERING, Ordering::SeqCst);
        let answer = answer();
        self.0.store(IDLE, Ordering::SeqCst);
        answer
    }

    /// Whether the answer should stop.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::SeqCst) == ASKED
    }
}

/// Ends the process and removes its temporary files.
fn end(interrupted: &Interrupted) -> ! {
    remove_folders();
    std::process::exit(interrupted.code().into())
}

/// Listens for all signals that end a job.
#[cfg(unix)]
fn listen(received: impl Fn(i32) + Send + 'static) -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGTERM};

    let mut wanted = vec![SIGINT, SIGTERM];
    // With `nohup` it is ignored, so that closing the terminal does not end a run.
    if !is_ignored(SIGHUP) {
        wanted.push(SIGHUP);
    }
    listen_to(&wanted, received)
}

#[cfg(unix)]
fn listen_to(wanted: &[i32], received: impl Fn(i32) + Send + 'static) -> Result<()> {
    use anyhow::Context;
    use signal_hook::iterator::Signals;

    let mut signals = Signals::new(wanted).context("cannot listen for signals")?;
    let bits = wanted.iter().fold(0, |bits, signal| bits | 1 << signal);
    ANSWERED.fetch_or(bits, Ordering::SeqCst);
    std::thread::spawn(move || signals.forever().for_each(received));
    Ok(())
}

#[cfg(unix)]
fn is_ignored(signal: i32) -> bool {
    // SAFETY: without a new action the call only writes the current one into `action`, for which
    // zeros are a valid value.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0
            && action.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(not(unix))]
fn listen(received: impl Fn(i32) + Send + 'static) -> Result<()> {
    listen_to(&[SIGINT], received)
}

#[cfg(not(unix))]
fn listen_to(_: &[i32], received: impl Fn(i32) + Send + 'static) -> Result<()> {
    use anyhow::Context;

    ctrlc::set_handler(move || received(SIGINT)).context("cannot listen for Ctrl-C")
}
