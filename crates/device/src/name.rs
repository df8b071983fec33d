//! The names of devices.

use std::fmt;
use std::str::FromStr;

use crate::{Backend, DeviceError};

/// A device's name: `auto`, or a backend with one of its devices (`cpu`, `cuda:1`, `wgpu:cpu`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceName {
    /// The first GPU that this build can use, or else the CPU.
    Auto,
    /// A device of a backend.
    Of(Backend, Which),
}

/// Which of a backend's devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The first GPU.
    First,
    /// The GPU of this index.
    Index(usize),
    /// The CPU, as a graphics API shows it (Mesa's lavapipe, SwiftShader, WARP).
    Software,
}

impl DeviceName {
    /// The CPU, by Burn's own backend for it.
    pub const CPU: Self = Self::Of(Backend::Cpu, Which::First);
}

impl FromStr for DeviceName {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, DeviceError> {
        let unknown = || DeviceError::UnknownName(name.to_owned());
        if name == "auto" {
            return Ok(Self::Auto);
        }
        let (backend, which) = match name.split_once(':') {
            Some((backend, which)) => (backend, Some(which)),
            None => (name, None),
        };
        let backend = Backend::ALL.into_iter().find(|b| b.name() == backend);
        let backend = backend.ok_or_else(unknown)?;
        let is_graphics = !matches!(backend, Backend::Cpu | Backend::Cuda);
        let which = match which {
            None => Which::First,
            Some("cpu") if is_graphics => Which::Software,
            Some(index) if backend != Backend::Cpu => {
                Which::Index(index.parse().map_err(|_| unknown())?)
            }
            Some(_) => return Err(unknown()),
        };
        Ok(Self::Of(backend, which))
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Of(backend, Which::First) => write!(f, "{backend}"),
            Self::Of(backend, Which::Index(index)) => write!(f, "{backend}:{index}"),
            Self::Of(backend, Which::Software) => write!(f, "{backend}:cpu"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_written() {
        for name in [
            "auto", "cpu", "cuda", "cuda:1", "wgpu:cpu", "metal:0", "webgpu",
        ] {
            assert_eq!(name.parse::<DeviceName>().unwrap().to_string(), name);
        }
        for name in ["", "gpu", "cpu:0", "cuda:cpu", "wgpu:", "wgpu:-1", "auto:1"] {
            let error = name.parse::<DeviceName>().unwrap_err().to_string();
            assert!(error.contains(&format!("{name:?}")), "{error}");
        }
    }
}
