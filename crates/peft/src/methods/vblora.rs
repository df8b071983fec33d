//! VB-LoRA (arXiv 2405.15179): composes the factors of all layers from one bank of vectors.

use std::sync::Arc;

use burn::tensor::activation::softmax;
use burn::tensor::{Int, Tensor};
use burn_peft_kernels::Lora;
use serde::{Deserialize, Serialize};

use super::shared::parts::{dropout, parameter};
use crate::config::check::{DEVIATION, PROBABILITY, SIDE, within};
use crate::config::{Bias, CommonConfig, TargetModules, bias};
use crate::{
    Frozen, Init, LayerInfo, LayerMethod, Method, PeftError, Result, TensorSpec, Tensors, target,
};

/// The configuration of VB-LoRA: `y = base(x) + B(A(dropout(x)))`, where every piece of
/// `vector_length` values of `A` `[r, d_in]` and `B` `[d_out, r]` is a mixture of `topk` of the
/// bank's `num_vectors` vectors: those with the largest logits, weighted by the softmax of these
/// logits. Logits and bank are trained; all layers share the bank (peft/tuners/vblora/layer.py).
///
/// It costs `num_vectors · vector_length` parameters in total, and in training `r · num_vectors ·
/// (d_in + d_out) / vector_length` for each layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct VBLoRAConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The rank.
    pub r: usize,
    /// The number of vectors in the bank.
    pub num_vectors: usize,
    /// The length of a vector; it divides the inputs and outputs of every layer.
    pub vector_length: usize,
    /// How many vectors are mixed.
    pub topk: usize,
    /// Whether files hold the mixture instead of the logits; not supported.
    pub save_only_topk_weights: bool,
    /// The probability of dropping an element of the adapter's input.
    pub vblora_dropout: f64,
    /// Whether the base weights are `[in, out]`; set from the kind of layer.
    pub fan_in_fan_out: bool,
    /// Which biases of the base are trained: `none`, `all` or `vblora_only`.
    pub bias: String,
    /// The bank is initialised uniformly between minus and plus this bound.
    pub init_vector_bank_bound: f64,
    /// The logits are initialised as normal with this standard deviation.
    pub init_logits_std: f64,
}

impl Default for VBLoRAConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            r: 4,
            num_vectors: 256,
            vector_length: 256,
            topk: 2,
            save_only_topk_weights: false,
            vblora_dropout: 0.0,
            fan_in_fan_out: false,
            bias: "none".into(),
            init_vector_bank_bound: 0.02,
            init_logits_std: 0.1,
        }
    }
}

crate::peft_config!(VBLoRAConfig, "VBLORA", "VBLoRA", without: []);

impl Method for VBLoRAConfig {
    crate::method_of_keys!(fan_in_fan_out);

    fn validate(&self) -> Result<()> {
        within("r", self.r, SIDE)?;
        within("num_vectors", self.num_vectors, SIDE)?;
        within("vector_length", self.vector_length, SIDE)?;
        within("topk", self.topk, SIDE)?;
        within("vblora_dropout", self.vblora_dropout, PROBABILITY)?;
        within(
            "init_vector_bank_bound",
            self.init_vector_bank_bound,
            DEVIATION,
        )?;
        within("init_logits_std", self.init_logits_std, DEVIATION)?;
        bias(&self.bias, "vblora_only")?;
        if self.topk > self.num_vectors {
            let problem = format!(
                "the bank has no more than num_vectors = {}",
                self.num_vectors
            );
            return Err(PeftError::value("topk", self.topk, problem));
        }
        if self.save_only_topk_weights {
            return Err(PeftError::conflict(
                &["save_only_topk_weights"],
                "save_only_topk_weights = true is not supported: set it to false, and the files \
                 hold the logits",
            ));
        }
        Ok(())
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        let known = (model_type != "xlm-roberta").then_some(model_type);
        known.and_then(target::lora_target_modules)
    }

