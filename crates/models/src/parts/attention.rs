//! Attention over heads, once query, key and value are there.

use burn::nn::Dropout;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Tensor, activation::softmax, module::attention};
use burn_peft_kernels::{AttentionShape, apply_dropout, attend_cached, dropout_probability};

use super::AttentionMask;
use crate::KvCache;

/// The heads of an attention.
#[derive(Clone, Copy, Debug)]
pub struct Heads {
    /// Number of heads.
    pub count: usize,
    /// Width of one.
    pub head_dim: usize,
    /// What scores are multiplied by.
    pub scale: f64,
}

impl Heads {
    fn shape(self) -> AttentionShape {
        AttentionShape {
            heads: self.count,
            kv_heads: self.count,
            head_dim: self.head_dim,
            scale: self.scale,
        }
    }
}

/// Attention over query, key and value in one tensor, `[batch * seq, 3 d]`: the weighted values,
/// `[batch * seq, d]`. With a `cache`, keys and values are appended to those of its layer.
pub fn attend(
    qkv: Tensor<2>,
    heads: Heads,
    batch: usize,
    mask: &AttentionMask,
    dropout: &Dropout,
    cache: Option<(&mut KvCache, usize)>,
) -> Tensor<2> {
    let [tokens, width] = qkv.dims();
    if let (Some(texts), None) = (&mask.texts, &cache) {
        let probability = dropout_probability(dropout, &qkv);
        return burn_peft_kernels::attention(qkv, texts, heads.shape(), probability);
    }
    let [query, key, value] = split_heads(qkv.clone(), heads, batch);
    let (key, value) = match cache {
        Some((cache, layer)) => cache.append(layer, key, value),
        None => (key, value),
    };
    if tokens == batch && mask.masked.is_none() && !qkv.is_autodiff() {
        return attend_cached(qkv, key, value, heads.shape());
    }
    let output = weighted_values(query, key, value, heads, mask, dropout);
    output.swap_dims(1, 2).reshape([tokens, width / 3])
}

/// Splits `[batch * seq, 3 d]` into query, key and value, `[batch, heads, seq, head_dim]`.
pub fn split_heads(qkv: Tensor<2>, heads: Heads, batch: usize) -> [Tensor<4>; 3] {
    let [tokens, width] = qkv.dims();
    let d = width / 3;
    [0, 1, 2].map(|part| {
        let part = qkv.clone().slice([0..tokens, part * d..(part + 1) * d]);
        let parts = part.reshape([batch, tokens / batch, heads.count, heads.head_dim]);
        parts.swap_dims(1, 2)
    })
}

/// The attention weights before the softmax, `[batch, heads, seq, past + seq]`.
pub fn scores(query: Tensor<4>, key: Tensor<4>, heads: Heads, mask: &AttentionMask) -> Tensor<4> {
    let scores = query.matmul(key.swap_dims(2, 3)) * heads.scale;
    match &mask.masked {
        Some(masked) => {
            let shape = scores.dims();
            scores.mask_fill(masked.clone().expand(shape), f32::NEG_INFINITY)
        }
        None => scores,
    }
}

/// The weighted values, `[batch, heads, seq, head_dim]`.
fn weighted_values(
    query: Tensor<4>,
    key: Tensor<4>,
    value: Tensor<4>,
    heads: Heads,
    mask: &AttentionMask,
    dropout: &Dropout,
) -> Tensor<4> {
    if query.is_autodiff() {
        let weights = softmax(scores(query, key, heads, mask), 3);
        let shape @ [batch, heads, seq, total] = weights.dims();
        let rows = weights.reshape([batch * heads * seq, total]);
        let weights = apply_dropout(dropout, rows).reshape(shape);
        return weights.matmul(value);
    }
    let [batch, count, seq, _] = query.dims();
    let total = key.dims()[2];
    let masked = mask.masked.clone().filter(|_| !mask.only_causal);
    let options = AttentionModuleOptions {
        scale: Some(heads.scale),
        softcap: None,
        is_causal: mask.only_causal && seq > 1,
    };
    let masked = masked.map(|masked| masked.expand([batch, count, seq, total]));
    attention(query, key, value, masked, None, options)
}
