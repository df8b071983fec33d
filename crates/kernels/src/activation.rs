//! Activation functions by kind.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{DType, Tensor, activation};

use crate::cpu::ActivationKind;
use crate::cpu::activation as cpu;
use crate::flex::{contiguous, takes, tensor_of, values};
use crate::kept::Kept;
use crate::remade::{Remade, can_remake};

/// Applies an activation function to every value of `x`, `[tokens, d]`. `next` is the type of the
/// weight that the output is multiplied with.
///
/// The specialised body keeps only its input, in bf16 if `next` is, otherwise in 32 bits.
pub fn activate(x: Tensor<2>, kind: ActivationKind, next: DType) -> Tensor<2> {
    #[cfg(feature = "gpu")]
    if crate::gpu::takes(&x) {
        return crate::gpu::activate(x, kind);
    }
    if !takes(&x) {
        return plain(x, kind);
    }
    let is_narrow = next == DType::BF16;
    Tensor::from_dispatch(Dispatch::activation_kernel(
        x.into_dispatch(),
        kind,
        is_narrow,
    ))
}

pub(crate) fn plain(x: Tensor<2>, kind: ActivationKind) -> Tensor<2> {
    match kind {
        ActivationKind::Silu => activation::silu(x),
        ActivationKind::Gelu => activation::gelu(x),
        ActivationKind::GeluTanh => activation::gelu_approximate(x),
        ActivationKind::Relu => activation::relu(x),
        ActivationKind::ReluSquared => activation::relu(x).square(),
    }
}

#[backend_extension(Flex, Autodiff)]
trait ActivationKernel: Backend {
    fn activation_kernel(
        x: FloatTensor<Self>,
        kind: ActivationKind,
        keeps_narrow: bool,
    ) -> FloatTensor<Self>;
}

impl ActivationKernel for Flex {
    fn activation_kernel(x: FloatTensor<Self>, kind: ActivationKind, _: bool) -> FloatTensor<Self> {
        let [rows, d] = x.shape().dims();
        let x = contiguous(x);
        tensor_of(cpu::activate(kind, values(&x)), [rows, d])
    }
}

impl<C: CheckpointStrategy> ActivationKernel for Autodiff<Flex, C> {
    fn activation_kernel(
        x: FloatTensor<Self>,
        kind: ActivationKind,
        keeps_narrow: bool,
    ) -> FloatTensor<Self> {
        match ActivationBackward
            .prepare::<C>([x.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => {
                let x = contiguous(x.into_primitive());
                let output = Flex::activation_kernel(x.clone(), kind, keeps_narrow);
                let x = Kept::new(x, keeps_narrow);
                let again = Remade::new({
                    let x = x.clone();
                    move || cpu::activate(kind, &x.wide())
                });
                let output = prepared.finish((x, kind, again.clone()), output);
                can_remake::<C>(&output, &again);
                output
            }
            OpsKind::UnTracked(prepared) => prepared.finish(Flex::activation_kernel(
                x.into_primitive(),
                kind,
                keeps_narrow,
            )),
        }
    }
}

#[derive(Debug)]
struct ActivationBackward;

impl Backward<Flex, 1> for ActivationBackward {
    /// `x`, the kind, and what recomputes the output.
    type State = (Kept, ActivationKind, Arc<Remade>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x] = ops.parents;
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        if let Some(node) = of_x {
            let (x, kind, _) = ops.state;
            let [rows, d] = grad.shape().dims();
            let gradient = cpu::activate_backward(kind, &x.wide(), values(&grad));
            grads.register::<Flex>(node.id, tensor_of(gradient, [rows, d]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ACTIVATIONS, assert_same_gradients, away_from_zero, random};

    #[test]
    fn equals_the_plain_body() {
        for kind in ACTIVATIONS {
            for shape in [[1, 1], [3, 7], [33, 129], [70, 300]] {
                assert_same_gradients(
                    &[away_from_zero(shape)],
                    |[x]| activate(x, kind, DType::F32),
                    |[x]| plain(x, kind),
                );
            }
        }
    }

    /// Keeping the input in bf16 changes the gradient by no more than the rounding, and leaves the
    /// output as it is.
    #[test]
    fn keeps_its_input_in_bf16() {
        let x = random([40, 120], 2.0).autodiff().require_grad();
        let run = |next| {
            let output = activate(x.clone(), ActivationKind::GeluTanh, next);
            let gradients = output.clone().sum().backward();
            [output.inner(), x.grad(&gradients).unwrap()]
        };
        let pairs = run(DType::F32).into_iter().zip(run(DType::BF16));
        for (index, (wide, narrow)) in pairs.enumerate() {
            let difference = (wide - narrow).abs().max().into_scalar::<f32>();
            assert!(difference < 0.01, "{index}: {difference}");
            assert_eq!(difference == 0.0, index == 0, "{index}");
        }
    }

    /// Far from zero nothing overflows, and NaN stays NaN.
    #[test]
    fn takes_any_value() {
        let device = burn::tensor::Device::flex();
        for kind in ACTIVATIONS {
            let x = Tensor::<2>::from_data([[-1e4, -200.0, 0.0, 200.0, 1e4]], &device).autodiff();
            let x = x.require_grad();
            let (found, wanted) = (
                activate(x.clone(), kind, DType::F32),
                plain(x.clone(), kind),
            );
            let gradients = [found.clone(), wanted.clone()].map(|y| y.sum().backward());
            let [of_found, of_wanted] = gradients.map(|gradients| x.grad(&gradients).unwrap());
            for (found, wanted) in [(found.inner(), wanted.inner()), (of_found, of_wanted)] {
                let wanted = wanted.into_data().try_to_vec::<f32>().unwrap();
                let found = found.into_data().try_to_vec::<f32>().unwrap();
                for (found, wanted) in found.into_iter().zip(wanted) {
                    let near = (found - wanted).abs() <= 1e-5 * wanted.abs() + 1e-30;
                    assert!(near, "{kind:?}: {found} is not {wanted}");
                }
            }
            let not = Tensor::<2>::from_data([[f32::NAN]], &device);
            assert!(
                activate(not, kind, DType::F32)
                    .into_scalar::<f32>()
                    .is_nan(),
                "{kind:?}"
            );
        }
    }

    crate::testing::on_gpu_too!();
}
