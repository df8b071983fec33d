//! Self-attention of texts that lie one after the other, causal or in both directions.

mod groups;
mod masked;
mod on_cpu;
mod options;
mod parts;
mod plain;
mod qkv;
mod shared;
mod texts;
mod unseeing;

use burn::backend::Dispatch;
use burn::tensor::Tensor;

use self::on_cpu::{AttentionKernel, Call};
use self::plain::plain;
use self::unseeing::Unseeing;
use crate::cpu::dropout;
use crate::draw_seed;
use crate::flex::{Optional, takes};

pub use self::masked::{HiddenKeys, attend_masked, attention_scores};
pub use self::options::AttentionOptions;
pub use self::qkv::Qkv;
pub use self::texts::Texts;
pub use self::unseeing::mean_of_values;
pub use crate::cpu::attention::Span;

/// Returns the self-attention of each text of a batch, `[tokens, heads · head_dim]`.
///
/// A token of no text gets zeros. Padding that is farther than the window from every key of its
/// text gets the mean of all values of the text, as in the eager attention of transformers. On
/// devices that record gradients, a share `dropout` of the weights is set to zero.
///
/// The CPU's body keeps its input, one number per token and head, and its output, unless it is
/// cheap to recompute; scores exist only in blocks (arXiv 2205.14135, 2307.08691). The plain body
/// computes texts of about the same length side by side.
///
/// # Panics
/// If texts overlap or reach beyond the tokens, if the widths do not fit the heads, or if texts
/// [share tokens](Texts::sharing) and `options` is not causal: only a token that sees no later ones
/// is the same in all its texts.
pub fn attention(
    qkv: impl Into<Qkv>,
    texts: &Texts,
    options: AttentionOptions,
    dropout: f64,
) -> Tensor<2> {
    let qkv = qkv.into();
    assert!(
        options.causal || !texts.share_tokens(),
        "texts share tokens that see later ones"
    );
    let dropout = if qkv.is_autodiff() && crate::dropout::drops() {
        dropout
    } else {
        0.0
    };
    #[cfg(feature = "gpu")]
    if crate::gpu::attention::takes(&qkv, &options, texts.block_count(rows(&qkv, texts))) {
        return on_gpu(qkv, texts, options, dropout);
    }
    if !qkv.tensors().iter().all(takes) {
        return plain(qkv, texts, options, dropout);
    }
    let dropout = if dropout > 0.0 {
        dropout::new(dropout, draw_seed(&qkv.queries().device()))
    } else {
        None
    };
    let unseeing = Unseeing::of(&qkv, texts, &options);
    let call = Call {
        texts: texts.clone(),
        options,
        dropout,
    };
    let (q, k, v) = match qkv {
        Qkv::Packed(packed) => (packed, None, None),
        Qkv::Apart([q, k, v]) => (q, Some(k), Some(v)),
    };
    let (k, v) = (Optional::of(k), Optional::of(v));
    let output = Dispatch::attention_kernel(q.into_dispatch(), k, v, call);
    unseeing.put(Tensor::from_dispatch(output))
}

/// The number of rows that the texts take: their tokens, or the copies of shared ones.
#[cfg(feature = "gpu")]
fn rows(qkv: &Qkv, texts: &Texts) -> usize {
    texts.shared().map_or(qkv.tokens(), |shared| shared.rows())
}

