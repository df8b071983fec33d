//! LoKr (arXiv 2309.14859): a Kronecker product.

use std::sync::Arc;

use super::shared::init_weights::InitWeights;
use super::shared::lycoris::{Drops, Ranks, effective, effective_kernel, ranks};
use super::shared::parts::parameter;
use crate::config::check::{PROBABILITY, within};
use crate::config::{CommonConfig, TargetModules};
use crate::{Frozen, Init, LayerInfo, LayerMethod, Method, Result, TensorSpec, Tensors, target};
use burn::tensor::Tensor;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

/// The configuration of LoKr: `y = base(x) + α/r · x (w1 ⊗ w2)ᵀ` with `w1` `[l, m]` and `w2`
/// `[k, n]`, where `l k = d_out` and `m n = d_in`; a factor that is large for the rank is itself
/// a product of two (peft/tuners/lokr/layer.py).
///
/// It costs `l m + k n` parameters per layer, or `l m + r (k + n)` if `w2` is a product: about the
/// square root of LoRA's. For a convolution `w2` includes the kernel, and `d_in` is
/// `channels_in / groups`. Python's peft supports it for `Linear`, `Conv1d` and `Conv2d`, not for
/// `Conv1D`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct LoKrConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The rank of a factor that is a product.
    pub r: usize,
    /// α in the scaling α/r.
    pub alpha: serde_json::Number,
    /// The probability with which an output feature gets no change in a step.
    pub rank_dropout: f64,
    /// The probability with which a layer is not adapted in a step.
    pub module_dropout: f64,
    /// Whether a convolution's kernel gets a factor of its own if `w2` is a product: a core
    /// `[r, r, kernel…]` between the two factors.
    pub use_effective_conv2d: bool,
    /// Whether `w1` may be a product too.
    pub decompose_both: bool,
    /// The size of `w1`, if it divides the layer's size; -1 for a size near the square root.
    pub decompose_factor: i64,
    /// Whether the changes that `rank_dropout` keeps are scaled up.
    pub rank_dropout_scale: bool,
    /// `true`: `w1` starts at zero; `"lycoris"`: `w2` does; `false`: neither does.
    pub init_weights: InitWeights,
    /// Ranks of single layers, by pattern.
    pub rank_pattern: IndexMap<String, usize>,
    /// α of single layers, by pattern.
    pub alpha_pattern: IndexMap<String, serde_json::Number>,
}

impl Default for LoKrConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            r: 8,
            alpha: 8.into(),
            rank_dropout: 0.0,
            module_dropout: 0.0,
            use_effective_conv2d: false,
            decompose_both: false,
            decompose_factor: -1,
            rank_dropout_scale: false,
            init_weights: InitWeights::Flag(true),
            rank_pattern: IndexMap::new(),
            alpha_pattern: IndexMap::new(),
        }
    }
}

crate::peft_config!(LoKrConfig, "LOKR", "LoKr", without: []);

impl Method for LoKrConfig {
    crate::method_of_keys!();

    fn validate(&self) -> Result<()> {
        ranks!(self).validate()?;
        // -1 stands for a size near the square root.
        if self.decompose_factor != -1 {
            within("decompose_factor", self.decompose_factor, 1..=65_536)?;
        }
        self.init_weights.check(&["lycoris"])?;
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
        let conv = layer.conv.as_ref();
        let d_in = conv.map_or(layer.d_in, |conv| conv.channels_in / conv.groups);
        let (m, n) = factorization(d_in, self.decompose_factor);
        let (l, k) = factorization(layer.d_out, self.decompose_factor);
        Ok(Arc::new(LoKrLayer {
            r,
            w1: Factor {
                shape: [l, m],
                names: ["lokr_w1", "lokr_w1_a", "lokr_w1_b"],
                is_product: self.decompose_both && 2 * r < l.max(m),
                kernel: Vec::new(),
                core: None,
            },
            w2: Factor {
                shape: [k, n],
                names: ["lokr_w2", "lokr_w2_a", "lokr_w2_b"],
                is_product: 2 * r < k.max(n),
                kernel: conv.map_or(Vec::new(), |conv| conv.shape(0, 0).split_off(2)),
                core: effective_kernel(self.use_effective_conv2d, conv),
            },
            scaling,
            init: self.init_weights.clone(),
            drops: Drops {
                rank: self.rank_dropout,
                scaled: self.rank_dropout_scale,
                module: self.module_dropout,
            },
        }))
    }
}

/// Two numbers whose product is `size`, the first not above the second: `factor` if it divides
/// `size`, otherwise the pair with the first nearest below `factor`, where -1 stands for the
/// square root.
fn factorization(size: usize, factor: i64) -> (usize, usize) {
    let given = usize::try_from(factor).ok();
    if let Some(factor) = given.filter(|factor| size.is_multiple_of(*factor)) {
        return (factor, size / factor);
    }
    let factor = given.unwrap_or(size);
    let root = (1..=size).take_while(|m| m * m <= size && *m <= factor);
    let m = root.filter(|m| size.is_multiple_of(*m)).last().unwrap_or(1);
    (m, size / m)
}

/// One of the two factors.
#[derive(Debug)]
struct Factor {
    shape: [usize; 2],
    /// Its name as one tensor, and the names of its two parts.
    names: [&'static str; 3],
    is_product: bool,
    /// The kernel that it has in addition to its shape; empty for a linear layer.
    kernel: Vec<usize>,
    /// The kernel that gets a factor of its own if this factor is a product.
    core: Option<[usize; 2]>,
}

/// The name of the core, which holds the kernel of a product.
const CORE: &str = "lokr_t2";

impl Factor {
    /// The number of elements of the kernel.
    fn elements(&self) -> usize {
        self.kernel.iter().product()
    }

