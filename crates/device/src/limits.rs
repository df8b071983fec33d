//! The limits of a device: the sizes and types that it takes.

use burn::tensor::{DType, Device, FloatDType};

use crate::DeviceError;

/// The types that adapters are trained in.
pub(crate) const DTYPES: [(DType, &str); 3] = [
    (DType::F32, "float32"),
    (DType::F16, "float16"),
    (DType::BF16, "bfloat16"),
];

/// The bytes of the largest tensor that the device takes in one piece; `None` where only memory
/// is the limit.
pub fn max_tensor_bytes(device: &Device) -> Option<u64> {
    properties(device).map(|properties| properties.max_tensor_bytes)
}

/// Checks that the device can hold a tensor of this name and size in bytes.
///
/// # Errors
/// If it takes more than [`max_tensor_bytes`].
pub fn check_size(device: &Device, tensor: &str, bytes: u64) -> Result<(), DeviceError> {
    too_large(device, tensor, bytes, None).map_or(Ok(()), Err)
}

/// Checks that the device can hold a weight of this name and size in bytes. It is in 32 bits, and
/// could be in 16 if it is frozen.
///
/// # Errors
/// As [`check_size`]; the error says if 16 bits would fit.
pub fn check_weight(device: &Device, tensor: &str, bytes: u64) -> Result<(), DeviceError> {
    let fits = max_tensor_bytes(device).is_none_or(|limit| bytes / 2 <= limit);
    let narrow = [FloatDType::F16, FloatDType::BF16].into_iter();
    let mut narrow = narrow.filter(|&dtype| fits && device.supports_dtype(dtype));
    too_large(device, tensor, bytes, narrow.next()).map_or(Ok(()), Err)
}

fn too_large(
    device: &Device,
    tensor: &str,
    bytes: u64,
    narrow: Option<FloatDType>,
) -> Option<DeviceError> {
    let limit = max_tensor_bytes(device).filter(|&limit| bytes > limit)?;
    Some(DeviceError::TooLarge {
        tensor: tensor.to_owned(),
        bytes,
        device: describe(device),
        limit,
        way_out: match narrow {
            Some(FloatDType::F16) => {
                "As a frozen weight in float16 it fits: set training.fp16 = true, or --dtype \
                 float16 with eval and generate. Or choose"
            }
            Some(_) => {
                "As a frozen weight in bfloat16 it fits: set training.bf16 = true, or --dtype \
                 bfloat16 with eval and generate. Or choose"
            }
            None => "Choose",
        },
    })
}

/// Checks that the device can compute in `dtype`.
///
/// # Errors
/// If it cannot; the error lists the types that it can compute in.
pub fn check_dtype(device: &Device, dtype: DType) -> Result<(), DeviceError> {
    if device.supports_dtype(dtype) {
        Ok(())
    } else {
        Err(DeviceError::Dtype {
            device: describe(device),
            dtype,
            supported: dtypes(device).join(", "),
        })
    }
}

/// The names of the types that it can compute in, as transformers calls them.
pub(crate) fn dtypes(device: &Device) -> Vec<&'static str> {
    let supported = DTYPES
        .into_iter()
        .filter(|&(dtype, _)| device.supports_dtype(dtype));
    supported.map(|(_, name)| name).collect()
}

/// The name of a type, as transformers calls it.
pub(crate) fn dtype_name(dtype: DType) -> &'static str {
    let known = DTYPES.into_iter().find(|(known, _)| *known == dtype);
    known.map_or("that type", |(_, name)| name)
}

/// What a device says about itself.
pub(crate) struct Properties {
    pub name: String,
    pub max_tensor_bytes: u64,
    pub memory: Option<u64>,
}

#[cfg(any(feature = "wgpu", feature = "cuda"))]
pub(crate) fn properties(device: &Device) -> Option<Properties> {
    use burn::backend::DispatchDevice;
    match device.clone().without_autodiff().as_dispatch() {
        DispatchDevice::Cube(device) => {
            let client = device.client();
            let properties = client.properties();
            Some(Properties {
                name: properties.identity.name.clone(),
                max_tensor_bytes: properties.memory.max_page_size,
                memory: properties.memory.max_memory(),
            })
        }
        _ => None,
    }
}

#[cfg(not(any(feature = "wgpu", feature = "cuda")))]
pub(crate) fn properties(_: &Device) -> Option<Properties> {
    None
}

/// What the device calls itself.
pub(crate) fn describe(device: &Device) -> String {
    match properties(device) {
        Some(properties) => properties.name,
        None => "the CPU".to_owned(),
    }
}
