//! Attention of some texts, by this module and by plain loops in f64.

use pulp::Arch;

use crate::cpu::attention::backward::backward_on;
use crate::cpu::attention::forward::forward_on;
use crate::cpu::attention::*;
use crate::cpu::random::keep;

/// Every instruction set that this machine has.
pub(super) fn archs() -> Vec<Arch> {
    let mut archs = vec![Arch::Scalar, Arch::new()];
    #[cfg(target_arch = "x86_64")]
    archs.extend(pulp::x86::V3::try_new().map(Arch::V3));
    archs
}

/// Values between -1 and 1, the same in every run.
pub(super) fn values(seed: u64, len: usize) -> Vec<f32> {
    let value = |i| crate::cpu::random::bits(crate::cpu::random::row_key(seed, i), 0) as f32;
    (0..len as u64)
        .map(|i| value(i) / 2f32.powi(31) - 1.0)
        .collect()
}

pub(super) fn exact(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| value.into()).collect()
}

#[derive(Clone)]
pub(super) struct Case {
    pub dims: Dims,
    pub tokens: usize,
    pub spans: Vec<Span>,
    pub dropout: Option<Dropout>,
}

impl Case {
    /// Causal attention; [`both`](Self::both) makes it one in both directions.
    pub fn new(
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
            causal: true,
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

    /// The same case, where queries see later keys too.
    pub fn both(&self) -> Self {
        let mut both = self.clone();
        both.dims.causal = false;
        both
    }

    pub fn widths(&self) -> [usize; 3] {
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
    pub fn run(&self, arch: Arch, qkv: &[f32], grad_out: &[f32]) -> [Vec<f32>; 3] {
        let input = self.input(qkv);
        let width = self.dims.query_width();
        // Elements that are not written must not pass for zeros.
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

    /// The keys that a query sees, if the text has any.
    fn visible(&self, span: &Span, query: usize) -> Option<Range<usize>> {
        let last = span.keys.checked_sub(1)?;
        let away = self.dims.window.unwrap_or(span.queries);
        let own = if self.dims.causal {
            query.min(last)
        } else {
            query
        };
        let end = if self.dims.causal {
            own + 1
        } else {
            own + away
        };
        let visible = (own + 1).saturating_sub(away)..end.min(span.keys);
        (!visible.is_empty()).then_some(visible)
    }

    /// The same with plain loops: output, log-sum-exp, and the gradient of `sum(out * grad_out)`.
    pub fn naive(&self, qkv: &[f64], grad_out: &[f64]) -> [Vec<f64>; 3] {
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
                let Some(visible) = self.visible(span, i) else {
                    continue;
                };
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

    /// Compares everything with the plain loops, causal and in both directions.
    pub fn check(&self) {
        self.check_one();
        self.both().check_one();
    }

    fn check_one(&self) {
        let qkv = values(1, self.tokens * self.widths().iter().sum::<usize>());
        // Larger queries, so that the weights differ a lot.
        let qkv: Vec<f32> = qkv.iter().map(|value| value * 3.0).collect();
        let grad_out = values(2, self.tokens * self.dims.query_width());
        let exact = self.naive(&exact(&qkv), &exact(&grad_out));
        for arch in archs() {
            self.compare(self.run(arch, &qkv, &grad_out), &exact);
        }
    }

    /// Compares the gradients of the plain loops with differences of their output, causal and in
    /// both directions.
    pub fn check_differences(&self) {
        self.check_differences_of_one();
        self.both().check_differences_of_one();
    }

    fn check_differences_of_one(&self) {
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
        // Scores are sums of `head_dim` products.
        let allowed = 5e-6 * (self.dims.head_dim as f64 / 64.0).max(1.0);
        for (name, (ours, exact)) in ["out", "lse", "grads"].iter().zip(ours.iter().zip(exact)) {
            let largest = exact
                .iter()
                .fold(1.0, |largest: f64, value| largest.max(value.abs()));
            for (i, (ours, exact)) in ours.iter().zip(exact).enumerate() {
                let error = (f64::from(*ours) - exact).abs() / largest;
                assert!(
                    error < allowed,
                    "{name}[{i}] = {ours}, exact {exact}: {:?}",
                    self.dims
                );
            }
        }
        // Exactly zero outside the spans, and so is the gradient of padding.
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
