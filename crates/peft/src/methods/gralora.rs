//! GraLoRA (arXiv 2505.20355): a small LoRA for each block of the weight.

use std::sync::Arc;

use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::Tensor;
use burn_peft_kernels::apply_dropout;
use serde::{Deserialize, Serialize};

use super::shared::parts::{dropout, parameter};
use crate::config::check::{FACTOR, PROBABILITY, SIDE, SIDE_OR_NONE, number_within, within};
use crate::config::{Bias, CommonConfig, TargetModules, bias};
use crate::{
    Base, Frozen, Init, LayerInfo, LayerMethod, Method, PeftError, Result, TensorSpec, Tensors,
    target,
};

/// The configuration of GraLoRA: the weight is divided into `k · k` blocks, each with a LoRA of
/// rank `r / k`, so that `y = base(x) + α / (r + hybrid_r) · Δ(dropout(x))` with `A` `[k, d_in/k,
/// r]` and `B` `[k, r, d_out/k]`; `hybrid_r` adds a LoRA over the whole weight
/// (peft/tuners/gralora/layer.py).
///
/// It costs `(r + hybrid_r) (d_in + d_out)` parameters per layer, the same as LoRA, for a change of
/// rank `k r`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct GraloraConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The rank, which is divided among the blocks.
    pub r: usize,
    /// The rank of a LoRA over the whole weight; 0 for none.
    pub hybrid_r: usize,
    /// α in the scaling.
    pub alpha: serde_json::Number,
    /// The probability of dropping an element of the adapter's input.
    pub gralora_dropout: f64,
    /// The number of blocks along each side.
    pub gralora_k: usize,
    /// Whether the base weights are `[in, out]`; set from the kind of layer.
    pub fan_in_fan_out: bool,
    /// Which biases of the base are trained: `none`, `all` or `gralora_only`.
    pub bias: String,
    /// Whether `B` starts at zero.
    pub init_weights: bool,
}

impl Default for GraloraConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            r: 32,
            hybrid_r: 0,
            alpha: 64.into(),
            gralora_dropout: 0.0,
            gralora_k: 2,
            fan_in_fan_out: false,
            bias: "none".into(),
            init_weights: true,
        }
    }
}

crate::peft_config!(GraloraConfig, "GRALORA", "Gralora", without: ["exclude_modules"]);

impl Method for GraloraConfig {
    crate::method_of_keys!(fan_in_fan_out);

    fn validate(&self) -> Result<()> {
        within("r", self.r, SIDE)?;
        within("hybrid_r", self.hybrid_r, SIDE_OR_NONE)?;
        within("gralora_k", self.gralora_k, SIDE)?;
        within("gralora_dropout", self.gralora_dropout, PROBABILITY)?;
        number_within("alpha", &self.alpha, FACTOR)?;
        if !self.r.is_multiple_of(self.gralora_k) {
            return Err(PeftError::value(
                "r",
                self.r,
                format!(
                    "must be a multiple of gralora_k = {}, among which it is divided",
                    self.gralora_k
                ),
            ));
        }
        bias(&self.bias, "gralora_only").map(drop)
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::lora_target_modules(model_type)
    }

    fn bias(&self) -> Bias {
        bias(&self.bias, "gralora_only").unwrap_or_default()
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        let (d_in, d_out, k) = (layer.d_in, layer.d_out, self.gralora_k);
        if !d_in.is_multiple_of(k) || !d_out.is_multiple_of(k) {
            return Err(PeftError::unfit(
                &layer.path,
                format!(
                    "gralora_k = {k} does not divide both sides of {}, which has {d_in} inputs \
                     and {d_out} outputs",
                    layer.path
                ),
            ));
        }
        let alpha = self.alpha.as_f64().unwrap_or(f64::NAN);
        Ok(Arc::new(GraloraLayer {
            r: self.r,
            hybrid_r: self.hybrid_r,
            k,
            d_in,
            d_out,
            scaling: alpha / (self.r + self.hybrid_r) as f64,
            dropout: DropoutConfig::new(self.gralora_dropout).init(),
            init: self.init_weights,
        }))
    }
}

/// GraLoRA at one layer.
#[derive(Debug)]
struct GraloraLayer {
    r: usize,
    hybrid_r: usize,
    k: usize,
    d_in: usize,
    d_out: usize,
    scaling: f64,
    dropout: Dropout,
    init: bool,
}

const GENERAL: [&str; 2] = ["gralora_A_general.weight", "gralora_B_general.weight"];

impl GraloraLayer {
    /// The change of the output for these inputs: `[rows, d_in]` to `[rows, d_out]`.
    fn change(&self, tensors: &Tensors<'_>, input: Tensor<2>) -> Tensor<2> {
        let ([rows, _], k, part) = (input.dims(), self.k, self.r / self.k);
        let blocks = input
            .clone()
            .reshape([rows, k, self.d_in / k])
            .swap_dims(0, 1);
        // Every block of inputs passes a k-th of its rank to every block of outputs.
        let hidden = blocks.matmul(tensors.tensor3("gralora_A"));
        let hidden = hidden.reshape([k, rows, k, part]).permute([2, 1, 0, 3]);
        let hidden: Tensor<3> = hidden.reshape([k, rows, self.r]);
        let output = hidden.matmul(tensors.tensor3("gralora_B"));
        let mut output: Tensor<2> = output.swap_dims(0, 1).reshape([rows, self.d_out]);
        if self.hybrid_r > 0 {
            let [a, b] = GENERAL.map(|name| tensors.matrix(name).transpose());
            output = output + input.matmul(a).matmul(b);
        }
        output * self.scaling
    }
}

impl LayerMethod for GraloraLayer {
    fn prefix(&self) -> &str {
        "gralora"
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let (r, k) = (self.r, self.k);
        let b = |fan_in| {
            if self.init {
                Init::Zeros
            } else {
                Init::kaiming_uniform(fan_in)
            }
        };
        let mut tensors = vec![
            TensorSpec::named("gralora_A", [k, self.d_in / k, r])
                .with_init(Init::kaiming_uniform(self.d_in / k))
                .waiting_for("gralora_B"),
            TensorSpec::named("gralora_B", [k, r, self.d_out / k])
                .with_init(b(r))
                .waiting_for("gralora_A"),
        ];
        if self.hybrid_r > 0 {
            tensors.extend([
                TensorSpec::named(GENERAL[0], [self.hybrid_r, self.d_in])
                    .with_init(Init::kaiming_uniform(self.d_in))
                    .waiting_for(GENERAL[1]),
                TensorSpec::named(GENERAL[1], [self.d_out, self.hybrid_r])
                    .with_init(b(self.hybrid_r))
                    .waiting_for(GENERAL[0]),
            ]);
        }
        tensors
    }

    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        let output = base.forward(input.clone());
        output + self.change(tensors, apply_dropout(&self.dropout, input))
    }

    fn delta_weight(&self, tensors: &Tensors<'_>, layer: &Frozen<'_>) -> Option<Tensor<2>> {
        let identity = Tensor::eye(self.d_in, &layer.weight().device());
        Some(self.change(tensors, identity))
    }

    fn parts(&self) -> Vec<(String, String)> {
        let (r, k) = (self.r, self.k);
        vec![
            parameter("gralora_A", [k, self.d_in / k, r]),
            parameter("gralora_B", [k, r, self.d_out / k]),
            dropout("gralora_dropout", self.dropout.prob),
        ]
    }
}
