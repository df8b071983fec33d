//! One batch whose rows go through different adapters (PEFT's `adapter_names`).

use std::sync::Arc;

use burn::tensor::{Int, Tensor};

use crate::{BaseLayer, BaseModel, LayerInput, LoraAdapter, PeftError, PeftModel, Result, Slot};

/// The name, among those of adapters, of a row without any.
pub const BASE_ROW: &str = "__base__";

impl<M: BaseModel> PeftModel<M> {
    /// The model for a batch whose rows go through the adapters of these names, [`BASE_ROW`] for
    /// none, in one forward pass. It shares the weights with this one.
    ///
    /// Every layer has to be called with the positions of all rows, row after row: `burn-peft`'s
    /// models see to it in `forward_rows`.
    ///
    /// # Errors
    /// If a name is none of the model's, acts at the model, or if adapters are merged or hold a part
    /// of the weights.
    pub fn for_rows(&self, adapter_names: &[&str]) -> Result<Self> {
        for name in adapter_names.iter().filter(|name| **name != BASE_ROW) {
            let config = self.config(name)?;
            if self.model_adapter(name).is_some() {
                return Err(PeftError::Adapter(format!(
                    "the adapter `{name}` cannot be used for single rows: {} acts at the model, \
                     and its positions would be every row's",
                    config.peft_type()
                )));
            }
        }
        if self.is_merged() {
            return Err(PeftError::Adapter(
                "adapters are merged into the weights, which all rows share: unmerge_adapter first"
                    .into(),
            ));
        }
        let mut taken = false;
        self.visit_slots(|_, slot| taken |= !slot.state().originals.is_empty());
        if taken {
            return Err(PeftError::Adapter(
                "an adapter holds a part of the weights (its initialisation took it), which rows \
                 without it would lack: convert_to_lora makes one that does not"
                    .into(),
            ));
        }
        let names: Arc<[String]> = adapter_names.iter().map(ToString::to_string).collect();
        let mut model = self.clone();
        model
            .active
            .retain(|name| self.model_adapter(name).is_none());
        model.visit_slots_mut(|_, slot| slot.state_mut().rows = Some(Arc::clone(&names)));
        Ok(model)
    }
}

impl<M: BaseLayer> LoraAdapter<M> {
    /// The output where every row goes through an adapter of its own: `of(name, part)` gives it
    /// for the rows of one adapter.
    ///
    /// # Panics
    /// If the positions are no multiple of the rows.
    pub(crate) fn by_rows<I: LayerInput>(
        &self,
        rows: &[String],
        input: I,
        of: impl Fn(&str, I) -> Tensor<2>,
    ) -> Tensor<2> {
        let tokens = input.tokens();
        assert!(
            tokens.is_multiple_of(rows.len()),
            "{tokens} positions are no {} rows of the same length",
            rows.len()
        );
        let seq = tokens / rows.len();
        let slot: &dyn Slot = self;
        let acts = |name: &str| slot.adapter(name).is_some() || slot.has_saved(name);
        // First the rows without.
        let mut names = vec![BASE_ROW];
        for name in rows.iter().filter(|name| acts(name)) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        let group = |name: &str| names.iter().position(|other| *other == name).unwrap_or(0);
        let (mut outputs, mut order) = (Vec::new(), Vec::new());
        for (index, name) in names.iter().enumerate() {
            let mut positions: Vec<i64> = Vec::new();
            for (row, _) in rows.iter().enumerate().filter(|(_, n)| group(n) == index) {
                positions.extend((row * seq) as i64..((row + 1) * seq) as i64);
            }
            if positions.is_empty() {
                continue;
            }
            let part = input.select_positions(&positions);
            outputs.push(of(name, part));
            order.extend(positions);
        }
        // Back from the order of adapters to that of rows.
        let mut places = vec![0_i64; tokens];
        for (place, position) in order.into_iter().enumerate() {
            places[position as usize] = place as i64;
        }
        let output = Tensor::cat(outputs, 0);
        let places = Tensor::<1, Int>::from_data(places.as_slice(), &output.device());
        output.select(0, places)
    }
}
