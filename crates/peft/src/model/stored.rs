//! Which of the base's embeddings PEFT writes to an adapter's file (`save_embedding_layers`):
//! adapted ones, and all of them if the vocabulary was resized.

use std::path::Path;

use burn::tensor::{Tensor, TensorData};
use indexmap::IndexMap;

use crate::files::tensor_file::oriented;
use crate::files::{PREFIX, SHARED_PREFIX, WEIGHTS_NAME};
use crate::methods::NEW_ROWS;
use crate::methods::lora::MAGNITUDE;
use crate::model::tying::at_slot;
use crate::{BaseModel, LayerKind, PeftError, PeftModel, Result, Slot};

/// What PEFT's wrappers insert between the path of a layer and the name of its own weight.
const WRAPPERS: [&str; 4] = [
    "weight",
    "base_layer.weight",
    "original_module.weight",
    "token_adapter.base_layer.weight",
];

impl<M: BaseModel> PeftModel<M> {
    /// Resizes the vocabulary to the rows in an adapter's file, if it has any.
    ///
    /// # Errors
    /// If the model holds other adapters, or cannot resize its vocabulary.
    pub(crate) fn fit_vocabulary(
        &mut self,
        tensors: &IndexMap<String, TensorData>,
        directory: &Path,
    ) -> Result<()> {
        let input = self.base_model.input_embedding().to_string();
        let output = self.base_model.output_embedding().to_string();
        let Some([rows, _]) = at_slot(&self.base_model, &input, |slot| slot.dims()) else {
            return Ok(());
        };
        let wanted = [&input, &output].into_iter().find_map(|path| {
            let mut keys = WRAPPERS.iter().flat_map(|name| keys_of(path, name));
            let data = keys.find_map(|key| tensors.get(&key))?;
            (data.rank() == 2).then(|| data.shape()[0])
        });
        let wanted = wanted.unwrap_or(rows);
        if wanted == rows {
            return Ok(());
        }
        let refuse = |reason: &str| {
            let reason = format!(
                "the adapter is for a vocabulary of {wanted} rows, the model has {rows}: {reason}"
            );
            Err(PeftError::file(&directory.join(WEIGHTS_NAME), reason))
        };
        if wanted == 0 {
            return refuse("there is no row at all");
        }
        if !self.peft_config.is_empty() {
            return refuse("other adapters are for those; load it into a model of its own");
        }
        if !self.base_model.resize_vocabulary(wanted) {
            return refuse("this model cannot resize it; resize it before the adapter is loaded");
        }
        Ok(())
    }

    /// Sets the base's embeddings to those among `tensors`, removes them from there, and remembers
    /// that the adapter's file has them.
    ///
    /// # Errors
    /// If one has another shape than the model's.
    pub(crate) fn take_stored(
        &mut self,
        adapter_name: &str,
        tensors: &mut IndexMap<String, TensorData>,
        directory: &Path,
    ) -> Result<()> {
        let input = self.base_model.input_embedding().to_string();
        let output = self.base_model.output_embedding().to_string();
        let Some(shape) = at_slot(&self.base_model, &input, |slot| slot.dims()) else {
            return Ok(());
        };
        let mut found = Vec::new();
        for path in [&input, &output]
            .into_iter()
            .filter(|path| !path.is_empty())
        {
            for key in self.repeated(adapter_name, path, &input) {
                tensors.shift_remove(&key);
            }
            for key in WRAPPERS.iter().flat_map(|name| keys_of(path, name)) {
                let Some(data) = tensors.shift_remove(&key) else {
                    continue;
                };
                if data.shape().as_slice() != shape {
                    let found = data.shape().to_vec();
                    let reason = format!(
                        "the adapter does not fit the model: {key} is {found:?}, the model needs \
                         {shape:?}"
                    );
                    return Err(PeftError::file(&directory.join(WEIGHTS_NAME), reason));
                }
                found.push((key, path.clone(), data));
            }
        }
        if found.is_empty() {
            return Ok(());
        }
        let of = |wanted: &str| {
            let mut found = found.iter();
            let entry = found.find(|(_, path, _)| path == wanted);
            entry.map(|(.., data)| data.clone())
        };
        self.set_embeddings(&input, &output, of(&input), of(&output));
        let is_tied = self.tied_layers().is_some();
        self.visit_slots_mut(|path, slot| {
            let stored = &mut slot.state_mut().stored;
            stored.retain(|(name, _)| name != adapter_name);
            // A tied output layer has no slot.
            let of_slot = found.iter().filter(|(_, other, _)| {
                other == path || (is_tied && path == input && *other == output)
            });
            stored.extend(of_slot.map(|(key, ..)| (adapter_name.to_string(), key.clone())));
        });
        Ok(())
    }

