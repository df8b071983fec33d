//! BOFT (arXiv 2311.06243): rotates the input by a butterfly of small rotations.

use std::sync::Arc;

use burn::tensor::{Device, Distribution, Int, Tensor};
use burn_peft_kernels::random;
use serde::{Deserialize, Serialize};

use super::shared::blocks::{cayley, identities, rotate};
use super::shared::once::{OnDevice, indices};
use super::shared::parts::parameter;
use crate::config::check::{PROBABILITY, SIDE_OR_NONE, within};
use crate::config::{Bias, CommonConfig, TargetModules, bias};
use crate::{
    Base, Frozen, Init, LayerInfo, LayerMethod, Method, PeftError, Result, TensorSpec, Tensors,
    target,
};

/// The configuration of BOFT: `y = s ⊙ (x B_{m-1} … B_0 W) + bias` with a trained `s` `[d_out]` and
/// `B_i = P_i diag(R_i1, …, R_in) P_iᵀ`: permutations `P_i`, and Cayley's rotations `R` `[b, b]` of
/// the skew-symmetric part of a trained matrix (peft/tuners/boft/layer.py).
///
/// It costs `m n b² + d_out` parameters per layer. Python's peft supports it for `Linear` only, not
/// for `Conv1D`, and without its CUDA extension uses one factor `m`, whatever the file says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct BOFTConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The size of a block; 0 if the number of blocks is given.
    pub boft_block_size: usize,
    /// The number of blocks; 0 if the size of a block is given.
    pub boft_block_num: usize,
    /// The number of factors.
    pub boft_n_butterfly_factor: usize,
    /// Whether the base weights are `[in, out]`; set from the kind of layer.
    pub fan_in_fan_out: bool,
    /// Which biases of the base are trained: `none`, `all` or `boft_only`.
    pub bias: String,
    /// The share of blocks, in one factor, that a training step leaves out.
    pub boft_dropout: f64,
    /// Whether the rotations start at the identity; otherwise at small random ones.
    pub init_weights: bool,
}

impl Default for BOFTConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            boft_block_size: 4,
            boft_block_num: 0,
            boft_n_butterfly_factor: 1,
            fan_in_fan_out: false,
            bias: "none".into(),
            boft_dropout: 0.0,
            init_weights: true,
        }
    }
}

crate::peft_config!(BOFTConfig, "BOFT", "BOFT", without: []);

impl Method for BOFTConfig {
    crate::method_of_keys!();

    fn validate(&self) -> Result<()> {
        let (size, number) = (self.boft_block_size, self.boft_block_num);
        if (size == 0) == (number == 0) {
            return Err(PeftError::conflict(
                &["boft_block_size", "boft_block_num"],
                format!(
                    "boft_block_size = {size} and boft_block_num = {number}: give one of \
                     them and set the other to 0, since their product is the width of the \
                     layer"
                ),
            ));
        }
        within("boft_block_size", size, SIDE_OR_NONE)?;
        within("boft_block_num", number, SIDE_OR_NONE)?;
        // Each factor mixes twice as many blocks.
        within(
            "boft_n_butterfly_factor",
            self.boft_n_butterfly_factor,
            1..=32,
        )?;
        within("boft_dropout", self.boft_dropout, PROBABILITY)?;
        bias(&self.bias, "boft_only").map(drop)
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::lora_target_modules(model_type)
    }

    fn bias(&self) -> Bias {
        bias(&self.bias, "boft_only").unwrap_or_default()
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        let (given, factors) = (
            self.boft_block_size.max(self.boft_block_num),
            self.boft_n_butterfly_factor,
        );
        let fail = |reason: String| {
            let (path, d_in) = (&layer.path, layer.d_in);
            Err(PeftError::unfit(
                path,
                format!("{path} has {d_in} inputs: {reason}"),
            ))
        };
        if !layer.d_in.is_multiple_of(given) {
            let key = match self.boft_block_size {
                0 => "boft_block_num",
                _ => "boft_block_size",
            };
            return fail(format!("{key} = {given} does not divide them"));
        }
        let (n, b) = match self.boft_block_size {
            0 => (given, layer.d_in / given),
            size => (layer.d_in / size, size),
        };
        // Each factor beyond the first mixes twice as many blocks.
        let mixed = u32::try_from(factors - 1)
            .ok()
            .and_then(|power| 2_usize.checked_pow(power));
        let fits = mixed.is_some_and(|mixed| n.is_multiple_of(mixed) && (mixed == 1 || b % 2 == 0));
        if !fits {
            return fail(format!(
                "boft_n_butterfly_factor = {factors} needs {n} blocks of {b} to be a multiple of \
                 2^{} blocks of even size",
                factors - 1
            ));
        }
        Ok(Arc::new(BOFTLayer {
            n,
            b,
            m: factors,
            d_out: layer.d_out,
            orders: OnDevice::default(),
            left_out: (self.boft_dropout * n as f64) as usize,
            init: self.init_weights,
        }))
    }
}

