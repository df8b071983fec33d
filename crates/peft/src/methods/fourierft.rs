//! FourierFT (arXiv 2405.03003): a change of the weight given by a sparse spectrum.

use std::f64::consts::TAU;
use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};

use super::shared::once::{OnDevice, shared_by};
use super::shared::parts::parameter;
use crate::config::check::{FACTOR, VALUES, each_within, within};
use crate::config::{Bias, CommonConfig, TargetModules, bias};
use crate::maths::torch_random::TorchRandom;
use crate::{
    Base, Frozen, Init, LayerInfo, LayerKind, LayerMethod, Method, PeftError, Result, TensorSpec,
    Tensors, target,
};

/// The configuration of FourierFT: `y = base(x) + x ΔWᵀ` with `ΔW = scaling · Re(ifft2(S))`
/// `[d_out, d_in]`, where the spectrum `S` is zero except for `n` trained values, whose places are
/// drawn from a seed (peft/tuners/fourierft/layer.py).
///
/// It costs `n_frequency` parameters per layer. `ΔW` is computed only for merging: applied to
/// activations, the inverse transform of `n` values is two products with `n` cosines and sines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct FourierFTConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The number of trained values of the spectrum.
    pub n_frequency: usize,
    /// The factor that multiplies the change.
    pub scaling: f64,
    /// The seed for the places of the values.
    pub random_loc_seed: Option<u64>,
    /// Whether the base weights are `[in, out]`; set from the kind of layer.
    pub fan_in_fan_out: bool,
    /// Which biases of the base are trained: `none`, `all` or `fourier_only`.
    pub bias: String,
    /// The number of values for single layers, by pattern.
    pub n_frequency_pattern: IndexMap<String, usize>,
    /// Whether the values start at zero; otherwise at normal random numbers.
    pub init_weights: bool,
}

impl Default for FourierFTConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            n_frequency: 1000,
            scaling: 150.0,
            random_loc_seed: Some(777),
            fan_in_fan_out: false,
            bias: "none".into(),
            n_frequency_pattern: IndexMap::new(),
            init_weights: false,
        }
    }
}

crate::peft_config!(FourierFTConfig, "FOURIERFT", "FourierFT", without: []);

impl Method for FourierFTConfig {
    crate::method_of_keys!(fan_in_fan_out);

    fn validate(&self) -> Result<()> {
        check_frequencies(self.n_frequency, &self.n_frequency_pattern)?;
        if self.random_loc_seed.is_none() {
            return Err(PeftError::value(
                "random_loc_seed",
                "null",
                "the places of the values need a seed",
            ));
        }
        within("scaling", self.scaling, FACTOR)?;
        bias(&self.bias, "fourier_only").map(drop)
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::fourierft_target_modules(model_type)
    }

    fn bias(&self) -> Bias {
        bias(&self.bias, "fourier_only").unwrap_or_default()
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        Ok(self.layers(&[layer])?.remove(0))
    }

    fn layers(&self, layers: &[&LayerInfo]) -> Result<Vec<Arc<dyn LayerMethod>>> {
        let of_all = (self.n_frequency, &self.n_frequency_pattern);
        let waves = shared_waves(of_all, layers, |size| self.waves(size))?;
        let method = |waves: Arc<Waves>| -> Arc<dyn LayerMethod> {
            Arc::new(FourierLayer {
                scaling: self.scaling / (waves.d_in * waves.d_out) as f64,
                waves,
                init: self.init_weights,
            })
        };
        Ok(waves.into_iter().map(method).collect())
    }
}

impl FourierFTConfig {
    /// The waves of `n` values in a weight.
    fn waves(&self, [n, d_in, d_out]: [usize; 3]) -> Waves {
        let mut random = TorchRandom::new(self.random_loc_seed.unwrap_or_default());
        let places = random.permutation(d_in * d_out, n).into_iter();
        let (rows, columns) = places
            .map(|p| ((p / d_in) as i64, (p % d_in) as i64))
            .unzip();
        Waves {
            d_in,
            d_out,
            rows,
            columns,
            on_device: OnDevice::default(),
        }
    }
}

/// # Errors
/// If no layer can have that number of values.
pub(super) fn check_frequencies(n: usize, patterns: &IndexMap<String, usize>) -> Result<()> {
    within("n_frequency", n, VALUES)?;
    each_within("n_frequency_pattern", patterns, VALUES)
}

