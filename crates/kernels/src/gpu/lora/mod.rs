//! Linear layers with LoRA on GPUs: the products with the weights, and two launches in each pass, for
//! one layer or for several with the same input.

mod kernels;
mod passes;
mod several;

use std::sync::{Arc, Mutex, PoisonError};

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, NodeGuard, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, Cube, Dispatch, TensorMetadata, backend_extension};
use burn::tensor::{Shape, Tensor};

use self::passes::{Factors, Kept, Layers, LoraPasses};
use self::several::Several;
use crate::gpu::mask::Masked;
use crate::linear::Lora;

pub(crate) use self::several::MOST_LAYERS;

/// What a layer's low-rank part is added to.
pub(crate) enum Base {
    /// The product of the input with this weight, which is frozen.
    Weight(Tensor<2>),
    /// This product, which has a gradient of its own.
    Product(Tensor<2>),
}

/// A linear layer with LoRA.
pub(crate) struct Layer {
    pub base: Base,
    pub bias: Option<Tensor<1>>,
    pub lora: Lora,
    pub dropout: Option<Masked>,
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

/// Whether one launch can take so many layers: it reads and writes up to four tensors of each, one of
/// all, and what CubeCL tells the kernel.
pub(crate) fn takes_together(x: &Tensor<2>, layers: usize) -> bool {
    layers <= MOST_LAYERS && super::most_bindings(x) >= 4 * layers as u32 + 2
}

/// As [`linear`](crate::linear) with LoRA, of what [`takes_lora`] and with a base that fits.
pub(crate) fn lora_linear(x: Tensor<2>, layer: Layer, residual: Option<Tensor<2>>) -> Tensor<2> {
    let mut outputs = lora_linears(x, vec![layer], residual);
    outputs.pop().expect("each layer has an output")
}

/// As [`lora_linear`], of layers that [`takes_together`]. Several layers must have the same kind of
/// base, all of them a bias or none, and no residual.
pub(crate) fn lora_linears(
    x: Tensor<2>,
    layers: Vec<Layer>,
    residual: Option<Tensor<2>>,
) -> Vec<Tensor<2>> {
    let [tokens, d_in] = x.dims();
    let (mut weights, mut products, mut biases) = (Vec::new(), Vec::new(), Vec::new());
    let (mut a, mut b, mut factors) = (Vec::new(), Vec::new(), Vec::new());
    for layer in layers {
        let Lora {
            a: of_a, b: of_b, ..
        } = &layer.lora;
        let ([r, width], [d_out, ranks]) = (of_a.dims(), of_b.dims());
        assert_eq!(
            width, d_in,
            "channels that `a` of LoRA takes, and the input's"
        );
        assert_eq!(ranks, r, "ranks of LoRA's `a` and `b`");
        match layer.base {
            Base::Weight(weight) => {
                assert_eq!(weight.dims(), [d_in, d_out], "weight and LoRA");
                weights.push(weight.without_autodiff());
            }
            Base::Product(product) => {
                assert_eq!(product.dims(), [tokens, d_out], "product and LoRA");
                products.push(product);
            }
        }
        biases.extend(layer.bias);
        a.push(layer.lora.a);
        b.push(layer.lora.b);
        factors.push(Factors {
            scaling: layer.lora.scaling as f32,
            dropout: layer.dropout,
        });
    }
    let layers = Layers {
        x: x.into_dispatch(),
        weights: Several::of(weights),
        products: Several::of(products),
        biases: Several::of(biases),
        residuals: Several::of(residual),
        a: Several::of(a),
        b: Several::of(b),
    };
    let outputs = Dispatch::lora_linears_gpu(layers, factors).into_vec();
    outputs.into_iter().map(Tensor::from_dispatch).collect()
}

#[backend_extension(Cube, Autodiff)]
trait LoraLinears: Backend {
    fn lora_linears_gpu(
        #[extension_type] layers: Layers<Self>,
        factors: Vec<Factors>,
    ) -> Several<Self>;
}

impl LoraLinears for Cube {
    fn lora_linears_gpu(layers: Layers<Self>, factors: Vec<Factors>) -> Several<Self> {
        Self::lora_forward(layers, factors).0
    }
}

/// What Burn tracks: `x`, and of each layer bias, residual, product, `a` and `b`.
const NODES: usize = 1 + 5 * MOST_LAYERS;

/// The gradients of the outputs, until those of all are there: an operation on Burn's tape has one
/// output.
type OfOutputs<B> = Arc<Mutex<[Option<FloatTensor<B>>; MOST_LAYERS]>>;

impl<B: LoraPasses, C: CheckpointStrategy> LoraLinears for Autodiff<B, C> {
    fn lora_linears_gpu(layers: Layers<Self>, factors: Vec<Factors>) -> Several<Self> {
        let x = layers.x;
        let mut nodes = vec![x.node()];
        // In the place of what is missing, any tensor that is not tracked would do.
        let untracked = FloatTensor::<Self>::new(x.primitive().clone());
        let mut inner = |several: Several<Self>| {
            let (mut tensors, mut own) = (Vec::new(), Vec::new());
            for tensor in several.into_vec() {
                own.push(tensor.node());
                tensors.push(tensor.into_primitive());
            }
            own.resize_with(MOST_LAYERS, || untracked.node());
            nodes.extend(own);
            Several::<B>::new(tensors)
        };
        let (biases, residuals) = (inner(layers.biases), inner(layers.residuals));
        let products = inner(layers.products);
        let (a, b) = (inner(layers.a), inner(layers.b));
        let weights = layers.weights.into_vec().into_iter();
        let weights = Several::new(weights.map(|weight| weight.into_primitive()));
        let x = x.into_primitive();
        let layers = Layers {
            x: x.clone(),
            weights: weights.clone(),
            products,
            biases,
            residuals,
            a: a.clone(),
            b: b.clone(),
        };
        let (outputs, hidden) = B::lora_forward(layers, factors.clone());
        let nodes: [NodeGuard; NODES] = nodes.try_into().expect("as many as were added");
        let prepared = LoraBackward.prepare::<C>(nodes).compute_bound();
        let OpsKind::Tracked(prepared) = prepared.stateful() else {
            let outputs = outputs.into_vec().into_iter();
            return Several::new(outputs.map(FloatTensor::<Self>::new));
        };
        let of_outputs = OfOutputs::<B>::default();
        let state = State {
            kept: Kept {
                x,
                hidden: hidden.clone(),
                a,
                b,
            },
            weights,
            factors,
            of_outputs: of_outputs.clone(),
        };
        let hidden = prepared.finish(state, hidden);
        let outputs = outputs.into_vec().into_iter().enumerate();
        Several::new(outputs.map(|(layer, output)| {
            let prepared = OutputBackward.prepare::<C>([hidden.node()]);
            match prepared.compute_bound().stateful() {
                OpsKind::Tracked(prepared) => prepared.finish((layer, of_outputs.clone()), output),
                OpsKind::UnTracked(prepared) => prepared.finish(output),
            }
        }))
    }
}

/// Keeps the gradient of an output for [`LoraBackward`], which comes after those of all outputs.
#[derive(Debug)]
struct OutputBackward;

impl<B: Backend> Backward<B, 1> for OutputBackward {
    /// The number of the layer, and where its gradient is kept.
    type State = (usize, OfOutputs<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let (layer, of_outputs) = ops.state;
        let mut of_outputs = of_outputs.lock().unwrap_or_else(PoisonError::into_inner);
        of_outputs[layer] = Some(grads.consume::<B>(&ops.node));
    }
}

#[derive(Clone, Debug)]
struct State<B: Backend> {
    kept: Kept<B>,
    weights: Several<B>,
    factors: Vec<Factors>,
    of_outputs: OfOutputs<B>,
}

impl<B: Backend> State<B> {
    /// The gradient of each output. An output that the loss does not depend on has none.
    fn gradients(&self) -> Vec<FloatTensor<B>> {
        let mut of_outputs = self
            .of_outputs
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let Kept { x, b, .. } = &self.kept;
        let b = b.clone().into_vec().into_iter();
        let gradients = b.zip(of_outputs.iter_mut()).map(|(b, gradient)| {
            gradient.take().unwrap_or_else(|| {
                let shape = Shape::new([x.shape()[0], b.shape()[0]]);
                B::float_zeros(shape, &x.device(), x.dtype().into())
            })
        });
        gradients.collect()
    }
}

#[derive(Debug)]
struct LoraBackward;

impl<B: LoraPasses> Backward<B, NODES> for LoraBackward {
    type State = State<B>;

