//! Dropout on GPUs: one launch in each pass, and no stored mask.

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
use super::mask::{Drops, Masked, drops, factor, mask_of};

/// As [`dropout`](crate::dropout()), with this seed.
pub(crate) fn dropout(x: Tensor<2>, dropout: Masked) -> Tensor<2> {
    Tensor::from_dispatch(Dispatch::dropout_gpu(x.into_dispatch(), dropout))
}

#[backend_extension(Cube, Fusion, Autodiff)]
trait DropoutGpu: Backend {
    #[fusion(dtype = x, shape = x)]
    fn dropout_gpu(x: FloatTensor<Self>, dropout: Masked) -> FloatTensor<Self>;
}

#[cube(launch_unchecked)]
fn drop_values<F: Float>(
    x: &[F],
    output: &mut [F],
    words: &[u32],
    width: u32,
    drops: Drops,
    #[define(F)] _dtype: ElemType,
) {
    if ABSOLUTE_POS >= output.len() {
        terminate!();
    }
    let width = width as usize;
    let (row, column) = (ABSOLUTE_POS / width, ABSOLUTE_POS % width);
    let mask = mask_of(words, &drops, true);
    let factor = factor(&mask, row as u32, column as u32);
    output[ABSOLUTE_POS] = F::cast_from(f32::cast_from(x[ABSOLUTE_POS]) * factor);
}

impl DropoutGpu for CubeBackend {
    fn dropout_gpu(x: CubeTensor, dropout: Masked) -> CubeTensor {
        let x = contiguous(x);
        let [rows, width] = x.shape().dims();
        let (output, (cubes, units)) = (empty_like(&x), units(rows * width));
        let (words, drops) = drops(Some(dropout), &x);
        // SAFETY: both are of one length, which is checked.
        unsafe {
            drop_values::launch_unchecked(
                &x.client,
                cubes,
                units,
                buffer(&x),
                buffer(&output),
                words,
                width as u32,
                drops,
                elem(&x),
            );
        }
        output
    }
}

impl<B: DropoutGpu, C: CheckpointStrategy> DropoutGpu for Autodiff<B, C> {
    fn dropout_gpu(x: FloatTensor<Self>, dropout: Masked) -> FloatTensor<Self> {
        let prepared = DropoutBackward.prepare::<C>([x.node()]);
        let output = B::dropout_gpu(x.into_primitive(), dropout);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(dropout, output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct DropoutBackward;

impl<B: DropoutGpu> Backward<B, 1> for DropoutBackward {
    type State = Masked;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::dropout_gpu(grad, ops.state));
        }
    }
}
