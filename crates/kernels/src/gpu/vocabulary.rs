//! The losses of a projection to the vocabulary on GPUs. Each piece of rows takes two products and one
//! launch, which writes the gradient over the logits, or in the weight's 16 bits beside them.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Cube, Dispatch, Slice, TensorMetadata, backend_extension};
use burn::tensor::{DType, FloatDType, Int, Shape, Tensor};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{MOST_UNITS, buffer, contiguous, cubes, elem, empty};
use super::narrow::Narrow;
use super::product::GpuProduct;
use super::reduce::{max_of_units, sum_of_units};
use crate::product::FrozenProduct;
use crate::vocabulary_loss::NO_TARGET;

/// The number of logits alive at once: 64 MiB of 32-bit floats.
const PIECE: usize = if cfg!(test) { 100_000 } else { 16 << 20 };

/// `-log softmax(hidden · weightᵀ)[target]` of each row, `[rows, 1]` in 32 bits: `hidden` is
/// `[rows, d]`, `weight` `[vocab, d]` and frozen, `targets` `[rows]`. A target that is not a row of
/// `weight` has the loss NaN, or zero if it is [`NO_TARGET`], and the gradient zero.
pub(crate) fn losses_of_rows(
    hidden: Tensor<2>,
    weight: Tensor<2>,
    targets: Tensor<1, Int>,
) -> Tensor<2> {
    let ([rows, d], [_, width]) = (hidden.dims(), weight.dims());
    assert_eq!(width, d, "channels of the vocabulary and of hidden states");
    assert_eq!(targets.dims(), [rows], "a target for each row");
    Tensor::from_dispatch(Dispatch::losses_gpu(
        hidden.into_dispatch(),
        weight.without_autodiff().into_dispatch(),
        targets.without_autodiff().into_dispatch(),
    ))
}