    /// The keys under which PEFT writes an embedding a second time although the adapter's file
    /// already has it: the copy of the layer at `path`, and the rows that it shares with `input`.
    fn repeated(&self, adapter_name: &str, path: &str, input: &str) -> Vec<String> {
        let ask = |path: &str, of: &dyn Fn(&dyn Slot) -> bool| {
            at_slot(&self.base_model, path, of).unwrap_or_default()
        };
        let is_saved = ask(path, &|slot| slot.has_saved(adapter_name))
            || ask(input, &|slot| slot.state().is_tied(adapter_name));
        let trains_rows = ask(input, &|slot| {
            let adapter = slot.adapter(adapter_name);
            adapter.is_some_and(|adapter| adapter.tensors().contains(NEW_ROWS))
        });
        let has_magnitudes = ask(path, &|slot| {
            let adapter = slot.adapter(adapter_name);
            adapter.is_some_and(|adapter| adapter.tensors().contains(MAGNITUDE))
        });
        let mut names = Vec::new();
        if has_magnitudes {
            names.push(format!("{MAGNITUDE}.weight"));
        }
        if is_saved {
            names.push("modules_to_save.weight".to_string());
        }
        if trains_rows && path != input {
            names.extend([format!("token_adapter.{NEW_ROWS}"), NEW_ROWS.to_string()]);
        }
        let keys = names.iter().flat_map(|name| keys_of(path, name));
        keys.collect()
    }

    /// Sets the weights `[vocab, d]` of input and output embedding. If the two are tied, a weight
    /// given for one is used for both; two different ones untie them.
    fn set_embeddings(
        &mut self,
        input: &str,
        output: &str,
        of_input: Option<TensorData>,
        of_output: Option<TensorData>,
    ) {
        let is_tied = self.tied_layers().is_some();
        let (of_input, of_output) = match (of_input, of_output) {
            (Some(a), Some(b)) if is_tied && a == b => (Some(a), None),
            (None, Some(b)) if is_tied => (Some(b), None),
            // An adapter on the output layer alone has untied it, and the file has it once.
            (None, Some(b)) if self.are_equal(input, output) => (Some(b.clone()), Some(b)),
            (a, b) => (a, b),
        };
        if is_tied && of_output.is_some() {
            tracing::warn!(
                "the adapter's file has a {output} that is not {input}, though the model ties them: \
                 they are untied"
            );
            self.base_model.untie_output();
        }
        for (wanted, data) in [(input, of_input), (output, of_output)] {
            let Some(data) = data else {
                continue;
            };
            self.visit_slots_mut(|path, slot| {
                if path == wanted {
                    let weight =
                        Tensor::<2>::from_data(data.clone(), &slot.device().without_autodiff());
                    slot.set_weight(if slot.kind().is_transposed("weight") {
                        weight.transpose()
                    } else {
                        weight
                    });
                }
            });
        }
    }

    /// Whether the output layer has its own weight, which equals the input embedding's.
    fn are_equal(&self, input: &str, output: &str) -> bool {
        let weight = |path| at_slot(&self.base_model, path, |slot| (slot.kind(), slot.weight()));
        let (Some((_, input)), Some((LayerKind::Linear, output))) = (weight(input), weight(output))
        else {
            return false;
        };
        let output = output.transpose();
        input.dims() == output.dims() && input.equal(output).all().into_scalar::<bool>()
    }

    /// The base's embeddings in an adapter's file, in the form in which the file has them.
    pub(crate) fn stored_weights(&self, adapter_name: &str) -> Vec<(String, TensorData)> {
        let mut weights = Vec::new();
        self.visit_slots(|_, slot| {
            let stored = slot.state().stored.iter();
            for (_, key) in stored.filter(|(name, _)| name == adapter_name) {
                let data = slot.unmerged_weight().into_data().convert::<f32>();
                let data = oriented(data, slot.kind().is_transposed("weight"));
                weights.push((key.clone(), data));
            }
        });
        weights
    }
}

/// The keys that a tensor of the layer at `path` can have, for methods at layers and at the model.
fn keys_of(path: &str, name: &str) -> [String; 2] {
    [PREFIX, SHARED_PREFIX].map(|prefix| format!("{prefix}{path}.{name}"))
}
