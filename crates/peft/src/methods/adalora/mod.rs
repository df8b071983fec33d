//! AdaLoRA (arXiv 2303.10512): spends the rank where it matters.

mod allocation;

use std::ops::Bound;
use std::sync::Arc;

use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::{Tensor, TensorData};
use burn_peft_kernels::apply_dropout;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::lora::lora_variant_keys;
use super::shared::parts::{dropout, parameter};
use crate::config::check::{FACTOR, PROBABILITY, SIDE, SIDE_OR_NONE, STEPS, number_within, within};
use crate::config::{Bias, CommonConfig, TargetModules};
use crate::{
    Base, Frozen, Init, LayerInfo, LayerKind, LayerMethod, Method, PeftError, Result, StepLayer,
    Steps, TensorSpec, Tensors, target,
};

/// The configuration of AdaLoRA: `y = base(x) + α / (init_r + 1e-5) · B (A ⊙ E) dropout(x)` with
/// `A` `[r, d_in]`, singular values `E` `[r, 1]` and `B` `[d_out, r]`
/// (peft/tuners/adalora/layer.py).
///
/// Training adds `orth_reg_weight` times the mean of `‖A Aᵀ - I‖` and `‖Bᵀ B - I‖` to the loss.
/// After each optimizer step the least important values of `E` are set to zero, until an average of
/// `target_r` per layer remains (`allocation`).
///
/// It costs `init_r (d_in + d_out + 1)` parameters per layer in training; the file holds only the
/// remaining ranks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct AdaLoraConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The average rank of a layer in the end.
    pub target_r: usize,
    /// The rank of a layer in the beginning.
    pub init_r: usize,
    /// The number of steps before values are removed.
    pub tinit: usize,
    /// The number of steps after the last removal.
    pub tfinal: usize,
    /// The number of steps between two allocations.
    #[serde(rename = "deltaT")]
    pub delta_t: usize,
    /// The smoothing of the sensitivity.
    pub beta1: f64,
    /// The smoothing of the uncertainty.
    pub beta2: f64,
    /// The weight of the penalty for singular vectors that are not orthogonal.
    pub orth_reg_weight: f64,
    /// The number of optimizer steps of the whole training. Required.
    pub total_step: Option<usize>,
    /// The remaining singular values, by the path of the layer and `.lora_E`.
    pub rank_pattern: Option<IndexMap<String, Vec<bool>>>,
    /// LoRA's rank. Kept, not used.
    pub r: usize,
    /// α in the scaling.
    pub lora_alpha: serde_json::Number,
    /// The probability of dropping an element of the adapter's input.
    pub lora_dropout: f64,
    /// Which biases of the base are trained.
    pub bias: Bias,
    /// Whether the base weights are `[in, out]`; set from the kind of layer.
    pub fan_in_fan_out: bool,
    /// Whether `E` starts at zero, and `A` and `B` at small random numbers.
    pub init_lora_weights: bool,
}

impl Default for AdaLoraConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            target_r: 8,
            init_r: 12,
            tinit: 0,
            tfinal: 0,
            delta_t: 1,
            beta1: 0.85,
            beta2: 0.85,
            orth_reg_weight: 0.5,
            total_step: None,
            rank_pattern: None,
            r: 8,
            lora_alpha: 8.into(),
            lora_dropout: 0.0,
            bias: Bias::None,
            fan_in_fan_out: false,
            init_lora_weights: true,
        }
    }
}

crate::peft_config!(AdaLoraConfig, "ADALORA", "AdaLora", without: [], fixed: {
    let mut keys = lora_variant_keys();
    keys.extend([
        ("alpha_pattern", json!({})),
        ("loftq_config", json!({})),
        ("lora_bias", json!(false)),
        ("trainable_token_indices", Value::Null),
        ("use_dora", json!(false)),
        ("use_rslora", json!(false)),
    ]);
    keys
});

/// A path in `rank_pattern`.
fn pattern_key(path: &str) -> String {
    format!("{path}.lora_E")
}

