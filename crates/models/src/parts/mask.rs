//! What each position attends to.

use burn::tensor::{Bool, Device, Int, Tensor};
use burn_peft_kernels::{AttentionOptions, FirstKeys, HiddenKeys, Texts, is_specialised};

use crate::ModelInput;
use crate::texts::{first_keys, texts};

/// What each position of a batch attends to.
#[derive(Clone, Debug)]
pub struct AttentionMask {
    /// The keys that are *not* attended to.
    pub(crate) hidden: HiddenKeys,
    /// The texts, instead of a mask, if they describe it completely.
    pub(crate) texts: Option<Texts>,
    /// The first key of each row, instead of a mask, if a single new position attends to all keys
    /// from there on.
    pub(crate) first: Option<FirstKeys>,
    /// The positions of the keys, `[batch, past + seq]`, if they are not `0, 1, 2, …`.
    positions: Option<Tensor<2, Int>>,
}

impl AttentionMask {
    /// The mask of an input after `past` positions, which are `cached`: only the texts, or where
    /// they begin, if that is all that attention needs to know.
    pub fn of(input: &ModelInput, past: usize, cached: bool) -> Self {
        let device = input.input_ids.device();
        let [_, seq] = input.input_ids.dims();
        let seq = seq + input.extra.embedded_positions();
        let from_start = !cached || past == 0;
        if let Some(texts) = from_start.then(|| texts(input)).flatten() {
            return Self {
                texts: Some(texts),
                ..Self::nothing_hidden()
            };
        }
        if let Some(segment_ids) = &input.segment_ids {
            return Self {
                positions: positions(input, past + seq),
                ..Self::packed(segment_ids.clone(), past, seq)
            };
        }
        // What methods put before the rows is in the cache, and not in the given mask.
        let given = input.attention_mask.as_ref().map(|mask| mask.dims()[1]);
        if let Some(first) = &input.first_keys
            && seq == 1
            && given == Some(past + seq)
        {
            return Self {
                first: Some(first.clone()),
                ..Self::nothing_hidden()
            };
        }
        let mask = input.full_attention_mask(past + seq);
        // On other devices, reading the mask costs more than applying it.
        if let Some(mask) = mask
            .as_ref()
            .filter(|_| seq == 1 && is_specialised(&device))
            && let Some(first) = first_keys(mask)
        {
            return Self {
                first: Some(first.into()),
                ..Self::nothing_hidden()
            };
        }
        Self::new(past, seq, mask, &device)
    }

    /// The mask of an input whose tokens see their whole texts, and what precedes every row at
    /// `past` positions.
    pub fn both_ways(input: &ModelInput, past: usize) -> Self {
        match texts(input) {
            Some(texts) => Self {
                texts: Some(texts),
                ..Self::nothing_hidden()
            },
            None => Self::masked_both_ways(input, past),
        }
    }

    /// As [`both_ways`](Self::both_ways), if the texts do not describe it completely.
    pub(crate) fn masked_both_ways(input: &ModelInput, past: usize) -> Self {
        let [_, seq] = input.input_ids.dims();
        let seq = seq + input.extra.embedded_positions();
        let total = past + seq;
        if let Some(segment_ids) = &input.segment_ids {
            let hidden = other_texts(segment_ids.clone(), [seq, total]);
            return Self {
                positions: positions(input, total),
                ..Self::hiding(Some(hidden), false)
            };
        }
        let mask = input.full_attention_mask(total).map(|mask| {
            let [batch, total] = mask.dims();
            let padding = mask.equal_elem(0).reshape([batch, 1, 1, total]);
            padding.expand([batch, 1, seq, total])
        });
        Self::hiding(mask, false)
    }

    /// The keys that the last `seq` of `total` positions do not see within the window of `options`;
    /// and, for attention in both directions, which of these positions would see no key,
    /// `[batch, 1, seq, 1]`.
    ///
    /// A softmax over no keys is NaN, which would reach every gradient, so in the returned mask
    /// such positions see all keys.
    pub(crate) fn seen_within(
        &self,
        options: &AttentionOptions,
        shape: [usize; 2],
        device: &Device,
    ) -> (HiddenKeys, Option<Tensor<4, Bool>>) {
        let hidden = self.hidden_within(options, shape, device);
        let is_windowed = options.window.is_some_and(|window| window < shape[1]);
        let may_be_empty = is_windowed || !options.causal;
        let Some(mask) = hidden.mask.clone().filter(|_| may_be_empty) else {
            return (hidden, None);
        };
        let nothing = mask.clone().all_dim(3);
        let seeing = nothing.clone().bool_not().expand(mask.shape());
        let hidden = HiddenKeys {
            mask: Some(mask.bool_and(seeing)),
            ..hidden
        };
        (hidden, (!options.causal).then_some(nothing))
    }

