//! Attention in plain tensors.

use burn::tensor::{Int, Tensor};

use super::groups::Group;
use super::masked::attend_masked;
use super::unseeing::Unseeing;
use super::{AttentionOptions, Qkv, Texts};
use crate::dropout::numbers;
use crate::seed::{first_row, next_seed};

/// [`attention`](super::attention), group after group.
pub(super) fn plain(qkv: Qkv, texts: &Texts, options: AttentionOptions, dropout: f64) -> Tensor<2> {
    by_rows(qkv, texts, options, |qkv| {
        in_rows(qkv, texts, options, dropout)
    })
}

/// Runs a body for texts that lie one after the other, on copies of the tokens that texts share.
pub(super) fn by_rows(
    qkv: Qkv,
    texts: &Texts,
    options: AttentionOptions,
    in_rows: impl FnOnce(Qkv) -> Tensor<2>,
) -> Tensor<2> {
    let Some(shared) = texts.shared() else {
        let unseeing = Unseeing::of(&qkv, texts, &options);
        return unseeing.put(in_rows(qkv));
    };
    let device = qkv.queries().device().without_autodiff();
    let indices = |of: &mut dyn Iterator<Item = usize>| {
        let of: Vec<i64> = of.map(|index| index as i64).collect();
        Tensor::<1, Int>::from_data(of.as_slice(), &device)
    };
    let token_of = indices(&mut shared.token_of().iter().copied());
    let in_all = in_rows(qkv.map(|tensor| tensor.select(0, token_of.clone())));
    // A token of no text takes a row of zeros, after all others.
    let own = |token| shared.own_row(token).unwrap_or(shared.rows());
    let own = indices(&mut (0..shared.tokens()).map(own));
    let width = in_all.dims()[1];
    let nothing = Tensor::zeros([1, width], (&in_all.device(), in_all.dtype()));
    Tensor::cat(vec![in_all, nothing], 0).select(0, own)
}

/// Attention of texts that lie one after the other.
fn in_rows(qkv: Qkv, texts: &Texts, options: AttentionOptions, dropout: f64) -> Tensor<2> {
    let queries = qkv.queries();
    let (tokens, device) = (qkv.tokens(), queries.device());
    let groups = texts.groups(tokens, &device);
    let seed = if dropout > 0.0 { next_seed() } else { None };
    let rows = qkv.map(|tensor| groups.gather(tensor));
    let output = |group: &Group| {
        let rows = match groups.groups.len() {
            1 => rows.clone(),
            _ => rows.clone().map(|rows| rows.slice([group.rows.clone()])),
        };
        group.attend(rows, &options, dropout, seed)
    };
    let mut outputs: Vec<_> = groups.groups.iter().map(output).collect();
    match outputs.len() {
        0 => Tensor::zeros([tokens, options.widths()[0]], (&device, queries.dtype())),
        1 => groups.scatter(outputs.remove(0)),
        _ => groups.scatter(Tensor::cat(outputs, 0)),
    }
}

impl Group {
    /// From rows of `[texts * longest, …]` to `[texts * longest, heads · head_dim]`.
    fn attend(
        &self,
        qkv: Qkv,
        options: &AttentionOptions,
        dropout: f64,
        seed: Option<u64>,
    ) -> Tensor<2> {
        let drop = |weights| {
            let rows = || self.mask_rows(options.heads);
            crate::dropout::plain(weights, dropout, seed, rows)
        };
        let drop = (dropout > 0.0).then_some(drop);
        let [query, keys, values] = qkv.heads(options, self.texts);
        let hidden = self.hidden(options);
        let output = attend_masked(query, keys, values, &hidden, options, drop);
        output
            .swap_dims(1, 2)
            .reshape([self.texts * self.longest, options.widths()[0]])
    }

    /// The rows' numbers in the specialised body's dropout, `[texts, heads, longest, 1]`.
    fn mask_rows(&self, heads: usize) -> Tensor<4, Int> {
        let shape = [self.texts, heads, self.longest, 1];
        let head = numbers(heads, &self.tokens.device());
        let head = head.reshape([1, heads, 1, 1]).expand(shape);
        let tokens = self.tokens.clone() + i64::from(first_row());
        tokens.expand(shape).mul_scalar(heads as u32) + head
    }
}
