//! (IA)³ (arXiv 2205.05638): learnt scales on activations.

use std::sync::Arc;

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::shared::parts::parameter;
use crate::config::{CommonConfig, TargetModules};
use crate::{
    Base, ConvInfo, Frozen, Init, LayerInfo, LayerKind, LayerMethod, Method, PeftError, Result,
    TensorSpec, Tensors, target,
};

/// The configuration of (IA)³: `y = l ⊙ base(x)` with `l` `[d_out]`, or, for a feed-forward layer,
/// `y = base(l ⊙ x)` with `l` `[d_in]` (peft/tuners/ia3/layer.py). In a `Conv2d` it scales
/// channels. `Conv1d` is not supported, as in PEFT.
///
/// It costs `d_out` (feed-forward: `d_in`) parameters per layer, and merges into weight and bias.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct IA3Config {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// Which of the adapted layers are scaled at their input: names, or a regular expression.
    pub feedforward_modules: Option<TargetModules>,
    /// Whether the base weights are `[in, out]`; set from the kind of layer.
    pub fan_in_fan_out: bool,
    /// Whether the scales start at one; otherwise at normal random numbers.
    pub init_ia3_weights: bool,
}

impl Default for IA3Config {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            feedforward_modules: None,
            fan_in_fan_out: false,
            init_ia3_weights: true,
        }
    }
}

crate::peft_config!(IA3Config, "IA3", "IA3", without: ["layers_to_transform", "layers_pattern"]);

impl IA3Config {
    fn is_feedforward(&self, path: &str) -> Result<bool> {
        match &self.feedforward_modules {
            None => Ok(false),
            Some(TargetModules::Pattern(pattern)) => {
                target::full_match("feedforward_modules", pattern, path)
            }
            Some(TargetModules::List(names)) => Ok(names.iter().any(|name| path.ends_with(name))),
        }
    }

    /// The names of feed-forward layers in a form that PEFT reads back: it requires every name of a
    /// list to be in `target_modules` too, but not what a pattern matches. Names that match no
    /// adapted layer are dropped.
    fn readable_feedforward(&self, layers: &[&LayerInfo]) -> Option<TargetModules> {
        let (Some(TargetModules::List(names)), Some(TargetModules::List(targets))) =
            (&self.feedforward_modules, &self.common.target_modules)
        else {
            return self.feedforward_modules.clone();
        };
        let named = |name: &&String| layers.iter().any(|layer| layer.path.ends_with(*name));
        let names: Vec<&String> = names.iter().filter(named).collect();
        if names.iter().all(|name| targets.contains(name)) {
            return Some(TargetModules::list(names));
        }
        Some(feedforward_pattern(&names))
    }
}

/// The pattern with the same meaning as a list of names in `feedforward_modules`.
pub(crate) fn feedforward_pattern(names: &[impl AsRef<str>]) -> TargetModules {
    let names = names.iter().map(|name| target::escaped(name.as_ref()));
    TargetModules::Pattern(format!(".*(?:{})", names.collect::<Vec<_>>().join("|")))
}

impl Method for IA3Config {
    crate::method_of_keys!();

    fn attached(&self, common: CommonConfig, layers: &[&LayerInfo]) -> Arc<dyn Method> {
        let mut config = self.clone();
        config.common = common;
        config.fan_in_fan_out |= layers.iter().any(|layer| layer.kind == LayerKind::Conv1D);
        config.feedforward_modules = config.readable_feedforward(layers);
        Arc::new(config)
    }

    fn validate(&self) -> Result<()> {
        let (Some(TargetModules::List(feedforward)), Some(TargetModules::List(targets))) =
            (&self.feedforward_modules, &self.common.target_modules)
        else {
            return Ok(());
        };
        // `mlp.c_proj` is one of the layers that `c_proj` names, and vice versa.
        let is_adapted = |name: &str| {
            let mut targets = targets.iter();
            targets.any(|t| target::ends_with_name(t, name) || target::ends_with_name(name, t))
        };
        match feedforward.iter().find(|name| !is_adapted(name)) {
            None => Ok(()),
            Some(name) => Err(PeftError::conflict(
                &["feedforward_modules", "target_modules"],
                format!(
                    "feedforward_modules names {name:?}, which is not in target_modules \
                     {targets:?}: name only layers that are adapted, or none with []"
                ),
            )),
        }
    }

    fn supports(&self, layer: &LayerInfo) -> bool {
        layer.kind.is_linear() || layer.kind == LayerKind::Conv2d
    }

