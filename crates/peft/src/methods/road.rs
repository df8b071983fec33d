//! RoAd (arXiv 2409.00119): rotates and scales pairs of outputs.

use std::sync::Arc;

use burn::tensor::{Distribution, Tensor};
use burn_peft_kernels::random;
use serde::{Deserialize, Serialize};

use super::shared::parts::parameter;
use crate::config::check::{SIDE, within};
use crate::config::{CommonConfig, TargetModules};
use crate::{
    Base, Frozen, Init, LayerInfo, LayerMethod, Method, PeftError, Result, TensorSpec, Tensors,
    target,
};

/// The configuration of RoAd: `y = R base(x)`. Within each group of `group_size` outputs, the first
/// half is paired with the second, and a pair `(y₁, y₂)` becomes
/// `(α y₁ cos θ - α y₂ sin θ, α y₁ sin θ + α y₂ cos θ)` (peft/tuners/road/layer.py).
///
/// It costs `d_out` parameters per layer with `road_1`, where each pair has one `α` and one `θ`;
/// twice that with `road_2`, where each output has its own; and four times with `road_4`, where
/// cosine and sine have separate ones too. Python's peft supports it for `Linear` only, not for
/// `Conv1D`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct RoadConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// `road_1`, `road_2` or `road_4`.
    pub variant: String,
    /// The number of outputs in a group: even, and a divisor of the outputs of every layer.
    pub group_size: usize,
    /// Whether the rotations start at the identity; otherwise at random.
    pub init_weights: bool,
}

impl Default for RoadConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            variant: "road_1".into(),
            group_size: 64,
            init_weights: true,
        }
    }
}

crate::peft_config!(
    RoadConfig,
    "ROAD",
    "Road",
    without: ["exclude_modules", "layers_to_transform", "layers_pattern"]
);

impl RoadConfig {
    fn parsed_variant(&self) -> Result<Variant> {
        match self.variant.as_str() {
            "road_1" => Ok(Variant::One),
            "road_2" => Ok(Variant::Two),
            "road_4" => Ok(Variant::Four),
            other => Err(PeftError::value(
                "variant",
                format!("{other:?}"),
                "must be \"road_1\", \"road_2\" or \"road_4\"",
            )),
        }
    }
}

impl Method for RoadConfig {
    crate::method_of_keys!();

    fn validate(&self) -> Result<()> {
        self.parsed_variant()?;
        within("group_size", self.group_size, SIDE)?;
        if !self.group_size.is_multiple_of(2) {
            let problem = "must be even: the halves of a group are paired";
            return Err(PeftError::value("group_size", self.group_size, problem));
        }
        Ok(())
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::lora_target_modules(model_type)
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        let (group, d_out) = (self.group_size, layer.d_out);
        if !d_out.is_multiple_of(group) {
            return Err(PeftError::unfit(
                &layer.path,
                format!(
                    "group_size = {group} does not divide the {d_out} outputs of {}",
                    layer.path
                ),
            ));
        }
        Ok(Arc::new(RoadLayer {
            variant: self.parsed_variant()?,
            group,
            d_out,
            init: self.init_weights,
        }))
    }
}

#[derive(Clone, Copy, Debug)]
enum Variant {
    One,
    Two,
    Four,
}

/// RoAd at one layer.
#[derive(Debug)]
struct RoadLayer {
    variant: Variant,
    group: usize,
    d_out: usize,
    init: bool,
}

impl RoadLayer {
    /// The number of angles, and of scales.
    fn size(&self) -> usize {
        match self.variant {
            Variant::One => self.d_out / 2,
            Variant::Two => self.d_out,
            Variant::Four => self.d_out * 2,
        }
    }

    /// The factors for an output itself and for its partner, `[1, groups, 2, group / 2]` each.
    fn factors(&self, tensors: &Tensors<'_>) -> [Tensor<4>; 2] {
        let (groups, half) = (self.d_out / self.group, self.group / 2);
        let [theta, alpha] = ["road_theta", "road_alpha"].map(|name| tensors.vector(name));
        match self.variant {
            Variant::One | Variant::Two => {
                // One for each pair, or one for each output of it.
                let of_pair = self.size() * 2 / self.d_out;
                let shape = [1, groups, of_pair, half];
                let theta: Tensor<4> = theta.reshape(shape);
                let alpha: Tensor<4> = alpha.reshape(shape);
                [theta.clone().cos() * alpha.clone(), theta.sin() * alpha]
            }
            Variant::Four => {
                // In each group first the numbers of the cosines, then those of the sines.
                let part = |vector: &Tensor<1>, at| {
                    let parts: Tensor<4> = vector.clone().reshape([groups, 2, 2, half]);
                    parts.narrow(1, at, 1).reshape([1, groups, 2, half])
                };
                [
                    part(&theta, 0).cos() * part(&alpha, 0),
                    part(&theta, 1).sin() * part(&alpha, 1),
                ]
            }
        }
    }

    /// `R y` of each row, `[rows, d_out]`.
    fn rotate(&self, tensors: &Tensors<'_>, rows: Tensor<2>) -> Tensor<2> {
        let [own, of_partner] = self.factors(tensors);
        let (shape, half) = (rows.dims(), self.group / 2);
        let pairs: Tensor<4> = rows.reshape([shape[0], self.d_out / self.group, 2, half]);
        let (first, second) = (pairs.clone().narrow(2, 0, 1), pairs.clone().narrow(2, 1, 1));
        let partners = Tensor::cat(vec![second.neg(), first], 2);
        (pairs * own + partners * of_partner).reshape(shape)
    }
}

impl LayerMethod for RoadLayer {
    fn prefix(&self) -> &str {
        "road"
    }

    fn tensors(&self, layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let size = self.size();
        let (theta, alpha) = if self.init {
            (Init::Zeros, Init::Ones)
        } else {
            let device = layer.weight().device().without_autodiff();
            let around_one = random([size], Distribution::Normal(1.0, 0.5), &device);
            (Init::Normal(0.5), Init::Data(around_one.into_data()))
        };
        vec![
            TensorSpec::named("road_theta", [size]).with_init(theta),
            TensorSpec::named("road_alpha", [size]).with_init(alpha),
        ]
    }

    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        self.rotate(tensors, base.forward(input))
    }

    fn merge(
        &self,
        tensors: &Tensors<'_>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        // R (x W + b) = x (R W) + R b: the rows of the weight [d_in, d_out] turn as an output does.
        let bias = bias.map(|bias| self.rotate(tensors, bias.unsqueeze()).squeeze_dim(0));
        Some((self.rotate(tensors, weight), bias))
    }

    fn parts(&self) -> Vec<(String, String)> {
        let size = self.size();
        vec![
            parameter("road_theta", [size]),
            parameter("road_alpha", [size]),
        ]
    }
}
