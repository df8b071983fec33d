//! The specialised body of a frozen feed-forward network and its backward pass.

use std::sync::Arc;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::FloatTensor;
use burn::backend::{Autodiff, Backend, ExtensionType, Flex, TensorMetadata, backend_extension};

use crate::ActivationKind;
use crate::cpu::feed_forward::{Kept, Layer, Network};
use crate::flex::{
    OnTape, Optional, contiguous, matrix, or_constant, readable, tensor_of, values, weight as view,
};

#[backend_extension(Flex, Autodiff)]
pub(super) trait FeedForwardKernel: Backend {
    fn feed_forward_kernel(
        x: FloatTensor<Self>,
        #[extension_type] residual: Optional<Self>,
        #[extension_type] layers: Layers<Self>,
    ) -> FloatTensor<Self>;
}

/// The parts of a network.
#[derive(ExtensionType)]
pub(super) struct Layers<B: Backend> {
    #[extension_type]
    pub gate: Optional<B>,
    #[extension_type]
    pub gate_bias: Optional<B>,
    pub up: FloatTensor<B>,
    #[extension_type]
    pub up_bias: Optional<B>,
    pub down: FloatTensor<B>,
    #[extension_type]
    pub down_bias: Optional<B>,
    pub activation: ActivationKind,
}

/// The weight and bias of a layer as the CPU reads them.
#[derive(Clone, Debug)]
struct OnCpu(FloatTensor<Flex>, Option<FloatTensor<Flex>>);

impl OnCpu {
    fn new(weight: FloatTensor<Flex>, bias: Optional<Flex>) -> Self {
        Self(readable(weight), bias.given().map(contiguous))
    }

    fn layer(&self) -> Layer<'_> {
        Layer {
            weight: view(&self.0),
            bias: self.1.as_ref().map(values),
        }
    }
}

/// The same for all layers.
#[derive(Clone, Debug)]
struct NetworkOnCpu {
    gate: Option<OnCpu>,
    up: OnCpu,
    down: OnCpu,
    activation: ActivationKind,
}

impl From<Layers<Flex>> for NetworkOnCpu {
    fn from(layers: Layers<Flex>) -> Self {
        let (gate, gate_bias) = (layers.gate.given(), layers.gate_bias);
        Self {
            gate: gate.map(|gate| OnCpu::new(gate, gate_bias)),
            up: OnCpu::new(layers.up, layers.up_bias),
            down: OnCpu::new(layers.down, layers.down_bias),
            activation: layers.activation,
        }
    }
}

impl NetworkOnCpu {
    fn network(&self) -> Network<'_> {
        Network {
            gate: self.gate.as_ref().map(OnCpu::layer),
            up: self.up.layer(),
            down: self.down.layer(),
            activation: self.activation,
        }
    }

    fn forward(
        &self,
        x: FloatTensor<Flex>,
        residual: Option<FloatTensor<Flex>>,
        keeps: bool,
    ) -> (FloatTensor<Flex>, Option<Kept>) {
        let (x, residual) = (contiguous(x), residual.map(contiguous));
        let network = self.network();
        let shape: [usize; 2] = [x.shape().dims::<2>()[0], network.down.weight.cols()];
        let residual = residual.as_ref().map(values);
        let (output, kept) = network.forward(matrix(&x), residual, keeps);
        (tensor_of(output, shape), kept)
    }
}

impl FeedForwardKernel for Flex {
    fn feed_forward_kernel(
        x: FloatTensor<Self>,
        residual: Optional<Self>,
        layers: Layers<Self>,
    ) -> FloatTensor<Self> {
        NetworkOnCpu::from(layers)
            .forward(x, residual.given(), false)
            .0
    }
}

impl<C: CheckpointStrategy> FeedForwardKernel for Autodiff<Flex, C> {
    fn feed_forward_kernel(
        x: FloatTensor<Self>,
        residual: Optional<Self>,
        layers: Layers<Self>,
    ) -> FloatTensor<Self> {
        let residual: Option<OnTape<C>> = residual.given();
        let inner = |tensor: OnTape<C>| tensor.into_primitive();
        let optional = |tensor: Optional<Self>| Optional::new(tensor.given().map(inner));
        let network = NetworkOnCpu::from(Layers::<Flex> {
            gate: optional(layers.gate),
            gate_bias: optional(layers.gate_bias),
            up: inner(layers.up),
            up_bias: optional(layers.up_bias),
            down: inner(layers.down),
            down_bias: optional(layers.down_bias),
            activation: layers.activation,
        });
        let inner_residual = residual.clone().map(inner);
        let nodes = [x.node(), or_constant::<C>(residual).node()];
        let x = inner(x);
        match FeedForwardBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => {
                let (output, kept) = network.forward(x, inner_residual, true);
                let kept = Arc::new(kept.expect("asked for"));
                prepared.finish((network, kept), output)
            }
            OpsKind::UnTracked(prepared) => {
                prepared.finish(network.forward(x, inner_residual, false).0)
            }
        }
    }
}

#[derive(Debug)]
struct FeedForwardBackward;

impl Backward<Flex, 2> for FeedForwardBackward {
    type State = (NetworkOnCpu, Arc<Kept>);

    fn backward(self, ops: Ops<Self::State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_x, of_residual] = ops.parents;
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        if let Some(node) = of_x {
            let (network, kept) = &ops.state;
            let network = network.network();
            let shape = [kept.rows(), network.up.weight.rows()];
            let gradient = network.backward(kept, matrix(&grad));
            grads.register::<Flex>(node.id, tensor_of(gradient, shape));
        }
        if let Some(node) = of_residual {
            grads.register::<Flex>(node.id, grad);
        }
    }
}
