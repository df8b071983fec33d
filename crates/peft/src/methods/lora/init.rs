//! LoRA's initial values that are computed from the weight: PiSSA, OLoRA and LoftQ; and orthogonal
//! ones.

use burn::tensor::{Distribution, FloatDType, Tensor, TensorData};
use burn_peft_kernels::{QuantType, Quantization, QuantizedWeight};

use crate::config::{InitLoraWeights, LoftQConfig};
use crate::maths::svd::svd;
use crate::{PeftError, Result};

/// `A` and `B` as in the file, and the remaining weight.
pub(super) struct Start {
    /// `[r, d_in]`, in row-major order.
    pub a: Vec<f32>,
    /// `[d_out, r]`, in row-major order.
    pub b: Vec<f32>,
    /// `[d_out, d_in]`, in row-major order; `None` if the weight does not change.
    pub weight: Option<Vec<f32>>,
}

/// A layer's weight as `[d_out, d_in]`, the shape in torch's `Linear`, whatever the layer is, so
/// that everything here is right for `Conv1D` too.
pub(crate) struct Weight {
    pub values: Vec<f32>,
    pub d_out: usize,
    pub d_in: usize,
}

impl Weight {
    /// From `[d_in, d_out]`.
    pub fn new(weight: Tensor<2>) -> Self {
        let [d_in, d_out] = weight.dims();
        let data = weight.transpose().into_data().convert::<f32>();
        let values = data.iter::<f32>().collect();
        Self {
            values,
            d_out,
            d_in,
        }
    }

    /// `values - scaling · b a`.
    fn without(&self, a: &[f32], b: &[f32], scaling: f64) -> Vec<f32> {
        let r = a.len() / self.d_in;
        let mut left = self.values.clone();
        for (row, b) in left.chunks_mut(self.d_in).zip(b.chunks(r)) {
            for (column, value) in row.iter_mut().enumerate() {
                let product = b.iter().enumerate();
                let product =
                    product.map(|(i, &b)| f64::from(b) * f64::from(a[i * self.d_in + column]));
                *value = (f64::from(*value) - scaling * product.sum::<f64>()) as f32;
            }
        }
        left
    }
}

/// The initial values for rank `r`; `None` for an initialisation that does not use the weight.
///
/// # Errors
/// If the rank does not allow it, or the weight is not finite.
pub(super) fn start(
    init: InitLoraWeights,
    loftq: LoftQConfig,
    weight: Weight,
    r: usize,
    scaling: f64,
) -> Result<Start> {
    let smallest = weight.d_in.min(weight.d_out);
    if r > smallest && !matches!(init, InitLoraWeights::Orthogonal) {
        return Err(PeftError::conflict(
            &["init_lora_weights", "r"],
            format!(
                "init_lora_weights = {} needs a rank of at most {smallest}, the smaller \
                 side of a weight of {} x {}, and r = {r}",
                init.to_json(),
                weight.d_out,
                weight.d_in
            ),
        ));
    }
    match init {
        InitLoraWeights::Olora => olora(weight, r, scaling),
        InitLoraWeights::Orthogonal => orthogonal(&weight, r),
        InitLoraWeights::Loftq => loft_q(weight, r, loftq),
        InitLoraWeights::Pissa { niter } => pissa(weight, r, scaling, niter),
        _ => unreachable!("{init:?} does not look at the weight"),
    }
}

/// PiSSA (arXiv 2404.02948): `A = √(S_r/s) V_rᵀ` and `B = U_r √(S_r/s)` from the `r` largest
/// singular values, which are taken out of the weight. With `niter`, they are found by that many
/// rounds of subspace iteration instead of a full decomposition.
fn pissa(weight: Weight, r: usize, scaling: f64, niter: Option<usize>) -> Result<Start> {
    let (d_out, d_in) = (weight.d_out, weight.d_in);
    let (u, s, vt) = match niter {
        None => svd(&weight.values, d_out, d_in)?,
        Some(rounds) => largest(&weight, r, rounds)?,
    };
    let roots: Vec<f32> = s[..r].iter().map(|s| (s / scaling as f32).sqrt()).collect();
    let (a, b) = factors(&u, &roots, &vt, d_out, d_in);
    let left = weight.without(&a, &b, scaling);
    Ok(Start {
        a,
        b,
        weight: Some(left),
    })
}

