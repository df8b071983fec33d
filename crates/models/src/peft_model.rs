//! A causal language model with adapters is a causal language model.

use burn::tensor::{Device, Tensor};
use burn_peft::{BaseModel, PeftModel};

use crate::{CausalLm, KvCache, LmBatch, ModelInput};

/// The input with what the active adapter puts before the text; `begun` if a cache holds it.
fn with_extra<M: BaseModel>(model: &PeftModel<M>, input: &ModelInput, begun: bool) -> ModelInput {
    let positions = model.extra_positions();
    if positions == 0 {
        return input.clone();
    }
    let mut input = input.clone();
    input.position_ids = input.position_ids.map(|ids| ids + positions as i64);
    if !begun {
        input.extra = model.extra();
    }
    input
}

impl<M: CausalLm + BaseModel> CausalLm for PeftModel<M> {
    fn forward(&self, input: ModelInput) -> Tensor<3> {
        self.get_base_model()
            .forward(with_extra(self, &input, false))
    }

    fn forward_cached(&self, input: ModelInput, cache: &mut KvCache) -> Tensor<2> {
        let input = with_extra(self, &input, !cache.is_empty());
        self.get_base_model().forward_cached(input, cache)
    }

    fn loss(&self, batch: &LmBatch) -> Tensor<1> {
        if self.extra_positions() == 0 {
            return self.get_base_model().loss(batch);
        }
        let input = with_extra(self, &batch.input, false);
        self.get_base_model().loss(&LmBatch {
            input,
            ..batch.clone()
        })
    }

    fn max_positions(&self) -> usize {
        let positions = self.get_base_model().max_positions();
        positions.saturating_sub(self.extra_positions())
    }

    fn vocab_size(&self) -> usize {
        self.get_base_model().vocab_size()
    }

    fn device(&self) -> Device {
        self.get_base_model().device()
    }
}
