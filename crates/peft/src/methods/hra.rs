//! HRA (arXiv 2405.17484): reflects the input.

use std::sync::Arc;

use burn::tensor::{Distribution, Tensor};
use burn_peft_kernels::random;
use serde::{Deserialize, Serialize};

use super::shared::parts::parameter;
use crate::config::check::{SIDE, within};
use crate::config::{Bias, CommonConfig, TargetModules, bias};
use crate::{
    Base, Frozen, Init, LayerInfo, LayerMethod, Method, Result, TensorSpec, Tensors, target,
};

/// The configuration of HRA: `y = base(x H_r … H_1)` with the Householder reflections `H_i = I - 2
/// u_i u_iᵀ / ‖u_i‖²` of a trained `u` `[d_in, r]`; with `apply_GS` the `u_i` are made orthogonal
/// first (peft/tuners/hra/layer.py).
///
/// It costs `r d_in` parameters per layer. Python's peft supports it for `Linear` only, not for
/// `Conv1D`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct HRAConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The number of reflections.
    pub r: usize,
    /// Whether their directions are made orthogonal.
    #[serde(rename = "apply_GS")]
    pub apply_gs: bool,
    /// Whether they start in pairs that cancel each other, which requires an even `r`.
    pub init_weights: bool,
    /// Which biases of the base are trained: `none`, `all` or `hra_only`.
    pub bias: String,
}

impl Default for HRAConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            r: 8,
            apply_gs: false,
            init_weights: true,
            bias: "none".into(),
        }
    }
}

crate::peft_config!(HRAConfig, "HRA", "HRA", without: []);

impl Method for HRAConfig {
    crate::method_of_keys!();

    fn validate(&self) -> Result<()> {
        within("r", self.r, SIDE)?;
        if self.init_weights && self.r % 2 == 1 {
            tracing::warn!(
                "r = {} is odd: the adapter changes the output before it is trained",
                self.r
            );
        }
        bias(&self.bias, "hra_only").map(drop)
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::lora_target_modules(model_type)
    }

    fn bias(&self) -> Bias {
        bias(&self.bias, "hra_only").unwrap_or_default()
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        Ok(Arc::new(HRALayer {
            r: self.r,
            d_in: layer.d_in,
            orthogonal: self.apply_gs,
            in_pairs: self.init_weights && self.r.is_multiple_of(2),
        }))
    }
}

/// HRA at one layer.
#[derive(Debug)]
struct HRALayer {
    r: usize,
    d_in: usize,
    orthogonal: bool,
    in_pairs: bool,
}

/// A vector of length one, `[d, 1]`.
fn unit(vector: Tensor<2>) -> Tensor<2> {
    let norm = vector.clone().square().sum_dim(0).sqrt();
    vector / norm
}

impl HRALayer {
    /// The directions of the reflections, `[d_in, 1]` each.
    fn directions(&self, tensors: &Tensors<'_>) -> Vec<Tensor<2>> {
        let u = tensors.matrix("hra_u");
        let mut found: Vec<Tensor<2>> = Vec::new();
        for index in 0..self.r {
            let mut next = u.clone().narrow(1, index, 1);
            if self.orthogonal {
                for before in &found {
                    let along = before.clone().transpose().matmul(next.clone());
                    next = next - before.clone() * along;
                }
            }
            found.push(unit(next));
        }
        found
    }
}

impl LayerMethod for HRALayer {
    fn prefix(&self) -> &str {
        "hra"
    }

    fn tensors(&self, layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let shape = [self.d_in, self.r];
        let init = if self.in_pairs {
            let half = self.r / 2;
            let bound = 1.0 / (half as f64).sqrt();
            let uniform = Distribution::Uniform(-bound, bound);
            let device = layer.weight().device().without_autodiff();
            let half = random([self.d_in, half, 1], uniform, &device);
            Init::Data(half.repeat_dim(2, 2).into_data())
        } else {
            Init::kaiming_uniform(self.r)
        };
        vec![TensorSpec::named("hra_u", shape).with_init(init)]
    }

    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        let mut input = input;
        for u in self.directions(tensors).into_iter().rev() {
            input = input.clone() - input.matmul(u.clone()).matmul(u.transpose()) * 2.0;
        }
        base.forward(input)
    }

    fn merge(
        &self,
        tensors: &Tensors<'_>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        let mut weight = weight;
        for u in self.directions(tensors) {
            weight = weight.clone() - u.clone().matmul(u.transpose().matmul(weight)) * 2.0;
        }
        Some((weight, bias))
    }

    fn parts(&self) -> Vec<(String, String)> {
        vec![parameter("hra_u", [self.d_in, self.r])]
    }
}
