//! Against plain loops in f64, whose gradients are compared with differences once.

use pulp::Arch;

use super::backward::backward_on;
use super::decode::decode_on;
use super::forward::forward_on;
use super::*;
use crate::cpu::random::keep;

/// Every instruction set that this machine has.
fn archs() -> Vec<Arch> {
    let mut archs = vec![Arch::Scalar, Arch::new()];
    #[cfg(target_arch = "x86_64")]
    archs.extend(pulp::x86::V3::try_new().map(Arch::V3));
    archs
}

/// Values between -1 and 1, the same at every run.
fn values(seed: u64, len: usize) -> Vec<f32> {
    let value = |i| crate::cpu::random::bits(crate::cpu::random::row_key(seed, i), 0) as f32;
    (0..len as u64)
        .map(|i| value(i) / 2f32.powi(31) - 1.0)
        .collect()
}

fn exact(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| value.into()).collect()
}

#[derive(Clone)]
struct Case {
    dims: Dims,
    tokens: usize,
    spans: Vec<Span>,
    dropout: Option<Dropout>,
}

impl Case {
    fn new(
        heads: usize,
        kv_heads: usize,
        head_dim: usize,
        spans: &[(usize, usize, usize)],
    ) -> Self {
        let scale = 1.3 / (head_dim as f32).sqrt();
        let dims = Dims {
            heads,
            kv_heads,
            head_dim,
            scale,
            window: None,
            softcap: None,
        };
        let spans = spans.iter().map(|&(start, queries, keys)| Span {
            start,
            queries,
            keys,
        });
        let spans: Vec<_> = spans.collect();
        let end = spans.last().map_or(0, |span| span.start + span.queries);
        Self {
            dims,
            tokens: end + 2,
            spans,
            dropout: None,
        }
    }

    fn widths(&self) -> [usize; 3] {
        [
            self.dims.query_width(),
            self.dims.key_width(),
            self.dims.key_width(),
        ]
    }

    /// Queries, keys and values as columns of one buffer.
    fn input<'a>(&'a self, qkv: &'a [f32]) -> Input<'a> {
        let [q, k, v] = self.widths();
        let columns = |offset| Columns::new(qkv, q + k + v, offset);
        Input {
            dims: self.dims,
            tokens: self.tokens,
            spans: &self.spans,
            q: columns(0),
            k: columns(q),
            v: columns(q + k),
            dropout: self.dropout,
        }
    }

    /// Output, log-sum-exp and gradients by this module.
    fn run(&self, arch: Arch, qkv: &[f32], grad_out: &[f32]) -> [Vec<f32>; 3] {
        let input = self.input(qkv);
        let width = self.dims.query_width();
        // What is not written must not pass for zeros.
        let mut out = vec![f32::NAN; self.tokens * width];
        let mut lse = vec![f32::NAN; self.tokens * self.dims.heads];
        let mut grads = vec![f32::NAN; qkv.len()];
        forward_on(arch, &input, &mut out, Some(&mut lse));
        let saved = Saved {
            out: Columns::new(&out, width, 0),
            lse: &lse,
            grad_out: Columns::new(grad_out, width, 0),
        };
        let [q, k, v] = ColumnsMut::split(&mut grads, self.widths());
        backward_on(arch, &input, &saved, Gradients { q, k, v });
        [out, lse, grads]
    }

