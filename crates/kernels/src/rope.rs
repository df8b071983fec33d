//! Rotary position embeddings.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

use crate::cpu::Pairing;
use crate::cpu::rope::{self as cpu, Turn};
use crate::flex::{contiguous, takes, tensor_of, values};
use crate::remade::{Remade, can_remake, remade};

/// Turns pairs of channels of each head by angles that grow with the position (RoPE, arXiv
/// 2104.09864): a pair `(a, b)` becomes `(a cos - b sin, b cos + a sin)`.
///
/// `x` is `[tokens, heads * head_dim]`, queries or keys. `cos` and `sin` are `[tokens, n / 2]`, for
/// the angles of each token: the first `n` channels of a head are turned, the others stay as they
/// are. A model makes the tables once per pass for all its layers, and multiplies them by its
/// scaling if it has one (YaRN's attention factor). They get no gradient.
///
/// The specialised body keeps only the tables: the gradient is turned back.
///
/// # Panics
/// If the widths do not fit each other.
pub fn rope(
    x: Tensor<2>,
    cos: Tensor<2>,
    sin: Tensor<2>,
    heads: usize,
    pairing: Pairing,
) -> Tensor<2> {
    let ([tokens, width], [rows, half]) = (x.dims(), cos.dims());
    let head_dim = width / heads;
    assert_eq!(width, heads * head_dim, "{width} channels in {heads} heads");
    assert_eq!(rows, tokens, "rows of angles and tokens");
    assert_eq!(sin.dims(), cos.dims(), "sines and cosines");
    assert!(
        2 * half <= head_dim,
        "{half} angles for {head_dim} channels"
    );
    let turn = Turn {
        head_dim,
        width,
        pairing,
        inverse: false,
    };
    #[cfg(feature = "gpu")]
    if crate::gpu::takes_both(&x, &cos) && crate::gpu::takes_both(&x, &sin) {
        return crate::gpu::rope(x, cos, sin, turn);
    }
    if !(takes(&x) && takes(&cos) && takes(&sin)) {
        return plain(x, cos, sin, heads, pairing);
    }
    Tensor::from_dispatch(Dispatch::rope_kernel(
        x.into_dispatch(),
        cos.without_autodiff().into_dispatch(),
        sin.without_autodiff().into_dispatch(),
        turn,
    ))
}

fn plain(
    x: Tensor<2>,
    cos: Tensor<2>,
    sin: Tensor<2>,
    heads: usize,
    pairing: Pairing,
) -> Tensor<2> {
    let ([tokens, width], [_, half]) = (x.dims(), cos.dims());
    let head_dim = width / heads;
    let x = x.reshape([tokens, heads, head_dim]);
    let turned = x.clone().slice([0..tokens, 0..heads, 0..2 * half]);
    // The shape in which pairs have an axis of their own, and that axis.
    let (shape, axis) = match pairing {
        Pairing::Halves => ([tokens, heads, 2, half], 2),
        Pairing::Interleaved => ([tokens, heads, half, 2], 3),
    };
    let pairs = turned.reshape(shape);
    let [a, b] = [0, 1].map(|index| pairs.clone().narrow(axis, index, 1));
    let [cos, sin] = [cos, sin].map(|table| {
        let mut shape = [tokens, 1, half, half];
        shape[axis] = 1;
        table.reshape(shape)
    });
    let first = a.clone() * cos.clone() - b.clone() * sin.clone();
    let second = b * cos + a * sin;
    let turned = Tensor::cat(vec![first, second], axis).reshape([tokens, heads, 2 * half]);
    let parts = if 2 * half < head_dim {
        vec![turned, x.slice([0..tokens, 0..heads, 2 * half..head_dim])]
    } else {
        vec![turned]
    };
    Tensor::cat(parts, 2).reshape([tokens, width])
}

#[backend_extension(Flex, Autodiff)]
trait RopeKernel: Backend {
    fn rope_kernel(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        turn: Turn,
    ) -> FloatTensor<Self>;
}

impl RopeKernel for Flex {
    fn rope_kernel(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        turn: Turn,
    ) -> FloatTensor<Self> {
        let [tokens, half] = cos.shape().dims();
        let [x, cos, sin] = [x, cos, sin].map(contiguous);
        let output = cpu::rope(values(&x), values(&cos), values(&sin), half, turn);
        tensor_of(output, [tokens, turn.width])
    }
}

impl<C: CheckpointStrategy> RopeKernel for Autodiff<Flex, C> {
    fn rope_kernel(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        turn: Turn,
    ) -> FloatTensor<Self> {
        let nodes = [x.node()];
        let [cos, sin] = [cos, sin].map(|table| contiguous(table.into_primitive()));
        let normed = remade::<C>(&x);
        let output = Flex::rope_kernel(x.into_primitive(), cos.clone(), sin.clone(), turn);
        match RopeBackward.prepare::<C>(nodes).compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                // If queries and keys have a norm, what it keeps is enough to recompute both.
                let again = normed.map(|normed| {
                    let (cos, sin) = (cos.clone(), sin.clone());
                    let [_, half] = cos.shape().dims();
                    let turned =
                        move || cpu::rope(normed.values(), values(&cos), values(&sin), half, turn);
                    Remade::new(turned)
                });
                let output = prepared.finish((cos, sin, turn, again.clone()), output);
                if let Some(again) = again {
                    can_remake::<C>(&output, &again);
                }
                output
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct RopeBackward;

impl Backward<Flex, 1> for RopeBackward {
    /// `cos`, `sin`, how they were applied, and what recomputes the output, if that is known.
    type State = (
        FloatTensor<Flex>,
        FloatTensor<Flex>,
        Turn,
        Option<Arc<Remade>>,
    );

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x] = ops.parents;
        let grad = grads.consume::<Flex>(&ops.node);
        if let Some(node) = of_x {
            let (cos, sin, turn, _) = ops.state;
            let back = Turn {
                inverse: true,
                ..turn
            };
            grads.register::<Flex>(node.id, Flex::rope_kernel(grad, cos, sin, back));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_gradients, random};

    #[test]
    fn equals_the_plain_body() {
        for pairing in [Pairing::Halves, Pairing::Interleaved] {
            for [tokens, heads, head_dim, half] in [
                [1, 1, 2, 1],
                [3, 2, 7, 2],
                [33, 3, 20, 10],
                [130, 3, 64, 32],
                [70, 9, 80, 16],
            ] {
                let tables = [random([tokens, half], 1.0), random([tokens, half], 1.0)];
                // In the input's type: slopes are measured with the plain body in 64 bits.
                let tables = |x: &Tensor<2>| {
                    let device = x.device().without_autodiff();
                    tables.each_ref().map(|table| {
                        Tensor::<2>::from_data(table.to_data(), &device).cast(x.dtype())
                    })
                };
                assert_same_gradients(
                    &[random([tokens, heads * head_dim], 1.0)],
                    |[x]| {
                        let [cos, sin] = tables(&x);
                        rope(x, cos, sin, heads, pairing)
                    },
                    |[x]| {
                        let [cos, sin] = tables(&x);
                        plain(x, cos, sin, heads, pairing)
                    },
                );
            }
        }
    }

    crate::testing::on_gpu_too!();
}
