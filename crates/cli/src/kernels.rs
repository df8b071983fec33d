//! Which kernels this process computes with.

use burn_peft::int8_body;

/// Whether the environment asks for the plain kernels, with `BURN_PEFT_KERNELS=plain`.
pub fn are_plain() -> bool {
    std::env::var("BURN_PEFT_KERNELS").is_ok_and(|value| value == "plain")
}

/// The kernel that computes products in eight bits; `None` with the plain kernels, which multiply
/// in 32 bits.
pub fn int8() -> Option<&'static str> {
    (!are_plain()).then(int8_body)
}

/// [`int8`] in words.
pub fn describe_int8() -> String {
    match int8() {
        Some(body) => format!("by {body}"),
        None => "none: the plain kernels multiply in 32 bits".to_string(),
    }
}
