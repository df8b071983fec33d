//! GPT-2's causal self-attention.

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Device, Int, Tensor, activation::softmax, module::attention};
use burn_peft::{Adaptable, Conv1D, LoraAdapter, Part};
use burn_peft_kernels::{AttentionShape, Texts, apply_dropout, attend_cached, dropout_probability};

use super::block::project_onto;
use crate::gpt2::config::Gpt2Config;
use crate::texts::texts;
use crate::{KvCache, ModelInput};

/// Causal self-attention with one product for query, key and value (transformers'
/// `GPT2Attention`).
#[derive(Module, Adaptable, Debug)]
pub struct GPT2Attention {
    /// What acts around all of it.
    #[adaptable(around)]
    pub around: LoraAdapter<Part>,
    /// From `d` to query, key and value, `3 d`.
    pub c_attn: LoraAdapter<Conv1D>,
    /// The output projection.
    pub c_proj: LoraAdapter<Conv1D>,
    /// Dropout of the attention weights.
    pub attn_dropout: Dropout,
    /// Dropout of the output.
    pub resid_dropout: Dropout,
    n_head: usize,
    scale: f64,
}

/// What a row of the batch attends to.
#[derive(Clone, Debug)]
pub struct AttentionMask {
    /// The positions *not* attended to, `[batch, 1, seq, past + seq]`; none where a single new
    /// position attends to everything.
    masked: Option<Tensor<4, Bool>>,
    /// Whether the mask says no more than "not to later positions".
    only_causal: bool,
    /// The texts, in place of the mask, where they say it all.
    texts: Option<Texts>,
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

impl GPT2Attention {
    /// The attention of layer number `layer`, with random weights.
    pub fn new(config: &Gpt2Config, layer: usize, device: &Device) -> Self {
        let d = config.n_embd;
        let mut scale = 1.0;
        if config.scale_attn_weights {
            scale /= ((d / config.n_head) as f64).sqrt();
        }
        if config.scale_attn_by_inverse_layer_idx {
            scale /= (layer + 1) as f64;
        }
        Self {
            around: LoraAdapter::new(Part::new(d, device)),
            c_attn: LoraAdapter::new(Conv1D::new(d, 3 * d, device)),
            c_proj: LoraAdapter::new(Conv1D::new(d, d, device)),
            attn_dropout: DropoutConfig::new(config.attn_pdrop).init(),
            resid_dropout: DropoutConfig::new(config.resid_pdrop).init(),
            n_head: config.n_head,
            scale,
        }
    }

    /// Maps `input` to the same shape, `[batch * seq, d]`, and adds it to `residual`.
    pub fn forward(
        &self,
        input: Tensor<2>,
        residual: Tensor<2>,
        batch: usize,
        mask: &AttentionMask,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor<2> {
        self.around
            .forward_around(input, residual, |input, residual| {
                self.forward_onto(input, residual, batch, mask, cache)
            })
    }

    fn forward_onto(
        &self,
        input: Tensor<2>,
        residual: Option<Tensor<2>>,
        batch: usize,
        mask: &AttentionMask,
        cache: Option<(&mut KvCache, usize)>,
    ) -> Tensor<2> {
        let [tokens, d] = input.dims();
        let qkv = self.c_attn.forward(input);
        if let (Some(texts), None) = (&mask.texts, &cache) {
            let dropout = dropout_probability(&self.attn_dropout, &qkv);
            let output = burn_peft_kernels::attention(qkv, texts, self.shape(d), dropout);
            return project_onto(&self.c_proj, output, &self.resid_dropout, residual);
        }
        let [query, key, value] = self.split_heads(qkv.clone(), batch);
        let (key, value) = match cache {
            Some((cache, layer)) => cache.append(layer, key, value),
            None => (key, value),
        };
        if tokens == batch && mask.masked.is_none() && !qkv.is_autodiff() {
            let output = attend_cached(qkv, key, value, self.shape(d));
            return project_onto(&self.c_proj, output, &self.resid_dropout, residual);
        }
        let output = self.attend(query, key, value, mask);
        let output = output.swap_dims(1, 2).reshape([tokens, d]);
        project_onto(&self.c_proj, output, &self.resid_dropout, residual)
    }

    fn shape(&self, d: usize) -> AttentionShape {
        AttentionShape {
            heads: self.n_head,
            kv_heads: self.n_head,
            head_dim: d / self.n_head,
            scale: self.scale,
        }
    }

    /// Splits `[batch * seq, 3 d]` into query, key and value, `[batch, heads, seq, head_dim]`.
    pub fn split_heads(&self, qkv: Tensor<2>, batch: usize) -> [Tensor<4>; 3] {
        let [tokens, width] = qkv.dims();
        let d = width / 3;
        [0, 1, 2].map(|part| {
            let part = qkv.clone().slice([0..tokens, part * d..(part + 1) * d]);
            let heads = part.reshape([batch, tokens / batch, self.n_head, d / self.n_head]);
            heads.swap_dims(1, 2)
        })
    }

    /// The attention weights before the softmax, `[batch, heads, seq, past + seq]`.
    pub fn scores(&self, query: Tensor<4>, key: Tensor<4>, mask: &AttentionMask) -> Tensor<4> {
        let scores = query.matmul(key.swap_dims(2, 3)) * self.scale;
        match &mask.masked {
            Some(masked) => {
                let shape = scores.dims();
                scores.mask_fill(masked.clone().expand(shape), f32::NEG_INFINITY)
            }
            None => scores,
        }
    }

    /// The weighted values, `[batch, heads, seq, head_dim]`.
    fn attend(
        &self,
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
        mask: &AttentionMask,
    ) -> Tensor<4> {
        if query.is_autodiff() {
            let weights = softmax(self.scores(query, key, mask), 3);
            let shape @ [batch, heads, seq, total] = weights.dims();
            let rows = weights.reshape([batch * heads * seq, total]);
            let weights = apply_dropout(&self.attn_dropout, rows).reshape(shape);
            return weights.matmul(value);
        }
        let [batch, heads, seq, _] = query.dims();
        let total = key.dims()[2];
        let masked = mask.masked.clone().filter(|_| !mask.only_causal);
        let options = AttentionModuleOptions {
            scale: Some(self.scale),
            softcap: None,
            is_causal: mask.only_causal && seq > 1,
        };
        let masked = masked.map(|masked| masked.expand([batch, heads, seq, total]));
        attention(query, key, value, masked, None, options)
    }
}
