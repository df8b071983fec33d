//! Attention in plain tensors.

use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Int, Tensor, activation::softmax, module};

use super::texts::Group;
use super::{AttentionShape, Texts};
use crate::dropout::numbers;
use crate::seed::next_seed;

/// [`attention`](super::attention), group after group.
pub(super) fn plain(
    qkv: Tensor<2>,
    texts: &Texts,
    shape: AttentionShape,
    dropout: f64,
) -> Tensor<2> {
    let [tokens, width] = qkv.dims();
    let widths = shape.widths();
    assert_eq!(width, widths.iter().sum::<usize>(), "{shape:?}");
    let groups = texts.groups(tokens, &qkv.device());
    let seed = if dropout > 0.0 { next_seed() } else { None };
    let rows = groups.gather(qkv.clone());
    let output = |group: &Group| {
        let rows = match groups.groups.len() {
            1 => rows.clone(),
            _ => rows.clone().slice([group.rows.clone()]),
        };
        group.attend(rows, shape, dropout, seed)
    };
    let mut outputs: Vec<_> = groups.groups.iter().map(output).collect();
    match outputs.len() {
        0 => Tensor::zeros([tokens, widths[0]], (&qkv.device(), qkv.dtype())),
        1 => groups.scatter(outputs.remove(0)),
        _ => groups.scatter(Tensor::cat(outputs, 0)),
    }
}

impl Group {
    /// From `[texts * longest, (heads + 2 · kv_heads) · head_dim]` to
    /// `[texts * longest, heads · head_dim]`.
    fn attend(
        &self,
        qkv: Tensor<2>,
        shape: AttentionShape,
        dropout: f64,
        seed: Option<u64>,
    ) -> Tensor<2> {
        let (texts, longest) = (self.texts, self.longest);
        let (heads, head_dim) = (shape.heads, shape.head_dim);
        let repeats = heads / shape.kv_heads;
        let mut column = 0;
        let [query, key, value] = shape.widths().map(|width| {
            let part = qkv
                .clone()
                .slice([0..texts * longest, column..column + width]);
            column += width;
            let of_heads = [texts, longest, width / head_dim, head_dim];
            let part = part.reshape(of_heads).swap_dims(1, 2);
            match width / head_dim {
                own if own == heads => part,
                own => part
                    .unsqueeze_dim::<5>(2)
                    .expand([texts, own, repeats, longest, head_dim])
                    .reshape([texts, heads, longest, head_dim]),
            }
        });
        let output = match qkv.is_autodiff() || dropout > 0.0 {
            false => {
                let options = AttentionModuleOptions {
                    scale: Some(shape.scale),
                    softcap: None,
                    is_causal: self.only_causal,
                };
                let hidden = [texts, heads, longest, longest];
                let hidden = (!self.only_causal).then(|| self.hidden.clone().expand(hidden));
                module::attention(query, key, value, hidden, None, options)
            }
            true => {
                let scores = query.matmul(key.swap_dims(2, 3)) * shape.scale;
                let hidden = self.hidden.clone().expand(scores.dims());
                let weights = softmax(scores.mask_fill(hidden, f32::NEG_INFINITY), 3);
                let weights = match dropout > 0.0 {
                    true => crate::dropout::plain(weights, dropout, seed, || self.mask_rows(heads)),
                    false => weights,
                };
                weights.matmul(value)
            }
        };
        output
            .swap_dims(1, 2)
            .reshape([texts * longest, heads * head_dim])
    }

    /// The rows of the specialised body's mask, `[texts, heads, longest, 1]`.
    fn mask_rows(&self, heads: usize) -> Tensor<4, Int> {
        let shape = [self.texts, heads, self.longest, 1];
        let head = numbers(heads, &self.tokens.device());
        let head = head.reshape([1, heads, 1, 1]).expand(shape);
        self.tokens.clone().expand(shape).mul_scalar(heads as u32) + head
    }
}
