//! Bottleneck adapters: small networks after a layer (Houlsby et al., arXiv 1902.00751; Pfeiffer
//! et al., arXiv 2005.00247) or beside it (He et al., arXiv 2110.04366).

use std::sync::Arc;

use burn::tensor::Tensor;
use burn::tensor::activation::{gelu, relu, silu, tanh};
use serde::{Deserialize, Serialize};

use super::shared::parts::linear;
use crate::config::check::{FACTOR, within};
use crate::config::{CommonConfig, TargetModules};
use crate::{
    Base, Frozen, Init, LayerInfo, LayerKind, LayerMethod, Method, PeftError, Result, TensorSpec,
    Tensors,
};

/// The position of a bottleneck adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    /// After the last layer of attention and of the feed-forward part: two in each block.
    Houlsby,
    /// After the last layer of the feed-forward part: one in each block.
    #[default]
    Pfeiffer,
    /// Parallel to the feed-forward part, or to another named layer: both get the same input.
    Parallel,
}

/// The activation between the two products.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NonLinearity {
    /// `max(0, x)`.
    #[default]
    Relu,
    /// `x Φ(x)`, exactly.
    Gelu,
    /// `x σ(x)`, also called SiLU.
    Swish,
    /// The hyperbolic tangent.
    Tanh,
}

/// The configuration of bottleneck adapters: with `h = base(x)`, after a layer `y = h + scaling ·
/// (f(h Dᵀ + b_d) Uᵀ + b_u)`, parallel to one `y = h + scaling · (f(x Dᵀ + b_d) Uᵀ + b_u)`, where
/// `D` is `[m, d]`, `U` `[d_out, m]` and `m = d / reduction_factor`.
///
/// `base` is a linear layer, or a whole part with a slot of its own (GPT-2: `attn`, `mlp`); either
/// way the adapter acts before the sum with the residual. The default is the last layers of the
/// parts (`attn.c_proj`, `mlp.c_proj`), which is where the papers put them, and for `parallel` the
/// feed-forward part, with the input of its first layer.
///
/// It costs `m (d + d_out) + m + d_out` parameters per layer and cannot be merged. PEFT has no such
/// method, so Python's peft cannot read its files, whose keys are `bottleneck_down.weight`,
/// `bottleneck_down.bias`, `bottleneck_up.weight` and `bottleneck_up.bias`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct BottleneckConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The position of the adapters.
    pub architecture: Architecture,
    /// The factor by which the adapters are narrower than the layer.
    pub reduction_factor: f64,
    /// The activation between the two products.
    pub non_linearity: NonLinearity,
    /// The factor that multiplies their output.
    pub scaling: f64,
    /// Whether their output is zero at first.
    pub init_weights: bool,
}

impl Default for BottleneckConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            architecture: Architecture::Pfeiffer,
            reduction_factor: 16.0,
            non_linearity: NonLinearity::Relu,
            scaling: 1.0,
            init_weights: true,
        }
    }
}

crate::peft_config!(BottleneckConfig, "BOTTLENECK", "Bottleneck", without: []);

impl Method for BottleneckConfig {
    crate::method_of_keys!();

    fn validate(&self) -> Result<()> {
        // 16 for a sixteenth of the width.
        within("reduction_factor", self.reduction_factor, 1e-3..=65_536.0)?;
        within("scaling", self.scaling, FACTOR)
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        if ["bert", "roberta", "xlm-roberta"].contains(&model_type) {
            let feed_forward = r".*\.layer\.\d+\.output\.dense";
            return Some(match self.architecture {
                Architecture::Houlsby => TargetModules::list(["output.dense"]),
                Architecture::Pfeiffer => TargetModules::Pattern(feed_forward.into()),
                // The feed-forward part is not a module of its own there.
                Architecture::Parallel => return None,
            });
        }
        let (attention, feed_forward) = match model_type {
            "gpt2" | "gpt_bigcode" => ("attn.c_proj", "mlp.c_proj"),
            "gemma" | "gemma2" | "llama" | "mistral" | "qwen2" | "qwen3" => {
                ("self_attn.o_proj", "mlp.down_proj")
            }
            "distilbert" => ("attention.out_lin", "ffn.lin2"),
            _ => return None,
        };
        Some(match self.architecture {
            Architecture::Houlsby => TargetModules::list([attention, feed_forward]),
            Architecture::Pfeiffer => TargetModules::list([feed_forward]),
            Architecture::Parallel if model_type == "distilbert" => TargetModules::list(["ffn"]),
            Architecture::Parallel => TargetModules::list(["mlp"]),
        })
    }