#[cfg(feature = "gpu")]
fn on_gpu(qkv: Qkv, texts: &Texts, options: AttentionOptions, dropout: f64) -> Tensor<2> {
    let device = qkv.queries().device();
    let dropout = if dropout > 0.0 {
        dropout::new(dropout, draw_seed(&device))
    } else {
        None
    };
    let blocks = texts.blocks(rows(&qkv, texts), &device);
    plain::by_rows(qkv, texts, options, |qkv| {
        crate::gpu::attention::attention(qkv, blocks, options, dropout)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_gradients, random};

    fn span(start: usize, queries: usize, keys: usize) -> Span {
        Span {
            start,
            queries,
            keys,
        }
    }

    /// New texts of these spans: what texts keep lies on the first device that they are used on.
    fn anew(spans: &[Span]) -> Texts {
        Texts::new(spans.to_vec())
    }

    #[test]
    fn equals_the_plain_body() {
        let own = AttentionOptions {
            scale: 0.3,
            ..AttentionOptions::new(4, 4, 16)
        };
        let grouped = AttentionOptions { kv_heads: 2, ..own };
        let of_all = |window, softcap| AttentionOptions {
            kv_heads: 1,
            window,
            softcap,
            ..own
        };
        // Texts side by side, gaps, and padding that attends to its text.
        let mixed = [span(0, 7, 7), span(9, 130, 121), span(139, 1, 1)];
        let alike = [span(0, 29, 29), span(29, 29, 29)];
        let cases = [
            (&mixed[..], 145, grouped),
            (&mixed, 145, own),
            (&alike, 58, grouped),
            (&mixed, 145, of_all(Some(5), None)),
            (&mixed, 145, of_all(None, Some(2.0))),
            (&alike, 58, of_all(Some(20), Some(2.0))),
            (&alike, 58, of_all(Some(29), None)),
        ];
        let both =
            cases.map(|(texts, tokens, options)| (texts, tokens, options.with_causal(false)));
        for (spans, tokens, options) in cases.into_iter().chain(both) {
            compare(spans, tokens, options);
        }
    }

    /// Compares with dropout and without, packed and apart.
    fn compare(spans: &[Span], tokens: usize, options: AttentionOptions) {
        let widths = options.widths();
        let packed = random([tokens, widths.iter().sum()], 1.0);
        let apart = widths.map(|width| random([tokens, width], 1.0));
        for dropout in [0.0, 0.3] {
            // The same seed drops the same weights.
            let ours =
                |qkv: Qkv| crate::with_seed(5, || attention(qkv, &anew(spans), options, dropout));
            let other =
                |qkv: Qkv| crate::with_seed(5, || plain(qkv, &anew(spans), options, dropout));
            assert_same_gradients(
                std::slice::from_ref(&packed),
                |[qkv]| ours(qkv.into()),
                |[qkv]| other(qkv.into()),
            );
            assert_same_gradients(&apart, |qkv| ours(qkv.into()), |qkv| other(qkv.into()));
        }
    }

    #[cfg(feature = "wgpu")]
    mod on_a_gpu {
        use super::*;
        use crate::testing::{on_gpu, on_gpu_in_16_bits};

        #[test]
        fn equals_the_plain_body() {
            on_gpu(super::equals_the_plain_body);
        }

        #[test]
        fn equals_the_plain_body_in_16_bits() {
            on_gpu_in_16_bits(super::equals_the_plain_body);
        }

        /// Heads of less than one part, of a part and a bit, and of several.
        #[test]
        fn heads_have_any_width() {
            on_gpu(|| {
                for width in [5, 40, 64, 80, 200] {
                    let options = AttentionOptions::new(2, 1, width);
                    compare(&[span(1, 40, 37), span(41, 3, 3)], 45, options);
                }
            });
        }

        #[test]
        fn who_sees_no_key_gets_the_mean_of_all_values() {
            on_gpu(super::who_sees_no_key_gets_the_mean_of_all_values);
        }

        #[test]
        fn shared_tokens_count_for_every_text() {
            on_gpu(super::shared_tokens_count_for_every_text);
        }

        #[test]
        fn views_are_read_where_they_lie() {
            on_gpu(super::views_are_read_where_they_lie);
        }
    }

    /// Padding after a text that is farther away than the window gets the mean of all values.
    #[test]
    fn who_sees_no_key_gets_the_mean_of_all_values() {
        let options = AttentionOptions {
            window: Some(3),
            ..AttentionOptions::new(2, 1, 2).with_causal(false)
        };
        // In the second text, query 3 is two away from the last key, and query 4 three.
        let texts = Texts::new(vec![span(0, 6, 6), span(6, 6, 2)]);
        let [q, k, v] = options.widths().map(|width| random([12, width], 1.0));
        let mean = v.clone().slice_dim(0, 6..12).mean_dim(0);
        let expected = Tensor::cat(vec![mean.clone(), mean], 1).expand([2, 4]);
        let expected = expected.into_data();
        let near = |found: Tensor<2>| {
            let tolerance = burn::tensor::Tolerance::<f32>::absolute(1e-6);
            let far = found.clone().slice_dim(0, 10..12).into_data();
            far.assert_approx_eq(&expected, tolerance);
            // A query that sees one key gets its value alone.
            let one = found.slice_dim(0, 9..10).slice_dim(1, 0..2).into_data();
            let seen = v.clone().slice_dim(0, 7..8).into_data();
            one.assert_approx_eq(&seen, tolerance);
        };
        let qkv = || [q.clone(), k.clone(), v.clone()];
        near(attention(qkv(), &texts, options, 0.0));
        near(plain(qkv().into(), &texts, options, 0.0));

        // The gradients of that padding go to all values of its text and to nothing else.
        for is_plain in [false, true] {
            let [q, k, v] = qkv().map(|x| x.autodiff().require_grad());
            let parts = [q.clone(), k.clone(), v.clone()];
            let output = if is_plain {
                plain(parts.into(), &texts, options, 0.0)
            } else {
                attention(parts, &texts, options, 0.0)
            };
            let grads = output.slice_dim(0, 10..12).sum().backward();
            let sum = |x: &Tensor<2>| x.grad(&grads).unwrap().abs().sum().into_scalar::<f32>();
            assert_eq!([sum(&q), sum(&k)], [0.0, 0.0]);
            let of_values = v.grad(&grads).unwrap().into_data();
            let found: Vec<f32> = of_values.try_to_vec().unwrap();
            let (before, after) = found.split_at(12);
            assert!(before.iter().all(|&found| found == 0.0), "{found:?}");
            // Two queries of two heads, over six values.
            let is_share = |&found: &f32| (found - 4.0 / 6.0).abs() < 1e-6;
            assert!(after.iter().all(is_share), "{found:?}");
        }
    }

    /// Texts that share their beginnings give the same as texts with copies of them.
    #[test]
    fn shared_tokens_count_for_every_text() {
        let base = AttentionOptions::new(4, 2, 16);
        let capped = AttentionOptions {
            window: Some(20),
            softcap: Some(2.0),
            ..base
        };
        // A beginning of 130 tokens for two texts, then one of 3, and a token of no text.
        let shared = || {
            let texts = [
                vec![0..130, 130..137],
                vec![0..130, 137..157],
                vec![157..158, 158..160],
            ];
            Texts::sharing(&texts, 161)
        };
        let alone = || anew(&[span(0, 137, 137), span(137, 150, 150), span(287, 3, 3)]);
        for options in [base, capped] {
            let apart = options.widths().map(|width| random([161, width], 1.0));
            let of_copies = |qkv: [Tensor<2>; 3]| {
                let rows = |x: Tensor<2>, pieces: &[[usize; 2]]| {
                    let pieces = pieces.iter();
                    let pieces = pieces.map(|&[from, to]| x.clone().slice_dim(0, from..to));
                    Tensor::cat(pieces.collect(), 0)
                };
                let qkv = qkv.map(|x| rows(x, &[[0, 137], [0, 130], [137, 160]]));
                let output = plain(qkv.into(), &alone(), options, 0.0);
                let width = output.dims()[1];
                let nothing = Tensor::zeros([1, width], (&output.device(), output.dtype()));
                let own = rows(output, &[[0, 137], [267, 290]]);
                Tensor::cat(vec![own, nothing], 0)
            };
            assert_same_gradients(
                &apart,
                |qkv| attention(qkv, &shared(), options, 0.0),
                of_copies,
            );
            assert_same_gradients(
                &apart,
                |qkv| plain(qkv.into(), &shared(), options, 0.0),
                of_copies,
            );
            let packed = Tensor::cat(apart.to_vec(), 1);
            assert_same_gradients(
                std::slice::from_ref(&packed),
                |[qkv]| attention(qkv, &shared(), options, 0.0),
                |[qkv]| of_copies(Qkv::from(qkv).parts(&options)),
            );
        }
    }

    #[test]
    fn views_are_read_where_they_lie() {
        let options = AttentionOptions::new(4, 2, 8);
        let texts = Texts::new(vec![span(1, 9, 9)]);
        let wide = random([12, 64 + 5], 1.0);
        let packed = wide.clone().slice([0..11, 3..67]);
        let apart = Qkv::from(packed.clone()).parts(&options);
        let expected = plain(packed.into(), &texts, options, 0.0).into_data();
        let found = attention(apart, &texts, options, 0.0).into_data();
        found.assert_approx_eq(&expected, burn::tensor::Tolerance::<f32>::absolute(1e-5));
    }
}
