//! The modules of an adapter in PyTorch's words, for [`LayerMethod::parts`](crate::LayerMethod).

use crate::tree::linear_module;

/// A parameter without a module around it, of this shape as in the file.
pub(in crate::methods) fn parameter<const D: usize>(
    name: &str,
    shape: [usize; D],
) -> (String, String) {
    (name.to_string(), containing("Parameter", shape))
}

/// As [`parameter`] for a buffer.
pub(in crate::methods) fn buffer<const D: usize>(
    name: &str,
    shape: [usize; D],
) -> (String, String) {
    (name.to_string(), containing("Buffer", shape))
}

fn containing<const D: usize>(kind: &str, shape: [usize; D]) -> String {
    let shape = shape.map(|size| size.to_string()).join("x");
    format!("{kind} containing: [torch.FloatTensor of size {shape}]")
}

/// A linear layer.
pub(in crate::methods) fn linear(
    name: &str,
    d_in: usize,
    d_out: usize,
    bias: bool,
) -> (String, String) {
    (name.to_string(), linear_module(d_in, d_out, bias))
}

/// A dropout, or what PEFT puts in its place where it drops nothing.
pub(in crate::methods) fn dropout(name: &str, p: f64) -> (String, String) {
    let text = if p > 0.0 {
        format!("Dropout(p={p:?}, inplace=False)")
    } else {
        "Identity()".to_string()
    };
    (name.to_string(), text)
}
