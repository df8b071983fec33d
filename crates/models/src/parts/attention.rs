//! Attention over heads, once query, key and value are there.

use burn::nn::Dropout;
use burn::tensor::Tensor;
use burn_peft_kernels::{AttentionOptions, Qkv, apply_dropout, attend_cached, dropout_probability};

use super::AttentionMask;
use crate::KvCache;

/// Causal attention of rows of equal length, `[batch * seq, heads * head_dim]`, over queries, keys
/// and values that know their positions: in one tensor `[batch * seq, (heads + 2 * kv_heads) *
/// head_dim]`, or `[queries, keys, values]` apart. With a `cache`, keys and values are appended to
/// those of its layer.
pub fn attend(
    qkv: impl Into<Qkv>,
    options: AttentionOptions,
    batch: usize,
    mask: &AttentionMask,
    dropout: &Dropout,
    cache: Option<(&mut KvCache, usize)>,
) -> Tensor<2> {
    let qkv = qkv.into();
    if let Some(texts) = &mask.texts {
        if let Some((cache, layer)) = cache {
            let [_, key, value] = qkv.clone().heads(&options, batch);
            cache.append(layer, key, value);
        }
        let on_tape = qkv.tensors().iter().find(|tensor| tensor.is_autodiff());
        let probability = on_tape.map_or(0.0, |tensor| dropout_probability(dropout, tensor));
        return burn_peft_kernels::attention(qkv, texts, options, probability);
    }
    let (tokens, queries, records) = (qkv.tokens(), qkv.queries(), qkv.is_autodiff());
    let [query, key, value] = qkv.heads(&options, batch);
    let (key, value) = match cache {
        Some((cache, layer)) => cache.append(layer, key, value),
        None => (key, value),
    };
    if tokens == batch && mask.hidden.mask.is_none() && !records {
        return attend_cached(queries, key, value, mask.first.as_deref(), options);
    }
    let [_, _, total, _] = key.dims();
    let hidden = mask
        .hidden
        .within(options.window, tokens / batch, total, &key.device());
    let drop = |weights: Tensor<4>| {
        let shape @ [batch, heads, seq, total] = weights.dims();
        let rows = weights.reshape([batch * heads * seq, total]);
        apply_dropout(dropout, rows).reshape(shape)
    };
    let drop = records.then_some(drop);
    let output = burn_peft_kernels::attend_masked(query, key, value, &hidden, &options, drop);
    output
        .swap_dims(1, 2)
        .reshape([tokens, options.heads * options.head_dim])
}
