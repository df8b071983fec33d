//! The allocator: one made for threads, which keeps the memory that a step has freed for the next
//! step.

use libmimalloc_sys::{mi_option_set_default, mi_option_t};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Its number in mimalloc.h; the crate has no name for it.
const PURGE_DELAY: mi_option_t = 15;

/// Keeps freed memory: memory returned to the kernel causes page faults again in every step. If
/// MIMALLOC_PURGE_DELAY is set, it is returned after this many milliseconds.
pub(crate) fn keep_freed() {
    // SAFETY: sets an option of the allocator; -1 means never.
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
            // SAFETY: both only read.
            unsafe {
                assert!(mi_is_in_heap_region(block.as_ptr().cast()));
                assert_eq!(mi_option_get(PURGE_DELAY), -1);
            }
        }
    }
}
