//! Every tensor that is saved with an adapter, with its keys in PEFT's file.

use crate::config::Bias;
use crate::files::{Entry, PREFIX, SHARED_PREFIX};
use crate::{BaseModel, PeftModel};

impl<M: BaseModel> PeftModel<M> {
    /// Calls `visit` with every tensor that is saved with an adapter.
    pub(crate) fn visit_adapter(&mut self, adapter_name: &str, mut visit: impl FnMut(Entry<'_>)) {
        let bias = self.config(adapter_name).ok().map(|config| config.bias());
        for adapter in &mut self.model_adapters {
            if adapter.name == adapter_name {
                adapter.visit(&mut visit);
            }
        }
        let tied = self.tied_layers().map(|(_, output)| output);
        let mut shared = Vec::new();
        self.visit_slots_mut(|path, slot| {
            let kind = slot.kind();
            let adapter = slot.adapter_mut(adapter_name);
            let adapted = adapter.is_some();
            for tensor in adapter.into_iter().flat_map(|adapter| &mut adapter.tensors) {
                let spec = tensor.spec.clone();
                if !spec.saved {
                    continue;
                }
                let mut entry = |key: &str, transposed, repeated| {
                    visit(Entry {
                        key,
                        param: tensor.param_mut(),
                        transposed,
                        repeated,
                        of_base: false,
                        tensor: Some((path, &spec.name)),
                        limits: &spec.limits,
                    });
                };
                if spec.shared && !shared.contains(&spec.name) {
                    shared.push(spec.name.clone());
                    entry(&format!("{SHARED_PREFIX}{}", spec.key), false, false);
                }
                if !spec.shared || spec.in_layers {
                    entry(&format!("{PREFIX}{path}.{}", spec.key), false, spec.shared);
                }
                if let (Some(output), Some((key, transposed))) = (&tied, &spec.tied) {
                    entry(&format!("{PREFIX}{output}.{key}"), *transposed, true);
                }
            }
            let is_tied = slot.state().is_tied(adapter_name);
            slot.visit_saved_mut(adapter_name, &mut |name, param| {
                let key = format!("{PREFIX}{path}.{name}");
                visit(Entry::new(&key, param, kind.is_transposed(name)));
                if name == "bias" && bias == Some(Bias::All) {
                    // PEFT saves every key that ends with `bias`.
                    let key = format!("{PREFIX}{path}.modules_to_save.bias");
                    visit(Entry::repeated(&key, param));
                }
                if let Some(output) = tied.as_ref().filter(|_| is_tied) {
                    let key = format!("{PREFIX}{output}.{name}");
                    visit(Entry::repeated(&key, param));
                }
            });
            if bias == Some(Bias::All) || (bias == Some(Bias::LoraOnly) && adapted) {
                let is_saved = slot.has_saved(adapter_name);
                let base = if adapted {
                    ".base_layer"
                } else if is_saved {
                    ".original_module"
                } else {
                    ""
                };
                slot.visit_base_mut(&mut |name, param| {
                    if name == "bias" {
                        let key = format!("{PREFIX}{path}{base}.bias");
                        visit(Entry {
                            // The copy's bias is the trained one.
                            repeated: is_saved,
                            of_base: !is_saved,
                            ..Entry::new(&key, param, false)
                        });
                    }
                });
            }
        });
    }
}