impl AdaLoraConfig {
    fn alpha(&self) -> f64 {
        let alpha = self.lora_alpha.as_f64().unwrap_or(f64::NAN);
        if alpha > 0.0 {
            alpha
        } else {
            self.init_r as f64
        }
    }

    /// The remaining values of the layer at `path`, if that is decided.
    fn left(&self, path: &str) -> Option<&Vec<bool>> {
        self.rank_pattern.as_ref()?.get(&pattern_key(path))
    }
}

impl Method for AdaLoraConfig {
    crate::method_of_keys!(fan_in_fan_out);

    fn validate(&self) -> Result<()> {
        within("init_r", self.init_r, SIDE)?;
        within("target_r", self.target_r, SIDE_OR_NONE)?;
        within("r", self.r, SIDE_OR_NONE)?;
        within("deltaT", self.delta_t, 1..=*STEPS.end())?;
        within("tinit", self.tinit, STEPS)?;
        within("tfinal", self.tfinal, STEPS)?;
        within("lora_dropout", self.lora_dropout, PROBABILITY)?;
        number_within("lora_alpha", &self.lora_alpha, FACTOR)?;
        within("orth_reg_weight", self.orth_reg_weight, 0.0..=*FACTOR.end())?;
        let inside = (Bound::Excluded(0.0), Bound::Excluded(1.0));
        within("beta1", self.beta1, inside)?;
        within("beta2", self.beta2, inside)?;
        if self.target_r > self.init_r {
            let problem = format!(
                "must be at most init_r = {}, the rank a layer begins with",
                self.init_r
            );
            return Err(PeftError::value("target_r", self.target_r, problem));
        }
        let total = match self.total_step {
            Some(total) if total > 0 => total,
            given => {
                return Err(PeftError::value(
                    "total_step",
                    given.map_or("null".to_string(), |total| total.to_string()),
                    "AdaLoRA plans its ranks ahead and has to know the optimizer steps of the \
                     whole training, such as total_step = 1000",
                ));
            }
        };
        within("total_step", total, STEPS)?;
        if self.tinit + self.tfinal >= total {
            return Err(PeftError::conflict(
                &["tinit", "tfinal", "total_step"],
                format!(
                    "tinit = {} and tfinal = {} leave no step of total_step = {total} in \
                     which ranks are given up",
                    self.tinit, self.tfinal
                ),
            ));
        }
        Ok(())
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::adalora_target_modules(model_type)
    }

    fn bias(&self) -> Bias {
        self.bias
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        let left = self.left(&layer.path);
        let left = left.map(|mask| mask.iter().filter(|left| **left).count());
        Ok(Arc::new(SvdLayer {
            r: left.unwrap_or(self.init_r),
            init_r: self.init_r,
            d_in: layer.d_in,
            d_out: layer.d_out,
            alpha: self.alpha(),
            dropout: DropoutConfig::new(self.lora_dropout).init(),
            init: self.init_lora_weights,
        }))
    }

    fn steps(&self) -> Option<&dyn Steps> {
        Some(self)
    }
}

