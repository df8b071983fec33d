//! The sum of all values of a column, in one launch and one order.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{MOST_UNITS, buffer, contiguous, empty};
use super::reduce::sum_of_units;

/// The sum, `[1]`, of `[rows, 1]` in 32 bits.
pub(crate) fn total(values: Tensor<2>) -> Tensor<1> {
    Tensor::from_dispatch(Dispatch::total_gpu(values.into_dispatch()))
}

#[backend_extension(Cube, Fusion, Autodiff)]
trait TotalGpu: Backend {
    #[fusion(dtype = DType::F32, shape = Shape::new([1]))]
    fn total_gpu(values: FloatTensor<Self>) -> FloatTensor<Self>;
}

#[cube(launch_unchecked)]
fn sum(values: &[f32], total: &mut [f32]) {
    let mut sum = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < values.len() {
        sum += values[at];
        at += MOST_UNITS as usize;
    }
    let sum = sum_of_units(sum, MOST_UNITS);
    if UNIT_POS == 0 {
        total[0] = sum;
    }
}

impl TotalGpu for CubeBackend {
    fn total_gpu(values: CubeTensor) -> CubeTensor {
        let values = contiguous(values);
        let total = empty(&values, [1], DType::F32);
        let (one, units) = (CubeCount::Static(1, 1, 1), CubeDim::new_1d(MOST_UNITS));
        // SAFETY: units go no further than the end of `values`.
        unsafe {
            let (from, to) = (buffer(&values), buffer(&total));
            sum::launch_unchecked(&values.client, one, units, from, to);
        }
        total
    }
}

impl<B: TotalGpu, C: CheckpointStrategy> TotalGpu for Autodiff<B, C> {
    fn total_gpu(values: FloatTensor<Self>) -> FloatTensor<Self> {
        let prepared = TotalBackward.prepare::<C>([values.node()]);
        let values = values.into_primitive();
        let shape = values.shape();
        let total = B::total_gpu(values);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish(shape, total),
            OpsKind::UnTracked(prepared) => prepared.finish(total),
        }
    }
}

#[derive(Debug)]
struct TotalBackward;

impl<B: Backend> Backward<B, 1> for TotalBackward {
    /// The shape of the values.
    type State = Shape;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            let grad = B::float_reshape(grad, Shape::new([1, 1]));
            grads.register::<B>(node.id, B::float_expand(grad, ops.state));
        }
    }
}
