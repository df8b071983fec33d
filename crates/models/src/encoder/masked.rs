//! Heads of encoders that predict masked tokens.

use burn::module::{Initializer, Module, Param};
use burn::nn::{Embedding, Linear, LinearConfig};
use burn::tensor::{DType, Device, Tensor};
use burn_peft::{
    Adaptable, AnyParam, BaseLayer, LayerKind, LayerNorm, LoraAdapter, Path, Slot, Tree,
};

use crate::parts::Activation;

/// The names of the parts of such a head in a family.
#[derive(Clone, Copy, Debug)]
pub struct MaskedNames {
    /// The path of the first layer.
    pub dense: &'static str,
    /// The path of its norm.
    pub norm: &'static str,
    /// The path below which the bias of the output is, if the output shares the token embedding's
    /// weight.
    pub bias: &'static str,
    /// The path of the output.
    pub output: &'static str,
}

/// The layers before the output, `norm(f(dense(x)))`, and the bias of an output that shares the
/// token embedding's weight.
#[derive(Module, Debug)]
pub struct MaskedHead {
    /// The first layer, `[d, d]`.
    pub dense: LoraAdapter<Linear>,
    /// Its norm.
    pub norm: LoraAdapter<LayerNorm>,
    /// The bias of the output; `None` if the output has a weight and a bias of its own.
    pub bias: Option<LoraAdapter<OutputBias>>,
    #[module(skip)]
    activation: Activation,
    #[module(skip)]
    names: MaskedNames,
}

impl MaskedHead {
    /// A head for hidden states of width `d` and this many tokens.
    pub fn new(
        names: MaskedNames,
        [d, vocab_size]: [usize; 2],
        activation: Activation,
        epsilon: f64,
        is_tied: bool,
        device: &Device,
    ) -> Self {
        let layers = (
            LoraAdapter::new(LinearConfig::new(d, d).init(device)),
            LoraAdapter::new(LayerNorm::new(d, epsilon, device)),
        );
        Self::of(
            names,
            layers,
            is_tied.then_some(vocab_size),
            activation,
            device,
        )
    }

    /// A head with these layers, and a bias of this size if the output has none of its own.
    pub fn of(
        names: MaskedNames,
        (dense, norm): (LoraAdapter<Linear>, LoraAdapter<LayerNorm>),
        bias: Option<usize>,
        activation: Activation,
        device: &Device,
    ) -> Self {
        let bias = bias.map(|size| LoraAdapter::new(OutputBias::new(size, device)));
        Self {
            dense,
            norm,
            bias,
            activation,
            names,
        }
    }

    /// The input of the output layer, `[rows, d]`, for hidden states of this shape.
    pub fn forward(&self, hidden: Tensor<2>) -> Tensor<2> {
        let hidden = self
            .activation
            .forward(self.dense.forward(hidden), DType::F32);
        self.norm.forward(hidden)
    }

    /// The logits, `[rows, vocab]`, for hidden states `[rows, d]`, through an output of its own or
    /// the token embedding.
    pub fn logits(
        &self,
        hidden: Tensor<2>,
        embedding: &LoraAdapter<Embedding>,
        own: &Option<LoraAdapter<Linear>>,
    ) -> Tensor<2> {
        let hidden = self.forward(hidden);
        let logits = match own {
            Some(own) => return own.forward(hidden),
            None => embedding.tied_output(hidden),
        };
        match &self.bias {
            Some(bias) => bias.forward(logits),
            None => logits,
        }
    }

    /// Removes and returns the bias of a tied output, for an output with a weight of its own.
    pub fn take_bias(&mut self) -> Option<Param<Tensor<1>>> {
        self.bias.take().map(|bias| bias.base_layer.bias)
    }