    /// The same with plain loops: output, log-sum-exp, and the gradient of `sum(out * grad_out)`.
    fn naive(&self, qkv: &[f64], grad_out: &[f64]) -> [Vec<f64>; 3] {
        let Dims {
            heads,
            head_dim,
            scale,
            ..
        } = self.dims;
        let [q_width, kv_width, _] = self.widths();
        let stride = q_width + 2 * kv_width;
        let mut out = vec![0.0; self.tokens * q_width];
        let mut lse = vec![0.0; self.tokens * heads];
        let mut grads = vec![0.0; qkv.len()];
        for span in &self.spans {
            for (head, i) in (0..heads).flat_map(|h| (0..span.queries).map(move |i| (h, i))) {
                let visible = span.keys.min(i + 1);
                let visible = visible.saturating_sub(self.dims.window())..visible;
                if visible.is_empty() {
                    continue;
                }
                let query = span.start + i;
                let kv_head = head / self.dims.group();
                let q = query * stride + head * head_dim;
                let k = |j| (span.start + j) * stride + q_width + kv_head * head_dim;
                let v = |j| k(j) + kv_width;
                let o = query * q_width + head * head_dim;
                let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
                let at = |x: usize| &qkv[x..x + head_dim];
                let tanh = |score: f64| match self.dims.softcap {
                    Some(cap) => (score / f64::from(cap)).tanh(),
                    None => 0.0,
                };
                let scores = visible.clone().map(|j| {
                    let score = f64::from(scale) * dot(at(q), at(k(j)));
                    let capped = self.dims.softcap.map(|cap| f64::from(cap) * tanh(score));
                    (capped.unwrap_or(score), 1.0 - tanh(score).powi(2))
                });
                let (scores, slopes): (Vec<f64>, Vec<f64>) = scores.unzip();
                let sum: f64 = scores.iter().map(|score| score.exp()).sum();
                lse[query * heads + head] = sum.ln();
                let weights: Vec<f64> = scores.iter().map(|score| score.exp() / sum).collect();
                let row = (query * heads + head) as u64;
                let factor = |j: usize| {
                    self.dropout.map_or(1.0, |dropout| {
                        let column = j as u32;
                        let stays = keep(dropout.seed, row, column, dropout.threshold());
                        if stays {
                            f64::from(dropout.scale())
                        } else {
                            0.0
                        }
                    })
                };
                let grad = &grad_out[o..o + head_dim];
                let grad_weights: Vec<f64> = (visible.clone())
                    .map(|j| factor(j) * dot(grad, at(v(j))))
                    .collect();
                let delta = dot(&weights, &grad_weights);
                for (n, j) in visible.enumerate() {
                    let grad_score =
                        f64::from(scale) * weights[n] * (grad_weights[n] - delta) * slopes[n];
                    for d in 0..head_dim {
                        out[o + d] += factor(j) * weights[n] * qkv[v(j) + d];
                        grads[v(j) + d] += factor(j) * weights[n] * grad[d];
                        grads[q + d] += grad_score * qkv[k(j) + d];
                        grads[k(j) + d] += grad_score * qkv[q + d];
                    }
                }
            }
        }
        [out, lse, grads]
    }

    /// Compares everything with the plain loops.
    fn check(&self) {
        let qkv = values(1, self.tokens * self.widths().iter().sum::<usize>());
        // Larger queries, so that weights differ much.
        let qkv: Vec<f32> = qkv.iter().map(|value| value * 3.0).collect();
        let grad_out = values(2, self.tokens * self.dims.query_width());
        let exact = self.naive(&exact(&qkv), &exact(&grad_out));
        for arch in archs() {
            self.compare(self.run(arch, &qkv, &grad_out), &exact);
        }
    }

    /// Compares the gradients of the plain loops with differences of their output.
    fn check_differences(&self) {
        let length = self.tokens * self.widths().iter().sum::<usize>();
        let qkv = exact(&values(1, length));
        let grad_out = exact(&values(2, self.tokens * self.dims.query_width()));
        let [_, _, grads] = self.naive(&qkv, &grad_out);
        let loss = |qkv: &[f64]| {
            let [out, ..] = self.naive(qkv, &grad_out);
            let products = out.iter().zip(&grad_out).map(|(out, grad)| out * grad);
            products.sum::<f64>()
        };
        for (i, grad) in grads.iter().enumerate() {
            let mut moved = qkv.clone();
            moved[i] = qkv[i] + 1e-5;
            let up = loss(&moved);
            moved[i] = qkv[i] - 1e-5;
            let difference = (up - loss(&moved)) / 2e-5;
            assert!(
                (difference - grad).abs() < 1e-8,
                "{i}: {difference} and {grad}"
            );
        }
    }

