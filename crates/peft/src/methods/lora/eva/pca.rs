//! Principal components batch by batch (Ross et al. 2008), like PEFT's `IncrementalPCA`.

use burn::tensor::Tensor;

use crate::Result;
use crate::methods::lora::{Weight, largest};

/// The directions in which rows vary most.
#[derive(Clone, Debug)]
pub(super) struct IncrementalPca {
    wanted: usize,
    tau: f64,
    rows: usize,
    mean: Vec<f64>,
    variance: Vec<f64>,
    /// `[wanted, d]`, in row-major order.
    components: Vec<f32>,
    singular_values: Vec<f32>,
    /// The share of the total variance that each component explains.
    pub explained_variance_ratio: Vec<f64>,
    /// Which components hardly changed with the last batch.
    converged: Vec<bool>,
}

impl IncrementalPca {
    /// For `wanted` components. A component has converged when the cosine to its previous value is
    /// at least `tau`.
    pub fn new(wanted: usize, tau: f64) -> Self {
        Self {
            wanted,
            tau,
            rows: 0,
            mean: Vec::new(),
            variance: Vec::new(),
            components: Vec::new(),
            singular_values: Vec::new(),
            explained_variance_ratio: Vec::new(),
            converged: vec![false; wanted],
        }
    }

    /// Whether it has seen enough rows.
    pub fn is_fitted(&self) -> bool {
        !self.components.is_empty()
    }

    /// Whether the first `rank` components have converged.
    pub fn has_converged(&self, rank: usize) -> bool {
        self.converged[..rank].iter().all(|converged| *converged)
    }

    /// The first `rank` components, `[rank, d]`; with `whiten`, divided by the roots of their
    /// singular values.
    pub fn directions(&self, rank: usize, whiten: bool) -> Vec<f32> {
        let d = self.mean.len();
        let mut values = self.components[..rank * d].to_vec();
        if whiten {
            for (row, s) in values.chunks_mut(d).zip(&self.singular_values) {
                row.iter_mut().for_each(|value| *value /= s.sqrt());
            }
        }
        values
    }

    /// Adds the rows `[n, d]`. A batch with fewer rows than components is skipped.
    ///
    /// # Errors
    /// If they are not finite.
    pub fn partial_fit(&mut self, rows: Tensor<2>) -> Result<()> {
        let [n, d] = rows.dims();
        if n < self.wanted {
            tracing::warn!(
                "EVA leaves out a batch with fewer rows ({n}) than {}",
                self.wanted
            );
            return Ok(());
        }
        let mut x: Vec<f32> = rows.into_data().convert::<f32>().iter::<f32>().collect();
        let column = |x: &[f32], of: &dyn Fn(f64, usize) -> f64| {
            let mut sums = vec![0.0; d];
            for row in x.chunks(d) {
                for (i, value) in row.iter().enumerate() {
                    sums[i] += of((*value).into(), i);
                }
            }
            sums
        };
        let (before, now) = (self.rows as f64, n as f64);
        let all = before + now;
        let mean: Vec<f64> = column(&x, &|v, _| v).iter().map(|sum| sum / now).collect();
        let squares = column(&x, &|v, i| (v - mean[i]) * (v - mean[i]));
        for row in x.chunks_mut(d) {
            for (value, mean) in row.iter_mut().zip(&mean) {
                *value = (f64::from(*value) - mean) as f32;
            }
        }
        let mut matrix = Vec::new();
        if self.is_fitted() {
            for (row, s) in self.components.chunks(d).zip(&self.singular_values) {
                matrix.extend(row.iter().map(|value| value * s));
            }
            let factor = (before / all * now).sqrt();
            let between = self.mean.iter().zip(&mean);
            let between = between.map(|(old, new)| (factor * (old - new)) as f32);
            x.extend(between);
        } else {
            (self.mean, self.variance) = (vec![0.0; d], vec![0.0; d]);
        }
        matrix.extend(x);
        for i in 0..d {
            let apart = self.mean[i] - mean[i];
            let sum = self.variance[i] * before + squares[i] + before * now / all * apart * apart;
            self.variance[i] = sum / all;
            self.mean[i] = (self.mean[i] * before + mean[i] * now) / all;
        }
        self.rows += n;

        let height = matrix.len() / d;
        let weight = Weight {
            values: matrix,
            d_out: height,
            d_in: d,
        };
        let q = (2 * self.wanted).min(height).min(d);
        let (_, s, vt) = largest(&weight, q, 2)?;
        let mut components = vt[..self.wanted * d].to_vec();
        for row in components.chunks_mut(d) {
            // The sign is arbitrary; the largest value is made positive, so that no sign flips by
            // chance.
            let largest = row
                .iter()
                .copied()
                .max_by(|a, b| a.abs().total_cmp(&b.abs()));
            if largest.is_some_and(|value| value < 0.0) {
                row.iter_mut().for_each(|value| *value = -*value);
            }
        }
        if self.is_fitted() {
            let pairs = components.chunks(d).zip(self.components.chunks(d));
            self.converged = pairs.map(|(a, b)| cosine(a, b) >= self.tau).collect();
        }
        let total: f64 = self.variance.iter().sum::<f64>() * self.rows as f64;
        let ratio = |s: &f32| f64::from(*s) * f64::from(*s) / total;
        self.explained_variance_ratio = s[..self.wanted].iter().map(ratio).collect();
        self.singular_values = s[..self.wanted].to_vec();
        self.components = components;
        Ok(())
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}
