//! Every parameter by name: counts, trainable state, PEFT's line about them.

use std::collections::HashSet;

use burn::module::{ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;

use crate::{AnyParam, BaseModel, LayerKind, Path, PeftModel};

/// One parameter of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedParameter {
    /// The name, as PyTorch's `named_parameters()` gives it.
    pub name: String,
    /// The shape in memory.
    pub shape: Vec<usize>,
    /// Whether training changes it.
    pub requires_grad: bool,
    /// Burn's identity.
    pub id: ParamId,
    /// Whether it belongs to an embedding, or to the layer from hidden states to tokens.
    pub is_embedding: bool,
}

impl NamedParameter {
    /// The number of values.
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }

    fn new(name: String, param: &dyn AnyParam, is_embedding: bool) -> Self {
        Self {
            name,
            shape: param.dims(),
            requires_grad: param.requires_grad(),
            id: param.id(),
            is_embedding,
        }
    }
}

/// Every parameter of a model with slots: those of the slots in order, then all others.
pub fn named_parameters<M: BaseModel>(model: &M) -> Vec<NamedParameter> {
    let mut parameters: Vec<NamedParameter> = Vec::new();
    let mut known = HashSet::new();
    let output = model.output_embedding();
    model.visit_slots(&mut Path::default(), &mut |path, slot| {
        let is_embedding = slot.kind() == LayerKind::Embedding || path == output;
        let wrapper = if !slot.adapters().is_empty() {
            ".base_layer"
        } else if !slot.state().saved.is_empty() {
            ".original_module"
        } else {
            ""
        };
        slot.visit_base(&mut |name, param| {
            let name = format!("{path}{wrapper}.{name}");
            parameters.push(NamedParameter::new(name, param, is_embedding));
        });
        for adapter in slot.adapters() {
            for tensor in adapter.tensors().iter() {
                // Buffers are not listed, and a tensor shared by several layers is listed once.
                let is_new = known.insert(tensor.param().id());
                if !is_new || !tensor.spec().parameter {
                    continue;
                }
                let key = in_memory_key(&tensor.spec().key, adapter.name());
                let name = format!("{path}.{key}");
                parameters.push(NamedParameter::new(name, tensor.param(), is_embedding));
            }
        }
        for adapter in &slot.state().saved {
            slot.visit_saved(adapter, &mut |name, param| {
                let name = format!("{path}.modules_to_save.{adapter}.{name}");
                parameters.push(NamedParameter::new(name, param, is_embedding));
            });
        }
    });
    let mut outside = Outside {
        path: Vec::new(),
        found: Vec::new(),
    };
    model.visit(&mut outside);
    known.extend(parameters.iter().map(|known| known.id));
    let others = outside.found.into_iter();
    parameters.extend(others.filter(|other| !known.contains(&other.id)));
    parameters
}

/// `lora_A.weight` of the adapter `default` is called `lora_A.default.weight` in memory; a tensor
/// that is not a module's weight or bias has the adapter's name at its end.
fn in_memory_key(key: &str, adapter: &str) -> String {
    match key.rsplit_once('.') {
        Some((module, last @ ("weight" | "bias"))) => format!("{module}.{adapter}.{last}"),
        _ => format!("{key}.{adapter}"),
    }
}

/// Collects all float parameters with the names of the fields that lead to them.
struct Outside {
    path: Vec<String>,
    found: Vec<NamedParameter>,
}

impl ModuleVisitor for Outside {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let name = self.path.join(".");
        // For a parameter outside of slots, only the name says what it is.
        let is_embedding = name.contains("embed");
        self.found
            .push(NamedParameter::new(name, param, is_embedding));
    }
}

impl<M: BaseModel> PeftModel<M> {
    /// Every parameter, named as in PEFT:
    /// `base_model.model.transformer.h.0.attn.c_attn.lora_A.default.weight`.
    ///
    /// What acts at the model is called `prompt_encoder.default.embedding.weight`; if nothing acts
    /// at layers, the model itself is `base_model`.
    pub fn named_parameters(&self) -> Vec<NamedParameter> {
        let mut parameters = named_parameters(&self.base_model);
        let prefix = if self.acts_at_layers() {
            "base_model.model."
        } else {
            "base_model."
        };
        for parameter in &mut parameters {
            parameter.name.insert_str(0, prefix);
        }
        for adapter in &self.model_adapters {
            parameters.extend(adapter.tensors().iter().map(|tensor| {
                let name = format!("prompt_encoder.{}.{}", adapter.name, tensor.spec().name);
                let is_embedding = tensor.spec().name.contains("embed");
                NamedParameter::new(name, tensor.param(), is_embedding)
            }));
        }
        parameters
    }

    /// The number of trainable parameters and of all parameters.
    pub fn get_nb_trainable_parameters(&self) -> (usize, usize) {
        count(&self.named_parameters())
    }

    /// PEFT's summary:
    /// `trainable params: 294,912 || all params: 124,734,720 || trainable%: 0.2364`.
    pub fn trainable_parameters(&self) -> String {
        let (trainable, all) = self.get_nb_trainable_parameters();
        trainable_parameters_line(trainable, all)
    }

    /// Prints [`trainable_parameters`](Self::trainable_parameters) on standard output.
    pub fn print_trainable_parameters(&self) {
        println!("{}", self.trainable_parameters());
    }
}

/// The number of trainable parameters and of all parameters.
pub fn count(parameters: &[NamedParameter]) -> (usize, usize) {
    let trainable = parameters
        .iter()
        .filter(|parameter| parameter.requires_grad);
    (
        trainable.map(NamedParameter::numel).sum(),
        parameters.iter().map(NamedParameter::numel).sum(),
    )
}

/// PEFT's summary of these counts (`print_trainable_parameters` of peft/peft_model.py).
pub fn trainable_parameters_line(trainable: usize, all: usize) -> String {
    let percent = 100.0 * trainable as f64 / all.max(1) as f64;
    format!(
        "trainable params: {} || all params: {} || trainable%: {percent:.4}",
        thousands(trainable),
        thousands(all)
    )
}

/// A number with a comma between groups of three digits.
pub fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
