//! LoRA for a convolution, as PEFT computes it (`_ConvNd` in peft/tuners/lora/layer.py).

use burn::nn::Dropout;
use burn::tensor::Tensor;
use burn_peft_kernels::apply_dropout;

use super::dora::{MAGNITUDE, norms};
use crate::config::{InitLoraWeights, LoraConfig};
use crate::methods::shared::parts::dropout;
use crate::{
    Base, ConvInfo, Frozen, Init, LayerInfo, LayerKind, LayerMethod, PeftError, Result, TensorSpec,
    Tensors,
};

/// LoRA at one convolution: `y = base(x) + scaling · B(A(dropout(x)))`. `A` is a convolution from all
/// channels to `r`, with the layer's kernel, stride and padding; `B` has a kernel of one element and
/// the layer's groups. With `use_dora` the change is DoRA's.
#[derive(Debug)]
pub(super) struct ConvLora {
    conv: ConvInfo,
    kind: LayerKind,
    d_out: usize,
    r: usize,
    scaling: f64,
    dropout: Dropout,
    init: InitLoraWeights,
    lora_bias: bool,
    use_dora: bool,
}

impl ConvLora {
    /// # Errors
    /// If the configuration asks for something that PEFT does not support at this layer, or
    /// computes wrongly.
    pub fn new(
        config: &LoraConfig,
        layer: &LayerInfo,
        conv: ConvInfo,
        dropout: Dropout,
    ) -> Result<Self> {
        let method = Self {
            kind: layer.kind,
            d_out: layer.d_out,
            r: config.rank(&layer.path)?,
            scaling: config.scaling(&layer.path)?,
            dropout,
            init: config.init_lora_weights,
            lora_bias: config.lora_bias,
            use_dora: config.use_dora,
            conv,
        };
        method.check(&layer.path)?;
        Ok(method)
    }

    fn check(&self, path: &str) -> Result<()> {
        let refuse = |problem: String| Err(PeftError::unfit(path, format!("{path}: {problem}")));
        let ConvInfo { groups, .. } = self.conv;
        if !self.r.is_multiple_of(groups) {
            return refuse(format!(
                "r = {} is not a multiple of the {groups} groups of its {}: choose such a rank, with \
                 rank_pattern for this layer alone, or leave the layer out",
                self.r, self.kind
            ));
        }
        let along = self.conv.dilation.iter().zip(self.conv.kernel);
        let mut dilated = along.filter(|(dilation, side)| **dilation > 1 && *side > 1);
        if dilated.next().is_some() {
            return refuse(format!(
                "LoRA takes no dilated convolution, and this one has dilation = {:?}: PEFT's lora_A \
                 does not follow the dilation; use LOHA or LOKR, or leave the layer out",
                &self.conv.dilation[..self.conv.axes]
            ));
        }
        if self.use_dora && groups > 1 {
            return refuse(format!(
                "use_dora = true takes no convolution in groups, and this one has {groups}: leave it \
                 out"
            ));
        }
        if self.init.splits() || self.init == InitLoraWeights::Eva {
            return refuse(format!(
                "init_lora_weights = {} is for linear layers, PEFT has it for no {}: use true, false \
                 or \"gaussian\"",
                self.init.to_json(),
                self.kind
            ));
        }
        Ok(())
    }

    /// The adapter's input in training, after dropout.
    fn dropped(&self, input: Tensor<4>) -> Tensor<4> {
        let shape = input.shape();
        let rows: Tensor<2> = input.flatten(1, 3);
        apply_dropout(&self.dropout, rows).reshape(shape)
    }

    /// `scaling · B(A(x))` of an input after dropout, without B's bias.
    fn change(&self, tensors: &Tensors<'_>, dropped: Tensor<4>) -> Tensor<4> {
        let hidden = self.conv.apply(dropped, tensors.kernel("lora_A"));
        let hidden = hidden * self.scaling;
        self.conv.apply_pointwise(hidden, tensors.kernel("lora_B"))
    }

    /// The change of the weight, `[d_in, d_out]`. A convolution in groups has none: `A` sees all
    /// channels.
    fn delta(&self, a: Tensor<4>, b: Tensor<4>) -> Tensor<2> {
        let a = a.reshape([self.r as i64, -1]);
        let b = b.reshape([self.d_out, self.r]);
        a.transpose().matmul(b.transpose()) * self.scaling
    }

    fn delta_of(&self, tensors: &Tensors<'_>) -> Tensor<2> {
        self.delta(tensors.kernel("lora_A"), tensors.kernel("lora_B"))
    }

    /// `m / ‖W + ΔW‖` for each channel, `[d_out]`; only `m` gets a gradient.
    fn factors(&self, tensors: &Tensors<'_>, weight: Tensor<2>) -> Tensor<1> {
        let norms = norms(weight + self.delta_of(tensors)).detach();
        let magnitude = match self.conv.axes {
            1 => tensors.tensor3(MAGNITUDE).reshape([self.d_out]),
            _ => tensors.tensor4(MAGNITUDE).reshape([self.d_out]),
        };
        magnitude / norms.squeeze_dim(0)
    }

