//! LoRA's keys of `adapter_config.json`.

use crate::config::check::{FACTOR, PROBABILITY, ROUNDS, SIDE, each_within, within};
use crate::config::{Bias, CommonConfig};
use crate::methods::TrainableTokenIndices;
use crate::target::pattern_value;
use crate::{PeftError, Result};
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// How a new adapter starts (PEFT's `init_lora_weights`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InitLoraWeights {
    /// `true`: A Kaiming uniform with a = √5, B zero; the adapter starts as the identity.
    #[default]
    True,
    /// `false`: A and B both as in a new linear layer; not the identity, for tests.
    False,
    /// `"gaussian"`: A normal with standard deviation 1/r, B zero.
    Gaussian,
    /// `"pissa"`, `"pissa_niter_4"`: the largest singular values, exactly or by that many rounds of
    /// subspace iteration; they are taken out of the base weight.
    Pissa {
        /// The number of rounds; `None` for an exact decomposition.
        niter: Option<usize>,
    },
    /// `"olora"`: the factors of a QR decomposition, which are taken out of the base weight.
    Olora,
    /// `"orthogonal"`: A and B random and orthogonal to each other; the rank has to be even.
    Orthogonal,
    /// `"eva"`: the directions in which a layer's inputs vary most, once
    /// `PeftModel::initialize_lora_eva_weights` has seen data; until then as `true`.
    Eva,
    /// `"loftq"`: the difference between the base weight and its quantised form, which replaces it.
    Loftq,
}

/// How the weight of [`InitLoraWeights::Loftq`] is quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LoftQConfig {
    /// 4 (NF4) or 8.
    pub loftq_bits: usize,
    /// The rounds of quantising and decomposing.
    pub loftq_iter: usize,
}

impl Default for LoftQConfig {
    fn default() -> Self {
        Self {
            loftq_bits: 4,
            loftq_iter: 1,
        }
    }
}

/// How [`InitLoraWeights::Eva`] examines data and distributes ranks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvaConfig {
    /// A layer gets at most this many times its rank; 1 leaves the ranks as they are.
    pub rho: f64,
    /// The cosine between a direction and its value one batch before at which it counts as
    /// converged.
    pub tau: f64,
    /// Whether only tokens that are learnt count, those whose label is not `label_mask_value`.
    pub use_label_mask: bool,
    /// The label of tokens that are not learnt.
    pub label_mask_value: i64,
    /// Whether directions are divided by the roots of their singular values.
    pub whiten: bool,
    /// Whether α changes with the rank, so that the scaling stays the same.
    pub adjust_scaling_factors: bool,
}

impl Default for EvaConfig {
    fn default() -> Self {
        Self {
            rho: 2.0,
            tau: 0.99,
            use_label_mask: true,
            label_mask_value: -100,
            whiten: false,
            adjust_scaling_factors: true,
        }
    }
}

impl EvaConfig {
    fn validate(&self) -> Result<()> {
        within("eva_config.rho", self.rho, 1.0..=1e6)?;
        within("eva_config.tau", self.tau, 0.0..=1.0)
    }
}

impl InitLoraWeights {
    /// Whether the adapter's initial values are computed from the weight.
    pub(crate) fn splits(self) -> bool {
        !matches!(self, Self::True | Self::False | Self::Gaussian | Self::Eva)
    }

    pub(crate) fn to_json(self) -> Value {
        match self {
            Self::Pissa { niter: None } => json!("pissa"),
            Self::Pissa { niter: Some(n) } => json!(format!("pissa_niter_{n}")),
            Self::Olora => json!("olora"),
            Self::Orthogonal => json!("orthogonal"),
            Self::Loftq => json!("loftq"),
            Self::Eva => json!("eva"),
            Self::True => json!(true),
            Self::False => json!(false),
            Self::Gaussian => json!("gaussian"),
        }
    }
}

