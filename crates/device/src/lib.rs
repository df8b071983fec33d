//! The devices by the names users give them, what each can do, and whether it computes rightly.
//!
//! ```
//! use burn_peft_device::{DeviceName, open};
//!
//! let device = open("cpu".parse::<DeviceName>()?)?;
//! # Ok::<(), burn_peft_device::DeviceError>(())
//! ```
//!
//! `list` says which there are, `check_size` what fits on one, and `self_test` multiplies something
//! and looks at the result before a run does.
//!
//! With `burn-peft-kernels`, whose bodies for the CPU name its backend, this is the one crate that
//! names Burn's backends.

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

pub use backend::Backend;
pub use error::DeviceError;
pub use limits::{check_dtype, check_size, check_weight, max_tensor_bytes};
pub use list::{DeviceInfo, list, product};
pub use name::{DeviceName, Which};
pub use open::{is_cpu, open};
pub use self_test::self_test;
