//! Opens the device of a name, and makes sure that it works.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::Device;

use crate::limits::describe;
use crate::{Backend, DeviceError, DeviceName, Which, crash, self_test, toolkit, tuning};

/// Opens the device of this name. A GPU must first pass its [`self_test`].
///
/// # Errors
/// If this build or this machine has no such device, if its driver fails, or if it fails its
/// self-test.
pub fn open(name: DeviceName) -> Result<Device, DeviceError> {
    let (backend, which) = match name {
        DeviceName::Auto => return open_best(),
        DeviceName::Of(backend, which) => (backend, which),
    };
    if !backend.is_built() {
        return Err(DeviceError::NotBuilt { name, backend });
    }
    if which == Which::Software {
        tuning::try_few();
    }
    let [gpus, software] = backend.devices();
    let found = match which {
        Which::First => gpus.first(),
        Which::Index(index) => gpus.get(index),
        Which::Software => software.first(),
    };
    let Some(device) = found.cloned() else {
        return Err(DeviceError::Absent {
            name,
            backend,
            found: found_of(backend, gpus.len(), !software.is_empty()),
        });
    };
    if backend != Backend::Cpu {
        check(name, &device)?;
    }
    if which == Which::Software {
        tracing::warn!(
            "{name} is the CPU through a graphics API ({}), which is meant for tests: --device cpu \
             is faster",
            describe(&device)
        );
    }
    Ok(device)
}

/// Whether a device is the CPU by Burn's own backend, for which this project has kernels.
pub fn is_cpu(device: &Device) -> bool {
    device.clone().without_autodiff() == Device::flex()
}

/// The first GPU that works, or else the CPU.
fn open_best() -> Result<Device, DeviceError> {
    for backend in Backend::ALL.into_iter().filter(|&b| b != Backend::Cpu) {
        let [gpus, _] = backend.devices();
        for index in 0..gpus.len() {
            let name = DeviceName::Of(backend, Which::Index(index));
            match open(name) {
                Ok(device) => {
                    tracing::info!("auto takes {name}, {}", describe(&device));
                    return Ok(device);
                }
                Err(error) => tracing::warn!("auto skips {name}: {error}"),
            }
        }
    }
    tracing::info!("auto takes the CPU");
    open(DeviceName::CPU)
}

/// Opens a GPU and tests it.
fn check(name: DeviceName, device: &Device) -> Result<(), DeviceError> {
    if let DeviceName::Of(Backend::Cuda, _) = name {
        guarded(name, || toolkit::check(name))??;
    }
    guarded(name, || self_test(device))??;
    crash::name_device(&describe(device));
    Ok(())
}

/// Runs what may be the first code to touch a GPU. Many failures of drivers show up as panics in
/// the libraries above them, or as crashes.
pub(crate) fn guarded<T>(name: DeviceName, body: impl FnOnce() -> T) -> Result<T, DeviceError> {
    crash::name_device(&name.to_string());
    catch_unwind(AssertUnwindSafe(body)).map_err(|panic| {
        let reason = panic.downcast_ref::<String>().cloned();
        let reason = reason.or_else(|| panic.downcast_ref::<&str>().map(|&text| text.to_owned()));
        DeviceError::Failed {
            device: name.to_string(),
            reason: reason.unwrap_or_else(|| "its driver failed".to_owned()),
        }
    })
}

fn found_of(backend: Backend, gpus: usize, has_software: bool) -> String {
    match (gpus, has_software) {
        (0, true) => format!("only a software device ({backend}:cpu)"),
        (0, false) => "none".to_owned(),
        (1, _) => format!("{backend}:0"),
        (gpus, _) => format!("{backend}:0 to {backend}:{}", gpus - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_named_with_the_way_out() {
        for backend in Backend::ALL {
            let name = DeviceName::Of(backend, Which::Index(99));
            let error = match open(name) {
                Err(error) => error.to_string(),
                Ok(_) => panic!("{name} is there"),
            };
            let way_out = if backend.is_built() {
                "`peft devices` lists all".to_owned()
            } else {
                format!("--features {backend}")
            };
            assert!(
                error.contains(&name.to_string()) && error.contains(&way_out),
                "{error}"
            );
        }
    }
}
