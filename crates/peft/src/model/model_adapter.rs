//! A named adapter at the model itself.

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Device, Tensor, TensorData};

use crate::files::Entry;
use crate::method::no_place;
use crate::model::attach::spend;
use crate::{
    AdapterTensor, AtModel, BaseModel, Extra, Method, ModelMethod, PeftModel, Result, Tensors,
    Tree, target,
};

/// A named adapter at the model itself.
#[derive(Module, Debug)]
pub(crate) struct ModelAdapter {
    #[module(skip)]
    pub name: String,
    #[module(skip)]
    pub method: Arc<dyn ModelMethod>,
    tensors: Vec<AdapterTensor>,
}

impl ModelAdapter {
    fn new(
        name: &str,
        method: Arc<dyn ModelMethod>,
        embeddings: &dyn Fn() -> Tensor<2>,
        device: &Device,
        mut numbers: usize,
    ) -> Result<Self> {
        let specs = method.tensors(embeddings);
        spend(&mut numbers, "the model", &specs)?;
        let tensors = specs
            .into_iter()
            .map(|spec| AdapterTensor::new(spec, device));
        Ok(Self {
            name: name.to_string(),
            tensors: tensors.collect::<Result<_>>()?,
            method,
        })
    }

    pub fn tensors(&self) -> Tensors<'_> {
        Tensors::new(&self.tensors)
    }

    /// The tensor that the file holds instead of these, if it does.
    pub fn output(&self) -> Option<(&'static str, TensorData)> {
        let output = self.method.output(&self.tensors());
        output.map(|(key, tensor)| (key, tensor.into_data().convert::<f32>()))
    }

    pub fn set_requires_grad(&mut self, requires_grad: bool) {
        for tensor in &mut self.tensors {
            let trainable = requires_grad && tensor.spec.trainable;
            tensor.param_mut().set_requires_grad(trainable);
        }
    }

    pub fn visit(&mut self, visit: &mut impl FnMut(Entry<'_>)) {
        for tensor in &mut self.tensors {
            let key = tensor.spec.key.clone();
            visit(Entry::new(&key, tensor.param_mut(), false));
        }
    }
}

impl<M: BaseModel> PeftModel<M> {
    /// As [`add_adapter`](Self::add_adapter), for a method that acts at the model.
    pub(crate) fn add_model_adapter(
        &mut self,
        adapter_name: &str,
        config: &dyn AtModel,
        numbers: usize,
    ) -> Result<()> {
        let paths: Vec<String> = self.layers().into_iter().map(|layer| layer.path).collect();
        let to_save = target::modules_to_save(config.common(), &paths, &[])?;
        let (config, adapter) = self.new_model_adapter(adapter_name, config, numbers)?;
        self.model_adapters.push(adapter);
        self.visit_slots_mut(|path, slot| {
            if to_save.iter().any(|saved| saved == path) {
                slot.add_saved(adapter_name);
            }
        });
        self.peft_config.insert(adapter_name.to_string(), config);
        self.set_requires_grad(adapter_name, false);
        Ok(())
    }

    /// The adapter described by a configuration, not attached yet, and the configuration with
    /// missing values filled in from the model.
    pub(crate) fn new_model_adapter(
        &self,
        adapter_name: &str,
        config: &dyn AtModel,
        numbers: usize,
    ) -> Result<(Arc<dyn Method>, ModelAdapter)> {
        let no_place = || no_place(config.peft_type(), self.base_model.model_type());
        let info = self.base_model.model_info().ok_or_else(no_place)?;
        let (config, method) = config.model_method(&info)?;
        let mut adapter = None;
        self.visit_slots(|path, slot| {
            if path == self.base_model.input_embedding() {
                let (table, device) = (|| slot.weight(), slot.device());
                let method = Arc::clone(&method);
                let made = ModelAdapter::new(adapter_name, method, &table, &device, numbers);
                adapter = Some(made);
            }
        });
        Ok((config, adapter.ok_or_else(no_place)??))
    }

    /// The adapter with this name, if it acts at the model.
    pub(crate) fn model_adapter(&self, adapter_name: &str) -> Option<&ModelAdapter> {
        let mut adapters = self.model_adapters.iter();
        adapters.find(|adapter| adapter.name == adapter_name)
    }

    /// The active adapter at the model.
    fn acting_model_adapter(&self) -> Option<&ModelAdapter> {
        let mut active = self.active.iter().filter(|_| !self.disabled);
        active.find_map(|name| self.model_adapter(name))
    }

    /// What the active adapter prepends to every text; empty for most methods.
    pub fn extra(&self) -> Extra {
        let acting = self.acting_model_adapter();
        acting.map_or_else(Extra::default, |adapter| {
            adapter.method.extra(&adapter.tensors())
        })
    }

    /// How many of the model's positions [`extra`](Self::extra) uses.
    pub fn extra_positions(&self) -> usize {
        let acting = self.acting_model_adapter();
        acting.map_or(0, |adapter| adapter.method.positions())
    }

    /// The model as PEFT prints it if adapters act at the model.
    pub(crate) fn model_adapters_tree(&self) -> Vec<(String, Tree)> {
        if self.model_adapters.is_empty() {
            return Vec::new();
        }
        let adapters = self.model_adapters.iter();
        let encoders = adapters.map(|adapter| (adapter.name.clone(), adapter.method.describe()));
        let mut children = vec![(
            "prompt_encoder".to_string(),
            Tree::node("ModuleDict", encoders),
        )];
        self.visit_slots(|path, slot| {
            if path == self.base_model.input_embedding() {
                children.push(("word_embeddings".to_string(), slot.describe()));
            }
        });
        children
    }
}