/// `diag(roots) vt` `[r, d_in]` and `u diag(roots)` `[d_out, r]`, from the first columns of `u` and
/// the first rows of `vt`.
fn factors(
    u: &[f32],
    roots: &[f32],
    vt: &[f32],
    d_out: usize,
    d_in: usize,
) -> (Vec<f32>, Vec<f32>) {
    let k = u.len() / d_out;
    let rows = roots.iter().zip(vt.chunks(d_in));
    let a = rows.flat_map(|(root, row)| row.iter().map(move |v| v * root));
    let columns = u.chunks(k);
    let b = columns.flat_map(|row| row.iter().zip(roots).map(|(u, root)| u * root));
    (a.collect(), b.collect())
}

/// A decomposition of rank `r` by subspace iteration (Halko et al., arXiv 0909.4061), like
/// `torch.svd_lowrank`.
pub(crate) fn largest(
    weight: &Weight,
    r: usize,
    rounds: usize,
) -> Result<(Vec<f32>, Vec<f32>, Vec<f32>)> {
    let (d_out, d_in) = (weight.d_out, weight.d_in);
    let device = burn_peft_kernels::cpu_device();
    let tensor = |values: Vec<f32>, shape: [usize; 2]| {
        Tensor::<2>::from_data(TensorData::new(values, shape), &device)
    };
    let matrix = tensor(weight.values.clone(), [d_out, d_in]);
    let normal = Distribution::Normal(0.0, 1.0);
    let orthonormal = |columns: Tensor<2>| {
        let [rows, r] = columns.dims();
        let values = columns.into_data().iter::<f32>().collect();
        tensor(orthonormalised(values, rows, r), [rows, r])
    };
    let start = Tensor::<2>::random([d_in, r], normal, &device);
    let mut q = orthonormal(matrix.clone().matmul(start));
    for _ in 0..rounds {
        let other = orthonormal(matrix.clone().transpose().matmul(q));
        q = orthonormal(matrix.clone().matmul(other));
    }
    let small = q.clone().transpose().matmul(matrix);
    let small: Vec<f32> = small.into_data().iter::<f32>().collect();
    let (u, s, vt) = svd(&small, r, d_in)?;
    let u = q.matmul(tensor(u, [r, r]));
    Ok((u.into_data().iter::<f32>().collect(), s, vt))
}

/// OLoRA (arXiv 2406.01775): `B = Q_r` and `A = R_r` from the decomposition `W = Q R`, which are
/// taken out of the weight. `Q_r` depends only on the first `r` columns of `W`.
fn olora(weight: Weight, r: usize, scaling: f64) -> Result<Start> {
    let (d_out, d_in) = (weight.d_out, weight.d_in);
    if weight.values.iter().any(|value| !value.is_finite()) {
        return Err(PeftError::NotFinite {
            problem: format!(
                "a weight of {d_out} x {d_in} is not finite, so it has no factors to start from"
            ),
        });
    }
    let columns = weight
        .values
        .chunks(d_in)
        .flat_map(|row| row[..r].iter().copied());
    let q = orthonormalised(columns.collect(), d_out, r);
    let mut a = vec![0.0; r * d_in];
    for (i, row) in a.chunks_mut(d_in).enumerate() {
        for (column, value) in row.iter_mut().enumerate() {
            let terms = (0..d_out)
                .map(|o| f64::from(q[o * r + i]) * f64::from(weight.values[o * d_in + column]));
            *value = terms.sum::<f64>() as f32;
        }
    }
    let left = weight.without(&a, &q, scaling);
    Ok(Start {
        a,
        b: q,
        weight: Some(left),
    })
}

/// Orthonormalises the columns of `[rows, columns]` one after the other (Gram-Schmidt, twice, in 64
/// bits).
fn orthonormalised(values: Vec<f32>, rows: usize, columns: usize) -> Vec<f32> {
    let mut q: Vec<Vec<f64>> = Vec::with_capacity(columns);
    for column in 0..columns {
        let mut next: Vec<f64> = (0..rows)
            .map(|row| values[row * columns + column].into())
            .collect();
        for _ in 0..2 {
            for before in &q {
                let along: f64 = before.iter().zip(&next).map(|(a, b)| a * b).sum();
                next.iter_mut()
                    .zip(before)
                    .for_each(|(a, b)| *a -= along * b);
            }
        }
        let norm = next.iter().map(|value| value * value).sum::<f64>().sqrt();
        if norm > 0.0 {
            next.iter_mut().for_each(|value| *value /= norm);
        }
        q.push(next);
    }
    let entries = (0..rows).flat_map(|row| q.iter().map(move |column| column[row] as f32));
    entries.collect()
}

