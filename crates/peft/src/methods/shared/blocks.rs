//! Rotations in blocks, for OFT and BOFT.

use burn::tensor::{Device, Tensor};

/// The identity once for each block, `[n, b, b]`.
pub(in crate::methods) fn identities(n: usize, b: usize, device: &Device) -> Tensor<3> {
    Tensor::<2>::eye(b, device)
        .unsqueeze::<3>()
        .repeat_dim(0, n)
}

/// Cayley's rotations `(I - S) (I + S)⁻¹` of skew-symmetric matrices `S`, `[n, b, b]`.
pub(in crate::methods) fn cayley(skew: Tensor<3>) -> Tensor<3> {
    let [n, b, _] = skew.dims();
    let identity = identities(n, b, &skew.device());
    let sum = identity.clone() + skew.clone();
    (identity - skew).matmul(inverse(sum))
}

/// `(I + S)⁻¹` of `I + S` with skew-symmetric `S`.
///
/// Computed by Newton's iteration `X ← X (2 I - M X)` (Schulz 1933), which needs only products and
/// so stays on the device. The singular values of `M` lie between 1 and `√(1 + ‖S‖²)`, so it
/// converges from `Mᵀ / (1 + ‖S‖²)`. Only the last step is recorded: its derivative is that of the
/// inverse, `-X ∂M X`.
fn inverse(matrix: Tensor<3>) -> Tensor<3> {
    /// Enough for ‖S‖ up to 50; trained rotations have a fraction of that.
    const STEPS: usize = 16;
    let plain = matrix.clone().without_autodiff();
    let [n, b, _] = plain.dims();
    let twice = identities(n, b, &plain.device()) * 2.0;
    // ‖I + S‖² in the Frobenius norm bounds 1 + ‖S‖² in the spectral one.
    let bound = plain.clone().square().sum_dim(2).sum_dim(1);
    let mut inverse = plain.clone().swap_dims(1, 2) / bound;
    for _ in 0..STEPS {
        inverse = inverse
            .clone()
            .matmul(twice.clone() - plain.clone().matmul(inverse));
    }
    if !matrix.is_autodiff() {
        return inverse;
    }
    let (inverse, twice) = (inverse.autodiff(), twice.autodiff());
    inverse.clone().matmul(twice - matrix.matmul(inverse))
}

/// Each block of `b` features times its rotation: `[rows, n b]` by `[n, b, b]`.
pub(in crate::methods) fn rotate(input: Tensor<2>, rotations: Tensor<3>) -> Tensor<2> {
    let [rows, features] = input.dims();
    let [n, b, _] = rotations.dims();
    let blocks = input.reshape([rows, n, b]).swap_dims(0, 1);
    let rotated = blocks.matmul(rotations).swap_dims(0, 1);
    rotated.reshape([rows, features])
}
