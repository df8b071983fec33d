//! A slot around a part of a model that holds layers: a whole attention or feed-forward part.

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::{Device, Tensor};

use crate::{Adapter, AnyParam, Base, BaseLayer, LayerInput, LayerKind, LoraAdapter, Slot, Tree};

/// The content of a slot around a part of a model. It holds no layer, only the width of the part
/// and its device. The part's own layers have slots of their own.
///
/// A part holds its slot as `#[adaptable(around)] around: LoraAdapter<Part>`, whose path is the
/// path of the part, and computes its output in [`LoraAdapter::forward_around`].
#[derive(Clone, Debug)]
pub struct Part {
    width: usize,
    device: Device,
}

impl Part {
    /// A part that maps `[tokens, width]` to the same shape.
    pub fn new(width: usize, device: &Device) -> Self {
        Self {
            width,
            device: device.clone(),
        }
    }
}

/// Input and output of a part, `[tokens, d]` each.
#[derive(Clone, Debug)]
pub struct PartInput {
    input: Tensor<2>,
    output: Tensor<2>,
}

impl LayerInput for PartInput {
    type Output = Tensor<2>;

    /// The part has already run: the adapter sees its input and adds to its output, whatever input
    /// it passes to the base.
    fn through(self, adapter: &Adapter, base: &Base<'_, Self>) -> Tensor<2> {
        let output = base.forward(self.clone());
        let base = Base {
            forward: &|_| output.clone(),
            frozen: base.frozen,
            forward_with: &|_, _, _| no_weight(),
        };
        adapter.forward(self.input, &base)
    }

    fn width(&self) -> Option<usize> {
        self.input.width()
    }

    fn tokens(&self) -> usize {
        self.input.tokens()
    }

    fn activations(&self) -> Option<Tensor<2>> {
        Some(self.input.clone())
    }

    fn select_positions(&self, positions: &[i64]) -> Self {
        Self {
            input: self.input.select_positions(positions),
            output: self.output.select_positions(positions),
        }
    }
}

fn no_weight<T>() -> T {
    panic!("a whole part has no weight: Method::supports has to leave out LayerKind::Module")
}

impl BaseLayer for Part {
    type Input = PartInput;

    fn kind(&self) -> LayerKind {
        LayerKind::Module
    }

    fn dims(&self) -> [usize; 2] {
        [self.width, self.width]
    }

    fn forward_base(&self, input: PartInput) -> Tensor<2> {
        input.output
    }

    fn forward_with(&self, _: PartInput, _: Tensor<2>, _: Option<Tensor<1>>) -> Tensor<2> {
        no_weight()
    }

    fn weight(&self) -> Tensor<2> {
        no_weight()
    }

    fn set_weight(&mut self, _: Tensor<2>, _: Option<Tensor<1>>) {
        no_weight()
    }

    fn visit_params(&self, _: &mut dyn FnMut(&str, &dyn AnyParam)) {}

    fn visit_params_mut(&mut self, _: &mut dyn FnMut(&str, &mut dyn AnyParam)) {}

    fn device(&self) -> Device {
        self.device.clone()
    }

    fn describe(&self) -> Tree {
        Tree::Empty
    }
}

impl LoraAdapter<Part> {
    /// The output of the part and the adapters around it, added to `residual` if there is one; all
    /// are `[tokens, d]`. `part` maps an input and adds the residual if it gets one, so that it can
    /// do both in one operation if no adapter acts.
    pub fn forward_around(
        &self,
        input: Tensor<2>,
        residual: Option<Tensor<2>>,
        part: impl FnOnce(Tensor<2>, Option<Tensor<2>>) -> Tensor<2>,
    ) -> Tensor<2> {
        if !self.is_adapted() && self.state().rows.is_none() {
            return part(input, residual);
        }
        let output = part(input.clone(), None);
        self.forward_onto(PartInput { input, output }, residual)
    }
}

// By hand, since a derived module would lose the device.
impl Module for Part {
    fn collect_devices(&self, mut devices: Devices) -> Devices {
        if !devices.contains(&self.device) {
            devices.push(self.device.clone());
        }
        devices
    }

    fn fork(self, device: &Device) -> Self {
        self.to_device(device)
    }

    // As with tensors, a move does not change whether gradients are tracked.
    fn to_device(self, device: &Device) -> Self {
        let moved = Self::new(self.width, device);
        if self.device.is_autodiff() {
            moved.train()
        } else {
            moved.valid()
        }
    }

    fn train(self) -> Self {
        Self::new(self.width, &self.device.autodiff())
    }

    fn valid(&self) -> Self {
        Self::new(self.width, &self.device.clone().without_autodiff())
    }

    fn materialize(self) -> Self {
        self
    }

    fn visit<V: ModuleVisitor>(&self, _: &mut V) {}

    fn map<M: ModuleMapper>(self, _: &mut M) -> Self {
        self
    }
}

impl ModuleDisplayDefault for Part {
    fn content(&self, content: Content) -> Option<Content> {
        content.add("width", &self.width).optional()
    }
}

impl ModuleDisplay for Part {}
