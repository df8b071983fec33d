//! A slot as a Burn module. Implemented by hand, so that the layer's own parameters have the same
//! paths as without a slot, and records of the plain model and the model with slots are
//! interchangeable.

use burn::module::{
    Content, Devices, Module, ModuleDisplay, ModuleDisplayDefault, ModuleMapper, ModuleVisitor,
};
use burn::tensor::Device;

use super::LoraAdapter;
use crate::BaseLayer;
use crate::slot::kept::Kept;

/// Burn's name for the struct that holds a parameter.
const CONTAINER: &str = "Struct:LoraAdapter";

/// The slot, with every part that holds tensors mapped by a function of `Module`.
macro_rules! each_part {
    ($slot:expr, $function:ident $(, $argument:expr)?) => {{
        let slot = $slot;
        LoraAdapter {
            base_layer: Module::$function(slot.base_layer $(, $argument)?),
            kept: slot.kept.map(|kept| {
                kept.map_codes(|codes| Module::$function(codes $(, $argument)?))
            }),
            adapters: Module::$function(slot.adapters $(, $argument)?),
            modules_to_save: Module::$function(slot.modules_to_save $(, $argument)?),
            state: slot.state,
        }
    }};
}

impl<M: BaseLayer> Module for LoraAdapter<M> {
    fn collect_devices(&self, devices: Devices) -> Devices {
        let devices = self.base_layer.collect_devices(devices);
        let devices = match &self.kept {
            Some(Kept::Quantized(codes)) => codes.collect_devices(devices),
            _ => devices,
        };
        let devices = self.adapters.collect_devices(devices);
        self.modules_to_save.collect_devices(devices)
    }

    fn fork(self, device: &Device) -> Self {
        each_part!(self, fork, device)
    }

    fn to_device(self, device: &Device) -> Self {
        each_part!(self, to_device, device)
    }

    fn train(self) -> Self {
        each_part!(self, train)
    }

    fn valid(&self) -> Self {
        LoraAdapter {
            base_layer: self.base_layer.valid(),
            kept: self
                .kept
                .clone()
                .map(|kept| kept.map_codes(|codes| codes.valid())),
            adapters: self.adapters.valid(),
            modules_to_save: self.modules_to_save.valid(),
            state: self.state.clone(),
        }
    }

    fn materialize(self) -> Self {
        each_part!(self, materialize)
    }

    fn visit<V: ModuleVisitor>(&self, visitor: &mut V) {
        fn visit<V: ModuleVisitor>(name: &str, part: &impl Module, visitor: &mut V) {
            visitor.enter_module(name, CONTAINER);
            part.visit(visitor);
            visitor.exit_module(name, CONTAINER);
        }
        self.base_layer.visit(visitor);
        if let Some(Kept::Quantized(codes)) = &self.kept {
            visit("quantized", &**codes, visitor);
        }
        visit("adapters", &self.adapters, visitor);
        visit("modules_to_save", &self.modules_to_save, visitor);
    }

    fn map<V: ModuleMapper>(self, mapper: &mut V) -> Self {
        fn map<V: ModuleMapper, P: Module>(name: &str, part: P, mapper: &mut V) -> P {
            mapper.enter_module(name, CONTAINER);
            let part = part.map(mapper);
            mapper.exit_module(name, CONTAINER);
            part
        }
        LoraAdapter {
            base_layer: self.base_layer.map(mapper),
            kept: self
                .kept
                .map(|kept| kept.map_codes(|codes| map("quantized", codes, mapper))),
            adapters: map("adapters", self.adapters, mapper),
            modules_to_save: map("modules_to_save", self.modules_to_save, mapper),
            state: self.state,
        }
    }
}

/// A slot without adapters prints as its layer; with adapters, it adds a line for each.
impl<M: BaseLayer> ModuleDisplayDefault for LoraAdapter<M> {
    fn content(&self, content: Content) -> Option<Content> {
        if self.adapters.is_empty() && self.modules_to_save.is_empty() {
            return content.add_single(&self.base_layer).optional();
        }
        let mut content = content
            .set_top_level_type("LoraAdapter")
            .add("base_layer", &self.base_layer);
        for adapter in &self.adapters {
            let parts = adapter.method.parts().into_iter();
            let parts: Vec<_> = parts
                .map(|(part, module)| format!("{part}: {module}"))
                .collect();
            content = content.add(adapter.name(), &parts.join(", "));
        }
        for (name, copy) in self.state.saved.iter().zip(&self.modules_to_save) {
            content = content.add(&format!("modules_to_save.{name}"), copy);
        }
        content.optional()
    }

    fn num_params(&self) -> usize {
        Module::num_params(self)
    }
}

impl<M: BaseLayer> ModuleDisplay for LoraAdapter<M> {}

impl<M: BaseLayer> std::fmt::Display for LoraAdapter<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.format(Default::default()))
    }
}