    fn supports(&self, layer: &LayerInfo) -> bool {
        use LayerKind::{Conv1D, Linear, Module};
        matches!(layer.kind, Linear | Conv1D | Module)
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        let is_parallel = self.architecture == Architecture::Parallel;
        let d = if is_parallel { layer.d_in } else { layer.d_out };
        let m = (d as f64 / self.reduction_factor) as usize;
        if m > 16 * d {
            return Err(PeftError::unfit(
                &layer.path,
                format!(
                    "reduction_factor = {} makes {m} features of the {d} of {}: a \
                     bottleneck is narrower than its layer",
                    self.reduction_factor, layer.path
                ),
            ));
        }
        Ok(Arc::new(BottleneckLayer {
            is_parallel,
            d,
            m: m.max(1),
            d_out: layer.d_out,
            function: self.non_linearity,
            scaling: self.scaling,
            init: self.init_weights,
        }))
    }
}

/// A bottleneck adapter at one layer.
#[derive(Debug)]
struct BottleneckLayer {
    is_parallel: bool,
    d: usize,
    m: usize,
    d_out: usize,
    function: NonLinearity,
    scaling: f64,
    init: bool,
}

const DOWN: [&str; 2] = ["bottleneck_down.weight", "bottleneck_down.bias"];
const UP: [&str; 2] = ["bottleneck_up.weight", "bottleneck_up.bias"];

/// `x Wᵀ + b`.
fn affine(tensors: &Tensors<'_>, [weight, bias]: [&str; 2], input: Tensor<2>) -> Tensor<2> {
    let product = input.matmul(tensors.matrix(weight).transpose());
    product + tensors.vector(bias).unsqueeze()
}

impl LayerMethod for BottleneckLayer {
    fn prefix(&self) -> &str {
        "bottleneck"
    }

    fn layer_name(&self, kind: LayerKind) -> String {
        format!("bottleneck.{kind}")
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let up = if self.init {
            Init::Zeros
        } else {
            Init::kaiming_uniform(self.m)
        };
        vec![
            TensorSpec::named(DOWN[0], [self.m, self.d])
                .with_init(Init::kaiming_uniform(self.d))
                .waiting_for(UP[0]),
            TensorSpec::named(DOWN[1], [self.m]).waiting_for(UP[0]),
            TensorSpec::named(UP[0], [self.d_out, self.m])
                .with_init(up)
                .waiting_for(DOWN[0]),
            TensorSpec::named(UP[1], [self.d_out]),
        ]
    }

    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        let output = base.forward(input.clone());
        let seen = if self.is_parallel {
            input
        } else {
            output.clone()
        };
        let hidden = affine(tensors, DOWN, seen);
        let hidden = match self.function {
            NonLinearity::Relu => relu(hidden),
            NonLinearity::Gelu => gelu(hidden),
            NonLinearity::Swish => silu(hidden),
            NonLinearity::Tanh => tanh(hidden),
        };
        output + affine(tensors, UP, hidden) * self.scaling
    }

    fn parts(&self) -> Vec<(String, String)> {
        vec![
            linear("bottleneck_down", self.d, self.m, true),
            linear("bottleneck_up", self.m, self.d_out, true),
        ]
    }
}
