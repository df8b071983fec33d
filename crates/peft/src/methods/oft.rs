//! OFT (arXiv 2306.07280, 2506.19847): rotates the input.

use std::ops::Bound;
use std::sync::Arc;

use burn::tensor::{IndexingUpdateOp, Int, Tensor};
use serde::{Deserialize, Serialize};

use super::shared::blocks::{cayley, identities, rotate};
use super::shared::once::{OnDevice, indices};
use super::shared::parts::parameter;
use crate::config::check::{FACTOR, PROBABILITY, SIDE_OR_NONE, within};
use crate::config::{Bias, CommonConfig, TargetModules, bias};
use crate::{
    Base, Frozen, Init, LayerInfo, LayerMethod, Method, PeftError, Result, StepLayer, Steps,
    TensorSpec, Tensors, target,
};

/// The configuration of OFT: `y = base(x R)` with `R` `[d_in, d_in]` of `n` rotations `[b, b]` on
/// its diagonal. A rotation is the Cayley transform of a skew-symmetric `S`, of which the `b (b -
/// 1) / 2` values above the diagonal are trained: `(I - S)(I + S)⁻¹`, or by default the first terms
/// of the series of the inverse, `I + 2 S + 2 S² + …` (peft/tuners/oft/layer.py). With `coft`, an
/// `S` whose norm exceeds `eps / √n` is scaled down, after every step and when it is used.
///
/// It costs `n b (b - 1) / 2` parameters per layer (with `block_share` an `n`th of that). Python's
/// peft supports it for `Linear` only, not for `Conv1D`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct OFTConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The number of blocks; 0 if the size of a block is given.
    pub r: usize,
    /// The size of a block; 0 if the number of blocks is given.
    pub oft_block_size: usize,
    /// Whether the base weights are `[in, out]`; set from the kind of layer.
    pub fan_in_fan_out: bool,
    /// Which biases of the base are trained: `none`, `all` or `oft_only`.
    pub bias: String,
    /// Whether the rotations start at the identity; otherwise at small random ones.
    pub init_weights: bool,
    /// Whether the rotations are kept near the identity.
    pub coft: bool,
    /// How near: the largest norm of all of a layer's `S` together, with `coft`.
    pub eps: f64,
    /// Written back as read: PEFT creates a dropout from it but does not use it.
    pub module_dropout: f64,
    /// Whether all blocks share one rotation.
    pub block_share: bool,
    /// Whether a rotation is computed from the first terms of a series.
    pub use_cayley_neumann: bool,
    /// The number of terms.
    pub num_cayley_neumann_terms: usize,
}

impl Default for OFTConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            r: 0,
            oft_block_size: 32,
            fan_in_fan_out: false,
            bias: "none".into(),
            init_weights: true,
            coft: false,
            eps: 6e-5,
            module_dropout: 0.0,
            block_share: false,
            use_cayley_neumann: true,
            num_cayley_neumann_terms: 5,
        }
    }
}

crate::peft_config!(OFTConfig, "OFT", "OFT", without: []);

impl Method for OFTConfig {
    crate::method_of_keys!();

    fn validate(&self) -> Result<()> {
        let (r, size) = (self.r, self.oft_block_size);
        if (r == 0) == (size == 0) {
            return Err(PeftError::conflict(
                &["r", "oft_block_size"],
                format!(
                    "r = {r} and oft_block_size = {size}: give one of them and set the \
                     other to 0, since their product is the width of the layer"
                ),
            ));
        }
        within("r", r, SIDE_OR_NONE)?;
        within("oft_block_size", size, SIDE_OR_NONE)?;
        let above_zero = (Bound::Excluded(0.0), Bound::Included(*FACTOR.end()));
        within("eps", self.eps, above_zero)?;
        let terms = self.num_cayley_neumann_terms;
        within("num_cayley_neumann_terms", terms, 1..=100)?;
        within("module_dropout", self.module_dropout, PROBABILITY)?;
        bias(&self.bias, "oft_only").map(drop)
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::lora_target_modules(model_type)
    }

    fn bias(&self) -> Bias {
        bias(&self.bias, "oft_only").unwrap_or_default()
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        let given = self.r.max(self.oft_block_size);
        let fitting = divisor(layer.d_in, given);
        if fitting != given {
            let key = if self.r > 0 { "r" } else { "oft_block_size" };
            tracing::warn!(
                "{key} = {given} does not divide the {} inputs of {}: {fitting} is used",
                layer.d_in,
                layer.path
            );
        }
        let (n, b) = match self.r {
            0 => (layer.d_in / fitting, fitting),
            _ => (fitting, layer.d_in / fitting),
        };
        Ok(Arc::new(OFTLayer {
            n,
            b,
            shared: self.block_share,
            constraint: self.coft.then_some(self.eps),
            terms: self
                .use_cayley_neumann
                .then_some(self.num_cayley_neumann_terms),
            init: self.init_weights,
            above: OnDevice::default(),
        }))
    }

    fn steps(&self) -> Option<&dyn Steps> {
        self.coft.then_some(self)
    }
}