/// The configuration of a LoRA adapter: PEFT's `LoraConfig`, key for key.
///
/// Keys that change the computation and are not supported cannot be set; a file that sets one
/// is an error.
#[derive(Clone, Debug, PartialEq, burn_peft_derive::KeyDocs)]
pub struct LoraConfig {
    /// The keys that all methods share.
    pub common: CommonConfig,
    /// The rank.
    pub r: usize,
    /// α in the scaling α/r.
    pub lora_alpha: f64,
    /// The probability with which an element of the adapter's input is dropped, in `[0, 1)`.
    pub lora_dropout: f64,
    /// Which biases of the base model are trained.
    pub bias: Bias,
    /// Whether the scaling is α/√r (rsLoRA) instead of α/r.
    pub use_rslora: bool,
    /// How a new adapter starts.
    pub init_lora_weights: InitLoraWeights,
    /// Ranks of single layers, by pattern; the first pattern that matches decides.
    pub rank_pattern: IndexMap<String, usize>,
    /// α of single layers, by pattern; the first pattern that matches decides.
    pub alpha_pattern: IndexMap<String, f64>,
    /// Whether the base weights are `[in, out]`. Written for PEFT; on reading, the kind of layer
    /// decides.
    pub fan_in_fan_out: bool,
    /// Whether B has a bias.
    pub lora_bias: bool,
    /// Whether the adapter has DoRA's magnitudes.
    pub use_dora: bool,
    /// The tokens whose embeddings are trained in addition to the layers.
    pub trainable_token_indices: Option<TrainableTokenIndices>,
    /// Whether an output layer tied to the input embedding shares what is trained for it.
    pub ensure_weight_tying: bool,
    /// How EVA examines data, with `init_lora_weights = "eva"`.
    pub eva_config: Option<EvaConfig>,
    /// How the weight is quantised, with `init_lora_weights = "loftq"`.
    pub loftq_config: Option<LoftQConfig>,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            r: 8,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            bias: Bias::None,
            use_rslora: false,
            init_lora_weights: InitLoraWeights::True,
            rank_pattern: IndexMap::new(),
            alpha_pattern: IndexMap::new(),
            fan_in_fan_out: false,
            lora_bias: false,
            use_dora: false,
            trainable_token_indices: None,
            ensure_weight_tying: false,
            eva_config: None,
            loftq_config: None,
        }
    }
}

impl LoraConfig {
    /// The `peft_type` in LoRA's files.
    pub const PEFT_TYPE: &'static str = "LORA";

    /// PEFT's defaults: r 8, α 8, no dropout, the model type's default layers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Every key that PEFT writes, except for keys of variants that no file has named, and the
    /// unknown keys, for [`crate::config::render_json`].
    pub fn to_json(&self) -> Map<String, Value> {
        let alphas: Map<String, Value> = (self.alpha_pattern.iter())
            .map(|(pattern, &alpha)| (pattern.clone(), number(alpha)))
            .collect();
        let mut map = self.common.to_json(Self::PEFT_TYPE);
        map.extend(
            [
                ("r", json!(self.r)),
                ("lora_alpha", number(self.lora_alpha)),
                ("lora_dropout", json!(self.lora_dropout)),
                ("bias", json!(self.bias)),
                ("use_rslora", json!(self.use_rslora)),
                ("init_lora_weights", self.init_lora_weights.to_json()),
                ("rank_pattern", json!(self.rank_pattern)),
                ("alpha_pattern", Value::Object(alphas)),
                ("fan_in_fan_out", json!(self.fan_in_fan_out)),
                ("lora_bias", json!(self.lora_bias)),
                ("use_dora", json!(self.use_dora)),
                ("ensure_weight_tying", json!(self.ensure_weight_tying)),
                (
                    "trainable_token_indices",
                    json!(self.trainable_token_indices),
                ),
            ]
            .map(|(key, value)| (key.to_string(), value)),
        );
        if let Some(config) = &self.eva_config {
            map.insert("eva_config".into(), json!(config));
        }
        if let Some(config) = self.loftq_config {
            map.insert("loftq_config".into(), json!(config));
        }
        map
    }

    /// The keys of the file that neither PEFT 0.21 nor this crate knows. They may have changed what
    /// the adapter computed during training, so a loader should report them.
    pub fn unknown_keys(&self) -> Vec<&str> {
        self.common.unknown.keys().map(String::as_str).collect()
    }

