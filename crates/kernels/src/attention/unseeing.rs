//! Padding that is too far from all keys of its text.

use std::ops::Range;

use burn::tensor::Tensor;

use super::{AttentionOptions, Qkv, Texts};

/// Queries that see no key, and what they get: the mean of all values of their text, padding
/// included. The eager attention of transformers gives the same, since its softmax is then over
/// equal scores.
pub(super) struct Unseeing(Vec<(Range<usize>, Tensor<2>)>);

impl Unseeing {
    /// The queries of the texts that see no key; a text without padding has none.
    pub fn of(qkv: &Qkv, texts: &Texts, options: &AttentionOptions) -> Self {
        let Some(window) = options.window.filter(|_| !options.causal) else {
            return Self(Vec::new());
        };
        let spans = texts.spans().iter();
        let far = spans.filter(|span| span.keys > 0 && span.keys + window - 1 < span.queries);
        let far: Vec<_> = far.collect();
        if far.is_empty() {
            return Self(Vec::new());
        }
        let [_, _, values] = qkv.clone().parts(options);
        let of_span = far.into_iter().map(|span| {
            let end = span.start + span.queries;
            let rows = span.start + span.keys + window - 1..end;
            let of_text = values.clone().slice_dim(0, span.start..end);
            let shape = [1, span.queries, options.kv_heads, options.head_dim];
            let of_text = of_text.reshape(shape).swap_dims(1, 2);
            let [width, ..] = options.widths();
            let mean = mean_of_values(of_text, options.heads).reshape([1, width]);
            let count = rows.len();
            (rows, mean.expand([count, width]))
        });
        Self(of_span.collect())
    }

    /// Puts the means into an output of attention, `[tokens, heads · head_dim]`.
    pub fn put(self, output: Tensor<2>) -> Tensor<2> {
        let [_, width] = output.dims();
        self.0.into_iter().fold(output, |output, (rows, means)| {
            output.slice_assign([rows, 0..width], means)
        })
    }
}

/// Returns the mean of values `[batch, kv_heads, keys, head_dim]` over the keys, for each head of
/// the queries: `[batch, heads, 1, head_dim]`.
///
/// # Panics
/// If `kv_heads` does not divide `heads`.
pub fn mean_of_values(values: Tensor<4>, heads: usize) -> Tensor<4> {
    let [batch, kv_heads, _, head_dim] = values.dims();
    let shape = [batch, kv_heads, heads / kv_heads, head_dim];
    let mean = values.mean_dim(2).expand(shape);
    mean.reshape([batch, heads, 1, head_dim])
}
