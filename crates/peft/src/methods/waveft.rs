//! WaveFT (arXiv 2505.12532): a change of the weight given by a few wavelets.

use std::sync::Arc;

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::fourierft::{check_frequencies, shared_waves};
use super::shared::once::{OnDevice, indices};
use super::shared::parts::parameter;
use crate::config::check::{FACTOR, within};
use crate::config::{Bias, CommonConfig, TargetModules, bias};
use crate::maths::torch_random::TorchRandom;
use crate::{
    Frozen, Init, LayerInfo, LayerKind, LayerMethod, Method, PeftError, Result, TensorSpec,
    Tensors, target,
};

/// The configuration of WaveFT: `y = base(x) + x ΔWᵀ` with `ΔW = scaling · idwt2(S)` `[d_out,
/// d_in]`, where the coefficients `S` are zero except for `n` trained values, whose places are
/// drawn from a seed (peft/tuners/waveft/layer.py). The only wavelet is Haar's (`db1`), each of
/// whose coefficients is a pattern of two by two weights; without `use_idwt` a value is a single
/// weight.
///
/// It costs `n_frequency` parameters per layer, and the memory of a change the size of the weight.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct WaveFTConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The number of trained coefficients.
    pub n_frequency: usize,
    /// The factor that multiplies the change.
    pub scaling: f64,
    /// The wavelet: `db1`, also called `haar`.
    pub wavelet_family: String,
    /// Whether the values are wavelet coefficients or weights.
    pub use_idwt: bool,
    /// The seed for the places of the values.
    pub random_loc_seed: u64,
    /// Whether the base weights are `[in, out]`; set from the kind of layer.
    pub fan_in_fan_out: bool,
    /// Which biases of the base are trained: `none`, `all` or `waveft_only`.
    pub bias: String,
    /// The number of coefficients for single layers, by pattern.
    pub n_frequency_pattern: IndexMap<String, usize>,
    /// Whether the values start at zero; otherwise at small random numbers.
    pub init_weights: bool,
}

impl Default for WaveFTConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            n_frequency: 2592,
            scaling: 25.0,
            wavelet_family: "db1".into(),
            use_idwt: true,
            random_loc_seed: 777,
            fan_in_fan_out: false,
            bias: "none".into(),
            n_frequency_pattern: IndexMap::new(),
            init_weights: true,
        }
    }
}

crate::peft_config!(WaveFTConfig, "WAVEFT", "WaveFT", without: [], fixed: {
    vec![("proportional_parameters", json!(false))]
});

impl Method for WaveFTConfig {
    crate::method_of_keys!(fan_in_fan_out);

    fn validate(&self) -> Result<()> {
        if !["db1", "haar"].contains(&self.wavelet_family.as_str()) {
            return Err(PeftError::value(
                "wavelet_family",
                format!("{:?}", self.wavelet_family),
                "not supported; \"db1\" is",
            ));
        }
        check_frequencies(self.n_frequency, &self.n_frequency_pattern)?;
        within("scaling", self.scaling, FACTOR)?;
        bias(&self.bias, "waveft_only").map(drop)
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::fourierft_target_modules(model_type)
    }

    fn bias(&self) -> Bias {
        bias(&self.bias, "waveft_only").unwrap_or_default()
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        Ok(self.layers(&[layer])?.remove(0))
    }

    fn layers(&self, layers: &[&LayerInfo]) -> Result<Vec<Arc<dyn LayerMethod>>> {
        let of_all = (self.n_frequency, &self.n_frequency_pattern);
        let waves = shared_waves(of_all, layers, |size| self.waves(size))?;
        let method = |waves| -> Arc<dyn LayerMethod> {
            Arc::new(WaveLayer {
                waves,
                scaling: self.scaling,
                init: self.init_weights,
            })
        };
        Ok(waves.into_iter().map(method).collect())
    }
}