    fn backward(self, ops: Ops<State<B>, NODES>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x, of_layers @ ..] = ops.parents;
        let mut of_layers = of_layers.into_iter();
        let [of_biases, of_residuals, of_products, of_a, of_b] =
            [(); 5].map(|()| [(); MOST_LAYERS].map(|()| of_layers.next().flatten()));
        let of_outputs = ops.state.gradients();
        for (node, grad) in of_biases.into_iter().zip(&of_outputs) {
            if let Some(node) = node {
                let [_, d_out] = grad.shape().dims();
                let sum = B::float_sum_dim(grad.clone(), 0);
                grads.register::<B>(node.id, B::float_reshape(sum, Shape::new([d_out])));
            }
        }
        for nodes in [of_residuals, of_products] {
            for (node, grad) in nodes.into_iter().zip(&of_outputs) {
                if let Some(node) = node {
                    grads.register::<B>(node.id, grad.clone());
                }
            }
        }
        if of_x.is_none() && of_a.iter().chain(&of_b).all(Option::is_none) {
            return;
        }
        let State {
            kept,
            weights,
            factors,
            ..
        } = ops.state;
        let of_outputs = Several::new(of_outputs);
        let (a, b, x) = B::lora_gradients(of_outputs, kept, weights, factors, of_x.is_some());
        for (nodes, gradients) in [(of_a, a), (of_b, b)] {
            for (node, gradient) in nodes.into_iter().zip(gradients.into_vec()) {
                if let Some(node) = node {
                    grads.register::<B>(node.id, gradient);
                }
            }
        }
        if let (Some(node), Some(gradient)) = (of_x, x.given()) {
            grads.register::<B>(node.id, gradient);
        }
    }
}
