//! What is printed when a device's driver crashes the process.

#[cfg(unix)]
pub(crate) use unix::name_device;

#[cfg(not(unix))]
pub(crate) fn name_device(_: &str) {}

#[cfg(unix)]
mod unix {
    use std::ptr::null_mut;
    use std::sync::atomic::{AtomicPtr, Ordering};

    static MESSAGE: AtomicPtr<String> = AtomicPtr::new(null_mut());

    /// From now on a crash of the process is reported as a crash of this device's driver. The few
    /// names that a process uses are never freed, since a handler may read them at any time.
    pub(crate) fn name_device(device: &str) {
        let message = format!(
            "error: the driver of {device} crashed. Choose another device: `peft devices` lists \
             them; wgpu:cpu needs a build without the vulkan feature\n"
        );
        MESSAGE.store(Box::into_raw(Box::new(message)), Ordering::Release);
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL] {
            // SAFETY: the handler calls only what POSIX allows in one.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = on_crash as *const () as usize;
                // Rust's threads have a separate stack for signals.
                action.sa_flags = libc::SA_ONSTACK;
                libc::sigaction(signal, &action, null_mut());
            }
        }
    }

    extern "C" fn on_crash(_: libc::c_int) {
        // SAFETY: the message is never freed; `write` and `_exit` are safe in a handler.
        unsafe {
            if let Some(message) = MESSAGE.load(Ordering::Acquire).as_ref() {
                libc::write(libc::STDERR_FILENO, message.as_ptr().cast(), message.len());
            }
            libc::_exit(1);
        }
    }
}