    fn compare(&self, ours: [Vec<f32>; 3], exact: &[Vec<f64>; 3]) {
        for (name, (ours, exact)) in ["out", "lse", "grads"].iter().zip(ours.iter().zip(exact)) {
            let largest = exact
                .iter()
                .fold(1.0, |largest: f64, value| largest.max(value.abs()));
            for (i, (ours, exact)) in ours.iter().zip(exact).enumerate() {
                let error = (f64::from(*ours) - exact).abs() / largest;
                assert!(
                    error < 5e-6,
                    "{name}[{i}] = {ours}, exact {exact}: {:?}",
                    self.dims
                );
            }
        }
        // Exactly zero outside of the spans, and as the gradient of padding.
        let [out, _, grads] = ours;
        let [q_width, kv_width, _] = self.widths();
        for token in 0..self.tokens {
            let within = |end: fn(&Span) -> usize| {
                let mut spans = self.spans.iter().filter(|span| span.keys > 0);
                spans.any(|span| (span.start..span.start + end(span)).contains(&token))
            };
            let zero = |values: &[f32]| values.iter().all(|&value| value == 0.0);
            let grads = &grads[token * (q_width + 2 * kv_width)..][..q_width + 2 * kv_width];
            assert!(within(|span| span.queries) || zero(&out[token * q_width..][..q_width]));
            assert!(within(|span| span.queries) || zero(&grads[..q_width]));
            assert!(within(|span| span.keys) || zero(&grads[q_width..]));
        }
    }
}

#[test]
fn plain_loops_have_the_right_gradients() {
    let mut case = Case::new(4, 2, 3, &[(1, 5, 3), (6, 2, 2)]);
    case.check_differences();
    case.dims.window = Some(2);
    case.dims.softcap = Some(0.7);
    case.check_differences();
    case.dropout = Some(Dropout {
        seed: 5,
        probability: 0.3,
    });
    case.check_differences();
}

#[test]
fn agrees_with_plain_loops() {
    // Texts without padding, with it, with gaps between them, and one that is nothing but padding.
    let spans = [
        (0, 1, 1),
        (1, 7, 7),
        (8, 65, 65),
        (80, 129, 129),
        (209, 40, 33),
        (250, 3, 0),
    ];
    for head_dim in [16, 48, 64, 80] {
        Case::new(2, 2, head_dim, &spans).check();
    }
    Case::new(4, 2, 20, &spans).check();
    Case::new(6, 1, 7, &spans).check();
}

#[test]
fn agrees_on_many_blocks() {
    let spans = [
        (3, 2 * KEYS + 70, 2 * KEYS + 70),
        (500, 3 * QUERIES + 5, KEYS + 1),
    ];
    Case::new(2, 1, 64, &spans).check();
}

#[test]
fn windows_and_caps_agree_with_plain_loops() {
    let spans = [
        (0, 1, 1),
        (2, 7, 5),
        (9, 2 * KEYS + 70, 2 * KEYS + 70),
        (400, 3 * QUERIES + 5, KEYS + 1),
        (700, 40, 40),
    ];
    for (heads, kv_heads, head_dim) in [(2, 2, 64), (4, 2, 20), (3, 1, 96)] {
        let mut case = Case::new(heads, kv_heads, head_dim, &spans);
        for window in [1, 5, 16, 100, 129, 300, 1000] {
            case.dims.window = Some(window);
            case.dims.softcap = (window % 2 == 1).then_some(3.0);
            case.dropout = (window == 100).then_some(Dropout {
                seed: 3,
                probability: 0.2,
            });
            case.check();
        }
    }
}

#[test]
fn wide_heads_and_shared_keys_agree_with_plain_loops() {
    let short = [(0, 60, 60), (60, 9, 7)];
    for (heads, kv_heads, head_dim) in [(4, 2, 128), (3, 1, 256), (9, 3, 64), (2, 2, 96)] {
        Case::new(heads, kv_heads, head_dim, &short).check();
        // More texts than [`FEW`]: a task is all the heads that share keys.
        let many: Vec<_> = (0..9).map(|text| (text * 31, 30, 30 - text)).collect();
        Case::new(heads, kv_heads, head_dim, &many).check();
    }
}

