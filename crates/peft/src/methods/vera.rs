//! VeRA (arXiv 2310.11454): all layers share one pair of random projections.

use std::sync::Arc;

use burn::tensor::TensorData;
use burn_peft_kernels::Lora;
use serde::{Deserialize, Serialize};

use super::shared::parts::{dropout, parameter};
use crate::config::check::{FACTOR, PROBABILITY, SIDE, allocatable, within};
use crate::config::{Bias, CommonConfig, TargetModules, bias};
use crate::maths::torch_random::TorchRandom;
use crate::{Frozen, Init, LayerInfo, LayerMethod, Method, Result, TensorSpec, Tensors, target};

/// The configuration of VeRA: `y = base(x) + λ_b ⊙ B (λ_d ⊙ A dropout(x))` with trained `λ_d` `[r]`
/// and `λ_b` `[d_out]`, and random `A` `[r, d_in]` and `B` `[d_out, r]` that are slices of a pair
/// shared by all layers (peft/tuners/vera/layer.py).
///
/// It costs `r + d_out` parameters per layer; the shared pair is never trained, and need not be
/// saved, since a seed reproduces it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct VeraConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The rank.
    pub r: usize,
    /// The seed for the shared projections.
    pub projection_prng_key: u64,
    /// Whether the shared projections are in the file.
    pub save_projection: bool,
    /// The probability of dropping an element of the adapter's input.
    pub vera_dropout: f64,
    /// The initial value of `λ_d`.
    pub d_initial: f64,
    /// Whether the base weights are `[in, out]`; set from the kind of layer.
    pub fan_in_fan_out: bool,
    /// Which biases of the base are trained: `none`, `all` or `vera_only`.
    pub bias: String,
    /// Whether `λ_b` starts at 0 and `λ_d` at `d_initial`. Otherwise `λ_b` starts at 1, and `λ_d` is
    /// random.
    pub init_weights: bool,
}

impl Default for VeraConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            r: 256,
            projection_prng_key: 0,
            save_projection: true,
            vera_dropout: 0.0,
            d_initial: 0.1,
            fan_in_fan_out: false,
            bias: "none".into(),
            init_weights: true,
        }
    }
}

crate::peft_config!(VeraConfig, "VERA", "Vera", without: ["exclude_modules"]);

impl VeraConfig {
    /// PEFT's `_kaiming_init` of both projections (peft/tuners/vera/model.py).
    fn projections(&self, d_in: usize, d_out: usize) -> [TensorData; 2] {
        let mut random = TorchRandom::new(self.projection_prng_key);
        let mut uniform = |rows: usize, columns: usize| {
            let bound = 3.0_f64.sqrt() * (2.0_f64.sqrt() / (columns as f64).sqrt());
            let values = random.uniform(rows * columns, -bound as f32, bound as f32);
            TensorData::new(values, [rows, columns])
        };
        [uniform(self.r, d_in), uniform(d_out, self.r)]
    }
}

impl Method for VeraConfig {
    crate::method_of_keys!(fan_in_fan_out);

    fn validate(&self) -> Result<()> {
        within("r", self.r, SIDE)?;
        within("vera_dropout", self.vera_dropout, PROBABILITY)?;
        within("d_initial", self.d_initial, FACTOR)?;
        bias(&self.bias, "vera_only").map(drop)
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::vera_target_modules(model_type)
    }

    fn bias(&self) -> Bias {
        bias(&self.bias, "vera_only").unwrap_or_default()
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        Ok(self.layers(&[layer])?.remove(0))
    }

    fn shared_in_file(&self, layers: &[&LayerInfo]) -> Vec<(&'static str, Vec<usize>)> {
        if !self.save_projection {
            return Vec::new();
        }
        let [max_in, max_out] = largest(layers);
        vec![
            ("vera_A", vec![self.r, max_in]),
            ("vera_B", vec![max_out, self.r]),
        ]
    }

    fn layers(&self, layers: &[&LayerInfo]) -> Result<Vec<Arc<dyn LayerMethod>>> {
        let [max_in, max_out] = largest(layers);
        allocatable("vera_A", &[self.r, max_in])?;
        allocatable("vera_B", &[max_out, self.r])?;
        let mut projections = Some(self.projections(max_in, max_out));
        let layer = |layer: &&LayerInfo| {
            Arc::new(VeraLayer {
                config: self.clone(),
                d_in: layer.d_in,
                d_out: layer.d_out,
                max_in,
                max_out,
                // The first layer's projections are shared by all.
                projections: projections.take(),
            }) as Arc<dyn LayerMethod>
        };
        Ok(layers.iter().map(layer).collect())
    }
}

/// The largest `d_in` and `d_out` among all layers.
fn largest(layers: &[&LayerInfo]) -> [usize; 2] {
    let largest = |size: fn(&LayerInfo) -> usize| {
        let sizes = layers.iter().map(|layer| size(layer));
        sizes.max().unwrap_or(0)
    };
    [largest(|layer| layer.d_in), largest(|layer| layer.d_out)]
}

/// VeRA at one layer.
#[derive(Debug)]
struct VeraLayer {
    config: VeraConfig,
    d_in: usize,
    d_out: usize,
    max_in: usize,
    max_out: usize,
    projections: Option<[TensorData; 2]>,
}

impl LayerMethod for VeraLayer {
    fn prefix(&self) -> &str {
        "vera"
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let r = self.config.r;
        let (b, d) = if self.config.init_weights {
            (Init::Zeros, Init::Constant(self.config.d_initial))
        } else {
            (Init::Ones, Init::Normal(1.0))
        };
        let [init_a, init_b] = match &self.projections {
            Some(data) => data.clone().map(Init::Data),
            None => [Init::Zeros, Init::Zeros],
        };
        let shared = |name, shape: [usize; 2], init| {
            let spec = TensorSpec::named(name, shape).with_init(init);
            if self.config.save_projection {
                spec.buffer().shared()
            } else {
                spec.buffer().shared().unsaved()
            }
        };
        vec![
            TensorSpec::named("vera_lambda_b", [self.d_out])
                .with_init(b)
                .waiting_for("vera_lambda_d"),
            TensorSpec::named("vera_lambda_d", [r])
                .with_init(d)
                .waiting_for("vera_lambda_b"),
            shared("vera_A", [r, self.max_in], init_a),
            shared("vera_B", [self.max_out, r], init_b),
        ]
    }

    /// `A` with its rows scaled by `λ_d`, `[r, d_in]`, and `B` with its own by `λ_b`, `[d_out, r]`.
    fn low_rank(&self, tensors: &Tensors<'_>) -> Option<Lora> {
        let r = self.config.r;
        let a = tensors.matrix("vera_A").slice([0..r, 0..self.d_in]);
        let b = tensors.matrix("vera_B").slice([0..self.d_out, 0..r]);
        let (d, scale) = (
            tensors.vector("vera_lambda_d"),
            tensors.vector("vera_lambda_b"),
        );
        Some(Lora {
            a: a * d.unsqueeze_dim(1),
            b: b * scale.unsqueeze_dim(1),
            scaling: 1.0,
            dropout: self.config.vera_dropout,
        })
    }

    fn parts(&self) -> Vec<(String, String)> {
        vec![
            dropout("vera_dropout", self.config.vera_dropout),
            parameter("vera_lambda_b", [self.d_out]),
            parameter("vera_lambda_d", [self.config.r]),
        ]
    }
}
