//! Checking that a device supports a form of frozen weights.

use anyhow::{Result, bail};
use burn::tensor::Device;
use burn_peft::FrozenForm;
use burn_peft_device::{check_dtype, is_cpu};

/// Rejects a form of frozen weights that the device cannot compute with.
pub fn check_form(form: FrozenForm, device: &Device) -> Result<()> {
    match form {
        FrozenForm::Codes(quantization) => {
            Ok(check_dtype(device, quantization.compute_dtype.into())?)
        }
        FrozenForm::Int8 { .. } if is_cpu(device) => Ok(()),
        FrozenForm::Int8 { .. } => bail!(
            "products in eight bits are computed only on the CPU: leave int8_compute out, and 8 bits are \
             kept and widened for each product"
        ),
    }
}