    fn bias(&self) -> Bias {
        bias(&self.bias, "vblora_only").unwrap_or_default()
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        for (what, size) in [("inputs", layer.d_in), ("outputs", layer.d_out)] {
            if !size.is_multiple_of(self.vector_length) {
                return Err(PeftError::unfit(
                    &layer.path,
                    format!(
                        "vector_length = {} does not divide the {size} {what} of {}",
                        self.vector_length, layer.path
                    ),
                ));
            }
        }
        Ok(Arc::new(VBLoRALayer {
            config: self.clone(),
            d_in: layer.d_in,
            d_out: layer.d_out,
        }))
    }
}

/// VB-LoRA at one layer.
#[derive(Debug)]
struct VBLoRALayer {
    config: VBLoRAConfig,
    d_in: usize,
    d_out: usize,
}

const LOGITS_A: &str = "vblora_logits_A";
const LOGITS_B: &str = "vblora_logits_B";
const BANK: &str = "vblora_vector_bank";

impl VBLoRALayer {
    /// The shapes of the logits, `[r, d_in / v, n]` and `[d_out / v, r, n]`.
    fn shapes(&self) -> [[usize; 3]; 2] {
        let (r, v, n) = (
            self.config.r,
            self.config.vector_length,
            self.config.num_vectors,
        );
        [[r, self.d_in / v, n], [self.d_out / v, r, n]]
    }

    /// Mixtures of the bank `[n, v]` by logits `[a, b, n]`: `[a · b, v]`.
    fn mixed(&self, logits: Tensor<3>, bank: Tensor<2>) -> Tensor<2> {
        let [a, b, n] = logits.dims();
        let (k, pieces) = (self.config.topk, a * b);
        let logits = logits.reshape([pieces, n]);
        let (_, chosen) = logits.clone().detach().topk_with_indices(k, 1);
        let weights = softmax(logits.gather(1, chosen.clone()), 1);
        let chosen: Tensor<1, Int> = chosen.reshape([pieces * k]);
        let v = self.config.vector_length;
        let vectors = bank.select(0, chosen).reshape([pieces, k, v]);
        (vectors * weights.unsqueeze_dim(2))
            .sum_dim(1)
            .reshape([pieces, v])
    }
}

impl LayerMethod for VBLoRALayer {
    fn prefix(&self) -> &str {
        "vblora"
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let config = &self.config;
        let logits = |name, shape: [usize; 3]| {
            let spec = TensorSpec::named(name, shape);
            let spec = spec.with_init(Init::Normal(config.init_logits_std));
            // The softmax of a single logit is constant.
            if config.topk == 1 {
                spec.may_rest()
            } else {
                spec
            }
        };
        let [a, b] = self.shapes();
        vec![
            logits(LOGITS_A, a),
            logits(LOGITS_B, b),
            TensorSpec::named(BANK, [config.num_vectors, config.vector_length])
                .with_init(Init::Uniform(config.init_vector_bank_bound))
                .shared(),
        ]
    }

    /// `A` `[r, d_in]` and `B` `[d_out, r]`, composed from the bank.
    fn low_rank(&self, tensors: &Tensors<'_>) -> Option<Lora> {
        let (r, v) = (self.config.r, self.config.vector_length);
        let bank = tensors.matrix(BANK);
        let a = self.mixed(tensors.tensor3(LOGITS_A), bank.clone());
        let b = self.mixed(tensors.tensor3(LOGITS_B), bank);
        let b = b.reshape([self.d_out / v, r, v]).swap_dims(0, 1);
        Some(Lora {
            a: a.reshape([r, self.d_in]),
            b: b.reshape([r, self.d_out]).transpose(),
            scaling: 1.0,
            dropout: self.config.vblora_dropout,
        })
    }

    fn parts(&self) -> Vec<(String, String)> {
        let [a, b] = self.shapes();
        vec![
            dropout("vblora_dropout", self.config.vblora_dropout),
            parameter(LOGITS_A, a),
            parameter(LOGITS_B, b),
        ]
    }
}