    fn prepared(&self, model_type: &str, _: &[LayerInfo]) -> Result<Option<Arc<dyn Method>>> {
        if self.feedforward_modules.is_some() {
            return Ok(None);
        }
        let Some((_, feedforward)) = target::ia3_target_modules(model_type) else {
            let model = match model_type {
                "" => "the model",
                name => name,
            };
            return Err(PeftError::target(
                "feedforward_modules",
                format!(
                    "is not given and has no default for {model}: name the feed-forward layers, or \
                     none with []"
                ),
            ));
        };
        let mut config = self.clone();
        config.feedforward_modules = Some(feedforward);
        Ok(Some(Arc::new(config)))
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::ia3_target_modules(model_type).map(|(targets, _)| targets)
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        Ok(Arc::new(IA3Layer {
            is_feedforward: self.is_feedforward(&layer.path)?,
            d_in: layer
                .conv
                .as_ref()
                .map_or(layer.d_in, |conv| conv.channels_in),
            d_out: layer.d_out,
            conv: layer.conv.clone(),
            init: self.init_ia3_weights,
        }))
    }
}

/// (IA)³ at one layer.
#[derive(Debug)]
struct IA3Layer {
    is_feedforward: bool,
    /// The number of input features or channels.
    d_in: usize,
    d_out: usize,
    conv: Option<ConvInfo>,
    init: bool,
}

impl IA3Layer {
    fn features(&self) -> usize {
        if self.is_feedforward {
            self.d_in
        } else {
            self.d_out
        }
    }

    /// `[1, d_in]` or `[d_out, 1]`, or `[1, channels, 1, 1]`, as the file has it.
    fn shape(&self) -> Vec<usize> {
        match &self.conv {
            Some(conv) => conv.pointwise(1, self.features()),
            None if self.is_feedforward => vec![1, self.d_in],
            None => vec![self.d_out, 1],
        }
    }

    /// The scales as one row.
    fn scales(&self, tensors: &Tensors<'_>) -> Tensor<2> {
        let shape = [1, self.features()];
        match &self.conv {
            Some(_) => tensors.tensor4("ia3_l").reshape(shape),
            None => tensors.matrix("ia3_l").reshape(shape),
        }
    }

    /// The matrix by which scales of inputs multiply the weight `[d_in, d_out]`, up to
    /// broadcasting.
    fn of_inputs(&self, scales: Tensor<2>) -> Tensor<2> {
        let Some(conv) = &self.conv else {
            return scales.transpose();
        };
        // Each group of outputs sees its own channels, and a channel's scale applies to all
        // elements of the kernel.
        let (groups, elements) = (conv.groups, conv.elements());
        let (channels, outputs) = (self.d_in / groups, self.d_out / groups);
        let scales = scales.reshape([groups, 1, channels, 1]);
        let scales = scales.expand([groups, outputs, channels, elements]);
        let scales: Tensor<2> = scales.reshape([self.d_out, channels * elements]);
        scales.transpose()
    }
}

impl LayerMethod for IA3Layer {
    fn prefix(&self) -> &str {
        "ia3"
    }

    /// PEFT prints it without the prefix.
    fn layer_name(&self, kind: LayerKind) -> String {
        match kind {
            LayerKind::Conv1D => LayerKind::Linear.to_string(),
            kind => kind.to_string(),
        }
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let init = if self.init {
            Init::Ones
        } else {
            Init::Normal(1.0)
        };
        vec![TensorSpec::named("ia3_l", self.shape()).with_init(init)]
    }

    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        if self.is_feedforward {
            base.forward(input * self.scales(tensors))
        } else {
            base.forward(input) * self.scales(tensors)
        }
    }

    fn convolve(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<4>,
        base: &Base<'_, Tensor<4>>,
    ) -> Tensor<4> {
        let scales = tensors.tensor4("ia3_l");
        if self.is_feedforward {
            base.forward(input * scales)
        } else {
            base.forward(input) * scales
        }
    }

    fn merge(
        &self,
        tensors: &Tensors<'_>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        let scales = self.scales(tensors);
        Some(if self.is_feedforward {
            (weight * self.of_inputs(scales), bias)
        } else {
            let bias = bias.map(|bias| bias * scales.clone().squeeze_dim(0));
            (weight * scales, bias)
        })
    }

    fn parts(&self) -> Vec<(String, String)> {
        vec![parameter("ia3_l", self.shape())]
    }
}
