//! The attention of a dense decoder.

use std::sync::Arc;

use burn::module::Module;
use burn::nn::{Dropout, DropoutConfig, Linear};
use burn::tensor::{Device, Tensor};
use burn_peft::{LoraAdapter, Part};
use burn_peft_kernels::{AttentionOptions, Pairing, rope};

use super::layout::AttentionPart;
use super::walk::{Shown, linear, named_parts};
use super::{Layer, Switches};
use crate::LayerCache;
use crate::decoder::Pass;
use crate::parts::{Norm, attend, project_onto};

/// Causal self-attention with rotary positions.
#[derive(Module, Debug)]
pub struct Attention {
    around: LoraAdapter<Part>,
    query: Option<LoraAdapter<Linear>>,
    key: Option<LoraAdapter<Linear>>,
    value: Option<LoraAdapter<Linear>>,
    fused: Option<LoraAdapter<Linear>>,
    output: LoraAdapter<Linear>,
    query_norm: Option<Norm>,
    key_norm: Option<Norm>,
    weights_dropout: Dropout,
    output_dropout: Dropout,
    #[module(skip)]
    layer: Layer,
    #[module(skip)]
    switches: Arc<Switches>,
}

named_parts! {
    Attention, |_| "Attention", AttentionPart, attention, [around],
    Query => query, Key => key, Value => value, Fused => fused, Output => output,
    QueryNorm => query_norm, KeyNorm => key_norm,
}

impl Attention {
    pub(super) fn new(switches: &Arc<Switches>, layer: Layer, device: &Device) -> Self {
        let Switches {
            hidden_size: d,
            heads,
            kv_heads,
            head_dim,
            ..
        } = **switches;
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        let has = |part| switches.layout.attention_has(part);
        let project = |part, width| {
            has(part).then(|| linear([d, width], switches.qkv_bias, switches, device))
        };
        let norm = |part, width| {
            has(part).then(|| match switches.layout.norm_per_head {
                Some(class) => {
                    let heads = [width / head_dim, head_dim];
                    Norm::per_head(class, heads, switches.norm_epsilon, device)
                }
                None if switches.norm_all_heads => switches.new_norm(width, device),
                None => switches.new_norm(head_dim, device),
            })
        };
        Self {
            around: LoraAdapter::new(Part::new(d, device)),
            query: project(AttentionPart::Query, queries),
            key: project(AttentionPart::Key, keys),
            value: project(AttentionPart::Value, keys),
            fused: project(AttentionPart::Fused, queries + 2 * keys),
            output: linear([queries, d], switches.output_bias, switches, device),
            query_norm: norm(AttentionPart::QueryNorm, queries),
            key_norm: norm(AttentionPart::KeyNorm, keys),
            weights_dropout: DropoutConfig::new(switches.attention_dropout).init(),
            output_dropout: DropoutConfig::new(switches.output_dropout).init(),
            layer,
            switches: Arc::clone(switches),
        }
    }

    /// Maps `input` to the same shape, `[batch * seq, d]`, and adds it to `residual`.
    pub(super) fn forward(
        &self,
        input: Tensor<2>,
        residual: Option<Tensor<2>>,
        pass: &Pass,
        cache: LayerCache<'_>,
    ) -> Tensor<2> {
        let Switches {
            heads,
            kv_heads,
            head_dim,
            score_scale,
            score_cap,
            ..
        } = *self.switches;
        let options = AttentionOptions {
            scale: score_scale,
            window: self.layer.window,
            softcap: score_cap,
            ..AttentionOptions::new(heads, kv_heads, head_dim)
        };
        let Pass { batch, mask, .. } = pass;
        self.around
            .forward_around(input, residual, |input, residual| {
                let [query, key, value] = self.project(input);
                let query = self.turned(query, self.query_norm.as_ref(), heads, pass);
                let key = self.turned(key, self.key_norm.as_ref(), kv_heads, pass);
                let query = match &pass.query_growth {
                    Some(growth) => query * growth.clone(),
                    None => query,
                };
                let parts = [query, key, value];
                let output = attend(parts, options, *batch, mask, &self.weights_dropout, cache);
                project_onto(&self.output, output, &self.output_dropout, residual)
            })
    }

    /// Query, key and value, `[tokens, width]` each.
    fn project(&self, input: Tensor<2>) -> [Tensor<2>; 3] {
        let layers = [&self.query, &self.key, &self.value];
        let Some(fused) = &self.fused else {
            let layers =
                layers.map(|layer| layer.as_ref().expect("a layout has them, or a fused one"));
            return LoraAdapter::forward_together(layers, input);
        };
        let Switches {
            heads,
            kv_heads,
            head_dim,
            fused_by_head,
            ..
        } = *self.switches;
        let qkv = fused.forward(input);
        let [tokens, width] = qkv.dims();
        if fused_by_head {
            let heads = qkv.reshape([tokens, heads, 3, head_dim]);
            let part = |part| heads.clone().slice_dim(2, part..part + 1);
            return [0, 1, 2].map(|index| part(index).reshape([tokens, width / 3]));
        }
        let (queries, keys) = (heads * head_dim, kv_heads * head_dim);
        [0..queries, queries..queries + keys, queries + keys..width]
            .map(|columns| qkv.clone().slice_dim(1, columns))
    }

    /// Queries or keys with norm and position.
    fn turned(&self, part: Tensor<2>, norm: Option<&Norm>, heads: usize, pass: &Pass) -> Tensor<2> {
        let turn = |part| {
            let Some(table) = self.layer.rope.map(|index| &pass.ropes[index]) else {
                return part;
            };
            let pairing = if self.switches.interleaved {
                Pairing::Interleaved
            } else {
                Pairing::Halves
            };
            rope(part, table.cos.clone(), table.sin.clone(), heads, pairing)
        };
        let normed = |part| match norm {
            None => part,
            Some(norm) if self.switches.norm_all_heads => norm.forward(part),
            Some(norm) => norm.forward_heads(part, self.switches.head_dim),
        };
        if self.switches.norm_after_rope {
            normed(turn(part))
        } else {
            turn(normed(part))
        }
    }
}
