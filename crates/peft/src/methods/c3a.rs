//! C3A (arXiv 2407.19342): a change of the weight made of circulant blocks.

use std::sync::Arc;

use burn::tensor::{Int, Tensor};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::shared::init_weights::InitWeights;
use super::shared::parts::parameter;
use crate::config::check::{SIDE, each_within, within};
use crate::config::{Bias, CommonConfig, TargetModules, bias};
use crate::{
    Frozen, Init, LayerInfo, LayerKind, LayerMethod, Method, PeftError, Result, TensorSpec,
    Tensors, target,
};

/// The configuration of C3A: `y = base(x) + x ΔW / d_in`, where each block of `b` inputs and `b`
/// outputs of `ΔW` is circulant, given by `b` numbers of a kernel `[d_out/b, d_in/b, b]`: the entry
/// from input `j` to output `t` is number `(j - t) mod b` (peft/tuners/c3a/layer.py, which computes
/// the same by Fourier transforms).
///
/// It costs `d_in d_out / b` parameters per layer, for a change of full rank, and the memory of a
/// gradient the size of the weight. Python's peft supports it for `Linear` only, not for `Conv1D`.
/// Its gradient of the input uses number `(j + t) mod b` instead of `(j - t) mod b` (c3a/utils.py),
/// so in a stack of layers it trains all but the last one slightly differently.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct C3AConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The block size `b`, which divides the inputs and outputs of every layer.
    pub block_size: usize,
    /// Block sizes of single layers, by pattern.
    pub block_size_pattern: IndexMap<String, usize>,
    /// Which biases of the base are trained: `none`, `all` or `c3a_only`.
    pub bias: String,
    /// How the kernel starts: `"xavier_uniform"` (also `false`), `"kaiming_uniform"`, `"gaussian"`,
    /// or `true` for zeros.
    pub init_weights: InitWeights,
}

impl Default for C3AConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            block_size: 256,
            block_size_pattern: IndexMap::new(),
            bias: "none".into(),
            init_weights: InitWeights::Named("xavier_uniform".into()),
        }
    }
}

crate::peft_config!(C3AConfig, "C3A", "C3A", without: ["exclude_modules"]);

impl Method for C3AConfig {
    crate::method_of_keys!();

    fn validate(&self) -> Result<()> {
        within("block_size", self.block_size, SIDE)?;
        each_within("block_size_pattern", &self.block_size_pattern, SIDE)?;
        let known = ["xavier_uniform", "kaiming_uniform", "gaussian"];
        self.init_weights.check(&known)?;
        bias(&self.bias, "c3a_only").map(drop)
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        // For GPT-2 the same as FourierFT's.
        target::fourierft_target_modules(model_type)
    }

    fn bias(&self) -> Bias {
        bias(&self.bias, "c3a_only").unwrap_or_default()
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        let pattern = &self.block_size_pattern;
        let block = target::pattern_value("block_size_pattern", pattern, &layer.path)?;
        let key = if block.is_some() {
            "block_size_pattern"
        } else {
            "block_size"
        };
        let block = block.copied().unwrap_or(self.block_size);
        let (d_in, d_out) = (layer.d_in, layer.d_out);
        if !d_in.is_multiple_of(block) || !d_out.is_multiple_of(block) {
            return Err(PeftError::unfit(
                &layer.path,
                format!(
                    "{key} = {block} does not divide both sides of {}, which has {d_in} inputs and \
                     {d_out} outputs; the largest that does is {}",
                    layer.path,
                    greatest_common_divisor(d_in, d_out)
                ),
            ));
        }
        Ok(Arc::new(C3ALayer {
            block,
            d_in,
            d_out,
            init: self.init_weights.clone(),
        }))
    }
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 {
        a
    } else {
        greatest_common_divisor(b, a % b)
    }
}

/// C3A at one layer.
#[derive(Debug)]
struct C3ALayer {
    block: usize,
    d_in: usize,
    d_out: usize,
    init: InitWeights,
}

impl C3ALayer {
    fn shape(&self) -> [usize; 3] {
        let b = self.block;
        [self.d_out / b, self.d_in / b, b]
    }
}

impl LayerMethod for C3ALayer {
    fn prefix(&self) -> &str {
        "c3a"
    }

    fn layer_name(&self, _: LayerKind) -> String {
        "c3a.C3ALinear".into()
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let sides = (self.d_in + self.d_out) as f64;
        let init = match &self.init {
            InitWeights::Flag(true) => Init::Zeros,
            InitWeights::Named(name) if name == "gaussian" => Init::Normal(1.0),
            InitWeights::Named(name) if name == "kaiming_uniform" => {
                Init::kaiming_uniform(self.d_in)
            }
            _ => Init::Uniform((6.0 / sides).sqrt()),
        };
        vec![TensorSpec::named("c3a_kernel", self.shape()).with_init(init)]
    }

    fn delta_weight(&self, tensors: &Tensors<'_>, _layer: &Frozen<'_>) -> Option<Tensor<2>> {
        let kernel = tensors.tensor3("c3a_kernel");
        let ([outputs, inputs, b], device) = (self.shape(), kernel.device());
        let side = Tensor::<1, Int>::arange(0..b as i64, &device);
        let j: Tensor<2, Int> = side.clone().reshape([b, 1]);
        let t: Tensor<2, Int> = side.reshape([1, b]);
        // Plus `b`, so that nothing is negative.
        let numbers = (j - t + b as i64).remainder_scalar(b as i64);
        let numbers: Tensor<1, Int> = numbers.reshape([b * b]);
        let kernel: Tensor<2> = kernel.reshape([outputs * inputs, b]);
        let blocks: Tensor<4> = kernel.select(1, numbers).reshape([outputs, inputs, b, b]);
        let delta = blocks
            .permute([1, 2, 0, 3])
            .reshape([self.d_in, self.d_out]);
        Some(delta / self.d_in as f64)
    }

    fn parts(&self) -> Vec<(String, String)> {
        vec![parameter("c3a_kernel", self.shape())]
    }
}
