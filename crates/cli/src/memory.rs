//! How the C library's allocator treats the buffers of a step.

/// Has freed memory kept for the next step: what goes back to the kernel faults in again at every
/// step, page by page. Does nothing where the C library is not glibc.
pub(crate) fn keep_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: sets three numbers of the allocator, before there is a second thread.
    unsafe {
        // Arenas of threads give back whole heaps, whatever the threshold.
        libc::mallopt(libc::M_ARENA_MAX, 1);
        // The largest that is allowed; larger buffers are mapped one by one.
        libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}
