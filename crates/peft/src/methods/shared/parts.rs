//! The modules of an adapter as PyTorch prints them, for
//! [`LayerMethod::parts`](crate::LayerMethod).

use crate::tree::linear_module;

/// A parameter without a module around it, with its shape in the file.
pub(in crate::methods) fn parameter(name: &str, shape: impl AsRef<[usize]>) -> (String, String) {
    (name.to_string(), containing("Parameter", shape))
}

/// As [`parameter`], for a buffer.
pub(in crate::methods) fn buffer(name: &str, shape: impl AsRef<[usize]>) -> (String, String) {
    (name.to_string(), containing("Buffer", shape))
}

fn containing(kind: &str, shape: impl AsRef<[usize]>) -> String {
    let sides: Vec<String> = shape.as_ref().iter().map(usize::to_string).collect();
    let shape = sides.join("x");
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

/// A dropout, or what PEFT uses in its place if nothing is dropped.
pub(in crate::methods) fn dropout(name: &str, p: f64) -> (String, String) {
    let text = if p > 0.0 {
        format!("Dropout(p={p:?}, inplace=False)")
    } else {
        "Identity()".to_string()
    };
    (name.to_string(), text)
}