impl Steps for AdaLoraConfig {
    fn regularizer(&self, layers: &[Tensors<'_>]) -> Option<Tensor<1>> {
        let distance = |square: Tensor<2>| {
            let [r, _] = square.dims();
            let device = square.device();
            (square - Tensor::eye(r, &device)).square().sum().sqrt()
        };
        let penalties = layers.iter().flat_map(|tensors| {
            let (a, b) = (tensors.matrix("lora_A"), tensors.matrix("lora_B"));
            [
                distance(a.clone().matmul(a.transpose())),
                distance(b.clone().transpose().matmul(b)),
            ]
        });
        let penalties: Vec<_> = penalties.collect();
        if penalties.is_empty() || self.orth_reg_weight == 0.0 {
            return None;
        }
        Some(Tensor::cat(penalties, 0).mean() * self.orth_reg_weight)
    }

    fn learnt_keys(&self) -> &[&str] {
        &["rank_pattern"]
    }

    fn after_step(&self, step: usize, layers: &mut [StepLayer<'_>]) -> Option<Arc<dyn Method>> {
        let rank_pattern = allocation::after_step(self, step, layers)?;
        let mut config = self.clone();
        config.rank_pattern = Some(rank_pattern);
        Some(Arc::new(config))
    }

    /// The file has no rows for removed values.
    fn to_file(&self, path: &str, name: &str, tensor: TensorData) -> TensorData {
        let [rows, columns] = [tensor.shape()[0], tensor.shape()[1]];
        let is_b = name == "lora_B";
        let r = if is_b { columns } else { rows };
        let Some(left) = self.left(path).filter(|left| left.len() == r) else {
            return tensor;
        };
        let kept = left.iter().filter(|left| **left).count();
        let values = tensor.iter::<f32>().enumerate();
        let values = values.filter(|(index, _)| {
            if is_b {
                left[index % columns]
            } else {
                left[index / columns]
            }
        });
        let values: Vec<f32> = values.map(|(_, value)| value).collect();
        if is_b {
            TensorData::new(values, [rows, kept])
        } else {
            TensorData::new(values, [kept, columns])
        }
    }
}

/// AdaLoRA at one layer.
#[derive(Debug)]
struct SvdLayer {
    r: usize,
    init_r: usize,
    d_in: usize,
    d_out: usize,
    alpha: f64,
    dropout: Dropout,
    init: bool,
}

impl SvdLayer {
    fn scaling(&self) -> f64 {
        self.alpha / (self.init_r as f64 + 1e-5)
    }

    /// `(A ⊙ E)ᵀ`, `[d_in, r]`, and `Bᵀ`, `[r, d_out]`.
    fn factors(&self, tensors: &Tensors<'_>) -> (Tensor<2>, Tensor<2>) {
        let a = tensors.matrix("lora_A") * tensors.matrix("lora_E");
        (a.transpose(), tensors.matrix("lora_B").transpose())
    }
}

impl LayerMethod for SvdLayer {
    fn prefix(&self) -> &str {
        "adalora"
    }

    fn layer_name(&self, _: LayerKind) -> String {
        "adalora.SVDLinear".into()
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let (r, d_in, d_out) = (self.r, self.d_in, self.d_out);
        let (vectors, values) = if self.init {
            (Init::Normal(0.02), Init::Zeros)
        } else {
            (Init::Normal(1.0), Init::Normal(1.0))
        };
        let mut tensors = vec![
            TensorSpec::named("lora_A", [r, d_in])
                .with_init(vectors.clone())
                .waiting_for("lora_E"),
            TensorSpec::named("lora_E", [r, 1]).with_init(values),
            TensorSpec::named("lora_B", [d_out, r])
                .with_init(vectors)
                .waiting_for("lora_E"),
            TensorSpec::named("ranknum", [1])
                .with_init(Init::Constant(self.init_r as f64))
                .frozen()
                .unsaved(),
        ];
        for [of, sensitivity, uncertainty] in allocation::AVERAGES {
            let shape = tensors.iter().find(|spec| spec.name == of);
            let shape = shape.map_or_else(Vec::new, |spec| spec.shape.clone());
            for name in [sensitivity, uncertainty] {
                tensors.push(TensorSpec::named(name, shape.clone()).buffer().unsaved());
            }
        }
        tensors
    }

    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        let (a, b) = self.factors(tensors);
        let hidden = apply_dropout(&self.dropout, input.clone()).matmul(a);
        base.forward(input) + (hidden * self.scaling()).matmul(b)
    }

    fn delta_weight(&self, tensors: &Tensors<'_>, _layer: &Frozen<'_>) -> Option<Tensor<2>> {
        let (a, b) = self.factors(tensors);
        Some(a.matmul(b) * self.scaling())
    }

    fn parts(&self) -> Vec<(String, String)> {
        let (r, d_in, d_out) = (self.r, self.d_in, self.d_out);
        vec![
            dropout("lora_dropout", self.dropout.prob),
            parameter("lora_A", [r, d_in]),
            parameter("lora_E", [r, 1]),
            parameter("lora_B", [d_out, r]),
            parameter("ranknum", [1]),
        ]
    }
}
