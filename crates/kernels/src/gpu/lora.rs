//! A linear layer with LoRA on GPUs: the product with the weight, which is CubeCL's, and two
//! launches beside it in each pass.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Cube, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};

use super::lora_passes::{Factors, LoraPasses};
use super::mask::Masked;
use crate::flex::Optional;
use crate::linear::Lora;
use crate::product::FrozenProduct;

/// What a layer's low-rank part is added to.
pub(crate) enum Base {
    /// The product of the input with this weight, which is frozen.
    Weight(Tensor<2>),
    /// This product, which has a gradient of its own.
    Product(Tensor<2>),
}

/// Whether the body for GPUs takes everything but the base: all tensors have one type, and bias and
/// residual have the shapes that their sums need.
pub(crate) fn takes_lora(
    x: &Tensor<2>,
    bias: &Option<Tensor<1>>,
    residual: &Option<Tensor<2>>,
    lora: &Lora,
) -> bool {
    let rest = super::takes_both(x, &lora.a) && super::takes_both(x, &lora.b);
    let ([tokens, _], [d_out, _]) = (x.dims(), lora.b.dims());
    let (mut bias, mut residual) = (bias.iter(), residual.iter());
    let bias = bias.all(|bias| super::takes_both(x, bias) && bias.dims() == [d_out]);
    let residual =
        residual.all(|other| super::takes_both(x, other) && other.dims() == [tokens, d_out]);
    rest && bias && residual
}

/// As [`linear`](crate::linear) with LoRA, of what [`takes_lora`] and with a base that fits.
pub(crate) fn lora_linear(
    x: Tensor<2>,
    base: Base,
    bias: Option<Tensor<1>>,
    residual: Option<Tensor<2>>,
    lora: Lora,
    dropout: Option<Masked>,
) -> Tensor<2> {
    let ([tokens, d_in], [r, of_a], [d_out, of_b]) = (x.dims(), lora.a.dims(), lora.b.dims());
    assert_eq!(
        of_a, d_in,
        "channels that `a` of LoRA takes, and the input's"
    );
    assert_eq!(of_b, r, "ranks of LoRA's `a` and `b`");
    match &base {
        Base::Weight(weight) => assert_eq!(weight.dims(), [d_in, d_out], "weight and LoRA"),
        Base::Product(product) => assert_eq!(product.dims(), [tokens, d_out], "product and LoRA"),
    }
    let factors = Factors {
        scaling: lora.scaling as f32,
        dropout,
    };
    let (weight, product) = match base {
        Base::Weight(weight) => (Some(weight.without_autodiff()), None),
        Base::Product(product) => (None, Some(product)),
    };
    Tensor::from_dispatch(Dispatch::lora_linear_gpu(
        x.into_dispatch(),
        Optional::of(weight),
        Optional::of(product),
        Optional::of(bias),
        Optional::of(residual),
        lora.a.into_dispatch(),
        lora.b.into_dispatch(),
        factors,
    ))
}

#[backend_extension(Cube, Autodiff)]
trait LoraLinear: Backend {
    fn lora_linear_gpu(
        x: FloatTensor<Self>,
        #[extension_type] weight: Optional<Self>,
        #[extension_type] product: Optional<Self>,
        #[extension_type] bias: Optional<Self>,
        #[extension_type] residual: Optional<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        factors: Factors,
    ) -> FloatTensor<Self>;
}

/// The product that is given, or that with the weight that is.
fn product_of<B: FrozenProduct>(
    x: &FloatTensor<B>,
    weight: Option<&FloatTensor<B>>,
    product: Option<FloatTensor<B>>,
) -> FloatTensor<B> {
    product.unwrap_or_else(|| {
        let weight = weight.expect("a layer has a weight or a product");
        B::frozen_product(x.clone(), weight.clone())
    })
}