    /// DoRA's output, from LoRA's change of the output and the layer's output.
    fn with_magnitude(
        &self,
        tensors: &Tensors<'_>,
        change: Tensor<4>,
        dropped: Tensor<4>,
        output: Tensor<4>,
        base: &Base<'_, Tensor<4>>,
    ) -> Tensor<4> {
        let weight = base.weight();
        // The frozen layer's output for the adapter's input.
        let drops = self.dropout.prob > 0.0 && dropped.is_autodiff();
        let frozen = if drops {
            base.forward_with(dropped, weight.clone(), None)
        } else if let Some(bias) = base.bias() {
            output.clone() - channels(bias)
        } else {
            output.clone()
        };
        let factors = channels(self.factors(tensors, weight));
        output + frozen * (factors.clone() - 1.0) + change * factors
    }
}

/// One number for each channel, in a shape that broadcasts to `[batch, channels, height, width]`.
pub(in crate::methods) fn channels(values: Tensor<1>) -> Tensor<4> {
    let [channels] = values.dims();
    values.reshape([1, channels, 1, 1])
}

impl LayerMethod for ConvLora {
    fn prefix(&self) -> &str {
        "lora"
    }

    fn tensors(&self, layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let ConvInfo {
            channels_in,
            groups,
            ..
        } = self.conv;
        let kaiming = Init::kaiming_uniform(channels_in * self.conv.elements());
        let of_b = Init::kaiming_uniform(self.r / groups);
        let (a, b) = match self.init {
            InitLoraWeights::Gaussian => (Init::Normal(1.0 / self.r as f64), Init::Zeros),
            InitLoraWeights::False => (kaiming, of_b.clone()),
            _ => (kaiming, Init::Zeros),
        };
        let mut a = TensorSpec::new(
            "lora_A",
            "lora_A.weight",
            self.conv.shape(self.r, channels_in),
        )
        .with_init(a)
        .waiting_for("lora_B");
        let shape = self.conv.pointwise(self.d_out, self.r / groups);
        let mut b = TensorSpec::new("lora_B", "lora_B.weight", shape)
            .with_init(b)
            .waiting_for("lora_A");
        let mut more = Vec::new();
        if self.lora_bias {
            let bias = TensorSpec::named("lora_B.bias", [self.d_out]);
            more.push(match self.init {
                InitLoraWeights::False => bias.with_init(of_b),
                _ => bias,
            });
        }
        if self.use_dora {
            // The initial magnitudes depend on the initial A and B, so those are drawn here.
            let weight = layer.weight();
            let device = weight.device();
            let [first, second] = [&mut a, &mut b].map(|spec| {
                let mut shape = [1; 4];
                shape[..spec.shape.len()].copy_from_slice(&spec.shape);
                let values = spec.init.draw(shape, &device);
                spec.init = Init::Data(values.to_data());
                values
            });
            let norms = norms(weight + self.delta(first, second)).into_data();
            let shape = self.conv.pointwise(1, self.d_out);
            more.push(TensorSpec::named(MAGNITUDE, shape).with_init(Init::Data(norms)));
        }
        [a, b].into_iter().chain(more).collect()
    }

    fn convolve(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<4>,
        base: &Base<'_, Tensor<4>>,
    ) -> Tensor<4> {
        let output = base.forward(input.clone());
        let dropped = self.dropped(input);
        let mut change = self.change(tensors, dropped.clone());
        if self.lora_bias {
            change = change + channels(tensors.vector("lora_B.bias") * self.scaling);
        }
        if self.use_dora {
            self.with_magnitude(tensors, change, dropped, output, base)
        } else {
            output + change
        }
    }

    fn delta_weight(&self, tensors: &Tensors<'_>, _layer: &Frozen<'_>) -> Option<Tensor<2>> {
        (self.conv.groups == 1).then(|| self.delta_of(tensors))
    }

    fn merge(
        &self,
        tensors: &Tensors<'_>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        if self.conv.groups > 1 {
            return None;
        }
        let mut merged = weight.clone() + self.delta_of(tensors);
        if self.use_dora {
            merged = merged * self.factors(tensors, weight).unsqueeze();
        }
        if !self.lora_bias {
            return Some((merged, bias));
        }
        // As in PEFT, a bias of the adapter can be merged only into a bias of the layer.
        let bias = bias? + tensors.vector("lora_B.bias") * self.scaling;
        Some((merged, Some(bias)))
    }

    fn parts(&self) -> Vec<(String, String)> {
        let ConvInfo { groups, axes, .. } = self.conv;
        let a = ConvInfo {
            dilation: [1, 1],
            groups: 1,
            ..self.conv.clone()
        };
        let b = ConvInfo {
            channels_in: self.r,
            axes,
            kernel: [1, 1],
            stride: [1, 1],
            dilation: [1, 1],
            padding: Some([0; 4]),
            groups,
        };
        let mut parts = vec![
            dropout("lora_dropout", self.dropout.prob),
            ("lora_A".into(), a.describe(self.r, false)),
            ("lora_B".into(), b.describe(self.d_out, self.lora_bias)),
        ];
        if self.use_dora {
            // PEFT's name repeats it.
            let module = format!("lora.dora.lora.dora.DoraConv{axes}dLayer()");
            parts.push((MAGNITUDE.into(), module));
        }
        parts
    }
}