/// Orthogonal initialisation (Datta 2025, "Rethinking LoRA initialisation"): `A` and `B` from the
/// odd and even rows of one random orthogonal matrix, so that `B A` is zero although neither factor
/// is.
fn orthogonal(weight: &Weight, r: usize) -> Result<Start> {
    if r % 2 == 1 {
        return Err(PeftError::conflict(
            &["init_lora_weights", "r"],
            format!("init_lora_weights = \"orthogonal\" needs an even rank, and r = {r}"),
        ));
    }
    let device = burn_peft_kernels::cpu_device();
    let random =
        |shape: [usize; 2]| Tensor::<2>::random(shape, Distribution::Normal(0.0, 1.0), &device);
    let square = random([r, r]).into_data().iter::<f32>().collect();
    let q = Tensor::<3>::from_data(
        TensorData::new(orthonormalised(square, r, r), [r / 2, 2, r]),
        &device,
    );
    let half = |odd: usize| q.clone().narrow(1, odd, 1).reshape([r / 2, r]);
    let a = random([weight.d_in, r / 2]).matmul(half(0)).transpose() / 10.0;
    let b = random([weight.d_out, r / 2]).matmul(half(1)) / 10.0;
    Ok(Start {
        a: a.into_data().iter::<f32>().collect(),
        b: b.into_data().iter::<f32>().collect(),
        weight: None,
    })
}

/// LoftQ (arXiv 2310.08659): quantises the weight and sets `B A` to the best correction of rank
/// `r`, in turns. As in PEFT the scaling is not taken into account: use α = r.
fn loft_q(weight: Weight, r: usize, config: LoftQConfig) -> Result<Start> {
    let (d_out, d_in) = (weight.d_out, weight.d_in);
    let mut rest = weight.values.clone();
    let mut start = None;
    for _ in 0..config.loftq_iter {
        let quantised = match config.loftq_bits {
            8 => int8(&rest, d_in),
            _ => nf4(&rest, d_in),
        };
        let missing = weight.values.iter().zip(&quantised).map(|(w, q)| w - q);
        let missing: Vec<f32> = missing.collect();
        let (u, s, vt) = svd(&missing, d_out, d_in)?;
        let roots: Vec<f32> = s[..r].iter().map(|s| s.sqrt()).collect();
        let (a, b) = factors(&u, &roots, &vt, d_out, d_in);
        rest = weight.without(&a, &b, 1.0);
        start = Some(Start {
            a,
            b,
            weight: Some(quantised),
        });
    }
    start.ok_or_else(|| PeftError::value("loftq_iter", 0, "must be positive"))
}

/// Rounds values `[d_out, d_in]` to the nearest of NF4 (QLoRA, arXiv 2305.14314), in blocks of 64
/// that have a scale each.
fn nf4(values: &[f32], d_in: usize) -> Vec<f32> {
    let shape = [values.len() / d_in, d_in];
    let data = TensorData::new(values.to_vec(), shape);
    let weight = Tensor::<2>::from_data(data, &burn_peft_kernels::cpu_device()).transpose();
    let quantization = Quantization {
        quant_type: QuantType::Nf4,
        compute_dtype: FloatDType::F32,
    };
    Weight::new(QuantizedWeight::new(weight, quantization).dequantize()).values
}

/// Rounds values to the nearest of 255 steps, with a scale for each row.
fn int8(values: &[f32], columns: usize) -> Vec<f32> {
    let mut quantised = Vec::with_capacity(values.len());
    for row in values.chunks(columns) {
        let largest = row
            .iter()
            .fold(0.0_f32, |largest, value| largest.max(value.abs()));
        let step = if largest > 0.0 { largest / 127.0 } else { 1.0 };
        quantised.extend(row.iter().map(|value| (value / step).round() * step));
    }
    quantised
}
