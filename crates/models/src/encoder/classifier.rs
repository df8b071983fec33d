//! Classification heads of encoders.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use burn_peft::{Adaptable, LoraAdapter, Path, Slot};
use burn_peft_kernels::apply_dropout;

/// The names of a classifier's parts in a family, and what it computes.
#[derive(Clone, Copy, Debug)]
pub struct ClassifierNames {
    /// The path of the layer before the output, if there is one.
    pub dense: Option<&'static str>,
    /// The activation of that layer.
    pub activation: fn(Tensor<2>) -> Tensor<2>,
    /// Whether its input has dropout too.
    pub drops_input: bool,
    /// The path of the layer that scores.
    pub output: &'static str,
}

/// A layer that scores labels, with dropout before it and, in some families, another layer before
/// that: `output(dropout(f(dense(x))))`.
#[derive(Module, Debug)]
pub struct Classifier {
    /// The layer before the output, `[d, d]`.
    pub dense: Option<LoraAdapter<Linear>>,
    /// Dropout of its output.
    pub dropout: Dropout,
    /// The scores, `[d, labels]`.
    pub output: LoraAdapter<Linear>,
    #[module(skip)]
    names: ClassifierNames,
}

impl Classifier {
    /// A head for this many labels, on hidden states of width `d`.
    pub fn new(
        names: ClassifierNames,
        [d, labels]: [usize; 2],
        dropout: f64,
        device: &Device,
    ) -> Self {
        let linear = |d_out| LoraAdapter::new(LinearConfig::new(d, d_out).init(device));
        Self {
            dense: names.dense.map(|_| linear(d)),
            dropout: DropoutConfig::new(dropout).init(),
            output: linear(labels),
            names,
        }
    }

    /// The scores, `[rows, labels]`, for hidden states `[rows, d]`.
    pub fn forward(&self, hidden: Tensor<2>) -> Tensor<2> {
        let drop = |hidden| apply_dropout(&self.dropout, hidden);
        let hidden = match &self.dense {
            None => hidden,
            Some(dense) if self.names.drops_input => {
                (self.names.activation)(dense.forward(drop(hidden)))
            }
            Some(dense) => (self.names.activation)(dense.forward(hidden)),
        };
        self.output.forward(drop(hidden))
    }

    /// Visits its layers under their paths.
    pub fn visit_slots(&self, path: &mut Path, visit: &mut dyn FnMut(&str, &dyn Slot)) {
        if let Some(name) = self.names.dense {
            path.within(name, |path| self.dense.visit_slots(path, &mut *visit));
        }
        path.within(self.names.output, |path| {
            self.output.visit_slots(path, visit);
        });
    }

    /// As [`visit_slots`](Self::visit_slots), with mutable slots.
    pub fn visit_slots_mut(&mut self, path: &mut Path, visit: &mut dyn FnMut(&str, &mut dyn Slot)) {
        if let Some(name) = self.names.dense {
            path.within(name, |path| self.dense.visit_slots_mut(path, &mut *visit));
        }
        path.within(self.names.output, |path| {
            self.output.visit_slots_mut(path, visit);
        });
    }
}
