//! The allocator of the fuzz test. It counts the memory in use, and refuses sizes that no small
//! file can need.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering::Relaxed};

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// No input has more than some hundred kilobytes. A larger allocation fails and ends the process.
const REFUSED: usize = 1 << 30;

static HELD: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);
/// When this much memory is in use, the place of the allocation is printed; see [`trace`].
static TRACED: AtomicIsize = AtomicIsize::new(isize::MAX);

thread_local! {
    static TELLING: Cell<bool> = const { Cell::new(false) };
}

struct Counting;

impl Counting {
    fn grows(by: usize) {
        let held = HELD.fetch_add(by as isize, Relaxed) + by as isize;
        PEAK.fetch_max(held, Relaxed);
        if held > TRACED.load(Relaxed) || by > REFUSED {
            tell(by);
        }
    }
}

/// Prints, once, where memory beyond the bound is allocated.
#[cold]
fn tell(by: usize) {
    if TELLING.try_with(|telling| telling.replace(true)) == Ok(false) {
        TRACED.store(isize::MAX, Relaxed);
        let place = std::backtrace::Backtrace::force_capture();
        eprintln!("{by} bytes are asked for here:\n{place}");
        let _ = TELLING.try_with(|telling| telling.set(false));
    }
}

// SAFETY: every call goes to MiMalloc, or returns a null pointer, which means that there is no
// memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::grows(layout.size());
        if layout.size() > REFUSED {
            return std::ptr::null_mut();
        }
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        Self::grows(layout.size());
        if layout.size() > REFUSED {
            return std::ptr::null_mut();
        }
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size() as isize, Relaxed);
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // For a moment, the old and the new memory both exist.
        Self::grows(size);
        HELD.fetch_sub(layout.size() as isize, Relaxed);
        if size > REFUSED {
            return std::ptr::null_mut();
        }
        unsafe { MiMalloc.realloc(pointer, layout, size) }
    }
}

/// The memory in use, in bytes.
pub fn held() -> usize {
    HELD.load(Relaxed).max(0) as usize
}

/// Runs something, and returns the peak of the memory in use minus what was in use before, in
/// bytes.
pub fn measured<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = run();
    let peak = PEAK.load(Relaxed) - before;
    (result, peak.max(0) as usize)
}

/// Prints the place at which more than `bytes` beyond the memory now in use are allocated.
pub fn trace(bytes: usize) {
    TRACED.store(HELD.load(Relaxed) + bytes as isize, Relaxed);
}