/// The order of features that makes the blocks of the `factor`th butterfly adjacent: within every
/// `2^factor` blocks, first the even halves, then the odd ones (`block_butterfly_perm`).
fn butterfly(n: usize, b: usize, factor: usize) -> Vec<usize> {
    if factor == 0 {
        return (0..n * b).collect();
    }
    let (half, group) = (b / 2, b << factor);
    let pieces = group / half;
    let order = (0..pieces).step_by(2).chain((1..pieces).step_by(2));
    let order: Vec<usize> = order.collect();
    let starts = (0..n * b).step_by(group);
    let features = starts.flat_map(|start| order.iter().map(move |piece| start + piece * half));
    features.flat_map(|first| first..first + half).collect()
}

/// A mask that is one for `count` random blocks out of `n`, in one random factor out of `m`, and
/// zero elsewhere.
fn left_out(m: usize, n: usize, count: usize, device: &Device) -> Vec<f32> {
    let random = random::<1>([n + 1], Distribution::Uniform(0.0, 1.0), device);
    let random: Vec<f32> = random.into_data().iter::<f32>().collect();
    let factor = ((random[n] * m as f32) as usize).min(m - 1);
    let mut blocks: Vec<usize> = (0..n).collect();
    blocks.sort_by(|&a, &b| random[a].total_cmp(&random[b]));
    let mut mask = vec![0.0; m * n];
    for block in &blocks[..count] {
        mask[factor * n + block] = 1.0;
    }
    mask
}

/// BOFT at one layer.
#[derive(Debug)]
struct BOFTLayer {
    /// The number and size of the blocks.
    n: usize,
    b: usize,
    /// The number of factors.
    m: usize,
    d_out: usize,
    /// The order of features of each factor, and its inverse.
    orders: OnDevice<Vec<[Tensor<1, Int>; 2]>>,
    /// How many blocks of one factor a training step leaves out.
    left_out: usize,
    init: bool,
}

impl BOFTLayer {
    /// Rows times `B_{m-1} … B_0` or, if `transposed`, times its transpose; `[rows, d_in]`.
    fn rotated(&self, tensors: &Tensors<'_>, rows: Tensor<2>, transposed: bool) -> Tensor<2> {
        let (m, n, b) = (self.m, self.n, self.b);
        let matrices: Tensor<3> = tensors.tensor4("boft_R").reshape([m * n, b, b]);
        let skew = (matrices.clone() - matrices.swap_dims(1, 2)) * 0.5;
        let mut rotations = cayley(skew);
        if self.left_out > 0 && rows.is_autodiff() {
            rotations = self.without_some(rotations);
        }
        if transposed {
            rotations = rotations.swap_dims(1, 2);
        }
        let mut factors: Vec<usize> = (0..m).collect();
        if !transposed {
            factors.reverse();
        }
        let orders = self.orders(&rows.device());
        let mut rows = rows;
        for factor in factors {
            let [order, inverse] = orders[factor].clone();
            let rotation = rotations.clone().narrow(0, factor * n, n);
            rows = rotate(rows.select(1, inverse), rotation).select(1, order);
        }
        rows
    }

    fn orders(&self, device: &Device) -> Vec<[Tensor<1, Int>; 2]> {
        self.orders.get(device, |device| {
            let order = |factor| {
                let order = butterfly(self.n, self.b, factor);
                let mut inverse = vec![0; order.len()];
                for (place, &feature) in order.iter().enumerate() {
                    inverse[feature] = place;
                }
                [order, inverse].map(|order| indices(order.into_iter(), device))
            };
            (0..self.m).map(order).collect()
        })
    }

    /// The rotations `[m · n, b, b]`, with the identity in place of some rotations of one factor.
    fn without_some(&self, rotations: Tensor<3>) -> Tensor<3> {
        let (m, n) = (self.m, self.n);
        let device = rotations.device();
        let mask = left_out(m, n, self.left_out, &device.clone().without_autodiff());
        let mask = Tensor::<1>::from_data(mask.as_slice(), &device).reshape([m * n, 1, 1]);
        let identities = identities(m * n, self.b, &device) * mask.clone();
        rotations * (mask * -1.0 + 1.0) + identities
    }

    /// `s` as a row, `[1, d_out]`.
    fn scale(&self, tensors: &Tensors<'_>) -> Tensor<2> {
        tensors.matrix("boft_s").transpose()
    }
}

impl LayerMethod for BOFTLayer {
    fn prefix(&self) -> &str {
        "boft"
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let (rotations, scale) = if self.init {
            (Init::Zeros, Init::Ones)
        } else {
            (Init::Normal(0.1), Init::Ones)
        };
        let shape = [self.m, self.n, self.b, self.b];
        vec![
            TensorSpec::named("boft_R", shape).with_init(rotations),
            TensorSpec::named("boft_s", [self.d_out, 1]).with_init(scale),
        ]
    }

    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        let output = base.forward(self.rotated(tensors, input, false));
        let scale = self.scale(tensors);
        match base.bias() {
            Some(bias) => {
                let bias = bias.unsqueeze();
                (output - bias.clone()) * scale + bias
            }
            None => output * scale,
        }
    }

    fn merge(
        &self,
        tensors: &Tensors<'_>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        let rotated = self.rotated(tensors, weight.transpose(), true).transpose();
        Some((rotated * self.scale(tensors), bias))
    }

    fn parts(&self) -> Vec<(String, String)> {
        let shape = [self.m, self.n, self.b, self.b];
        vec![
            parameter("boft_R", shape),
            parameter("boft_s", [self.d_out, 1]),
        ]
    }
}