#[test]
fn drops_the_same_weights_in_both_directions() {
    let spans = [(2, 25, 25), (30, 140, 131)];
    let mut case = Case::new(4, 2, 16, &spans);
    case.dropout = Some(Dropout {
        seed: 9,
        probability: 0.2,
    });
    case.check();
    case.dropout = Some(Dropout {
        seed: 9,
        probability: 0.0,
    });
    case.check();
}

#[test]
fn large_scores_do_not_overflow() {
    let mut case = Case::new(1, 1, 16, &[(0, 140, 140)]);
    case.dims.scale = 40.0;
    let qkv = values(3, case.tokens * 48);
    let grad_out = values(4, case.tokens * 16);
    let [out, lse, grads] = case.run(Arch::new(), &qkv, &grad_out);
    assert!(
        [out, lse, grads]
            .iter()
            .flatten()
            .all(|value| value.is_finite())
    );
}

#[test]
fn threads_change_no_bit() {
    let mut case = Case::new(6, 3, 48, &[(0, 200, 200), (200, 90, 77), (290, 7, 7)]);
    case.dropout = Some(Dropout {
        seed: 1,
        probability: 0.1,
    });
    let qkv = values(5, case.tokens * case.widths().iter().sum::<usize>());
    let grad_out = values(6, case.tokens * case.dims.query_width());
    let results = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| case.run(Arch::new(), &qkv, &grad_out))
    });
    assert_eq!(results[0], results[1]);
}

#[test]
fn one_token_over_a_cache_is_the_last_of_a_text() {
    for (heads, kv_heads, head_dim) in [(2, 2, 64), (4, 2, 80), (3, 1, 23)] {
        let scale = 1.0 / (head_dim as f32).sqrt();
        let dims = Dims {
            heads,
            kv_heads,
            head_dim,
            scale,
            window: None,
            softcap: None,
        };
        let (capacity, lengths) = (600, [1, 599, 17, 0]);
        let seen = lengths.map(|length| 0..length);
        let size = lengths.len() * kv_heads * capacity * head_dim;
        let (keys, cached) = (values(1, size), values(2, size));
        let q = values(3, lengths.len() * heads * head_dim);
        let outs = archs().into_iter().map(|arch| {
            let mut out = vec![f32::NAN; q.len()];
            let cache = Cache {
                keys: &keys,
                values: &cached,
                capacity,
                seen: &seen,
            };
            decode_on(
                arch,
                dims,
                Columns::new(&q, dims.query_width(), 0),
                cache,
                &mut out,
            );
            out
        });
        let outs: Vec<_> = outs.collect();
        for (sequence, &length) in lengths.iter().enumerate() {
            // The same text flattened, with a query at its last token.
            let case = Case {
                dims,
                tokens: length,
                spans: vec![Span {
                    start: 0,
                    queries: length,
                    keys: length,
                }],
                dropout: None,
            };
            let mut qkv = Vec::new();
            let width = dims.query_width();
            for token in 0..length {
                qkv.extend(exact(&q[sequence * width..][..width]));
                for from in [&keys, &cached] {
                    for head in 0..kv_heads {
                        let row = (sequence * kv_heads + head) * capacity + token;
                        qkv.extend(exact(&from[row * head_dim..][..head_dim]));
                    }
                }
            }
            let [naive, ..] = case.naive(&qkv, &vec![0.0; length * width]);
            let expected = if length == 0 { vec![0.0; width] } else { naive };
            let last = &expected[expected.len() - width..];
            for out in &outs {
                for (ours, exact) in out[sequence * width..][..width].iter().zip(last) {
                    assert!(
                        (f64::from(*ours) - exact).abs() < 2e-6,
                        "{ours} and {exact}"
                    );
                }
            }
        }
    }
}