    fn hidden_within(
        &self,
        options: &AttentionOptions,
        [seq, total]: [usize; 2],
        device: &Device,
    ) -> HiddenKeys {
        let hidden = match &self.first {
            Some(first) => &HiddenKeys::before(first.rows(), total, device),
            None => &self.hidden,
        };
        let Some(window) = options.window.filter(|&window| window < total) else {
            return hidden.clone();
        };
        let Some(positions) = &self.positions else {
            return hidden.within(window, options.causal, [seq, total], device);
        };
        let [batch, _] = positions.dims();
        let shape = [batch, 1, seq, total];
        let of_query = positions.clone().slice_dim(1, total - seq..total);
        let of_query = of_query.reshape([batch, 1, seq, 1]).expand(shape);
        let of_key = positions
            .clone()
            .reshape([batch, 1, 1, total])
            .expand(shape);
        let window = window as i64;
        let hidden = hidden.and((of_key.clone() + window).lower_equal(of_query.clone()));
        if options.causal {
            return hidden;
        }
        hidden.and(of_key.greater_equal(of_query + window))
    }

    fn nothing_hidden() -> Self {
        Self::hiding(None, false)
    }

    fn hiding(mask: Option<Tensor<4, Bool>>, only_later: bool) -> Self {
        Self {
            hidden: HiddenKeys { mask, only_later },
            texts: None,
            first: None,
            positions: None,
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
            return Self::hiding((seq > 1).then(|| later.unsqueeze()), past == 0);
        };
        let [batch, _] = mask.dims();
        let is_padding = mask.clone().equal_elem(0);
        let to_padding = is_padding.reshape([batch, 1, 1, total]);
        let masked = later
            .unsqueeze::<4>()
            .expand([batch, 1, seq, total])
            .bool_or(to_padding.expand([batch, 1, seq, total]));
        // Padding on the left has nothing to attend to. If all its keys were hidden, its result
        // would be NaN, and NaN times zero is NaN in every later layer.
        let no_token_yet = mask.cumsum(1).equal_elem(0);
        let no_token_yet = no_token_yet.slice([0..batch, past..total]);
        let no_token_yet = no_token_yet.reshape([batch, 1, seq, 1]);
        let masked = masked.bool_and(no_token_yet.bool_not().expand([batch, 1, seq, total]));
        Self::hiding(Some(masked), false)
    }

    /// The mask of rows that hold several texts; `segment_ids`, `[batch, tokens]`, is the number of
    /// the text that each token belongs to. A token attends to its own text up to itself, and to
    /// what precedes all texts: `past` positions that have only keys and values and, if `seq` is
    /// more than `tokens`, the first of the `seq` positions.
    pub fn packed(segment_ids: Tensor<2, Int>, past: usize, seq: usize) -> Self {
        let device = segment_ids.device();
        let later = Tensor::<2, Bool>::tril_mask([seq, past + seq], past as i64, &device);
        let hidden = other_texts(segment_ids, [seq, past + seq]);
        let later = later.unsqueeze::<4>().expand(hidden.shape());
        Self::hiding(Some(later.bool_or(hidden)), false)
    }
}

/// The keys of texts other than a query's own, `[batch, 1, seq, total]`, from the number of the
/// text that each token belongs to, `[batch, tokens]`. Every query sees what precedes all texts.
fn other_texts(segment_ids: Tensor<2, Int>, [seq, total]: [usize; 2]) -> Tensor<4, Bool> {
    let [batch, tokens] = segment_ids.dims();
    let device = segment_ids.device();
    let shape = [batch, 1, seq, total];
    let extra = |count| Tensor::<2, Int>::full([batch, count], BEFORE_ALL_TEXTS, &device);
    let of_key = match total - tokens {
        0 => segment_ids,
        count => Tensor::cat(vec![extra(count), segment_ids], 1),
    };
    let of_query = of_key.clone().slice([0..batch, total - seq..total]);
    let of_query = of_query.reshape([batch, 1, seq, 1]);
    let of_key = of_key.reshape([batch, 1, 1, total]);
    let before = of_key.clone().equal_elem(BEFORE_ALL_TEXTS).expand(shape);
    let other_text = of_query.expand(shape).not_equal(of_key.expand(shape));
    other_text.bool_and(before.bool_not())
}

/// The positions of a packed row's keys: every text continues after what precedes all texts.
fn positions(input: &ModelInput, total: usize) -> Option<Tensor<2, Int>> {
    let of_texts = input.position_ids.clone()?;
    let [batch, tokens] = of_texts.dims();
    let before = (total - tokens) as i64;
    let before = Tensor::<1, Int>::arange(0..before, &of_texts.device());
    let before = before.unsqueeze::<2>().expand([batch, total - tokens]);
    (total > tokens).then(|| Tensor::cat(vec![before, of_texts], 1))
}

/// The text number of what precedes all texts.
const BEFORE_ALL_TEXTS: i64 = -1;
