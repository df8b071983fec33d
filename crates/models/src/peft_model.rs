//! A causal language model with adapters is a causal language model.

use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use burn_peft::{BaseModel, PeftModel};

use crate::{CausalLm, KvCache, LmBatch, ModelInput};

impl<M: CausalLm + BaseModel> CausalLm for PeftModel<M> {
    fn forward(&self, input: ModelInput) -> Tensor<3> {
        self.get_base_model().forward(input)
    }

    fn forward_cached(&self, input: ModelInput, cache: &mut KvCache) -> Tensor<2> {
        self.get_base_model().forward_cached(input, cache)
    }

    fn loss(&self, batch: &LmBatch) -> Tensor<1> {
        self.get_base_model().loss(batch)
    }

    fn checkpointed_backward(
        &self,
        batch: &LmBatch,
        weight: f64,
    ) -> Option<(Tensor<1>, GradientsParams)> {
        self.get_base_model().checkpointed_backward(batch, weight)
    }

    fn max_positions(&self) -> usize {
        self.get_base_model().max_positions()
    }

    fn vocab_size(&self) -> usize {
        self.get_base_model().vocab_size()
    }

    fn device(&self) -> Device {
        self.get_base_model().device()
    }
}
