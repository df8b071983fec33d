//! SHiRA (arXiv 2406.13175): trains a few individual entries of the weight.

use std::sync::Arc;

use burn::tensor::{IndexingUpdateOp, Int, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use super::shared::once::shared_by;
use super::shared::parts::parameter;
use crate::config::check::{SIDE, within};
use crate::config::{CommonConfig, TargetModules};
use crate::maths::torch_random::TorchRandom;
use crate::{
    Frozen, Init, LayerInfo, LayerMethod, Method, PeftError, Result, TensorSpec, Tensors, target,
};

/// The configuration of SHiRA: `y = base(x) + x ΔW` with a `ΔW` that is zero except for `r (d_in +
/// d_out)` trained entries, whose places are drawn and saved (peft/tuners/shira/layer.py).
///
/// It costs as many parameters as LoRA with the same `r`, for a change of high rank, and the memory
/// of a gradient the size of the weight. Layers of the same shape have the same places, as in PEFT.
/// Python's peft supports it for `Linear` only, not for `Conv1D`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct ShiraConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The number of entries for each input and output.
    pub r: usize,
    /// How the places are chosen: `random`. A saved adapter may have another word here, because its
    /// file holds the places.
    pub mask_type: String,
    /// The seed for the places; by default PyTorch's.
    pub random_seed: Option<u64>,
    /// Whether the base weights are `[in, out]`; set from the kind of layer.
    pub fan_in_fan_out: bool,
    /// Whether the entries start at zero; otherwise at random.
    pub init_weights: bool,
}

impl Default for ShiraConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            r: 32,
            mask_type: "random".into(),
            random_seed: None,
            fan_in_fan_out: false,
            init_weights: true,
        }
    }
}

crate::peft_config!(
    ShiraConfig,
    "SHIRA",
    "Shira",
    without: ["exclude_modules", "layers_to_transform", "layers_pattern"]
);

/// The seed of an unseeded `torch.Generator()`.
const TORCH_SEED: u64 = 67_280_421_310_721;

impl ShiraConfig {
    /// Row and column of every entry in the file's weight `[d_out, d_in]`: `[2, entries]`.
    fn places(&self, layer: &LayerInfo) -> Result<TensorData> {
        let (r, d_in, d_out) = (self.r, layer.d_in, layer.d_out);
        let entries = r * (d_in + d_out);
        if entries > d_in * d_out {
            return Err(PeftError::unfit(
                &layer.path,
                format!(
                    "r = {r} trains {entries} entries of {}, whose weight has {d_in} x {d_out}; \
                     at most {} fits",
                    layer.path,
                    d_in * d_out / (d_in + d_out)
                ),
            ));
        }
        let mut random = TorchRandom::new(self.random_seed.unwrap_or(TORCH_SEED));
        let mut drawn = random.permutation(d_in * d_out, entries);
        drawn.sort_unstable();
        let rows = drawn.iter().map(|place| (place / d_in) as f32);
        let columns = drawn.iter().map(|place| (place % d_in) as f32);
        let values: Vec<f32> = rows.chain(columns).collect();
        Ok(TensorData::new(values, [2, entries]))
    }
}

impl Method for ShiraConfig {
    crate::method_of_keys!(fan_in_fan_out);

    fn validate(&self) -> Result<()> {
        if self.mask_type != "random" && !self.common.inference_mode {
            return Err(PeftError::value(
                "mask_type",
                format!("{:?}", self.mask_type),
                "not supported for a new adapter; \"random\" is",
            ));
        }
        within("r", self.r, SIDE)
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        // For Phi the same as VeRA's.
        target::vera_target_modules(model_type)
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        Ok(self.layers(&[layer])?.remove(0))
    }

    fn layers(&self, layers: &[&LayerInfo]) -> Result<Vec<Arc<dyn LayerMethod>>> {
        let shape = |layer: &LayerInfo| Ok([layer.d_in, layer.d_out]);
        let places = shared_by(layers, shape, |layer, _| self.places(layer))?;
        let method = |(layer, places): (&&LayerInfo, _)| -> Arc<dyn LayerMethod> {
            Arc::new(ShiraLayer {
                d_in: layer.d_in,
                d_out: layer.d_out,
                places,
                init: self.init_weights,
            })
        };
        Ok(layers.iter().zip(places).map(method).collect())
    }
}

/// SHiRA at one layer.
#[derive(Debug)]
struct ShiraLayer {
    d_in: usize,
    d_out: usize,
    /// The initial places, for all layers of this shape; a file brings its own.
    places: Arc<TensorData>,
    init: bool,
}

impl ShiraLayer {
    fn entries(&self) -> usize {
        self.places.shape()[1]
    }
}

impl LayerMethod for ShiraLayer {
    fn prefix(&self) -> &str {
        "shira"
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let entries = self.entries();
        let init = if self.init {
            Init::Zeros
        } else {
            Init::Normal(1.0)
        };
        vec![
            TensorSpec::named("shira_weight", [entries]).with_init(init),
            TensorSpec::named("shira_indices", [2, entries])
                .with_init(Init::Data(self.places.as_ref().clone()))
                .indices([self.d_out, self.d_in]),
        ]
    }

    fn delta_weight(&self, tensors: &Tensors<'_>, _layer: &Frozen<'_>) -> Option<Tensor<2>> {
        let values = tensors.vector("shira_weight");
        let places: Tensor<2, Int> = tensors.matrix("shira_indices").int();
        let part = |at| -> Tensor<1, Int> { places.clone().narrow(0, at, 1).squeeze_dim(0) };
        let flat = part(1) * self.d_out as i64 + part(0);
        let delta = Tensor::<1>::zeros([self.d_in * self.d_out], &values.device());
        let delta = delta.select_assign(0, flat, values, IndexingUpdateOp::Add);
        Some(delta.reshape([self.d_in, self.d_out]))
    }

    fn parts(&self) -> Vec<(String, String)> {
        vec![parameter("shira_weight", [self.entries()])]
    }
}