impl Steps for OFTConfig {
    fn after_step(&self, _step: usize, layers: &mut [StepLayer<'_>]) -> Option<Arc<dyn Method>> {
        for layer in layers {
            let [rows, columns] = layer.dims(NAME).try_into().expect("two axes");
            let values = layer.values(NAME).reshape([rows, columns]);
            layer.set_values(NAME, shortened(values, self.eps).flatten(0, 1));
        }
        None
    }
}

/// Values above the diagonals, `[n, b (b - 1) / 2]`, scaled so that no matrix has a norm above `eps
/// / √n` (PEFT's `_project_batch`).
fn shortened(values: Tensor<2>, eps: f64) -> Tensor<2> {
    let [n, _] = values.dims();
    // Each value occurs twice in its matrix.
    let norms = (values.clone().square().sum_dim(1) * 2.0).sqrt();
    let limit = eps / (n as f64).sqrt();
    values * (norms.recip() * limit).clamp_max(1.0)
}

/// The divisor of `size` that is nearest to `wanted`, the smaller one of two at the same distance
/// (PEFT's `adjust_oft_parameters`).
fn divisor(size: usize, wanted: usize) -> usize {
    if wanted >= size {
        return size;
    }
    let divides = |candidate: &usize| size.is_multiple_of(*candidate);
    let above = (wanted..=size).find(divides).unwrap_or(size);
    let below = (1..=wanted).rev().find(divides).unwrap_or(1);
    if wanted - below <= above - wanted {
        below
    } else {
        above
    }
}

/// OFT at one layer.
#[derive(Debug)]
struct OFTLayer {
    /// The number and size of the blocks.
    n: usize,
    b: usize,
    shared: bool,
    /// `eps`, if it limits the rotations.
    constraint: Option<f64>,
    /// The number of terms of the series, if one is used.
    terms: Option<usize>,
    init: bool,
    /// The indices above the diagonal of a block, row after row.
    above: OnDevice<Tensor<1, Int>>,
}

const NAME: &str = "oft_R";

impl OFTLayer {
    /// `[rows, b (b - 1) / 2]`: a row for each block, or one for all.
    fn shape(&self) -> [usize; 2] {
        let rows = if self.shared { 1 } else { self.n };
        [rows, self.b * (self.b - 1) / 2]
    }

    /// The rotations, `[n, b, b]`.
    fn rotations(&self, tensors: &Tensors<'_>) -> Tensor<3> {
        let (mut values, b) = (tensors.matrix(NAME), self.b);
        if let Some(eps) = self.constraint {
            // The gradient is computed for the scaled values and applied to the stored ones.
            let fixed = values.clone().detach();
            values = values + (shortened(fixed.clone(), eps) - fixed);
        }
        let device = values.device();
        let [rows, _] = values.dims();
        let places = self.above.get(&device, |device| {
            let above = |row| (row + 1..b).map(move |column| row * b + column);
            indices((0..b).flat_map(above), device)
        });
        let upper = Tensor::<2>::zeros([rows, b * b], &device);
        let upper = upper.select_assign(1, places, values, IndexingUpdateOp::Add);
        let upper: Tensor<3> = upper.reshape([rows, b, b]);
        let skew = upper.clone() - upper.swap_dims(1, 2);
        let rotations = match self.terms {
            None => cayley(skew),
            Some(terms) => series(skew, terms),
        };
        if self.shared {
            rotations.repeat_dim(0, self.n)
        } else {
            rotations
        }
    }
}

/// `I + 2 S + 2 S² + … + S^(terms-1)`: PEFT's `_cayley_batch`, in which the last power has the
/// factor one, and which uses at least four terms if there are three.
fn series(skew: Tensor<3>, terms: usize) -> Tensor<3> {
    let [n, b, _] = skew.dims();
    let mut sum = identities(n, b, &skew.device());
    if terms > 1 {
        sum = sum + skew.clone() * 2.0;
    }
    if terms > 2 {
        let mut power = skew.clone().matmul(skew.clone());
        sum = sum + power.clone() * 2.0;
        for _ in 3..terms - 1 {
            power = power.matmul(skew.clone());
            sum = sum + power.clone() * 2.0;
        }
        sum = sum + power.matmul(skew);
    }
    sum
}

impl LayerMethod for OFTLayer {
    fn prefix(&self) -> &str {
        "oft"
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let init = if self.init {
            Init::Zeros
        } else {
            Init::Normal(0.1)
        };
        vec![TensorSpec::new(NAME, "oft_R.weight", self.shape()).with_init(init)]
    }

    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        base.forward(rotate(input, self.rotations(tensors)))
    }

    fn merge(
        &self,
        tensors: &Tensors<'_>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        // R W = (Wᵀ Rᵀ)ᵀ, block by block.
        let transposed = self.rotations(tensors).swap_dims(1, 2);
        Some((rotate(weight.transpose(), transposed).transpose(), bias))
    }

    fn parts(&self) -> Vec<(String, String)> {
        vec![parameter(NAME, self.shape())]
    }
}
