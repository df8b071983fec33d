//! Attention over heads, from queries, keys and values.

use burn::nn::Dropout;
use burn::tensor::Tensor;
use burn_peft_kernels::{
    AttentionOptions, Qkv, apply_dropout, attend_cached, dropout_probability, mean_of_values,
};

use super::AttentionMask;
use crate::LayerCache;

/// Attention of rows of equal length, `[batch * seq, heads * head_dim]`, over queries, keys and
/// values that already have their positions: in one tensor
/// `[batch * seq, (heads + 2 * kv_heads) * head_dim]`, or as separate `[queries, keys, values]`.
/// With a `cache`, keys and values are appended to those of its layer.
pub fn attend(
    qkv: impl Into<Qkv>,
    options: AttentionOptions,
    batch: usize,
    mask: &AttentionMask,
    dropout: &Dropout,
    cache: LayerCache<'_>,
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
        return attend_cached(queries, key, value, mask.first.as_ref(), options);
    }
    let [_, _, total, _] = key.dims();
    let shape = [tokens / batch, total];
    let (hidden, unseeing) = mask.seen_within(&options, shape, &key.device());
    let mean = unseeing.map(|unseeing| (unseeing, mean_of_values(value.clone(), options.heads)));
    let drop = |weights: Tensor<4>| {
        let shape @ [batch, heads, seq, total] = weights.dims();
        let rows = weights.reshape([batch * heads * seq, total]);
        apply_dropout(dropout, rows).reshape(shape)
    };
    let drop = records.then_some(drop);
    let output = burn_peft_kernels::attend_masked(query, key, value, &hidden, &options, drop);
    // Padding that sees no key gets the mean of the values, as in transformers' eager attention.
    let output = match mean {
        Some((unseeing, mean)) => {
            let shape = output.dims();
            output.mask_where(unseeing.expand(shape), mean.expand(shape))
        }
        None => output,
    };
    output
        .swap_dims(1, 2)
        .reshape([tokens, options.heads * options.head_dim])
}

#[cfg(test)]
mod tests {
    use crate::KvCache;
    use burn::nn::DropoutConfig;
    use burn::tensor::{Device, Distribution, Int, TensorData, Tolerance};
    use burn_peft::Extra;

    use super::*;
    use crate::ModelInput;

    const SEQ: usize = 9;

    /// The second of two rows begins with this many positions of padding.
    const PADDING: usize = 3;

    fn input(from: usize, to: usize) -> ModelInput {
        let device = Device::flex();
        let padded = |at: usize| i64::from(at % to >= PADDING || at < to);
        let mask = TensorData::new((0..2 * to).map(padded).collect::<Vec<_>>(), [2, to]);
        ModelInput {
            attention_mask: Some(Tensor::from_data(mask, &device)),
            ..ModelInput::new(Tensor::<2, Int>::zeros([2, to - from], &device))
        }
    }

    /// Compares the outputs of the positions that are not padding.
    fn assert_same(found: Tensor<2>, expected: Tensor<2>) {
        let width = found.dims()[1];
        for (first, count) in [(0, SEQ), (SEQ + PADDING, SEQ - PADDING)] {
            let rows = |all: &Tensor<2>| all.clone().slice([first..first + count, 0..width]);
            let tolerance = Tolerance::<f32>::absolute(1e-5);
            let expected = rows(&expected).into_data();
            rows(&found)
                .into_data()
                .assert_approx_eq(&expected, tolerance);
        }
    }

    /// Two texts in one row see what precedes them as each would alone.
    #[test]
    fn windows_of_packed_rows_count_from_what_stands_before() {
        let device = Device::flex();
        let (before, window) = (3, 4);
        let options = AttentionOptions {
            window: Some(window),
            ..AttentionOptions::new(2, 1, 8)
        };
        let random = |tokens| {
            [16, 8, 8].map(|width| {
                let distribution = Distribution::Normal(0.0, 1.0);
                Tensor::<2>::random([tokens, width], distribution, &device)
            })
        };
        let of_both = |first: &[Tensor<2>; 3], second: &[Tensor<2>; 3]| -> [Tensor<2>; 3] {
            std::array::from_fn(|i| Tensor::cat(vec![first[i].clone(), second[i].clone()], 0))
        };
        let dropout = DropoutConfig::new(0.0).init();
        let (prefix, a, b) = (random(before), random(5), random(6));
        let attended = |qkv, mask: &AttentionMask| {
            let all: Tensor<2> = attend(qkv, options, 1, mask, &dropout, None);
            all.slice_dim(0, before..)
        };
        let alone = |text: &[Tensor<2>; 3]| {
            let tokens = before + text[0].dims()[0];
            let mask = AttentionMask::new(0, tokens, None, &device);
            attended(of_both(&prefix, text), &mask)
        };
        let expected = Tensor::cat(vec![alone(&a), alone(&b)], 0);
        let numbers = |values: &[i64]| Tensor::<1, Int>::from_data(values, &device).unsqueeze();
        let input = ModelInput {
            segment_ids: Some(numbers(&[1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2])),
            position_ids: Some(numbers(&[3, 4, 5, 6, 7, 3, 4, 5, 6, 7, 8])),
            extra: Extra {
                embeddings: Some(Tensor::zeros([before, 16], &device)),
                ..Extra::default()
            },
            ..ModelInput::new(numbers(&[0; 11]))
        };
        let mask = AttentionMask::of(&input, 0, false);
        let found = attended(of_both(&prefix, &of_both(&a, &b)), &mask);
        let tolerance = Tolerance::<f32>::absolute(1e-5);
        found
            .into_data()
            .assert_approx_eq(&expected.into_data(), tolerance);
    }

