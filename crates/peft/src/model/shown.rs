//! Printing a model with adapters, as PEFT does and as Burn does.

use burn::module::{Content, Module, ModuleDisplay};

use crate::config::TaskType;
use crate::{BaseModel, PeftModel, Tree};

/// The model, and a line for the adapters in place of their configurations.
impl<M: Module + ModuleDisplay> ModuleDisplay for PeftModel<M> {
    fn custom_content(&self, content: Content) -> Option<Content> {
        let adapters = self.peft_config.iter().map(|(name, config)| {
            let state = if self.active.contains(name) {
                "active"
            } else {
                "not active"
            };
            format!("{name} ({}, {state})", config.peft_type())
        });
        let adapters: Vec<String> = adapters.collect();
        content
            .set_top_level_type("PeftModel")
            .add("base_model", &self.base_model)
            .add("adapters", &adapters.join(", "))
            .optional()
    }
}

impl<M: BaseModel> PeftModel<M> {
    /// The model as PEFT prints it.
    pub fn tree(&self) -> Tree {
        let config = self
            .active
            .first()
            .and_then(|name| self.peft_config.get(name));
        let (class, task) = config.map_or(("", None), |config| {
            (config.class_name(), config.common().task_type)
        });
        let outer = match task {
            Some(TaskType::CausalLm) => "PeftModelForCausalLM",
            Some(TaskType::SeqCls) => "PeftModelForSequenceClassification",
            Some(TaskType::TokenCls) => "PeftModelForTokenClassification",
            Some(TaskType::FeatureExtraction) => "PeftModelForFeatureExtraction",
            _ => "PeftModel",
        };
        let base_model = if self.acts_at_layers() {
            Tree::node(format!("{class}Model"), [("model", self.base_model.tree())])
        } else {
            self.base_model.tree()
        };
        let mut children = vec![("base_model".to_string(), base_model)];
        children.extend(self.model_adapters_tree());
        Tree::node(outer, children)
    }
}
