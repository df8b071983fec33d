//! Opens devices by the names that users give them, says what each can do, and tests that it
//! computes correctly.
//!
//! ```text
//! "cuda:1" ── parse ──> DeviceName ── open ──> Device, once self_test has passed
//!                           │                    │
//!                       Backend, Which           ├── check_size, check_weight   what fits on it
//!                                                ├── check_dtype                what it computes in
//! list: every device of this machine             └── launches::LaunchCounter    what it launches
//! ```
//!
//! A device that cannot be opened, or that cannot do what is asked of it, is a [`DeviceError`]
//! which names the device and the way out:
//!
//! ```
//! use burn::tensor::DType;
//! use burn_peft_device::{DeviceName, check_dtype, is_cpu, list, open};
//!
//! let device = open("cpu".parse::<DeviceName>()?)?;
//! check_dtype(&device, DType::F32)?;
//! assert!(is_cpu(&device));
//! assert_eq!(list()[0].name, DeviceName::CPU);
//!
//! let error = "gpu".parse::<DeviceName>().unwrap_err();
//! assert!(error.to_string().starts_with("\"gpu\" names no device: there are auto, cpu, cuda"));
//! # Ok::<(), burn_peft_device::DeviceError>(())
//! ```
//!
//! Only this crate and `burn-peft-kernels` name Burn's backends for GPUs.

mod backend;
mod crash;
mod error;
#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub mod launches;
mod limits;
mod list;
mod name;
mod open;
mod self_test;
mod toolkit;
mod tuning;

pub use backend::Backend;
pub use error::DeviceError;
pub use limits::{check_dtype, check_size, check_weight, max_tensor_bytes};
pub use list::{DeviceInfo, list, product};
pub use name::{DeviceName, Which};
pub use open::{is_cpu, open};
pub use self_test::self_test;
