//! The layer norm.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::Tensor;

use crate::cpu::norm;
use crate::flex::{OnTape, Optional, contiguous, or_constant, takes, tensor_of, values};
use crate::remade::{Remade, can_remake};

/// `(x - mean) / sqrt(variance + epsilon) · gamma + beta` over the last axis
/// (arXiv 1607.06450): `x` is `[tokens, d]`, `gamma` and `beta` are `[d]`.
///
/// The specialised body keeps only its input: mean and variance are computed again for the
/// gradient, in the pass that reads the input anyway.
///
/// # Panics
/// If `gamma` or `beta` is not `[d]`.
pub fn layer_norm(
    x: Tensor<2>,
    gamma: Tensor<1>,
    beta: Option<Tensor<1>>,
    epsilon: f64,
) -> Tensor<2> {
    let [_, d] = x.dims();
    assert_eq!(gamma.dims(), [d], "factors of a layer norm of {d} channels");
    if let Some(beta) = &beta {
        assert_eq!(beta.dims(), [d], "biases of a layer norm of {d} channels");
    }
    #[cfg(feature = "gpu")]
    if crate::gpu::takes_both(&x, &gamma) && beta.iter().all(|b| crate::gpu::takes_both(&x, b)) {
        return crate::gpu::layer_norm(x, gamma, beta, epsilon);
    }
    if !(takes(&x) && takes(&gamma)) {
        return plain(x, gamma, beta, epsilon);
    }
    Tensor::from_dispatch(Dispatch::layer_norm_kernel(
        x.into_dispatch(),
        gamma.into_dispatch(),
        Optional::of(beta),
        epsilon as f32,
    ))
}

fn plain(x: Tensor<2>, gamma: Tensor<1>, beta: Option<Tensor<1>>, epsilon: f64) -> Tensor<2> {
    let (variance, mean) = x.clone().var_mean_bias(1);
    let normed = (x - mean) / (variance + epsilon).sqrt();
    let output = normed * gamma.unsqueeze();
    match beta {
        Some(beta) => output + beta.unsqueeze(),
        None => output,
    }
}

#[backend_extension(Flex, Autodiff)]
trait LayerNormKernel: Backend {
    fn layer_norm_kernel(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        #[extension_type] beta: Optional<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self>;
}

impl LayerNormKernel for Flex {
    fn layer_norm_kernel(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: Optional<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let [rows, d] = x.shape().dims();
        let (x, gamma, beta) = (
            contiguous(x),
            contiguous(gamma),
            beta.given().map(contiguous),
        );
        let beta = beta.as_ref().map(values);
        tensor_of(
            norm::layer_norm(values(&x), values(&gamma), beta, epsilon),
            [rows, d],
        )
    }
}

impl<C: CheckpointStrategy> LayerNormKernel for Autodiff<Flex, C> {
    fn layer_norm_kernel(
        x: FloatTensor<Self>,
        gamma: FloatTensor<Self>,
        beta: Optional<Self>,
        epsilon: f32,
    ) -> FloatTensor<Self> {
        let beta: Option<OnTape<C>> = beta.given();
        let inner_beta = beta.as_ref().map(|beta| beta.primitive().clone());
        let again_beta = inner_beta.clone();
        let beta: OnTape<C> = or_constant::<C>(beta);
        let nodes = [x.node(), gamma.node(), beta.node()];
        let (x, gamma) = (contiguous(x.into_primitive()), gamma.into_primitive());
        let output =
            Flex::layer_norm_kernel(x.clone(), gamma.clone(), Optional::new(inner_beta), epsilon);
        match LayerNormBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => {
                let again = Remade::new({
                    let (x, gamma) = (x.clone(), contiguous(gamma.clone()));
                    let beta = again_beta.map(contiguous);
                    move || {
                        let beta = beta.as_ref().map(values);
                        norm::layer_norm(values(&x), values(&gamma), beta, epsilon)
                    }
                });
                let output = prepared.finish((x, gamma, epsilon, again.clone()), output);
                can_remake::<C>(&output, &again);
                output
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct LayerNormBackward;

impl Backward<Flex, 3> for LayerNormBackward {
    /// `x`, `gamma`, `epsilon`, and what recomputes the output.
    type State = (FloatTensor<Flex>, FloatTensor<Flex>, f32, Arc<Remade>);

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x, of_gamma, of_beta] = ops.parents;
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let (x, gamma, epsilon, _) = ops.state;
        let [rows, d] = x.shape().dims();
        let (x, gamma, grad) = (values(&x), contiguous(gamma), values(&grad));
        if of_gamma.is_some() || of_beta.is_some() {
            let [gamma, beta] = norm::layer_norm_parameters(x, d, grad, epsilon);
            for (node, gradient) in [(of_gamma, gamma), (of_beta, beta)] {
                if let Some(node) = node {
                    grads.register::<Flex>(node.id, tensor_of(gradient, [d]));
                }
            }
        }
        if let Some(node) = of_x {
            let gradient = norm::layer_norm_backward(x, values(&gamma), grad, epsilon);
            grads.register::<Flex>(node.id, tensor_of(gradient, [rows, d]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_gradients, random};

    #[test]
    fn equals_the_plain_body() {
        for [rows, d] in [[1, 2], [3, 7], [33, 129], [70, 768]] {
            let inputs = [
                random([rows, d], 2.0),
                random([1, d], 1.0),
                random([1, d], 1.0),
            ];
            let vector = |row: Tensor<2>| row.squeeze_dim(0);
            assert_same_gradients(
                &inputs,
                |[x, gamma, beta]| layer_norm(x, vector(gamma), Some(vector(beta)), 1e-5),
                |[x, gamma, beta]| plain(x, vector(gamma), Some(vector(beta)), 1e-5),
            );
            assert_same_gradients(
                &inputs[..2],
                |[x, gamma]| layer_norm(x, vector(gamma), None, 1e-5),
                |[x, gamma]| plain(x, vector(gamma), None, 1e-5),
            );
        }
    }

    crate::testing::on_gpu_too!();
}
