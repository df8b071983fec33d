//! [`CausalLm`] for a causal language model with adapters.

use std::borrow::Cow;

use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Int, Tensor};
use burn_peft::{BaseModel, Extra, PeftModel};

use crate::{
    CausalLm, Checkpointed, Head, InputError, KvCache, LmBatch, ModelInput, Result, TokenLogProbs,
};

/// The logits of a batch, `[batch, seq, vocab]`, whose rows use different adapters in one forward
/// pass (PEFT's `adapter_names`): one name for each row, [`BASE_ROW`](burn_peft::BASE_ROW) for
/// none.
///
/// # Errors
/// If the number of names differs from the number of rows, or as [`PeftModel::for_rows`].
pub fn forward_rows<M: CausalLm + BaseModel>(
    model: &PeftModel<M>,
    mut input: ModelInput,
    adapter_names: &[&str],
) -> Result<Tensor<3>> {
    let [batch, seq] = input.input_ids.dims();
    if adapter_names.len() != batch {
        let given = adapter_names.len();
        return Err(InputError::AdapterNames { given, rows: batch }.into());
    }
    let model = model.for_rows(adapter_names)?;
    if input.position_ids.is_none() {
        // Given for every row, since the position embedding may be adapted too.
        let ids = Tensor::<1, Int>::arange(0..seq as i64, &input.input_ids.device());
        input.position_ids = Some(ids.unsqueeze::<2>().expand([batch, seq]));
        input.length = Some(seq);
    }
    Ok(model.get_base_model().forward(input))
}

/// The input, with what the active adapter prepends to the text; `begun` if it is already in the
/// cache.
fn with_extra<M: BaseModel>(model: &PeftModel<M>, input: &ModelInput, begun: bool) -> ModelInput {
    let positions = model.extra_positions();
    if positions == 0 {
        return input.clone();
    }
    let mut input = input.clone();
    input.position_ids = input.position_ids.map(|ids| ids + positions as i64);
    input.length = input.length.map(|length| length + positions);
    if !begun {
        input.extra = model.extra();
    }
    input
}

/// The batch, with what the active adapter prepends to its texts; as a matrix if there is anything.
fn batch_with_extra<'a, M: BaseModel>(
    model: &PeftModel<M>,
    batch: &'a LmBatch,
) -> Cow<'a, LmBatch> {
    if model.extra_positions() == 0 {
        return Cow::Borrowed(batch);
    }
    let mut batch = batch.as_matrix().clone();
    batch.input = with_extra(model, &batch.input, false);
    Cow::Owned(batch)
}

/// Converts indices into a batch's flattened rows to those of [`batch_with_extra`].
fn places_with_extra<M: BaseModel>(
    model: &PeftModel<M>,
    batch: &LmBatch,
    places: &[usize],
) -> Vec<usize> {
    match model.extra_positions() {
        0 => places.to_vec(),
        _ => batch.places_in_matrix(places),
    }
}

/// The sum of all tensors times their gradients, `[1]`.
fn product(extra: Extra, gradients: Extra) -> Option<Tensor<1>> {
    fn sum<const D: usize>((tensor, gradient): (Tensor<D>, Tensor<D>)) -> Tensor<1> {
        (tensor * gradient.autodiff()).sum()
    }
    let layers = extra.keys_and_values.into_iter();
    let layers = layers.zip(gradients.keys_and_values);
    let layers = layers.map(|((key, value), of)| sum((key, of.0)) + sum((value, of.1)));
    let embeddings = extra.embeddings.zip(gradients.embeddings).map(sum);
    layers.chain(embeddings).reduce(|a, b| a + b)
}

/// The wrapped model's result for a batch, with the gradients of what is prepended to the texts.
fn through<M: CausalLm + BaseModel>(
    model: &PeftModel<M>,
    batch: &LmBatch,
    backward: impl Fn(&M, &LmBatch) -> Option<Checkpointed>,
) -> Option<Checkpointed> {
    if model.extra_positions() == 0 {
        return backward(model.get_base_model(), batch);
    }
    let batch = batch_with_extra(model, batch);
    let extra = batch.input.extra.clone();
    let base = backward(model.get_base_model(), &batch)?;
    // From what is prepended to the texts to the tensors that it was made from.
    let Some(product) = product(extra, base.extra).filter(Tensor::is_tracked) else {
        return Some(Checkpointed {
            extra: Extra::default(),
            ..base
        });
    };
    let mut gradients = GradientsAccumulator::new();
    gradients.accumulate(model, base.gradients);
    let of_makers = GradientsParams::from_grads(product.backward(), model);
    gradients.accumulate(model, of_makers);
    Some(Checkpointed {
        loss: base.loss,
        gradients: gradients.grads(),
        extra: Extra::default(),
    })
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

    fn logits_at(&self, batch: &LmBatch, places: &[usize]) -> Tensor<2> {
        let places = places_with_extra(self, batch, places);
        let batch = batch_with_extra(self, batch);
        self.get_base_model().logits_at(&batch, &places)
    }

    fn head(&self) -> Head {
        self.get_base_model().head()
    }

    fn is_causal(&self) -> bool {
        self.get_base_model().is_causal()
    }

    fn loss(&self, batch: &LmBatch) -> Tensor<1> {
        self.get_base_model().loss(&batch_with_extra(self, batch))
    }

    fn token_log_probs(&self, batch: &LmBatch, statistics: bool) -> TokenLogProbs {
        let batch = batch_with_extra(self, batch);
        self.get_base_model().token_log_probs(&batch, statistics)
    }

    fn checkpointed_backward(&self, batch: &LmBatch, weight: f64) -> Option<Checkpointed> {
        through(self, batch, |base, batch| {
            base.checkpointed_backward(batch, weight)
        })
    }

    fn checkpointed_logits_at(
        &self,
        batch: &LmBatch,
        places: &[usize],
        loss: &dyn Fn(Tensor<2>) -> Tensor<1>,
    ) -> Option<Checkpointed> {
        let places = places_with_extra(self, batch, places);
        through(self, batch, |base, batch| {
            base.checkpointed_logits_at(batch, &places, loss)
        })
    }

    fn checkpointed_log_probs(
        &self,
        batch: &LmBatch,
        statistics: bool,
        loss: &dyn Fn(TokenLogProbs) -> Tensor<1>,
    ) -> Option<Checkpointed> {
        through(self, batch, |base, batch| {
            base.checkpointed_log_probs(batch, statistics, loss)
        })
    }

    fn adapter_positions(&self) -> usize {
        self.extra_positions()
    }

    fn outgrows_cache(&self, past: usize, total: usize) -> bool {
        let total = total + self.extra_positions();
        self.get_base_model().outgrows_cache(past, total)
    }

    fn computes_alike(&self, a: usize, b: usize) -> bool {
        let extra = self.extra_positions();
        self.get_base_model().computes_alike(a + extra, b + extra)
    }

    fn has_last_position(&self) -> bool {
        self.get_base_model().has_last_position()
    }

    fn max_positions(&self) -> usize {
        let positions = self.get_base_model().max_positions();
        positions.saturating_sub(self.extra_positions())
    }

    fn positions_key(&self) -> &'static str {
        self.get_base_model().positions_key()
    }

    fn vocab_size(&self) -> usize {
        self.get_base_model().vocab_size()
    }

    fn config_json(&self) -> Option<String> {
        self.get_base_model().config_json()
    }

    fn device(&self) -> Device {
        self.get_base_model().device()
    }
}
