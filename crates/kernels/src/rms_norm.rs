//! The root-mean-square norm.

use std::borrow::Cow;
use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

use crate::cpu::rms_norm as cpu;
use crate::flex::{contiguous, takes, tensor_of, values};
use crate::remade::{Remade, can_remake};

/// `x / sqrt(mean(x²) + epsilon) · (offset + weight)` (arXiv 1910.07467): `weight` is `[d]`, and
/// `x` is `[tokens, d]`, or `[tokens, heads * d]` for a norm of each head. `offset` is 0, or 1 for
/// models that store the weight less one (Gemma).
///
/// The specialised body keeps only its input, and computes the mean square again for the gradient.
///
/// # Panics
/// If the width of `x` is not a multiple of `d`.
pub fn rms_norm(x: Tensor<2>, weight: Tensor<1>, epsilon: f64, offset: f64) -> Tensor<2> {
    let ([_, width], [d]) = (x.dims(), weight.dims());
    assert_eq!(width % d, 0, "{width} channels in rows of {d}");
    #[cfg(feature = "gpu")]
    if crate::gpu::takes_both(&x, &weight) {
        return crate::gpu::rms_norm(x, weight, epsilon, offset);
    }
    if !(takes(&x) && takes(&weight)) {
        return plain(x, weight, epsilon, offset);
    }
    Tensor::from_dispatch(Dispatch::rms_norm_kernel(
        x.into_dispatch(),
        weight.into_dispatch(),
        epsilon as f32,
        offset as f32,
    ))
}

fn plain(x: Tensor<2>, weight: Tensor<1>, epsilon: f64, offset: f64) -> Tensor<2> {
    let ([tokens, width], [d]) = (x.dims(), weight.dims());
    let x = x.reshape([tokens * width / d, d]);
    let square = x.clone().square().mean_dim(1);
    let normed = x / (square + epsilon).sqrt();
    let output = normed * (weight + offset).unsqueeze();
    output.reshape([tokens, width])
}

#[backend_extension(Flex, Autodiff)]
trait RmsNormKernel: Backend {
    fn rms_norm_kernel(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
        offset: f32,
    ) -> FloatTensor<Self>;
}

/// What the rows are multiplied by.
fn factor(weight: &FloatTensor<Flex>, offset: f32) -> Cow<'_, [f32]> {
    if offset == 0.0
        && let Some(weight) = weight.as_slice::<f32>()
    {
        return Cow::Borrowed(weight);
    }
    let weight = contiguous(weight.clone());
    values(&weight).iter().map(|w| offset + w).collect()
}

impl RmsNormKernel for Flex {
    fn rms_norm_kernel(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
        offset: f32,
    ) -> FloatTensor<Self> {
        let [rows, d] = x.shape().dims();
        let x = contiguous(x);
        let output = cpu::rms_norm(values(&x), &factor(&weight, offset), epsilon);
        tensor_of(output, [rows, d])
    }
}

impl<C: CheckpointStrategy> RmsNormKernel for Autodiff<Flex, C> {
    fn rms_norm_kernel(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        epsilon: f32,
        offset: f32,
    ) -> FloatTensor<Self> {
        let nodes = [x.node(), weight.node()];
        let (x, weight) = (contiguous(x.into_primitive()), weight.into_primitive());
        let output = Flex::rms_norm_kernel(x.clone(), weight.clone(), epsilon, offset);
        match RmsNormBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => {
                let again = Remade::new({
                    let (x, weight) = (x.clone(), weight.clone());
                    move || cpu::rms_norm(values(&x), &factor(&weight, offset), epsilon)
                });
                let state = (x, weight, epsilon, offset, again.clone());
                let output = prepared.finish(state, output);
                can_remake::<C>(&output, &again);
                output
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct RmsNormBackward;

impl Backward<Flex, 2> for RmsNormBackward {
    /// `x`, `weight`, `epsilon`, `offset`, and what recomputes the output.
    type State = (FloatTensor<Flex>, FloatTensor<Flex>, f32, f32, Arc<Remade>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x, of_weight] = ops.parents;
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let (x, weight, epsilon, offset, _) = ops.state;
        let (shape, [d]) = (x.shape().dims::<2>(), weight.shape().dims());
        let (x, grad) = (values(&x), values(&grad));
        if let Some(node) = of_weight {
            let gradient = cpu::rms_norm_weight(x, d, grad, epsilon);
            grads.register::<Flex>(node.id, tensor_of(gradient, [d]));
        }
        if let Some(node) = of_x {
            let gradient = cpu::rms_norm_backward(x, &factor(&weight, offset), grad, epsilon);
            grads.register::<Flex>(node.id, tensor_of(gradient, shape));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_gradients, random};

    #[test]
    fn equals_the_plain_body() {
        for ([rows, d], offset) in [
            ([1, 2], 0.0),
            ([3, 7], 1.0),
            ([33, 129], 0.0),
            ([900, 64], 1.0),
            ([70, 576], 0.0),
        ] {
            let heads = if rows % 3 == 0 { 3 } else { 1 };
            let x = random([rows / heads, heads * d], 2.0);
            let inputs = [x, random([1, d], 1.0)];
            let vector = |row: Tensor<2>| row.squeeze_dim(0);
            assert_same_gradients(
                &inputs,
                |[x, weight]| rms_norm(x, vector(weight), 1e-5, offset),
                |[x, weight]| plain(x, vector(weight), 1e-5, offset),
            );
        }
    }

    crate::testing::on_gpu_too!();
}
