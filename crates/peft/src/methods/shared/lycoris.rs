//! What LoHa and LoKr share: a dense change of the weight, dropped by rows or as a whole.

use burn::tensor::{Distribution, Tensor};
use burn_peft_kernels::random;
use indexmap::IndexMap;
use serde_json::Number;

use crate::config::check::{FACTOR, SIDE, each_number_within, each_within, number_within, within};
use crate::{ConvInfo, LayerInfo, Result, TensorSpec, target};

/// PEFT's `rank_dropout` and `module_dropout` (peft/tuners/lycoris_utils.py).
#[derive(Debug)]
pub(in crate::methods) struct Drops {
    /// The probability with which an output feature gets no change in a step.
    pub rank: f64,
    /// Whether the remaining changes are scaled up to make up for it.
    pub scaled: bool,
    /// The probability with which the layer is not adapted in a step.
    pub module: f64,
}

impl Drops {
    /// The tensors of a layer, marked as possibly without a gradient if a step can drop the whole
    /// layer.
    pub fn resting(&self, tensors: Vec<TensorSpec>) -> Vec<TensorSpec> {
        if self.module > 0.0 {
            tensors.into_iter().map(TensorSpec::may_rest).collect()
        } else {
            tensors
        }
    }

    /// The change `[d_in, d_out]` that is applied to an input: in training some of it is dropped.
    pub fn apply(&self, delta: Tensor<2>, is_training: bool) -> Tensor<2> {
        if !is_training {
            return delta;
        }
        let device = delta.device();
        let kept = |size: usize, p: f64| {
            let bernoulli = Distribution::Bernoulli(1.0 - p);
            random::<2>([1, size], bernoulli, &device)
        };
        let mut delta = delta;
        if self.rank > 0.0 {
            let mut kept = kept(delta.dims()[1], self.rank);
            if self.scaled {
                // If all rows are dropped, the change is zero and not 0 / 0.
                let mean = kept.clone().mean_dim(1).clamp_min(1e-6);
                kept = kept / mean;
            }
            delta = delta * kept;
        }
        if self.module > 0.0 {
            delta = delta * kept(1, self.module);
        }
        delta
    }
}

/// The kernel that gets a factor of its own under `use_effective_conv2d`; `None` if this layer has
/// no such kernel. A kernel of a single element needs none.
pub(in crate::methods) fn effective_kernel(
    use_effective_conv2d: bool,
    conv: Option<&ConvInfo>,
) -> Option<[usize; 2]> {
    let conv = conv.filter(|conv| use_effective_conv2d && conv.elements() > 1);
    conv.map(|conv| conv.kernel)
}

/// A weight `[d_out, d_in · kernel]` from a core `[r, r, kernel…]` and a factor for each side,
/// `[r, d_out]` and `[r, d_in]` (Proposition 3 of FedPara, arXiv 2108.06098).
pub(in crate::methods) fn effective(
    core: Tensor<4>,
    outer: Tensor<2>,
    inner: Tensor<2>,
) -> Tensor<2> {
    let [r, _, height, width] = core.dims();
    let ([_, d_out], [_, d_in]) = (outer.dims(), inner.dims());
    let elements = height * width;
    let core: Tensor<2> = core.reshape([r, r * elements]);
    let half: Tensor<3> = outer.transpose().matmul(core).reshape([d_out, r, elements]);
    let half: Tensor<2> = half.swap_dims(1, 2).reshape([d_out * elements, r]);
    let whole: Tensor<3> = half.matmul(inner).reshape([d_out, elements, d_in]);
    whole.swap_dims(1, 2).reshape([d_out, d_in * elements])
}

/// The [`Ranks`] of a configuration that has PEFT's four keys of them.
macro_rules! ranks {
    ($config:expr) => {
        Ranks {
            r: $config.r,
            alpha: &$config.alpha,
            rank_pattern: &$config.rank_pattern,
            alpha_pattern: &$config.alpha_pattern,
        }
    };
}

pub(in crate::methods) use ranks;

/// Rank and α, and the patterns that change them for single layers.
pub(in crate::methods) struct Ranks<'a> {
    pub r: usize,
    pub alpha: &'a Number,
    pub rank_pattern: &'a IndexMap<String, usize>,
    pub alpha_pattern: &'a IndexMap<String, Number>,
}

impl Ranks<'_> {
    /// # Errors
    /// If a rank or an α is out of its range.
    pub fn validate(&self) -> Result<()> {
        within("r", self.r, SIDE)?;
        number_within("alpha", self.alpha, FACTOR)?;
        each_within("rank_pattern", self.rank_pattern, SIDE)?;
        each_number_within("alpha_pattern", self.alpha_pattern, FACTOR)
    }

    /// The rank at a layer, and its scaling α/r.
    ///
    /// # Errors
    /// If a pattern is not valid.
    pub fn at(&self, layer: &LayerInfo) -> Result<(usize, f64)> {
        let rank = target::pattern_value("rank_pattern", self.rank_pattern, &layer.path)?;
        let r = rank.copied().unwrap_or(self.r);
        let alpha = target::pattern_value("alpha_pattern", self.alpha_pattern, &layer.path)?;
        let alpha = alpha.unwrap_or(self.alpha).as_f64().unwrap_or(f64::NAN);
        Ok((r, alpha / r as f64))
    }
}
