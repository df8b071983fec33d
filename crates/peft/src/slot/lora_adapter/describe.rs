//! The decorated layer as PEFT prints it.

use super::LoraAdapter;
use crate::method::AS_THE_LAYER;
use crate::{BaseLayer, Slot, Tree};

impl<M: BaseLayer> LoraAdapter<M> {
    /// The slot as PEFT prints it, with `base` for what it holds.
    pub fn describe_around(&self, base: Tree) -> Tree {
        let mut children = vec![("base_layer".to_string(), base.clone())];
        for adapter in &self.adapters {
            for (part, module) in adapter.method.parts() {
                let kind = if module.starts_with("Parameter ") {
                    "ParameterDict"
                } else if module.starts_with("Buffer ") {
                    "BufferDict"
                } else {
                    "ModuleDict"
                };
                let module = match module.as_str() {
                    AS_THE_LAYER => base.clone(),
                    _ => Tree::Leaf(module),
                };
                let entry = (adapter.name.clone(), module);
                match children.iter_mut().find(|(name, _)| *name == part) {
                    Some((_, Tree::Node { children, .. })) => children.push(entry),
                    _ => children.push((part, Tree::node(kind, [entry]))),
                }
            }
        }
        let copies = self.state.saved.iter();
        let copies: Vec<_> = copies.map(|name| (name.clone(), base.clone())).collect();
        match (self.adapters.first(), copies.is_empty()) {
            (None, true) => base,
            (None, false) => Tree::node(
                "ModulesToSaveWrapper",
                [
                    ("original_module", base),
                    ("modules_to_save", Tree::node("ModuleDict", copies)),
                ],
            ),
            (Some(adapter), _) => Tree::node(adapter.method.layer_name(self.kind()), children),
        }
    }
}
