//! Rotary position embeddings on GPUs: one launch in each pass.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::Tensor;
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{buffer, contiguous, elem, empty_like, units};
use crate::cpu::Pairing;
use crate::cpu::rope::Turn;

/// As [`rope`](crate::rope): `turn` has the width of a row and of a head.
pub(crate) fn rope(x: Tensor<2>, cos: Tensor<2>, sin: Tensor<2>, turn: Turn) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::rope_gpu(
        x.into_dispatch(),
        cos.without_autodiff().into_dispatch(),
        sin.without_autodiff().into_dispatch(),
        turn,
    ))
}

#[backend_extension(Cube, Fusion, Autodiff)]
trait RopeGpu: Backend {
    #[fusion(dtype = x, shape = x)]
    fn rope_gpu(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        turn: Turn,
    ) -> FloatTensor<Self>;
}

/// A unit computes one channel, from that channel and the one it turns with.
#[cube(launch_unchecked)]
fn turn_channels<F: Float>(
    x: &[F],
    cos: &[F],
    sin: &[F],
    output: &mut [F],
    width: u32,
    head_dim: u32,
    half: u32,
    #[comptime] interleaved: bool,
    #[comptime] inverse: bool,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    let (width, head_dim, half) = (width as usize, head_dim as usize, half as usize);
    let channel = ABSOLUTE_POS % width % head_dim;
    if channel >= 2 * half {
        output[ABSOLUTE_POS] = x[ABSOLUTE_POS];
    } else {
        let mut pair = channel % half;
        let mut is_second = channel >= half;
        let mut distance = half;
        if interleaved {
            pair = channel / 2;
            is_second = channel % 2 == 1;
            distance = 1;
        }
        let angle = ABSOLUTE_POS / width * half + pair;
        let mut sine = f32::cast_from(sin[angle]);
        if inverse {
            sine = -sine;
        }
        let own = f32::cast_from(x[ABSOLUTE_POS]) * f32::cast_from(cos[angle]);
        if is_second {
            let other = f32::cast_from(x[ABSOLUTE_POS - distance]);
            output[ABSOLUTE_POS] = F::cast_from(own + other * sine);
        } else {
            let other = f32::cast_from(x[ABSOLUTE_POS + distance]);
            output[ABSOLUTE_POS] = F::cast_from(own - other * sine);
        }
    }
}

impl RopeGpu for CubeBackend {
    fn rope_gpu(x: CubeTensor, cos: CubeTensor, sin: CubeTensor, turn: Turn) -> CubeTensor {
        let [x, cos, sin] = [x, cos, sin].map(contiguous);
        let [rows, half] = cos.shape().dims();
        let (output, (cubes, units)) = (empty_like(&x), units(rows * turn.width));
        // SAFETY: the length of `output` is checked, and the pairs of a head are all in it.
        unsafe {
            turn_channels::launch_unchecked(
                &x.client,
                cubes,
                units,
                buffer(&x),
                buffer(&cos),
                buffer(&sin),
                buffer(&output),
                turn.width as u32,
                turn.head_dim as u32,
                half as u32,
                turn.pairing == Pairing::Interleaved,
                turn.inverse,
                elem(&x),
            );
        }
        output
    }
}

impl<B: RopeGpu, C: CheckpointStrategy> RopeGpu for Autodiff<B, C> {
    fn rope_gpu(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        turn: Turn,
    ) -> FloatTensor<Self> {
        let prepared = RopeBackward.prepare::<C>([x.node()]);
        let (cos, sin) = (cos.into_primitive(), sin.into_primitive());
        let output = B::rope_gpu(x.into_primitive(), cos.clone(), sin.clone(), turn);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((cos, sin, turn), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct RopeBackward;

impl<B: RopeGpu> Backward<B, 1> for RopeBackward {
    /// `cos`, `sin` and how the forward pass turned.
    type State = (FloatTensor<B>, FloatTensor<B>, Turn);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            let (cos, sin, turn) = ops.state;
            let back = Turn {
                inverse: !turn.inverse,
                ..turn
            };
            grads.register::<B>(node.id, B::rope_gpu(grad, cos, sin, back));
        }
    }
}