    /// The same in both directions, for rows that end with padding, which may see nothing, and for
    /// packed rows.
    #[test]
    fn texts_and_masks_give_the_same_in_both_directions() {
        let device = Device::flex();
        let numbers = |values: Vec<i64>| {
            Tensor::<2, Int>::from_data(TensorData::new(values, [2, SEQ]), &device)
        };
        let of_positions = |of: fn(usize) -> i64| numbers((0..2 * SEQ).map(of).collect());
        let ids = ModelInput::new(Tensor::zeros([2, SEQ], &device));
        let padded = ModelInput {
            attention_mask: Some(of_positions(|at| i64::from(at < 2 * SEQ - PADDING))),
            ..ids.clone()
        };
        let packed = ModelInput {
            segment_ids: Some(of_positions(|at| (at % SEQ / 4) as i64)),
            ..ids
        };
        let dropout = DropoutConfig::new(0.0).init();
        for window in [None, Some(1), Some(3)] {
            let options = AttentionOptions {
                window,
                ..AttentionOptions::new(4, 2, 8).with_causal(false)
            };
            // The same in every run, with variance 1.
            let qkv = [(32, 37), (16, 53), (16, 71)].map(|(width, step)| {
                let values = (0..2 * SEQ * width).map(|at| (at * step % 101) as f32 / 29.2 - 1.71);
                let values = values.collect::<Vec<_>>();
                Tensor::<2>::from_data(TensorData::new(values, [2 * SEQ, width]), &device)
            });
            for input in [&padded, &packed] {
                let by_texts = AttentionMask::both_ways(input, 0);
                assert!(by_texts.texts.is_some());
                let by_mask = AttentionMask::masked_both_ways(input, 0);
                let attended = |qkv: [Tensor<2>; 3], mask: &AttentionMask| {
                    attend(qkv, options, 2, mask, &dropout, None)
                        .inner()
                        .into_data()
                };
                let whole = attended(qkv.clone(), &by_texts);
                let tolerance = Tolerance::<f32>::absolute(1e-5);
                let on_tape = || qkv.clone().map(Tensor::autodiff);
                for found in [
                    attended(qkv.clone(), &by_mask),
                    attended(on_tape(), &by_mask),
                ] {
                    found.assert_approx_eq(&whole, tolerance);
                }
                let gradients = |mask: &AttentionMask| {
                    let qkv = qkv.clone().map(|x| x.autodiff().require_grad());
                    let output = attend(qkv.clone(), options, 2, mask, &dropout, None);
                    let grads = output.square().sum().backward();
                    qkv.map(|x| x.grad(&grads).unwrap().into_data())
                };
                for (found, expected) in gradients(&by_mask).iter().zip(gradients(&by_texts)) {
                    found.assert_approx_eq(&expected, tolerance);
                }
            }
        }
    }

    #[test]
    fn texts_masks_and_a_cache_give_the_same() {
        let base = AttentionOptions::new(4, 2, 8);
        for (window, softcap) in [(None, None), (Some(4), None), (Some(2), Some(1.5))] {
            let options = AttentionOptions {
                window,
                softcap,
                ..base
            };
            let random = |width| {
                let shape = [2 * SEQ, width];
                Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), &Device::flex())
            };
            let qkv = [random(32), random(16), random(16)];
            let dropout = DropoutConfig::new(0.0).init();
            let by_texts = AttentionMask::of(&input(0, SEQ), 0, false);
            let mask = input(0, SEQ).attention_mask;
            let by_mask = AttentionMask::new(0, SEQ, mask, &Device::flex());
            let whole = attend(qkv.clone(), options, 2, &by_texts, &dropout, None);
            let masked = attend(qkv.clone(), options, 2, &by_mask, &dropout, None);
            assert_same(masked, whole.clone());
            let on_tape = qkv.clone().map(Tensor::autodiff);
            let masked = attend(on_tape, options, 2, &by_mask, &dropout, None);
            assert_same(masked.inner(), whole.clone());

            // Positions at once and one by one; the kernels' specialised bodies and the plain ones.
            let decoded = |qkv: &[Tensor<2>; 3]| {
                let mut cache = KvCache::default();
                let mut outputs = Vec::new();
                for (from, to) in [(0, 4), (4, 5), (5, 7), (7, 8), (8, 9)] {
                    let mask = AttentionMask::of(&input(from, to), from, true);
                    let new = qkv.clone().map(|all| {
                        let width = all.dims()[1];
                        let all = all.reshape([2, SEQ, width]).slice_dim(1, from..to);
                        all.reshape([2 * (to - from), width])
                    });
                    let cache_of_layer = Some((&mut cache, 0));
                    let output = attend(new, options, 2, &mask, &dropout, cache_of_layer);
                    outputs.push(output.reshape([2, to - from, 32]));
                    cache.advance(to - from);
                }
                Tensor::cat(outputs, 1).reshape([2 * SEQ, 32])
            };
            assert_same(decoded(&qkv), whole.clone());
            assert_same(
                burn_peft_kernels::with_plain_bodies(|| decoded(&qkv)),
                whole.clone(),
            );
            let qkv = qkv.clone().map(Tensor::autodiff);
            assert_same(decoded(&qkv).inner(), whole);
        }
    }
}
