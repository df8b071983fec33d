//! RandLoRA (arXiv 2502.00987): a change of full rank from shared random bases.

use std::sync::Arc;

use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Tensor, TensorData};
use burn_peft_kernels::apply_dropout;
use serde::{Deserialize, Serialize};

use super::shared::parts::{dropout, parameter};
use crate::config::check::{FACTOR, PROBABILITY, SIDE, allocatable, number_within, within};
use crate::config::{Bias, CommonConfig, TargetModules, bias};
use crate::maths::torch_random::TorchRandom;
use crate::{
    Base, Frozen, Init, LayerInfo, LayerMethod, Method, PeftError, Result, TensorSpec, Tensors,
    target,
};

/// The configuration of RandLoRA: `y = base(x) + α/r · Σ_j B_j (λ_j ⊙ A ⊙ γ_j) dropout(x)` over `n`
/// bases, with random `A` `[r, 1, d_min]` and `B` `[d_max, n, r]` that all layers share, and
/// trained `λ` `[r, n]` and `γ` `[n, d_min]`; `d_min` and `d_max` are the smaller and larger side
/// of the weight and `n = ⌈d_min / r⌉` (peft/tuners/randlora/layer.py).
///
/// It costs `n (r + d_min)` parameters per layer; the shared pair is never trained. PEFT draws the
/// pair in 16 bits, so that it cannot be reproduced from its seed and has to be in the file. With
/// `sparse` and `very_sparse` it consists of -1, 0 and 1 before scaling, is drawn in 32 bits, and
/// can be left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct RandLoraConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The rank of a basis.
    pub r: usize,
    /// The seed for the bases of a new adapter.
    pub projection_prng_key: u64,
    /// Whether the bases are in the file; dense ones have to be.
    pub save_projection: bool,
    /// Whether two thirds of the bases are zero.
    pub sparse: bool,
    /// Whether all but `1 / √d` of the bases are zero, where `d` is their smaller dimension.
    pub very_sparse: bool,
    /// The probability of dropping an element of the adapter's input.
    pub randlora_dropout: f64,
    /// Whether the base weights are `[in, out]`; set from the kind of layer.
    pub fan_in_fan_out: bool,
    /// α in the scaling α/r.
    pub randlora_alpha: serde_json::Number,
    /// Which biases of the base are trained: `none`, `all` or `randlora_only`.
    pub bias: String,
    /// Whether `λ` starts at zero.
    pub init_weights: bool,
}

impl Default for RandLoraConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            r: 32,
            projection_prng_key: 0,
            save_projection: true,
            sparse: false,
            very_sparse: false,
            randlora_dropout: 0.0,
            fan_in_fan_out: false,
            randlora_alpha: 640.into(),
            bias: "none".into(),
            init_weights: true,
        }
    }
}

crate::peft_config!(RandLoraConfig, "RANDLORA", "RandLora", without: ["exclude_modules"]);

impl RandLoraConfig {
    /// `A` and `B` of a new adapter: uniform or sparse, scaled to a standard deviation of one.
    fn bases(&self, smaller: usize, larger: usize) -> [TensorData; 2] {
        let mut random = TorchRandom::new(self.projection_prng_key);
        let sparsity = if self.very_sparse {
            Some((smaller as f64).sqrt())
        } else {
            self.sparse.then_some(3.0)
        };
        let mut base = |shape: [usize; 3]| {
            let count = shape.iter().product();
            let mut values = match sparsity {
                None => random.uniform(count, -1.0, 1.0),
                Some(sparsity) => {
                    let tail = (0.5 / sparsity) as f32;
                    let sign = |unit| f32::from(unit > 1.0 - tail) - f32::from(unit < tail);
                    let units = random.uniform(count, 0.0, 1.0).into_iter();
                    units.map(sign).collect()
                }
            };
            let mean = values.iter().sum::<f32>() / count as f32;
            let squares = values
                .iter()
                .map(|value| (value - mean).powi(2))
                .sum::<f32>();
            let deviation = (squares / (count.max(2) - 1) as f32).sqrt();
            values.iter_mut().for_each(|value| *value /= deviation);
            TensorData::new(values, shape)
        };
        let a = base([self.r, 1, smaller]);
        [a, base([larger, smaller.div_ceil(self.r), self.r])]
    }
}

impl Method for RandLoraConfig {
    crate::method_of_keys!(fan_in_fan_out);

    fn validate(&self) -> Result<()> {
        within("r", self.r, SIDE)?;
        within("randlora_dropout", self.randlora_dropout, PROBABILITY)?;
        number_within("randlora_alpha", &self.randlora_alpha, FACTOR)?;
        if !self.save_projection && !self.sparse && !self.very_sparse {
            return Err(PeftError::value(
                "save_projection",
                false,
                "dense bases have to be in the file: set it to true, or set sparse or very_sparse",
            ));
        }
        bias(&self.bias, "randlora_only").map(drop)
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::lora_target_modules(model_type)
    }

    fn bias(&self) -> Bias {
        bias(&self.bias, "randlora_only").unwrap_or_default()
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        Ok(self.layers(&[layer])?.remove(0))
    }

    fn shared_in_file(&self, layers: &[&LayerInfo]) -> Vec<(&'static str, Vec<usize>)> {
        if !self.save_projection {
            return Vec::new();
        }
        let [smaller, larger] = sides(layers);
        vec![
            ("randlora_A", vec![self.r, 1, smaller]),
            ("randlora_B", vec![larger, smaller.div_ceil(self.r), self.r]),
        ]
    }