    /// Checks ranges and combinations; a configuration made with the `with_…` methods is checked
    /// when it is used.
    ///
    /// # Errors
    /// If a rank is 0, a number is not finite, `lora_dropout` is outside `[0, 1)`, the keys about
    /// layers contradict each other ([`CommonConfig::validate`]), or `lora_bias` is combined with
    /// an initialisation other than true or false.
    pub fn validate(&self) -> Result<()> {
        let conflict = |keys, problem: String| Err(PeftError::conflict(keys, problem));
        self.common.validate()?;
        within("r", self.r, SIDE)?;
        each_within("rank_pattern", &self.rank_pattern, SIDE)?;
        within("lora_alpha", self.lora_alpha, FACTOR)?;
        each_within("alpha_pattern", &self.alpha_pattern, FACTOR)?;
        within("lora_dropout", self.lora_dropout, PROBABILITY)?;
        let init = self.init_lora_weights;
        if let InitLoraWeights::Pissa { niter: Some(niter) } = init {
            within(
                "the number in init_lora_weights = \"pissa_niter_…\"",
                niter,
                ROUNDS,
            )?;
        }
        if self.lora_bias && !matches!(init, InitLoraWeights::True | InitLoraWeights::False) {
            return conflict(
                &["lora_bias", "init_lora_weights"],
                format!(
                    "lora_bias = true needs init_lora_weights = true or false, not {}",
                    init.to_json()
                ),
            );
        }
        match (init, self.loftq_config) {
            (InitLoraWeights::Loftq, None) => {
                return conflict(
                    &["init_lora_weights", "loftq_config"],
                    "init_lora_weights = \"loftq\" needs loftq_config, such as { loftq_bits = 4 }"
                        .to_string(),
                );
            }
            (InitLoraWeights::Loftq, Some(config)) => {
                if ![4, 8].contains(&config.loftq_bits) {
                    let bits = config.loftq_bits;
                    return Err(PeftError::value(
                        "loftq_config.loftq_bits",
                        bits,
                        "must be 4 or 8",
                    ));
                }
                within("loftq_config.loftq_iter", config.loftq_iter, ROUNDS)?;
            }
            _ => {}
        }
        if let Some(eva) = &self.eva_config {
            eva.validate()?;
            if init != InitLoraWeights::Eva {
                return conflict(
                    &["eva_config", "init_lora_weights"],
                    format!(
                        "eva_config needs init_lora_weights = \"eva\", not {}",
                        init.to_json()
                    ),
                );
            }
        }
        if self.lora_bias && self.use_dora {
            return conflict(
                &["lora_bias", "use_dora"],
                "lora_bias = true cannot be used with use_dora = true".to_string(),
            );
        }
        match &self.trainable_token_indices {
            Some(indices) => indices.validate(),
            None => Ok(()),
        }
    }

    /// The rank of the layer at `path`: `rank_pattern`'s, or `r`.
    ///
    /// # Errors
    /// If a pattern is not a regular expression.
    pub fn rank(&self, path: &str) -> Result<usize> {
        let rank = pattern_value("rank_pattern", &self.rank_pattern, path)?;
        Ok(rank.copied().unwrap_or(self.r))
    }

    /// α of the layer at `path`: `alpha_pattern`'s, or `lora_alpha`.
    ///
    /// # Errors
    /// If a pattern is not a regular expression.
    pub fn alpha(&self, path: &str) -> Result<f64> {
        let alpha = pattern_value("alpha_pattern", &self.alpha_pattern, path)?;
        Ok(alpha.copied().unwrap_or(self.lora_alpha))
    }

    /// The factor that multiplies the adapter's output at `path`: α/r, or α/√r with rsLoRA.
    /// `alpha_pattern` and `rank_pattern` can give the layer its own α and r.
    ///
    /// # Errors
    /// If a pattern is not a regular expression.
    pub fn scaling(&self, path: &str) -> Result<f64> {
        let rank = self.rank(path)? as f64;
        let alpha = self.alpha(path)?;
        Ok(if self.use_rslora {
            alpha / rank.sqrt()
        } else {
            alpha / rank
        })
    }
}

/// A number as PEFT writes α: a whole number without a fraction.
fn number(value: f64) -> Value {
    const EXACT: f64 = (1_i64 << 53) as f64;
    if value.fract() == 0.0 && value.abs() < EXACT {
        json!(value as i64)
    } else {
        json!(value)
    }
}
