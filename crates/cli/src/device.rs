//! The devices by the names users give them: the one place that knows Burn's backends.

use burn::tensor::Device;
use clap::ValueEnum;

/// Where a command computes.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum DeviceKind {
    // No doc comment: it would stretch every --help.
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
