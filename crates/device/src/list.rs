//! The devices of this machine.

use burn::tensor::Device;

use crate::limits::{dtypes, properties};
use crate::open::guarded;
use crate::{Backend, DeviceName, Which};

/// A device that this build can use.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// The name to give to [`crate::open`].
    pub name: DeviceName,
    /// What it calls itself, or why it cannot be opened.
    pub product: String,
    /// The bytes of its memory, if its driver says.
    pub memory: Option<u64>,
    /// The bytes of the largest tensor that it takes in one piece; `None` where only memory is the
    /// limit.
    pub max_tensor_bytes: Option<u64>,
    /// The types that it can compute in, as transformers calls them.
    pub dtypes: Vec<&'static str>,
}

/// Lists the devices of this machine that this build can use, the CPU first. Opens each of them.
pub fn list() -> Vec<DeviceInfo> {
    let mut devices = vec![cpu()];
    for backend in Backend::ALL.into_iter().filter(|&b| b != Backend::Cpu) {
        let [gpus, software] = backend.devices();
        let gpus = gpus.into_iter().enumerate();
        let gpus = gpus.map(|(index, device)| (Which::Index(index), device));
        let software = software.into_iter().map(|device| (Which::Software, device));
        devices.extend(gpus.chain(software).map(|(which, device)| {
            let name = DeviceName::Of(backend, which);
            guarded(name, || about(name, &device)).unwrap_or_else(|error| DeviceInfo {
                name,
                product: error.to_string(),
                memory: None,
                max_tensor_bytes: None,
                dtypes: Vec::new(),
            })
        }));
    }
    devices
}

fn about(name: DeviceName, device: &Device) -> DeviceInfo {
    let properties = properties(device);
    DeviceInfo {
        name,
        memory: properties.as_ref().and_then(|p| p.memory),
        max_tensor_bytes: properties.as_ref().map(|p| p.max_tensor_bytes),
        product: properties.map(|p| p.name).unwrap_or_default(),
        dtypes: dtypes(device),
    }
}

/// The product name of a device: what a GPU calls itself, or the CPU's name and number of threads.
pub fn product(device: &Device) -> String {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    let cpu = || format!("{}, {threads} threads", processor());
    properties(device).map_or_else(cpu, |properties| properties.name)
}

fn cpu() -> DeviceInfo {
    DeviceInfo {
        product: product(&Device::flex()),
        memory: memory(),
        ..about(DeviceName::CPU, &Device::flex())
    }
}

/// The CPU's name.
fn processor() -> String {
    let file = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = file
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let name = name.map(|name| name.trim_start_matches([' ', '\t', ':']));
    name.unwrap_or(std::env::consts::ARCH).to_owned()
}

/// The bytes of the machine's memory.
fn memory() -> Option<u64> {
    let file = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = file
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}
