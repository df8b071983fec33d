//! On which thread a pass runs, and whether the others sleep meanwhile.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::dropout;
use crate::flex::{PLAIN_HERE, with_flag};

/// Runs `body` on the first of the threads that the specialised bodies share their work among. Each
/// of the many small products of a token, or of a step, then begins at once; from any other thread it
/// would first wait for one of those threads to wake. It is always the same thread, because the
/// allocator keeps what a thread has freed for that thread.
///
/// [`with_plain_bodies`](crate::with_plain_bodies) and [`without_dropout`](crate::without_dropout) act as on the calling
/// thread; a [seed](crate::with_seed) has to be set in `body`.
pub fn among_threads<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    on_first_thread(body, |_| ())
}

/// As [`among_threads`], and the other threads stay awake while `body` has work for them. This makes
/// the parts of a token faster; a step's are too long to gain by it.
pub fn among_awake_threads<R: Send>(body: impl FnOnce() -> R + Send) -> R {
    on_first_thread(body, stand_by)
}

/// Runs `body` on the first thread and `beside` on the others, with a flag that says whether `body` is
/// over.
fn on_first_thread<R: Send>(
    body: impl FnOnce() -> R + Send,
    beside: impl Fn(&AtomicBool) + Sync,
) -> R {
    let (plain, drops) = (PLAIN_HERE.get(), dropout::drops());
    // That thread may be waiting in the middle of another call, whose flags are not ours.
    let body = move || {
        with_flag(&PLAIN_HERE, plain, || {
            with_flag(&dropout::DROPS, drops, body)
        })
    };
    if rayon::current_thread_index().is_some() {
        return body();
    }
    let body = Mutex::new(Some(body));
    let take = || body.lock().ok().and_then(|mut body| body.take());
    let is_over = AtomicBool::new(false);
    let results = rayon::broadcast(|thread| match thread.index() {
        0 => {
            let _over = SetAtEnd(&is_over);
            take().map(|body| body())
        }
        _ => {
            beside(&is_over);
            None
        }
    });
    let mut results = results.into_iter().flatten();
    results.next().expect("the first thread runs the body")
}

/// How often a thread looks for work before it goes to sleep: for about as long as a token of a small
/// model takes.
const LOOKS: usize = 4096;

/// After how many of them it lets other programs run.
const LOOKS_UNTIL_YIELD: usize = 64;

/// Takes parts of the work of others until it is over, or until there has been none for a while. To
/// wake a thread takes longer than many parts of a token do, so it does not sleep between them.
fn stand_by(is_over: &AtomicBool) {
    let mut looks = 0;
    while looks < LOOKS && !is_over.load(Ordering::Acquire) {
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            looks = 0;
            continue;
        }
        looks += 1;
        if looks.is_multiple_of(LOOKS_UNTIL_YIELD) {
            std::thread::yield_now();
        } else {
            std::hint::spin_loop();
        }
    }
}

/// Sets a flag when it is dropped, also by a panic.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flex::is_plain;
    use crate::{with_plain_bodies, without_dropout};

    /// The flags of the calling thread act among the others, and stay what they were there.
    #[test]
    fn flags_come_along() {
        let flags = || [is_plain(), dropout::drops()];
        let outside = flags();
        let inside = with_plain_bodies(|| without_dropout(|| among_threads(flags)));
        assert_eq!(inside, [true, false]);
        assert_eq!(among_threads(flags), outside);
        let nested = among_threads(|| {
            let first = with_plain_bodies(|| among_threads(flags));
            [first, flags()]
        });
        assert_eq!(nested, [[true, outside[1]], outside]);
    }
}
