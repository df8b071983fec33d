//! What each position attends to.

use burn::tensor::{Bool, Device, Int, Tensor};
use burn_peft_kernels::Texts;

use crate::ModelInput;
use crate::texts::texts;

/// What a row of the batch attends to.
#[derive(Clone, Debug)]
pub struct AttentionMask {
    /// The positions *not* attended to, `[batch, 1, seq, past + seq]`; none where a single new
    /// position attends to everything.
    pub(crate) masked: Option<Tensor<4, Bool>>,
    /// Whether the mask says no more than "not to later positions".
    pub(crate) only_causal: bool,
    /// The texts, in place of the mask, where they say it all.
    pub(crate) texts: Option<Texts>,
}

impl AttentionMask {
    /// The mask of an input after `past` positions, which are `cached`: the texts themselves
    /// where that is all the attention needs to know.
    pub fn of(input: &ModelInput, past: usize, cached: bool) -> Self {
        let device = input.input_ids.device();
        let [_, seq] = input.input_ids.dims();
        let seq = seq + input.extra.embedded_positions();
        if let Some(texts) = (!cached).then(|| texts(input)).flatten() {
            return Self {
                masked: None,
                only_causal: false,
                texts: Some(texts),
            };
        }
        match &input.segment_ids {
            Some(segment_ids) => Self::packed(segment_ids.clone(), past, seq),
            None => {
                let mask = input.full_attention_mask(past + seq);
                Self::new(past, seq, mask, &device)
            }
        }
    }

    /// The mask for `seq` new positions after `past` ones. `attention_mask`, `[batch, past + seq]`,
    /// is 0 at padding.
    pub fn new(
        past: usize,
        seq: usize,
        attention_mask: Option<Tensor<2, Int>>,
        device: &Device,
    ) -> Self {
        let total = past + seq;
        // `tril_mask` is false on and below the diagonal.
        let later = Tensor::<2, Bool>::tril_mask([seq, total], past as i64, device);
        let Some(mask) = attention_mask else {
            return Self {
                masked: (seq > 1).then(|| later.unsqueeze()),
                only_causal: past == 0,
                texts: None,
            };
        };
        let [batch, _] = mask.dims();
        let is_padding = mask.clone().equal_elem(0);
        let to_padding = is_padding.reshape([batch, 1, 1, total]);
        let masked = later
            .unsqueeze::<4>()
            .expand([batch, 1, seq, total])
            .bool_or(to_padding.expand([batch, 1, seq, total]));
        // Padding on the left has nothing to attend to; without a place for its weight it would
        // be NaN, and NaN times zero is NaN in every later layer.
        let no_token_yet = mask.cumsum(1).equal_elem(0);
        let no_token_yet = no_token_yet.slice([0..batch, past..total]);
        let no_token_yet = no_token_yet.reshape([batch, 1, seq, 1]);
        let masked = masked.bool_and(no_token_yet.bool_not().expand([batch, 1, seq, total]));
        Self {
            masked: Some(masked),
            only_causal: false,
            texts: None,
        }
    }

    /// The mask of rows that hold several texts, `[batch, tokens]` being the number of the text
    /// that each token belongs to: it attends to the positions of its own text up to itself, and
    /// to what stands before all texts. Of the latter there are `past` positions with keys alone
    /// and, where `seq` is more than `tokens`, the first of the `seq` positions.
    pub fn packed(segment_ids: Tensor<2, Int>, past: usize, seq: usize) -> Self {
        let [batch, tokens] = segment_ids.dims();
        let device = segment_ids.device();
        let later = Tensor::<2, Bool>::tril_mask([seq, past + seq], past as i64, &device);
        let total = past + seq;
        let shape = [batch, 1, seq, total];
        let extra = |count| Tensor::<2, Int>::full([batch, count], BEFORE_ALL_TEXTS, &device);
        let of_key = match total - tokens {
            0 => segment_ids,
            count => Tensor::cat(vec![extra(count), segment_ids], 1),
        };
        let of_query = of_key.clone().slice([0..batch, past..total]);
        let of_query = of_query.reshape([batch, 1, seq, 1]);
        let of_key = of_key.reshape([batch, 1, 1, total]);
        let before = of_key.clone().equal_elem(BEFORE_ALL_TEXTS).expand(shape);
        let other_text = of_query.expand(shape).not_equal(of_key.expand(shape));
        let other_text = other_text.bool_and(before.bool_not());
        let later = later.unsqueeze::<4>().expand(shape);
        Self {
            masked: Some(later.bool_or(other_text)),
            only_causal: false,
            texts: None,
        }
    }
}

/// The number, in place of a text's, of what stands before all of them.
const BEFORE_ALL_TEXTS: i64 = -1;
