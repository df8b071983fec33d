//! The norms of blocks.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use burn_peft::{Adaptable, BaseLayer, LayerNorm, LoraAdapter, Path, RmsNorm, Slot, Tree};

/// A norm with a slot.
#[derive(Module, Debug)]
pub enum Norm {
    /// LayerNorm.
    Layer(LoraAdapter<LayerNorm>),
    /// RMSNorm.
    Rms(LoraAdapter<RmsNorm>),
    /// One for each head.
    PerHead(NormPerHead),
}

/// A LayerNorm without a bias for each of several heads that lie side by side.
#[derive(Module, Debug)]
pub struct NormPerHead {
    norms: Vec<LoraAdapter<LayerNorm>>,
    /// transformers' name for it.
    #[module(skip)]
    class: &'static str,
}

/// The norms that a family can have; those with a name have transformers' class name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NormKind {
    /// RMSNorm.
    Rms(&'static str),
    /// RMSNorm that multiplies by its weight plus one.
    RmsAroundOne(&'static str),
    /// LayerNorm.
    Layer,
    /// LayerNorm without a bias.
    LayerWithoutBias(&'static str),
}

impl Norm {
    /// A new norm of rows of `d` values, which scales by one.
    pub fn new(kind: NormKind, d: usize, epsilon: f64, device: &Device) -> Self {
        let rms = |norm| Self::Rms(LoraAdapter::new(norm));
        let layer = |norm| Self::Layer(LoraAdapter::new(norm));
        match kind {
            NormKind::Rms(class) => rms(RmsNorm::new(class, d, epsilon, device)),
            NormKind::RmsAroundOne(class) => rms(RmsNorm::around_one(class, d, epsilon, device)),
            NormKind::Layer => layer(LayerNorm::new(d, epsilon, device)),
            NormKind::LayerWithoutBias(class) => {
                layer(LayerNorm::without_bias(class, d, epsilon, device))
            }
        }
    }

    /// New norms of `heads` heads of `d` values each; `class` is transformers' name for all of them
    /// together.
    pub fn per_head(
        class: &'static str,
        [heads, d]: [usize; 2],
        epsilon: f64,
        device: &Device,
    ) -> Self {
        let norm = |_| LoraAdapter::new(LayerNorm::without_bias("LayerNorm", d, epsilon, device));
        Self::PerHead(NormPerHead {
            norms: (0..heads).map(norm).collect(),
            class,
        })
    }

    /// The norm of every row, `[rows, d]`; with a norm for each head, the rows of all heads.
    pub fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Layer(norm) => norm.forward(input),
            Self::Rms(norm) => norm.forward(input),
            Self::PerHead(norms) => norms.forward(input),
        }
    }

    /// The norm of each of the heads that lie side by side, `[tokens, heads · d]`.
    pub fn forward_heads(&self, input: Tensor<2>, d: usize) -> Tensor<2> {
        // A single operation takes the heads as they lie.
        if let Self::Rms(slot) = self
            && let Some(norm) = slot.unadapted()
        {
            return norm.forward_base(input);
        }
        if let Self::PerHead(norms) = self {
            return norms.forward(input);
        }
        let [tokens, width] = input.dims();
        let heads = input.reshape([tokens * width / d, d]);
        self.forward(heads).reshape([tokens, width])
    }
}

impl NormPerHead {
    /// From `[tokens, heads · d]` to the same shape.
    fn forward(&self, input: Tensor<2>) -> Tensor<2> {
        let heads = input.chunk(self.norms.len(), 1).into_iter();
        let normed = heads
            .zip(&self.norms)
            .map(|(head, norm)| norm.forward(head));
        Tensor::cat(normed.collect(), 1)
    }
}

impl Adaptable for NormPerHead {
    fn visit_slots(&self, path: &mut Path, visit: &mut dyn FnMut(&str, &dyn Slot)) {
        path.within("norms", |path| self.norms.visit_slots(path, visit));
    }

    fn visit_slots_mut(&mut self, path: &mut Path, visit: &mut dyn FnMut(&str, &mut dyn Slot)) {
        path.within("norms", |path| self.norms.visit_slots_mut(path, visit));
    }

    fn tree(&self) -> Tree {
        Tree::node(self.class, [("norms", self.norms.tree())])
    }
}

impl Adaptable for Norm {
    fn visit_slots(&self, path: &mut Path, visit: &mut dyn FnMut(&str, &dyn Slot)) {
        match self {
            Self::Layer(norm) => norm.visit_slots(path, visit),
            Self::Rms(norm) => norm.visit_slots(path, visit),
            Self::PerHead(norms) => norms.visit_slots(path, visit),
        }
    }

    fn visit_slots_mut(&mut self, path: &mut Path, visit: &mut dyn FnMut(&str, &mut dyn Slot)) {
        match self {
            Self::Layer(norm) => norm.visit_slots_mut(path, visit),
            Self::Rms(norm) => norm.visit_slots_mut(path, visit),
            Self::PerHead(norms) => norms.visit_slots_mut(path, visit),
        }
    }

    fn tree(&self) -> Tree {
        match self {
            Self::Layer(norm) => norm.tree(),
            Self::Rms(norm) => norm.tree(),
            Self::PerHead(norms) => norms.tree(),
        }
    }
}
