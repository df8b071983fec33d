//! The feed-forward network of a dense decoder.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::tensor::{Device, Tensor};
use burn_peft::{LoraAdapter, Part};
use burn_peft_kernels::{FeedForward, dropout_probability, feed_forward, glu, packed_glu};

use super::Switches;
use super::layout::MlpPart;
use super::walk::{Shown, linear, named_parts};
use crate::parts::{Activation, Xielu, project_onto, unadapted};

/// A feed-forward network, with or without a gate.
#[derive(Module, Debug)]
pub struct Mlp {
    around: LoraAdapter<Part>,
    gate: Option<LoraAdapter<Linear>>,
    up: Option<LoraAdapter<Linear>>,
    gate_up: Option<LoraAdapter<Linear>>,
    down: LoraAdapter<Linear>,
    learnt: Option<LoraAdapter<Xielu>>,
    dropout: Dropout,
    #[module(skip)]
    switches: Arc<Switches>,
}

named_parts! {
    Mlp, |_| "MLP", MlpPart, mlp, [around],
    Gate => gate, Up => up, GateUp => gate_up, Down => down, Activation => learnt,
}

impl Mlp {
    pub(super) fn new(switches: &Arc<Switches>, device: &Device) -> Self {
        let (d, inner) = (switches.hidden_size, switches.intermediate_size);
        let layer = |dims| linear(dims, switches.mlp_bias, switches, device);
        let into = |part, width| switches.layout.mlp_has(part).then(|| layer([d, width]));
        let is_learnt = switches.activation == Activation::Xielu;
        Self {
            around: LoraAdapter::new(Part::new(d, device)),
            gate: into(MlpPart::Gate, inner),
            up: into(MlpPart::Up, inner),
            gate_up: into(MlpPart::GateUp, 2 * inner),
            down: layer([inner, d]),
            learnt: is_learnt.then(|| LoraAdapter::new(Xielu::new(inner, device))),
            dropout: DropoutConfig::new(switches.mlp_dropout).init(),
            switches: Arc::clone(switches),
        }
    }

    /// Maps `input` to the same shape, `[tokens, d]`, and adds it to `residual`.
    pub(super) fn forward(&self, input: Tensor<2>, residual: Option<Tensor<2>>) -> Tensor<2> {
        self.around
            .forward_around(input, residual, |input, residual| {
                if let Some(network) = self.in_one(&input) {
                    return feed_forward(input, network, residual);
                }
                project_onto(&self.down, self.inner(input), &self.dropout, residual)
            })
    }

    /// The activation, if it has learnt parameters.
    pub(super) fn learnt(&self) -> Option<&Xielu> {
        self.learnt.as_ref().map(|slot| &slot.base_layer)
    }

    /// The activation, mutable.
    pub(super) fn learnt_mut(&mut self) -> Option<&mut Xielu> {
        self.learnt.as_mut().map(|slot| &mut slot.base_layer)
    }

    /// All layers, if a single operation can compute them.
    fn in_one(&self, input: &Tensor<2>) -> Option<FeedForward> {
        let drops = dropout_probability(&self.dropout, input) != 0.0;
        if drops || self.learnt.is_some() {
            return None;
        }
        let (gate, up) = match (&self.gate, &self.up) {
            (Some(gate), Some(up)) => (Some(unadapted(gate)?), unadapted(up)?),
            (None, Some(up)) => (None, unadapted(up)?),
            (_, None) => {
                let [gate, up] = unadapted(self.gate_up.as_ref()?)?.halves()?;
                (Some(gate), up)
            }
        };
        Some(FeedForward {
            gate,
            up,
            down: unadapted(&self.down)?,
            activation: self.switches.activation.kind(),
        })
    }

    fn inner(&self, input: Tensor<2>) -> Tensor<2> {
        let activation = self.switches.activation;
        let kind = activation.kind();
        let next = self.down.input_dtype();
        if let Some(gate_up) = &self.gate_up {
            return packed_glu(gate_up.forward(input), kind, next);
        }
        let up = self.up.as_ref().expect("a layout has it, or a fused one");
        match (&self.gate, &self.learnt) {
            (Some(gate), _) => {
                let [gate, up] = LoraAdapter::forward_together([gate, up], input);
                glu(gate, up, kind, next)
            }
            (None, Some(learnt)) => learnt.forward(up.forward(input)),
            (None, None) => activation.forward(up.forward(input), next),
        }
    }
}
