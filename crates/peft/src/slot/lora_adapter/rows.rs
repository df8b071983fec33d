//! A layer whose rows use different adapters.

use super::LoraAdapter;
use crate::{BaseLayer, LayerInput, LayerOutput, Slot};

/// The name for a row without an adapter in a list of names.
pub const BASE_ROW: &str = "__base__";

impl<M: BaseLayer> LoraAdapter<M> {
    /// The output if every row has its own adapter: `of(name, part)` computes the output for the
    /// rows of one adapter.
    ///
    /// # Panics
    /// If the number of positions is not a multiple of the number of rows.
    pub(crate) fn by_rows<I: LayerInput>(
        &self,
        rows: &[String],
        input: I,
        of: impl Fn(&str, I) -> I::Output,
    ) -> I::Output {
        let tokens = input.tokens();
        assert!(
            tokens.is_multiple_of(rows.len()),
            "{tokens} positions are not {} rows of the same length",
            rows.len()
        );
        let seq = tokens / rows.len();
        let slot: &dyn Slot = self;
        let acts = |name: &str| slot.adapter(name).is_some() || slot.has_saved(name);
        // The rows without an adapter come first.
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
        // From the order of the adapters back to the order of the rows.
        let mut places = vec![0_i64; tokens];
        for (place, position) in order.into_iter().enumerate() {
            places[position as usize] = place as i64;
        }
        LayerOutput::arranged(outputs, &places)
    }
}
