//! A trained matrix that all layers of an adapter share.

use std::sync::{Arc, Mutex, PoisonError};

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
    Param,
};
use burn::tensor::{Device, Tensor};

/// One parameter at many places of a model, which Burn sees only once: the first place shows it to
/// visitors (optimizers, records, gradients), the others hold the same tensor and hide it.
///
/// Whatever maps the module (an optimizer's step, `train()`, `valid()`, a move to another device)
/// visits all places in order. The first place stores the mapped parameter, and the others take it
/// from there, so that all remain one tensor with one gradient.
#[derive(Clone, Debug)]
pub struct SharedParam {
    param: Param<Tensor<2>>,
    is_first: bool,
    /// The result of the first place's last mapping.
    changed: Arc<Mutex<Option<Param<Tensor<2>>>>>,
}

impl SharedParam {
    /// The parameter for the first place.
    pub(crate) fn new(param: Param<Tensor<2>>) -> Self {
        Self {
            param,
            is_first: true,
            changed: Arc::default(),
        }
    }

    /// The parameter for a further place.
    pub(crate) fn follower(&self) -> Self {
        Self {
            is_first: false,
            ..self.clone()
        }
    }

    /// The parameter.
    pub fn param(&self) -> &Param<Tensor<2>> {
        &self.param
    }

    pub(crate) fn param_mut(&mut self) -> &mut Param<Tensor<2>> {
        &mut self.param
    }

    fn change(mut self, change: impl FnOnce(Param<Tensor<2>>) -> Param<Tensor<2>>) -> Self {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_first {
            self.param = change(self.param);
            *changed = Some(self.param.clone());
        } else if let Some(param) = changed.as_ref() {
            self.param = param.clone();
        }
        drop(changed);
        self
    }
}

impl Module for SharedParam {
    fn collect_devices(&self, devices: Devices) -> Devices {
        self.param.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        self.change(|param| param.fork(device))
    }

    fn to_device(self, device: &Device) -> Self {
        self.change(|param| Module::to_device(param, device))
    }

    fn train(self) -> Self {
        self.change(Module::train)
    }

    fn valid(&self) -> Self {
        self.clone().change(|param| Module::valid(&param))
    }

    fn materialize(self) -> Self {
        self.change(Module::materialize)
    }

    fn visit<Visitor: ModuleVisitor>(&self, visitor: &mut Visitor) {
        if self.is_first {
            self.param.visit(visitor);
        }
    }

    fn map<Mapper: ModuleMapper>(self, mapper: &mut Mapper) -> Self {
        self.change(|param| Module::map(param, mapper))
    }
}

impl ModuleDisplayDefault for SharedParam {
    fn content(&self, content: Content) -> Option<Content> {
        ModuleDisplayDefault::content(&self.param, content)
    }
}

impl ModuleDisplay for SharedParam {}
