//! LoHa (FedPara, arXiv 2108.06098): a Hadamard product of two low-rank changes.

use std::sync::Arc;

use super::shared::lycoris::{Drops, Ranks, effective, effective_kernel, ranks};
use super::shared::parts::parameter;
use crate::config::check::{PROBABILITY, within};
use crate::config::{CommonConfig, TargetModules};
use crate::{Frozen, Init, LayerInfo, LayerMethod, Method, Result, TensorSpec, Tensors, target};
use burn::tensor::Tensor;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// The configuration of LoHa: `y = base(x) + α/r · x ((w1_a w1_b) ⊙ (w2_a w2_b))ᵀ` with `w·_a`
/// `[d_out, r]` and `w·_b` `[r, d_in]` (peft/tuners/loha/layer.py).
///
/// It costs `2 r (d_in + d_out)` parameters per layer, for a change of rank up to `r²`, and the
/// memory of a gradient the size of the weight. For a convolution `d_in` is
/// `channels_in / groups · kernel`. Python's peft supports it for `Linear`, `Conv1d` and `Conv2d`,
/// not for `Conv1D`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct LoHaConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The rank of each factor.
    pub r: usize,
    /// α in the scaling α/r.
    pub alpha: serde_json::Number,
    /// The probability with which an output feature gets no change in a step.
    pub rank_dropout: f64,
    /// The probability with which a layer is not adapted in a step.
    pub module_dropout: f64,
    /// Whether a convolution's kernel gets a factor of its own: then `w·_a` is `[r, d_out]`, `w·_b`
    /// `[r, channels_in / groups]`, and there is a core `[r, r, kernel…]` between them.
    pub use_effective_conv2d: bool,
    /// Whether `w2_b` starts at zero.
    pub init_weights: bool,
    /// Ranks of single layers, by pattern.
    pub rank_pattern: IndexMap<String, usize>,
    /// α of single layers, by pattern.
    pub alpha_pattern: IndexMap<String, serde_json::Number>,
}

impl Default for LoHaConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            r: 8,
            alpha: 8.into(),
            rank_dropout: 0.0,
            module_dropout: 0.0,
            use_effective_conv2d: false,
            init_weights: true,
            rank_pattern: IndexMap::new(),
            alpha_pattern: IndexMap::new(),
        }
    }
}

crate::peft_config!(LoHaConfig, "LOHA", "LoHa", without: []);

impl Method for LoHaConfig {
    crate::method_of_keys!();

    fn validate(&self) -> Result<()> {
        ranks!(self).validate()?;
        within("rank_dropout", self.rank_dropout, PROBABILITY)?;
        within("module_dropout", self.module_dropout, PROBABILITY)
    }

    fn supports(&self, layer: &LayerInfo) -> bool {
        layer.kind.is_linear() || layer.kind.is_convolution()
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::lora_target_modules(model_type)
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        let (r, scaling) = ranks!(self).at(layer)?;
        Ok(Arc::new(LoHaLayer {
            r,
            d_in: layer.d_in,
            d_out: layer.d_out,
            kernel: effective_kernel(self.use_effective_conv2d, layer.conv.as_ref()),
            scaling,
            init: self.init_weights,
            drops: Drops {
                rank: self.rank_dropout,
                scaled: true,
                module: self.module_dropout,
            },
        }))
    }
}

/// LoHa at one layer.
#[derive(Debug)]
struct LoHaLayer {
    r: usize,
    d_in: usize,
    d_out: usize,
    /// The kernel, if it has a factor of its own.
    kernel: Option<[usize; 2]>,
    scaling: f64,
    init: bool,
    drops: Drops,
}

impl LoHaLayer {
    /// The change of the weight, `[d_in, d_out]`.
    fn change(&self, tensors: &Tensors<'_>) -> Tensor<2> {
        let product = |core, a, b| {
            let (a, b) = (tensors.matrix(a), tensors.matrix(b));
            if self.kernel.is_some() {
                effective(tensors.tensor4(core), a, b)
            } else {
                a.matmul(b)
            }
        };
        let (first, second) = (
            product("hada_t1", "hada_w1_a", "hada_w1_b"),
            product("hada_t2", "hada_w2_a", "hada_w2_b"),
        );
        (first * second).transpose() * self.scaling
    }

    /// The tensors with their shapes in the file.
    fn shapes(&self) -> Vec<(&'static str, Vec<usize>)> {
        let (r, d_in, d_out) = (self.r, self.d_in, self.d_out);
        let Some([height, width]) = self.kernel else {
            return vec![
                ("hada_w1_a", vec![d_out, r]),
                ("hada_w1_b", vec![r, d_in]),
                ("hada_w2_a", vec![d_out, r]),
                ("hada_w2_b", vec![r, d_in]),
            ];
        };
        let channels = d_in / (height * width);
        vec![
            ("hada_w1_a", vec![r, d_out]),
            ("hada_w1_b", vec![r, channels]),
            ("hada_w2_a", vec![r, d_out]),
            ("hada_w2_b", vec![r, channels]),
            ("hada_t1", vec![r, r, height, width]),
            ("hada_t2", vec![r, r, height, width]),
        ]
    }
}

impl LayerMethod for LoHaLayer {
    fn prefix(&self) -> &str {
        "loha"
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let shapes = self.shapes().into_iter();
        let specs = shapes.map(|(name, shape)| {
            let init = match name {
                "hada_w2_b" if self.init => Init::Zeros,
                _ => Init::kaiming_uniform(shape[1..].iter().product()),
            };
            let partner = if name == "hada_w2_b" {
                "hada_w2_a"
            } else {
                "hada_w2_b"
            };
            TensorSpec::named(name, shape)
                .with_init(init)
                .waiting_for(partner)
        });
        self.drops.resting(specs.collect())
    }

    fn delta_weight(&self, tensors: &Tensors<'_>, _layer: &Frozen<'_>) -> Option<Tensor<2>> {
        Some(self.change(tensors))
    }

    fn dropped(&self, delta: Tensor<2>, is_training: bool) -> Tensor<2> {
        self.drops.apply(delta, is_training)
    }

    fn parts(&self) -> Vec<(String, String)> {
        let shapes = self.shapes().into_iter();
        shapes.map(|(name, shape)| parameter(name, shape)).collect()
    }
}
