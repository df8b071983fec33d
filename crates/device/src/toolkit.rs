//! Checks that the machine can compile kernels in CUDA C++.
//!
//! Without NVRTC or the toolkit's headers, Burn prints an error for every kernel, and tensors read
//! as zeros. This check comes before that.

use crate::{DeviceError, DeviceName};

/// The headers that cubecl's kernels include.
#[cfg(feature = "cuda-cpp")]
const PROBE: &str = "\
#include <cuda_fp16.h>
#include <cuda_bf16.h>
#include <mma.h>
#if !__has_include(<cuda/barrier>)
#error \"cuda/barrier is missing (nvidia-cuda-cccl)\"
#endif
extern \"C\" __global__ void probe(float *x) { *x = tanhf(*x); }
";

/// Compiles a kernel with NVRTC, in some hundredths of a second.
///
/// # Errors
/// If the library or a header is missing.
#[cfg(feature = "cuda-cpp")]
pub(crate) fn check(name: DeviceName) -> Result<(), DeviceError> {
    use cudarc::nvrtc::{CompileError, CompileOptions, compile_ptx_with_opts, sys};

    let lacking = |reason: String| DeviceError::Toolkit { name, reason };
    let include = cubecl::cuda::install::cuda_path().map(|path| path.join("include"));
    let include = include.ok_or_else(|| lacking("no CUDA toolkit was found".to_owned()))?;
    // SAFETY: this does no more than open the library.
    if !unsafe { sys::is_culib_present() } {
        return Err(lacking("libnvrtc was not found".to_owned()));
    }
    let folders = [include.join("cccl"), include];
    let options = CompileOptions {
        include_paths: folders.map(|f| f.display().to_string()).to_vec(),
        ..CompileOptions::default()
    };
    let failed = |error| match error {
        CompileError::CompileError { log, .. } => {
            let log = log.to_string_lossy();
            log.lines().next().unwrap_or_default().to_owned()
        }
        other => other.to_string(),
    };
    let compiled = compile_ptx_with_opts(PROBE, options);
    compiled.map(drop).map_err(|error| lacking(failed(error)))
}

/// Succeeds: this build compiles nothing with NVRTC.
#[cfg(not(feature = "cuda-cpp"))]
pub(crate) fn check(_: DeviceName) -> Result<(), DeviceError> {
    Ok(())
}