    /// Resizes the bias; new values are zero.
    pub fn resize(&mut self, vocab_size: usize) {
        if let Some(slot) = &mut self.bias {
            let bias = slot.base_layer.bias.val().detach();
            let [known] = bias.dims();
            let bias = if vocab_size > known {
                let further = Tensor::zeros([vocab_size - known], &bias.device());
                Tensor::cat(vec![bias, further], 0)
            } else {
                bias.slice_dim(0, 0..vocab_size)
            };
            slot.base_layer.bias = Param::from_tensor(bias).set_require_grad(false);
        }
    }

    /// The output as printed; it may be tied.
    pub fn shown_output(&self, own: &Option<LoraAdapter<Linear>>, d: usize) -> Tree {
        match (own, &self.bias) {
            (Some(own), _) => own.tree(),
            (None, Some(bias)) => {
                let [vocab, _] = bias.base_layer.dims();
                Tree::linear(d, vocab, true)
            }
            (None, None) => Tree::Empty,
        }
    }

    /// Visits its layers, and an output with a weight of its `own`, under their paths.
    pub fn visit_slots(
        &self,
        own: &Option<LoraAdapter<Linear>>,
        path: &mut Path,
        visit: &mut dyn FnMut(&str, &dyn Slot),
    ) {
        let names = &self.names;
        path.within(names.dense, |path| {
            self.dense.visit_slots(path, &mut *visit)
        });
        path.within(names.norm, |path| self.norm.visit_slots(path, &mut *visit));
        path.within(names.bias, |path| self.bias.visit_slots(path, &mut *visit));
        path.within(names.output, |path| own.visit_slots(path, visit));
    }

    /// As [`visit_slots`](Self::visit_slots), with mutable slots.
    pub fn visit_slots_mut(
        &mut self,
        own: &mut Option<LoraAdapter<Linear>>,
        path: &mut Path,
        visit: &mut dyn FnMut(&str, &mut dyn Slot),
    ) {
        let names = self.names;
        path.within(names.dense, |path| {
            self.dense.visit_slots_mut(path, &mut *visit);
        });
        path.within(names.norm, |path| {
            self.norm.visit_slots_mut(path, &mut *visit);
        });
        path.within(names.bias, |path| {
            self.bias.visit_slots_mut(path, &mut *visit);
        });
        path.within(names.output, |path| own.visit_slots_mut(path, visit));
    }
}

/// The bias of an output whose weight is stored elsewhere.
#[derive(Module, Debug)]
pub struct OutputBias {
    /// The bias, `[vocab]`.
    pub bias: Param<Tensor<1>>,
}

impl OutputBias {
    /// A bias of zero.
    pub fn new(vocab_size: usize, device: &Device) -> Self {
        Self {
            bias: Initializer::Zeros.init([vocab_size], device),
        }
    }
}

impl BaseLayer for OutputBias {
    type Input = Tensor<2>;

    fn kind(&self) -> LayerKind {
        LayerKind::Module
    }

    fn dims(&self) -> [usize; 2] {
        let [vocab] = self.bias.lazy_shape().dims();
        [vocab, vocab]
    }

    fn forward_base(&self, logits: Tensor<2>) -> Tensor<2> {
        logits + self.bias.val().unsqueeze()
    }

    fn forward_with(&self, logits: Tensor<2>, _: Tensor<2>, _: Option<Tensor<1>>) -> Tensor<2> {
        self.forward_base(logits)
    }

    /// It has no weight for an adapter to change.
    fn weight(&self) -> Tensor<2> {
        self.bias.val().unsqueeze()
    }

    fn set_weight(&mut self, _: Tensor<2>, _: Option<Tensor<1>>) {}

    fn visit_params(&self, visit: &mut dyn FnMut(&str, &dyn AnyParam)) {
        visit("bias", &self.bias);
    }

    fn visit_params_mut(&mut self, visit: &mut dyn FnMut(&str, &mut dyn AnyParam)) {
        visit("bias", &mut self.bias);
    }

    fn device(&self) -> Device {
        self.bias.lazy_device()
    }

    fn describe(&self) -> Tree {
        Tree::Empty
    }
}
