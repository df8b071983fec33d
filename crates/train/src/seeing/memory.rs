//! The memory that a run has used.

use burn::tensor::Device;

/// The most memory that this process has used so far, in bytes: on a GPU the size of its memory
/// pools, which give nothing back but pages too small for the largest tensor so far; on the CPU the
/// peak of the resident set. `None` if the system does not report it.
pub fn peak_memory_bytes(device: &Device) -> Option<u64> {
    match device.memory_pool_usage() {
        Some(usage) => Some(usage.bytes_reserved),
        None => peak_resident_bytes(),
    }
}

#[cfg(target_os = "linux")]
fn peak_resident_bytes() -> Option<u64> {
    parse(&std::fs::read_to_string("/proc/self/status").ok()?)
}

#[cfg(all(unix, not(target_os = "linux")))]
fn peak_resident_bytes() -> Option<u64> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the call fills the struct it is given, and zeros are a valid value before it does.
    let usage = unsafe {
        if libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) != 0 {
            return None;
        }
        usage.assume_init()
    };
    // Apple counts bytes, the BSDs kilobytes.
    let unit = if cfg!(target_vendor = "apple") {
        1
    } else {
        1024
    };
    u64::try_from(usage.ru_maxrss).ok()?.checked_mul(unit)
}

#[cfg(not(unix))]
fn peak_resident_bytes() -> Option<u64> {
    None
}

/// `VmHWM` ("high water mark") of `/proc/PID/status`, which is in kilobytes.
#[cfg(target_os = "linux")]
fn parse(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim_end().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_high_water_mark_is_read_and_stays() {
        let status = "Name:\tpeft\nVmPeak:\t  900 kB\nVmHWM:\t     412 kB\nVmRSS:\t 20 kB\n";
        assert_eq!(parse(status), Some(412 * 1024));
        assert_eq!(parse("VmRSS:\t 20 kB\n"), None);

        // The kernel counts pages in batches, so the last megabyte is not exact.
        let slack = 1 << 20;
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let during = peak_resident_bytes().unwrap();
        drop(block);
        assert!(during + slack >= 64 << 20);
        assert!(peak_resident_bytes().unwrap() + slack >= during);
    }
}
