//! The allocator: one made for threads, that keeps what a step has freed for the next one.

use libmimalloc_sys::{mi_option_set_default, mi_option_t};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// As mimalloc.h numbers it; its crate has no name for it.
const PURGE_DELAY: mi_option_t = 15;

/// Has freed memory kept: what goes back to the kernel faults in again at every step, page by page.
/// Where MIMALLOC_PURGE_DELAY is set, it goes back after so many milliseconds.
pub(crate) fn keep_freed() {
    // SAFETY: sets a number of the allocator. -1 stands for never.
    unsafe { mi_option_set_default(PURGE_DELAY, -1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libmimalloc_sys::{mi_is_in_heap_region, mi_option_get};

    #[test]
    fn memory_is_the_allocators_and_is_kept() {
        keep_freed();
        for size in [1, 1 << 10, 1 << 20, 100 << 20] {
            let block: Vec<u8> = Vec::with_capacity(size);
            // SAFETY: both only look.
            unsafe {
                assert!(mi_is_in_heap_region(block.as_ptr().cast()));
                assert_eq!(mi_option_get(PURGE_DELAY), -1);
            }
        }
    }
}