impl LoraLinear for Cube {
    fn lora_linear_gpu(
        x: FloatTensor<Self>,
        weight: Optional<Self>,
        product: Optional<Self>,
        bias: Optional<Self>,
        residual: Optional<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        factors: Factors,
    ) -> FloatTensor<Self> {
        let product = product_of::<Self>(&x, weight.given().as_ref(), product.given());
        let hidden = Self::lora_down(x, a, factors);
        Self::lora_up(product, hidden, b, bias, residual)
    }
}

impl<B: FrozenProduct + LoraPasses, C: CheckpointStrategy> LoraLinear for Autodiff<B, C> {
    fn lora_linear_gpu(
        x: FloatTensor<Self>,
        weight: Optional<Self>,
        product: Optional<Self>,
        bias: Optional<Self>,
        residual: Optional<Self>,
        a: FloatTensor<Self>,
        b: FloatTensor<Self>,
        factors: Factors,
    ) -> FloatTensor<Self> {
        let weight: Option<FloatTensor<Self>> = weight.given();
        let weight = weight.map(|weight| weight.into_primitive());
        let (product, bias, residual) = (product.given(), bias.given(), residual.given());
        // In the place of what is missing, any tensor that is not tracked would do.
        let node = |tensor: &Option<FloatTensor<Self>>| match tensor {
            Some(tensor) => tensor.node(),
            None => FloatTensor::<Self>::new(x.primitive().clone()).node(),
        };
        let nodes = [
            x.node(),
            node(&bias),
            node(&residual),
            a.node(),
            b.node(),
            node(&product),
        ];
        let prepared = LoraBackward.prepare::<C>(nodes);
        let [x, a, b] = [x, a, b].map(|tensor| tensor.into_primitive());
        let [product, bias, residual] =
            [product, bias, residual].map(|tensor| tensor.map(|tensor| tensor.into_primitive()));
        let product = product_of::<B>(&x, weight.as_ref(), product);
        let hidden = B::lora_down(x.clone(), a.clone(), factors);
        let bias = Optional::new(bias);
        let residual = Optional::new(residual);
        let output = B::lora_up(product, hidden.clone(), b.clone(), bias, residual);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                prepared.finish((x, weight, hidden, a, b, factors), output)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct LoraBackward;

impl<B: FrozenProduct + LoraPasses> Backward<B, 6> for LoraBackward {
    /// `x`, the weight if there is one, `scaling · dropout(x) aᵀ`, `a`, `b`, and what is not a tensor.
    type State = (
        FloatTensor<B>,
        Option<FloatTensor<B>>,
        FloatTensor<B>,
        FloatTensor<B>,
        FloatTensor<B>,
        Factors,
    );

    fn backward(self, ops: Ops<Self::State, 6>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x, of_bias, of_residual, of_a, of_b, of_product] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        let (x, weight, hidden, a, b, factors) = ops.state;
        if let Some(node) = of_bias {
            let [_, d_out] = grad.shape().dims();
            let sum = B::float_sum_dim(grad.clone(), 0);
            grads.register::<B>(node.id, B::float_reshape(sum, Shape::new([d_out])));
        }
        if of_x.is_some() || of_a.is_some() || of_b.is_some() {
            let (of_hidden, gradient) = B::lora_gradients_up(grad.clone(), hidden, b, factors);
            if let Some(node) = of_b {
                grads.register::<B>(node.id, gradient);
            }
            let gradient = if let Some(node) = of_x {
                let transposed = weight.map(|weight| B::float_transpose(weight));
                let product = transposed.map(|weight| B::frozen_product(grad.clone(), weight));
                let product = Optional::new(product);
                let (of_a, of_x) = B::lora_gradients_down(of_hidden, x, a, product, factors);
                grads.register::<B>(node.id, of_x);
                Some(of_a)
            } else if of_a.is_some() {
                Some(B::lora_gradient_a(of_hidden, x, a, factors))
            } else {
                None
            };
            if let (Some(node), Some(gradient)) = (of_a, gradient) {
                grads.register::<B>(node.id, gradient);
            }
        }
        for node in [of_residual, of_product].into_iter().flatten() {
            grads.register::<B>(node.id, grad.clone());
        }
    }
}