impl WaveFTConfig {
    /// The patterns of `n` values in a weight.
    fn waves(&self, [n, d_in, d_out]: [usize; 3]) -> Waves {
        let places = TorchRandom::new(self.random_loc_seed).permutation(d_in * d_out, n);
        let mut entries = Vec::new();
        for (index, place) in places.into_iter().enumerate() {
            let (row, column) = (place / d_in, place % d_in);
            if self.use_idwt {
                entries.extend(haar(index, row, column, d_out, d_in))
            } else {
                entries.push(Entry {
                    value: index,
                    row,
                    column,
                    factor: 1.0,
                })
            }
        }
        Waves {
            n,
            d_in,
            d_out,
            entries,
            on_device: OnDevice::default(),
        }
    }
}

/// The effect of one trained value on one weight.
#[derive(Debug)]
struct Entry {
    value: usize,
    row: usize,
    column: usize,
    factor: f32,
}

/// The pattern of a coefficient of Haar's wavelet. In the transform an odd dimension is longer by
/// one; what lies beyond the weight is cut off.
fn haar(
    value: usize,
    row: usize,
    column: usize,
    rows: usize,
    columns: usize,
) -> impl Iterator<Item = Entry> {
    let (half_rows, half_columns) = (rows.div_ceil(2), columns.div_ceil(2));
    // As in PEFT, the right half holds differences along the row axis, the lower half those along
    // the column axis.
    let along_rows = if column < half_columns { 1.0 } else { -1.0 };
    let along_columns = if row < half_rows { 1.0 } else { -1.0 };
    let (first_row, first_column) = (2 * (row % half_rows), 2 * (column % half_columns));
    let corners = [(0, 0), (0, 1), (1, 0), (1, 1)].into_iter();
    let entries = corners.map(move |(down, right)| Entry {
        value,
        row: first_row + down,
        column: first_column + right,
        factor: 0.5
            * if down == 1 { along_rows } else { 1.0 }
            * if right == 1 { along_columns } else { 1.0 },
    });
    entries.filter(move |entry| entry.row < rows && entry.column < columns)
}

/// What layers of the same shape and number of values share.
#[derive(Debug)]
struct Waves {
    n: usize,
    d_in: usize,
    d_out: usize,
    entries: Vec<Entry>,
    on_device: OnDevice<OfEntries>,
}

/// For every entry: the value, the place in the weight `[d_in, d_out]` and the factor.
#[derive(Clone, Debug)]
struct OfEntries {
    values: Tensor<1, Int>,
    places: Tensor<1, Int>,
    factors: Tensor<1>,
}

impl Waves {
    fn entries(&self, device: &Device) -> OfEntries {
        self.on_device.get(device, |device| {
            let entries = || self.entries.iter();
            let factors: Vec<f32> = entries().map(|entry| entry.factor).collect();
            let place = |entry: &Entry| entry.column * self.d_out + entry.row;
            OfEntries {
                values: indices(entries().map(|entry| entry.value), device),
                places: indices(entries().map(place), device),
                factors: Tensor::from_data(factors.as_slice(), device),
            }
        })
    }
}

/// WaveFT at one layer.
#[derive(Debug)]
struct WaveLayer {
    waves: Arc<Waves>,
    scaling: f64,
    init: bool,
}

impl LayerMethod for WaveLayer {
    fn prefix(&self) -> &str {
        "waveft"
    }

    fn layer_name(&self, _: LayerKind) -> String {
        "waveft.WaveFTLinear".into()
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let init = if self.init {
            Init::Zeros
        } else {
            Init::Normal(0.01)
        };
        vec![TensorSpec::named("waveft_spectrum", [self.waves.n]).with_init(init)]
    }

    fn delta_weight(&self, tensors: &Tensors<'_>, _layer: &Frozen<'_>) -> Option<Tensor<2>> {
        let values = tensors.vector("waveft_spectrum");
        let Waves { d_in, d_out, .. } = *self.waves;
        let of = self.waves.entries(&values.device());
        let flat = Tensor::<1>::zeros([d_in * d_out], &values.device());
        let entries = values.select(0, of.values) * of.factors;
        let flat = flat.select_assign(0, of.places, entries, IndexingUpdateOp::Add);
        Some(flat.reshape([d_in, d_out]) * self.scaling)
    }

    fn parts(&self) -> Vec<(String, String)> {
        vec![parameter("waveft_spectrum", [self.waves.n])]
    }
}
