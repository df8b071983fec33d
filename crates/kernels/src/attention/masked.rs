//! Attention under a mask, in plain tensors.

use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Bool, Device, Tensor, TensorData, activation::softmax, module};

use super::AttentionOptions;

/// The keys that queries do not see.
#[derive(Clone, Debug)]
pub struct HiddenKeys {
    /// True where a key is hidden: `[batch, 1, queries, keys]`, or one row for the whole batch;
    /// `None` where all are seen.
    pub mask: Option<Tensor<4, Bool>>,
    /// Whether the hidden keys are just those later than the query.
    pub only_later: bool,
}

impl HiddenKeys {
    /// Hides the keys before the first that each row sees; `first` has one for each row.
    pub fn before(first: &[usize], keys: usize, on: &Device) -> Self {
        let hidden = first
            .iter()
            .flat_map(|&first| (0..keys).map(move |key| key < first));
        let mask = first.iter().any(|&first| first > 0).then(|| {
            let data = TensorData::new(hidden.collect(), [first.len(), 1, 1, keys]);
            Tensor::from_data(data, on)
        });
        Self {
            mask,
            only_later: false,
        }
    }

    /// Also hides the keys outside each query's window: those before it and, unless attention is
    /// `causal`, those after it. The `queries` queries are the last of `keys` positions.
    pub fn within(
        &self,
        window: usize,
        causal: bool,
        [queries, keys]: [usize; 2],
        on: &Device,
    ) -> Self {
        let (own, window) = ((keys - queries) as i64, window as i64);
        // `triu_mask` is true below the diagonal of this number, `tril_mask` above it.
        let early = Tensor::<2, Bool>::triu_mask([queries, keys], own + 1 - window, on);
        let hidden = self.and(early.unsqueeze());
        if causal {
            return hidden;
        }
        let late = Tensor::<2, Bool>::tril_mask([queries, keys], own - 1 + window, on);
        hidden.and(late.unsqueeze())
    }

    /// Also hides others, `[batch, 1, queries, keys]` or one row for the whole batch.
    ///
    /// # Panics
    /// If the shapes do not fit each other.
    pub fn and(&self, others: Tensor<4, Bool>) -> Self {
        let mask = match &self.mask {
            None => others,
            Some(mask) => {
                let [a, b] = [mask.dims(), others.dims()];
                let shape: [usize; 4] = std::array::from_fn(|axis| a[axis].max(b[axis]));
                mask.clone().expand(shape).bool_or(others.expand(shape))
            }
        };
        Self {
            mask: Some(mask),
            only_later: false,
        }
    }
}

/// Returns the scaled and capped scores, `[batch, heads, queries, keys]`, of queries
/// `[batch, heads, queries, head_dim]` and keys `[batch, kv_heads, keys, head_dim]`. The scores of
/// hidden keys are negative infinity. The window is left to `hidden`.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn attention_scores(
    query: Tensor<4>,
    keys: Tensor<4>,
    hidden: &HiddenKeys,
    options: &AttentionOptions,
) -> Tensor<4> {
    let [batch, heads, queries, _] = query.dims();
    let total = keys.dims()[2];
    let scores = by_group(query, options).matmul(keys.swap_dims(2, 3)) * options.scale;
    let scores = scores.reshape([batch, heads, queries, total]);
    let scores = match options.softcap {
        Some(cap) => (scores / cap).tanh() * cap,
        None => scores,
    };
    match &hidden.mask {
        Some(mask) => {
            let shape = scores.dims();
            scores.mask_fill(mask.clone().expand(shape), f32::NEG_INFINITY)
        }
        None => scores,
    }
}

/// Returns the attention of queries `[batch, heads, queries, head_dim]` to keys and values
/// `[batch, kv_heads, keys, head_dim]`, in the shape of the queries. `drop` sets some of the
/// weights to zero. The window is left to `hidden`.
///
/// Each query must see at least one key; [`mean_of_values`](super::mean_of_values) is for those
/// that see none.
///
/// # Panics
/// If the shapes do not fit each other.
pub fn attend_masked(
    query: Tensor<4>,
    keys: Tensor<4>,
    values: Tensor<4>,
    hidden: &HiddenKeys,
    options: &AttentionOptions,
    drop: Option<impl FnOnce(Tensor<4>) -> Tensor<4>>,
) -> Tensor<4> {
    let shape @ [batch, heads, queries, _] = query.dims();
    let total = keys.dims()[2];
    let records = [&query, &keys, &values]
        .iter()
        .any(|tensor| tensor.is_autodiff());
    // Burn's own attention needs as many heads of keys as of queries.
    if !records && drop.is_none() && options.kv_heads == heads {
        let causal = hidden.only_later && queries > 1;
        let mask = hidden.mask.clone().filter(|_| !hidden.only_later);
        let mask = mask.map(|mask| mask.expand([batch, heads, queries, total]));
        let of_module = AttentionModuleOptions {
            scale: Some(options.scale),
            softcap: options.softcap,
            is_causal: causal,
        };
        return module::attention(query, keys, values, mask, None, of_module);
    }
    let weights = softmax(attention_scores(query, keys, hidden, options), 3);
    let weights = match drop {
        Some(drop) => drop(weights),
        None => weights,
    };
    by_group(weights, options).matmul(values).reshape(shape)
}

/// From `[batch, heads, queries, n]` to `[batch, kv_heads, heads / kv_heads · queries, n]`: the
/// heads that share keys are rows of one product.
fn by_group(of_heads: Tensor<4>, options: &AttentionOptions) -> Tensor<4> {
    let [batch, heads, queries, n] = of_heads.dims();
    if options.kv_heads == heads {
        return of_heads;
    }
    let group = heads / options.kv_heads;
    of_heads.reshape([batch, options.kv_heads, group * queries, n])
}