    fn layers(&self, layers: &[&LayerInfo]) -> Result<Vec<Arc<dyn LayerMethod>>> {
        let [smaller, larger] = sides(layers);
        allocatable("randlora_A", &[self.r, smaller])?;
        allocatable("randlora_B", &[larger, smaller.div_ceil(self.r), self.r])?;
        let mut bases = Some(self.bases(smaller, larger));
        let alpha = self.randlora_alpha.as_f64().unwrap_or(f64::NAN);
        let layer = |layer: &&LayerInfo| {
            Arc::new(RandLoraLayer {
                r: self.r,
                d_in: layer.d_in,
                d_out: layer.d_out,
                shared: [
                    [self.r, 1, smaller],
                    [larger, smaller.div_ceil(self.r), self.r],
                ],
                bases: bases.take(),
                saved: self.save_projection,
                scaling: alpha / self.r as f64,
                dropout: DropoutConfig::new(self.randlora_dropout).init(),
                init: self.init_weights,
            }) as Arc<dyn LayerMethod>
        };
        Ok(layers.iter().map(layer).collect())
    }
}

/// The smaller and the larger of the largest `d_in` and `d_out` among all layers.
fn sides(layers: &[&LayerInfo]) -> [usize; 2] {
    let max_in = layers.iter().map(|layer| layer.d_in).max().unwrap_or(0);
    let max_out = layers.iter().map(|layer| layer.d_out).max().unwrap_or(0);
    [max_in.min(max_out), max_in.max(max_out)]
}

/// RandLoRA at one layer.
#[derive(Debug)]
struct RandLoraLayer {
    r: usize,
    d_in: usize,
    d_out: usize,
    /// The shapes of the shared pair.
    shared: [[usize; 3]; 2],
    /// Its values, stored with the first layer.
    bases: Option<[TensorData; 2]>,
    /// Whether it is in the file.
    saved: bool,
    scaling: f64,
    dropout: Dropout,
    init: bool,
}

impl RandLoraLayer {
    /// The smaller and the larger dimension of the weight.
    fn sides(&self) -> (usize, usize) {
        (self.d_in.min(self.d_out), self.d_in.max(self.d_out))
    }

    fn bases(&self) -> usize {
        self.sides().0.div_ceil(self.r)
    }

    /// Two factors of the change, `[d_in, n r]` and `[n r, d_out]`.
    fn factors(&self, tensors: &Tensors<'_>) -> (Tensor<2>, Tensor<2>) {
        let ((smaller, larger), r, n) = (self.sides(), self.r, self.bases());
        let a = tensors.tensor3("randlora_A").narrow(2, 0, smaller);
        let b = tensors.tensor3("randlora_B");
        let b = b.narrow(0, 0, larger).narrow(1, 0, n);
        let lambda = tensors.matrix("randlora_lambda").reshape([r, n, 1]);
        let gamma = tensors.matrix("randlora_gamma").reshape([1, n, smaller]);
        let a: Tensor<2> = (a * lambda * gamma).reshape([r * n, smaller]);
        let b: Tensor<2> = b.reshape([larger, n * r]);
        // The trained factors belong to the smaller dimension, whichever it is.
        if smaller == self.d_in {
            (a.transpose(), b.transpose())
        } else {
            (b, a)
        }
    }
}

impl LayerMethod for RandLoraLayer {
    fn prefix(&self) -> &str {
        "randlora"
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let ((smaller, larger), r, n) = (self.sides(), self.r, self.bases());
        let (lambda, gamma) = if self.init {
            (Init::Zeros, Init::Constant(1.0 / n.max(smaller) as f64))
        } else {
            (Init::Normal(1.0), Init::Constant(1.0 / larger as f64))
        };
        let [init_a, init_b] = match &self.bases {
            Some(data) => data.clone().map(Init::Data),
            None => [Init::Zeros, Init::Zeros],
        };
        let [shape_a, shape_b] = self.shared;
        let base = |name, shape: [usize; 3], init| {
            let spec = TensorSpec::named(name, shape).with_init(init);
            let spec = spec.buffer().shared();
            if self.saved {
                spec.in_layers()
            } else {
                spec.unsaved()
            }
        };
        vec![
            TensorSpec::named("randlora_lambda", [r, n])
                .with_init(lambda)
                .waiting_for("randlora_gamma"),
            TensorSpec::named("randlora_gamma", [n, smaller])
                .with_init(gamma)
                .waiting_for("randlora_lambda"),
            base("randlora_A", shape_a, init_a),
            base("randlora_B", shape_b, init_b),
        ]
    }

    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        let (a, b) = self.factors(tensors);
        let hidden = apply_dropout(&self.dropout, input.clone()).matmul(a);
        base.forward(input) + hidden.matmul(b) * self.scaling
    }

    fn delta_weight(&self, tensors: &Tensors<'_>, _layer: &Frozen<'_>) -> Option<Tensor<2>> {
        let (a, b) = self.factors(tensors);
        Some(a.matmul(b) * self.scaling)
    }

    fn parts(&self) -> Vec<(String, String)> {
        let (r, n) = (self.r, self.bases());
        vec![
            dropout("randlora_dropout", self.dropout.prob),
            parameter("randlora_lambda", [r, n]),
            parameter("randlora_gamma", [n, self.sides().0]),
        ]
    }
}