    /// `[rows, columns · kernel]`.
    fn value(&self, tensors: &Tensors<'_>) -> Tensor<2> {
        let ([whole, a, b], [rows, columns]) = (self.names, self.shape);
        match (self.is_product, self.core) {
            (true, Some(_)) => {
                effective(tensors.tensor4(CORE), tensors.matrix(a), tensors.matrix(b))
            }
            (true, None) => tensors.matrix(a).matmul(tensors.matrix(b)),
            (false, _) if self.kernel.is_empty() => tensors.matrix(whole),
            (false, _) => {
                let kernel = tensors.kernel(whole);
                kernel.reshape([rows, columns * self.elements()])
            }
        }
    }

    /// Its tensors with their initial values: zero in the part `zeros` (0 or 1), otherwise random.
    fn tensors(&self, r: usize, zeros: Option<usize>) -> Vec<(&'static str, Vec<usize>, Init)> {
        let ([whole, a, b], [rows, columns]) = (self.names, self.shape);
        let init = |part, fan_in| match zeros {
            Some(zero) if zero == part => Init::Zeros,
            _ => Init::kaiming_uniform(fan_in),
        };
        let wide = columns * self.elements();
        match (self.is_product, self.core) {
            (true, Some([height, width])) => {
                let of_core = Init::kaiming_uniform(r * height * width);
                vec![
                    (a, vec![r, rows], init(0, rows)),
                    (b, vec![r, columns], init(1, columns)),
                    (CORE, vec![r, r, height, width], of_core),
                ]
            }
            (true, None) => vec![
                (a, vec![rows, r], init(0, r)),
                (b, vec![r, wide], init(1, wide)),
            ],
            (false, _) => {
                let init = match zeros {
                    Some(_) => Init::Zeros,
                    None => Init::kaiming_uniform(wide),
                };
                let shape = self.shape.iter().chain(&self.kernel).copied().collect();
                vec![(whole, shape, init)]
            }
        }
    }

    /// The tensor that starts at zero, if there is one.
    fn zero(&self, part: usize) -> &'static str {
        if self.is_product {
            self.names[1 + part]
        } else {
            self.names[0]
        }
    }
}

/// LoKr at one layer.
#[derive(Debug)]
struct LoKrLayer {
    r: usize,
    w1: Factor,
    w2: Factor,
    scaling: f64,
    init: InitWeights,
    drops: Drops,
}

impl LoKrLayer {
    /// The change of the weight, `[d_in, d_out]`.
    fn change(&self, tensors: &Tensors<'_>) -> Tensor<2> {
        let ([l, m], [k, n]) = (self.w1.shape, self.w2.shape);
        let elements = self.w2.elements();
        let (w1, w2) = (self.w1.value(tensors), self.w2.value(tensors));
        let kron = if self.w2.kernel.len() == 1 && !self.w2.is_product {
            // PEFT multiplies a matrix by a tensor with more axes and so takes that tensor's last
            // two axes as rows and columns (`make_kron`): `w1` acts on the input channels and the
            // kernel.
            let w1 = w1.reshape([1, l, 1, m, 1]);
            let w2 = w2.reshape([k, 1, n, 1, elements]);
            (w1 * w2).reshape([l * k, m * n * elements])
        } else {
            let w1 = w1.reshape([l, 1, m, 1]);
            let w2 = w2.reshape([1, k, 1, n * elements]);
            (w1 * w2).reshape([l * k, m * n * elements])
        };
        kron.transpose() * self.scaling
    }

    fn specs(&self) -> Vec<(&'static str, Vec<usize>, Init)> {
        let (first, second) = match &self.init {
            InitWeights::Flag(true) => (Some(0), None),
            InitWeights::Flag(false) => (None, None),
            InitWeights::Named(_) => (None, Some(1)),
        };
        let mut specs = self.w1.tensors(self.r, first);
        specs.extend(self.w2.tensors(self.r, second));
        specs
    }
}

impl LayerMethod for LoKrLayer {
    fn prefix(&self) -> &str {
        "lokr"
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        // At first only the tensor that is zero has a gradient; the others get one after it
        // changes.
        let zero = match &self.init {
            InitWeights::Named(_) => self.w2.zero(1),
            InitWeights::Flag(_) => self.w1.zero(0),
        };
        let specs = self.specs().into_iter().map(|(name, shape, init)| {
            let spec = TensorSpec::named(name, shape).with_init(init);
            if name == zero {
                spec
            } else {
                spec.waiting_for(zero)
            }
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
        let specs = self.specs().into_iter();
        specs
            .map(|(name, shape, _)| parameter(name, shape))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::factorization;

    /// The results of `factorization` in peft/tuners/lokr/layer.py.
    #[test]
    fn factors_are_those_of_peft() {
        for (size, factor, expected) in [
            (256, -1, (16, 16)),
            (128, -1, (8, 16)),
            (127, -1, (1, 127)),
            (128, 4, (4, 32)),
            (12, 5, (3, 4)),
            (64, 64, (64, 1)),
            (16, 12, (4, 4)),
        ] {
            assert_eq!(factorization(size, factor), expected, "{size} {factor}");
        }
    }
}