#[backend_extension(Cube, Autodiff)]
trait LossesGpu: Backend {
    fn losses_gpu(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> FloatTensor<Self>;
}

fn column(logits: &TensorSpec) -> TensorSpec {
    let [rows, _] = logits.shape.dims();
    TensorSpec::new(Shape::new([rows, 1]), DType::F32)
}

#[backend_extension(Cube, Fusion)]
trait RowLosses: Backend {
    /// The loss of each row, `[rows, 1]`, and its gradient in the place of the logits.
    #[fusion(meta = |logits, _targets| -> (TensorSpec, TensorSpec) { (column(logits), logits.clone()) })]
    fn row_losses_gpu(
        logits: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The loss of each row of `logits` times `sizes`, `[rows, 1]`; and its gradient in the type
    /// `dtype`, divided by the row's size, which comes last.
    #[fusion(meta = |logits, _sizes, _targets, dtype| -> (TensorSpec, TensorSpec, TensorSpec) {
        let gradient = TensorSpec::new(logits.shape.clone(), (*dtype).into());
        (column(logits), gradient, column(logits))
    })]
    fn narrow_row_losses_gpu(
        logits: FloatTensor<Self>,
        sizes: FloatTensor<Self>,
        targets: IntTensor<Self>,
        dtype: FloatDType,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

/// [`NO_TARGET`] as kernels read targets.
const NONE: u32 = NO_TARGET as u32;

/// Less than any logit.
const LEAST: f32 = -3.0e38;

/// A workgroup takes a row. `missing` is the loss of a target that is not in the vocabulary.
///
/// `sizes`, `narrow` and `of_sizes` are all there or all missing. A row's logits are multiplied by its
/// size. The gradient of a row is divided by its own size, the probability of the words that are not the
/// target, which is its largest magnitude. It is summed apart: `1 - p` would be zero for a certain target.
#[cube(launch_unchecked)]
fn rows<F: Float, N: Float, I: Numeric>(
    logits: &mut [F],
    targets: &[I],
    losses: &mut [f32],
    sizes: &Sequence<Box<[f32]>>,
    narrow: &mut Sequence<Box<[N]>>,
    of_sizes: &mut Sequence<Box<[f32]>>,
    vocab: u32,
    missing: f32,
    #[define(F, N, I)] _dtypes: [ElemType; 3],
) {
    let vocab = vocab as usize;
    let row = CUBE_POS;
    if row >= losses.len() {
        terminate!();
    }
    let begin = row * vocab;
    let target = u32::cast_from(targets[row]);
    let predicts = target != NONE;
    let target = target as usize;
    // A negative target has become a large number.
    let is_word = target < vocab;
    let is_narrow = comptime!(narrow.len() == 1);
    let mut size = 1.0f32.runtime();
    if is_narrow {
        size = sizes[0][row];
    }
    let mut of_target = 0.0f32;
    if is_word {
        of_target = f32::cast_from(logits[begin + target]) * size;
    }
    let mut largest = LEAST.runtime();
    let mut i = UNIT_POS as usize;
    while i < vocab {
        largest = max(largest, f32::cast_from(logits[begin + i]) * size);
        i += MOST_UNITS as usize;
    }
    let largest = max_of_units(largest, MOST_UNITS);
    let mut sum = 0.0f32;
    let mut of_others = 0.0f32;
    let mut i = UNIT_POS as usize;
    while i < vocab {
        let of_word = (f32::cast_from(logits[begin + i]) * size - largest).exp();
        sum += of_word;
        if is_narrow && i != target {
            of_others += of_word;
        }
        i += MOST_UNITS as usize;
    }
    // This sum waits for all units, so none overwrites the target's logit before all have read it.
    let sum = sum_of_units(sum, MOST_UNITS);
    let mut of_size = 1.0f32.runtime();
    if is_narrow {
        // Never zero, also where the others' probabilities are.
        of_size = max(sum_of_units(of_others, MOST_UNITS) / sum, 1.0e-30f32);
    }
    if UNIT_POS == 0 {
        if is_word {
            losses[row] = sum.ln() + largest - of_target;
        } else if predicts {
            losses[row] = missing;
        } else {
            losses[row] = 0.0f32;
        }
        if is_narrow {
            let of_sizes = &mut of_sizes[0];
            of_sizes[row] = of_size;
        }
    }
    let mut i = UNIT_POS as usize;
    while i < vocab {
        let mut share = (f32::cast_from(logits[begin + i]) * size - largest).exp() / sum;
        if i == target {
            if is_narrow {
                share = -of_size;
            } else {
                share -= 1.0f32;
            }
        }
        if !is_word {
            share = 0.0f32;
        }
        if is_narrow {
            let narrow = &mut narrow[0];
            narrow[begin + i] = N::cast_from(share / of_size);
        } else {
            logits[begin + i] = F::cast_from(share);
        }
        i += MOST_UNITS as usize;
    }
}

fn launch(
    logits: &CubeTensor,
    targets: CubeTensor,
    losses: &CubeTensor,
    // The sizes of the rows, the gradient, and the sizes of its rows.
    narrow: Option<&[CubeTensor; 3]>,
) {
    let targets = contiguous(targets);
    let [count, vocab] = logits.shape().dims();
    let given = |which: usize| narrow.iter().map(move |tensors| buffer(&tensors[which]));
    let of_gradient = narrow.map_or(logits, |[_, gradient, _]| gradient);
    // SAFETY: the row is checked, and so is whether the target is a column.
    unsafe {
        rows::launch_unchecked(
            &logits.client,
            cubes(count),
            CubeDim::new_1d(MOST_UNITS),
            buffer(logits),
            buffer(&targets),
            buffer(losses),
            given(0).collect(),
            given(1).collect(),
            given(2).collect(),
            vocab as u32,
            f32::NAN,
            [elem(logits), elem(of_gradient), elem(&targets)],
        );
    }
}

impl RowLosses for CubeBackend {
    fn row_losses_gpu(logits: CubeTensor, targets: CubeTensor) -> (CubeTensor, CubeTensor) {
        let logits = contiguous(logits);
        let logits = if logits.can_mut() {
            logits
        } else {
            logits.copy()
        };
        let losses = empty(&logits, [logits.shape()[0], 1], DType::F32);
        launch(&logits, targets, &losses, None);
        (losses, logits)
    }

    fn narrow_row_losses_gpu(
        logits: CubeTensor,
        sizes: CubeTensor,
        targets: CubeTensor,
        dtype: FloatDType,
    ) -> (CubeTensor, CubeTensor, CubeTensor) {
        let [logits, sizes] = [logits, sizes].map(contiguous);
        let [count, vocab] = logits.shape().dims();
        let [losses, of_sizes] = [(); 2].map(|()| empty(&logits, [count, 1], DType::F32));
        let gradient = empty(&logits, [count, vocab], dtype.into());
        let narrow = [sizes, gradient, of_sizes];
        launch(&logits, targets, &losses, Some(&narrow));
        let [_, gradient, of_sizes] = narrow;
        (losses, gradient, of_sizes)
    }
}

/// The gradients of rows, `[rows, d]`, each of which is to be multiplied by its size, if it has one.
#[derive(Clone, Debug)]
struct Gradient<B: Backend> {
    rows: FloatTensor<B>,
    /// `[rows, 1]`.
    sizes: Option<FloatTensor<B>>,
}

/// The losses, and their gradients if they are asked for.
fn in_pieces<B: FrozenProduct + GpuProduct + Narrow + RowLosses>(
    hidden: FloatTensor<B>,
    weight: FloatTensor<B>,
    targets: IntTensor<B>,
    with_gradient: bool,
) -> (FloatTensor<B>, Option<Gradient<B>>) {
    let ([count, _], [vocab, _]) = (hidden.shape().dims(), weight.shape().dims());
    let transposed = B::float_transpose(weight.clone());
    let (wide, narrow) = (hidden.dtype(), weight.dtype());
    let (hidden, sizes) = if wide == narrow {
        (hidden, None)
    } else {
        let (hidden, sizes) = B::narrowed(hidden, narrow.into());
        (hidden, Some(sizes))
    };
    // All pieces but the last have one size: for another size CubeCL would choose a kernel again.
    let pieces = count.div_ceil((PIECE / vocab).max(1)).max(1);
    let step = count.div_ceil(pieces).max(1);
    let (mut losses, mut gradients, mut all_sizes) = (Vec::new(), Vec::new(), Vec::new());
    for start in (0..count).step_by(step) {
        let slice = Slice::from(start..count.min(start + step));
        let rows = |tensor: &FloatTensor<B>| match pieces {
            1 => tensor.clone(),
            _ => B::float_slice(tensor.clone(), &[slice]),
        };
        let targets = match pieces {
            1 => targets.clone(),
            _ => B::int_slice(targets.clone(), &[slice]),
        };
        let (loss, gradient) = if let Some(sizes) = &sizes {
            let logits = B::gpu_product(rows(&hidden), transposed.clone(), wide.into());
            let (loss, of_logits, of_sizes) =
                B::narrow_row_losses_gpu(logits, rows(sizes), targets, narrow.into());
            all_sizes.push(of_sizes);
            let gradient = || B::gpu_product(of_logits, weight.clone(), wide.into());
            (loss, with_gradient.then(gradient))
        } else {
            let logits = B::frozen_product(rows(&hidden), transposed.clone());
            let (loss, of_logits) = B::row_losses_gpu(logits, targets);
            let gradient = || B::frozen_product(of_logits, weight.clone());
            (loss, with_gradient.then(gradient))
        };
        losses.push(loss);
        gradients.extend(gradient);
    }
    let joined = |mut parts: Vec<FloatTensor<B>>| match parts.len() {
        1 => parts.pop(),
        0 => None,
        _ => Some(B::float_cat(parts, 0)),
    };
    let losses = joined(losses).expect("the caller has rows");
    let gradient = joined(gradients).map(|rows| Gradient {
        rows,
        sizes: joined(all_sizes),
    });
    (losses, gradient)
}

impl LossesGpu for Cube {
    fn losses_gpu(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        in_pieces::<Self>(hidden, weight, targets, false).0
    }
}

impl<B: FrozenProduct + GpuProduct + Narrow + RowLosses, C: CheckpointStrategy> LossesGpu
    for Autodiff<B, C>
{
    fn losses_gpu(
        hidden: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        targets: IntTensor<Self>,
    ) -> FloatTensor<Self> {
        let prepared = LossesBackward.prepare::<C>([hidden.node()]);
        let (hidden, weight) = (hidden.into_primitive(), weight.into_primitive());
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (losses, gradient) = in_pieces::<B>(hidden, weight, targets, true);
                prepared.finish(gradient.expect("it was asked for"), losses)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(in_pieces::<B>(hidden, weight, targets, false).0)
            }
        }
    }
}

#[derive(Debug)]
struct LossesBackward;

impl<B: Backend> Backward<B, 1> for LossesBackward {
    /// The gradient of `hidden` of each row's loss.
    type State = Gradient<B>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            let Gradient { rows, sizes } = ops.state;
            let factor = match sizes {
                Some(sizes) => B::float_mul(grad, sizes),
                None => B::float_cast(grad, rows.dtype().into()),
            };
            grads.register::<B>(node.id, B::float_mul(rows, factor));
        }
    }
}