/// Calls `make` with the number of values at each layer and the layer's sizes, `[n, d_in, d_out]`;
/// layers with the same numbers share the result.
///
/// # Errors
/// If a number is below one or above the number of weights.
pub(super) fn shared_waves<T>(
    (n_frequency, patterns): (usize, &IndexMap<String, usize>),
    layers: &[&LayerInfo],
    make: impl Fn([usize; 3]) -> T,
) -> Result<Vec<Arc<T>>> {
    let size = |layer: &LayerInfo| {
        let n = frequencies(n_frequency, patterns, layer)?;
        Ok([n, layer.d_in, layer.d_out])
    };
    shared_by(layers, size, |_, size| Ok(make(size)))
}

/// The number of values at a layer: from a pattern, or else `n_frequency`.
fn frequencies(
    n_frequency: usize,
    patterns: &IndexMap<String, usize>,
    layer: &LayerInfo,
) -> Result<usize> {
    let n = target::pattern_value("n_frequency_pattern", patterns, &layer.path)?;
    let n = n.copied().unwrap_or(n_frequency);
    let (d_in, d_out) = (layer.d_in, layer.d_out);
    if (1..=d_in * d_out).contains(&n) {
        Ok(n)
    } else {
        Err(PeftError::unfit(
            &layer.path,
            format!(
                "n_frequency = {n} for {}: must be at least 1 and at most {d_in} x {d_out} \
                 = {}, the number of its weights",
                layer.path,
                d_in * d_out
            ),
        ))
    }
}

/// What layers of the same shape and number of values share.
#[derive(Debug)]
struct Waves {
    d_in: usize,
    d_out: usize,
    /// The places of the values in the spectrum.
    rows: Vec<i64>,
    columns: Vec<i64>,
    on_device: OnDevice<[Tensor<2>; 2]>,
}

/// FourierFT at one layer.
#[derive(Debug)]
struct FourierLayer {
    waves: Arc<Waves>,
    /// Includes the `1 / (d_in d_out)` of the inverse transform.
    scaling: f64,
    init: bool,
}

/// `2π f p / size` for `p` below `size` and each frequency `f`, `[size, n]`.
fn angles(size: usize, frequencies: &[i64], device: &Device) -> Tensor<2> {
    let positions = Tensor::<1, Int>::arange(0..size as i64, device).reshape([size, 1]);
    let frequencies = Tensor::<1, Int>::from_data(frequencies, device).unsqueeze::<2>();
    // Whole turns are subtracted while the numbers are integers: a float would lose precision.
    let turns = (positions * frequencies).remainder_scalar(size as i64);
    turns.float() * (TAU / size as f64)
}

impl Waves {
    /// Cosines and sines of `a`, `[d_in, 2n]`, and of `b`, `[d_out, 2n]`; see
    /// [`FourierLayer::factors`].
    fn tables(&self, device: &Device) -> [Tensor<2>; 2] {
        self.on_device.get(device, |device| {
            let u = angles(self.d_out, &self.rows, device);
            let v = angles(self.d_in, &self.columns, device);
            [
                Tensor::cat(vec![v.clone().cos(), v.sin().neg()], 1),
                Tensor::cat(vec![u.clone().cos(), u.sin()], 1),
            ]
        })
    }
}

impl FourierLayer {
    /// `ΔWᵀ` `[d_in, d_out]` as `a diag(c) b` with `a` `[d_in, 2n]` and `b` `[2n, d_out]`, where
    /// `c` are the values, repeated twice: `cos(u + v) = cos u cos v - sin u sin v`.
    fn factors(&self, tensors: &Tensors<'_>) -> (Tensor<2>, Tensor<2>) {
        let values = tensors.vector("fourierft_spectrum");
        let [a, b] = self.waves.tables(&values.device()).map(|table| {
            if values.is_autodiff() {
                table.autodiff()
            } else {
                table
            }
        });
        let values = Tensor::cat(vec![values.clone(), values], 0) * self.scaling;
        (a * values.unsqueeze(), b.transpose())
    }
}

impl LayerMethod for FourierLayer {
    fn prefix(&self) -> &str {
        "fourierft"
    }

    fn layer_name(&self, _: LayerKind) -> String {
        "fourierft.FourierFTLinear".into()
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let init = if self.init {
            Init::Zeros
        } else {
            Init::Normal(1.0)
        };
        let shape = [self.waves.rows.len()];
        vec![TensorSpec::named("fourierft_spectrum", shape).with_init(init)]
    }

    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        let (a, b) = self.factors(tensors);
        base.forward(input.clone()) + input.matmul(a).matmul(b)
    }

    fn delta_weight(&self, tensors: &Tensors<'_>, _layer: &Frozen<'_>) -> Option<Tensor<2>> {
        let (a, b) = self.factors(tensors);
        Some(a.matmul(b))
    }

    fn parts(&self) -> Vec<(String, String)> {
        vec![parameter("fourierft_spectrum", [self.waves.rows.len()])]
    }
}
