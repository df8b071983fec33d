//! DeLoRA (arXiv 2503.18225): LoRA with normalised directions and a trained bound on the change.

use std::sync::Arc;

use burn::tensor::Tensor;
use burn_peft_kernels::Lora;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::shared::parts::{buffer, dropout, parameter};
use crate::config::check::{
    FACTOR, PROBABILITY, SIDE, each_number_within, each_within, number_within, within,
};
use crate::config::{Bias, CommonConfig, TargetModules, bias};
use crate::{
    Frozen, Init, LayerInfo, LayerKind, LayerMethod, Method, Result, TensorSpec, Tensors, target,
};

/// The configuration of DeLoRA: `y = base(x) + (dropout(x) ⊙ n) Aᵀ D Bᵀ` with `A` `[r, d_in]`, `B`
/// `[d_out, r]`, and `D` the diagonal of `λ / r / (‖a_i‖ ‖b_i‖)`. Here `a_i` are the rows of `A`,
/// `b_i` the columns of `B`, `λ` is trained, and `n` `[d_in]` holds the norm of the frozen weight
/// for each input (peft/tuners/delora/layer.py).
///
/// It costs `r (d_in + d_out) + 1` parameters per layer. Python's peft supports it for `Linear` only,
/// not for `Conv1D`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct DeloraConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The rank.
    pub r: usize,
    /// The initial value of `λ`, which bounds the change.
    pub delora_lambda: serde_json::Number,
    /// The probability of dropping an element of the adapter's input.
    pub module_dropout: f64,
    /// Which biases of the base are trained: `none`, `all` or `delora_only`.
    pub bias: String,
    /// Whether `B` starts at zero.
    pub init_weights: bool,
    /// Ranks of single layers, by pattern.
    pub rank_pattern: IndexMap<String, usize>,
    /// Initial values of `λ` for single layers, by pattern.
    pub lambda_pattern: IndexMap<String, serde_json::Number>,
}

impl Default for DeloraConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            r: 8,
            delora_lambda: 15.into(),
            module_dropout: 0.0,
            bias: "none".into(),
            init_weights: true,
            rank_pattern: IndexMap::new(),
            lambda_pattern: IndexMap::new(),
        }
    }
}

crate::peft_config!(DeloraConfig, "DELORA", "Delora", without: []);

impl Method for DeloraConfig {
    crate::method_of_keys!();

    fn validate(&self) -> Result<()> {
        within("r", self.r, SIDE)?;
        number_within("delora_lambda", &self.delora_lambda, FACTOR)?;
        within("module_dropout", self.module_dropout, PROBABILITY)?;
        each_within("rank_pattern", &self.rank_pattern, SIDE)?;
        each_number_within("lambda_pattern", &self.lambda_pattern, FACTOR)?;
        bias(&self.bias, "delora_only").map(drop)
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::lora_target_modules(model_type)
    }

    fn bias(&self) -> Bias {
        bias(&self.bias, "delora_only").unwrap_or_default()
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        let rank = target::pattern_value("rank_pattern", &self.rank_pattern, &layer.path)?;
        let lambda = target::pattern_value("lambda_pattern", &self.lambda_pattern, &layer.path)?;
        let lambda = lambda.unwrap_or(&self.delora_lambda);
        Ok(Arc::new(DeloraLayer {
            r: rank.copied().unwrap_or(self.r),
            d_in: layer.d_in,
            d_out: layer.d_out,
            lambda: lambda.as_f64().unwrap_or(f64::NAN),
            dropout: self.module_dropout,
            init: self.init_weights,
        }))
    }
}

/// DeLoRA at one layer.
#[derive(Debug)]
struct DeloraLayer {
    r: usize,
    d_in: usize,
    d_out: usize,
    lambda: f64,
    dropout: f64,
    init: bool,
}

/// The norms along an axis, at least 1e-4, so that a zero `B` causes no division by zero and gets a
/// gradient.
fn norms(matrix: Tensor<2>, axis: usize) -> Tensor<2> {
    matrix.square().sum_dim(axis).clamp_min(1e-8).sqrt()
}

impl LayerMethod for DeloraLayer {
    fn prefix(&self) -> &str {
        "delora"
    }

    fn layer_name(&self, _: LayerKind) -> String {
        "delora.DeloraLinear".into()
    }

    fn tensors(&self, layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let (r, d_in, d_out) = (self.r, self.d_in, self.d_out);
        let b = if self.init {
            Init::Zeros
        } else {
            Init::kaiming_uniform(r)
        };
        let weight = layer.weight().without_autodiff();
        let norms = weight.square().sum_dim(1).sqrt().into_data();
        vec![
            TensorSpec::named("delora_A", [r, d_in])
                .with_init(Init::kaiming_uniform(d_in))
                .waiting_for("delora_B"),
            TensorSpec::named("delora_B", [d_out, r])
                .with_init(b)
                .waiting_for("delora_lambda"),
            TensorSpec::named("delora_lambda", [1])
                .with_init(Init::Constant(self.lambda))
                .waiting_for("delora_B"),
            TensorSpec::named("delora_w_norm", [d_in])
                .with_init(Init::Data(norms))
                .buffer(),
        ]
    }

    fn low_rank(&self, tensors: &Tensors<'_>) -> Option<Lora> {
        let (a, b) = (tensors.matrix("delora_A"), tensors.matrix("delora_B"));
        let lengths = norms(a.clone(), 1) * norms(b.clone(), 0).transpose();
        let lambda: Tensor<2> = tensors.vector("delora_lambda").unsqueeze();
        let scales = lambda / lengths / self.r as f64;
        let inputs: Tensor<2> = tensors.vector("delora_w_norm").unsqueeze();
        Some(Lora {
            a: a * scales * inputs,
            b,
            scaling: 1.0,
            dropout: self.dropout,
        })
    }

    fn parts(&self) -> Vec<(String, String)> {
        vec![
            dropout("delora_dropout", self.dropout),
            parameter("delora_A", [self.r, self.d_in]),
            parameter("delora_B", [self.d_out, self.r]),
            parameter("delora_lambda", [1]),
            buffer("delora_w_norm", [self.d_in]),
        ]
    }
}
