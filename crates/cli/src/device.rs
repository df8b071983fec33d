//! The devices by the names users give them: the one place that knows Burn's backends.

use burn::tensor::Device;
use clap::ValueEnum;

/// Where a command computes.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum DeviceKind {
    /// The processor, all of its cores
    #[default]
    Cpu,
}

impl DeviceKind {
    /// Burn's device.
    pub fn open(self) -> Device {
        match self {
            DeviceKind::Cpu => Device::flex(),
        }
    }
}
