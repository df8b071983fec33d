//! How many kernels are tried before one is chosen.

/// Has this process try few, once each: for devices in software, which take longer to compile and time
/// a kernel than the fastest saves. Nothing is changed where a file or the environment asks for more,
/// or once a GPU is open.
#[cfg(all(
    any(feature = "wgpu", feature = "cuda"),
    any(target_os = "linux", target_os = "macos", target_os = "windows")
))]
pub(crate) fn try_few() {
    use cubecl::config::autotune::AutotuneLevel;
    use cubecl::config::{CubeClRuntimeConfig, RuntimeConfig};
    let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
    let autotune = &mut config.autotune;
    if matches!(autotune.level, AutotuneLevel::Balanced) {
        autotune.level = AutotuneLevel::Minimal;
    }
    if matches!(autotune.level, AutotuneLevel::Minimal) {
        (autotune.bench.min_samples, autotune.bench.max_samples) = (1, 1);
    }
    CubeClRuntimeConfig::try_set(config);
}

#[cfg(not(all(
    any(feature = "wgpu", feature = "cuda"),
    any(target_os = "linux", target_os = "macos", target_os = "windows")
)))]
pub(crate) fn try_few() {}
