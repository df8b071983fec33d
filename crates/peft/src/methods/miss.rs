//! MiSS (arXiv 2409.15371, formerly Bone): one small block for all shards of the inputs.

use std::sync::Arc;

use burn::nn::{Dropout, DropoutConfig};
use burn::tensor::Tensor;
use burn_peft_kernels::apply_dropout;
use serde::{Deserialize, Serialize};

use super::shared::init_weights::InitWeights;
use super::shared::parts::{dropout, parameter};
use crate::config::check::{PROBABILITY, SIDE, within};
use crate::config::{Bias, CommonConfig, TargetModules, bias};
use crate::{
    Base, Frozen, Init, LayerInfo, LayerKind, LayerMethod, Method, PeftError, Result, TensorSpec,
    Tensors, target,
};

/// The configuration of MiSS: `y = base(x) + fold(dropout(x)) M` with `M` `[r, d_out]`, where `fold`
/// adds up the inputs `i`, `i + r`, `i + 2 r` and so on (peft/tuners/miss/layer.py).
///
/// It costs `r d_out` parameters per layer. With `init_weights = "mini"` the block is `[r, mini_r]`,
/// repeated along the outputs. With `"bat"` there is a block `M` `[r, r]` for every `r` outputs,
/// and each square block `W` of the weight becomes `W + W M + M`, without dropout, which takes a
/// gradient the size of the weight. Python's peft supports it for `Linear` only, not for `Conv1D`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, burn_peft_derive::KeyDocs)]
#[serde(default)]
pub struct MissConfig {
    /// The keys that all methods share.
    #[serde(skip)]
    pub common: CommonConfig,
    /// The number of inputs in a shard.
    pub r: usize,
    /// The probability of dropping an element of the adapter's input.
    pub miss_dropout: f64,
    /// The number of outputs with separate values, for `init_weights = "mini"`.
    pub mini_r: usize,
    /// The variant: `true` (the block starts at zero), `false` (at random), `"bat"` or `"mini"`.
    pub init_weights: InitWeights,
    /// Which biases of the base are trained: `none`, `all` or `miss_only` (or `MiSS_only`).
    pub bias: String,
}

impl Default for MissConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            r: 64,
            miss_dropout: 0.0,
            mini_r: 1,
            init_weights: InitWeights::Flag(true),
            bias: "none".into(),
        }
    }
}

crate::peft_config!(MissConfig, "MISS", "Miss", without: []);

impl MissConfig {
    fn biases(&self) -> Result<Bias> {
        // PEFT's documentation spells it this way.
        match self.bias.as_str() {
            "MiSS_only" => Ok(Bias::LoraOnly),
            word => bias(word, "miss_only"),
        }
    }
}

impl Method for MissConfig {
    crate::method_of_keys!();

    fn validate(&self) -> Result<()> {
        within("r", self.r, SIDE)?;
        within("mini_r", self.mini_r, SIDE)?;
        within("miss_dropout", self.miss_dropout, PROBABILITY)?;
        self.init_weights.check(&["bat", "mini"])?;
        self.biases().map(drop)
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::lora_target_modules(model_type)
    }

    fn bias(&self) -> Bias {
        self.biases().unwrap_or_default()
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        let (r, mini_r, path) = (self.r, self.mini_r, &layer.path);
        let (d_in, d_out) = (layer.d_in, layer.d_out);
        let form = match &self.init_weights {
            InitWeights::Named(name) if name == "bat" => Form::Bat,
            InitWeights::Named(_) => Form::Mini(mini_r),
            InitWeights::Flag(zeros) => Form::Block { zeros: *zeros },
        };
        let problem = match form {
            _ if r > d_in => format!("r = {r} is more than the {d_in} inputs of {path}"),
            Form::Bat if !d_in.is_multiple_of(r) || !d_out.is_multiple_of(r) => format!(
                "r = {r} does not divide both sides of {path}, which has {d_in} inputs and {d_out} \
                 outputs, as init_weights = \"bat\" needs it"
            ),
            Form::Mini(_) if !d_out.is_multiple_of(mini_r) => {
                format!("mini_r = {mini_r} does not divide the {d_out} outputs of {path}")
            }
            _ => {
                return Ok(Arc::new(MissLayer {
                    r,
                    d_in,
                    d_out,
                    form,
                    dropout: DropoutConfig::new(self.miss_dropout).init(),
                }));
            }
        };
        Err(PeftError::unfit(path, problem))
    }
}

/// The shape of the trained tensor.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// `[r, d_out]`.
    Block { zeros: bool },
    /// `[r, mini_r]`.
    Mini(usize),
    /// `[d_out / r, r, r]`.
    Bat,
}

/// MiSS at one layer.
#[derive(Debug)]
struct MissLayer {
    r: usize,
    d_in: usize,
    d_out: usize,
    form: Form,
    dropout: Dropout,
}

impl MissLayer {
    /// The shape of the trained tensor.
    fn shape(&self) -> Vec<usize> {
        match self.form {
            Form::Block { .. } => vec![self.r, self.d_out],
            Form::Mini(columns) => vec![self.r, columns],
            Form::Bat => vec![self.d_out / self.r, self.r, self.r],
        }
    }

    /// The block for all outputs, `[r, d_out]`.
    fn block(&self, tensors: &Tensors<'_>) -> Tensor<2> {
        let block = tensors.matrix("miss_block");
        match self.form {
            Form::Mini(columns) => block.repeat_dim(1, self.d_out / columns),
            _ => block,
        }
    }

    /// The shards of the inputs; the last one may be padded.
    fn shards(&self) -> usize {
        self.d_in.div_ceil(self.r)
    }

    /// The sum of the shards: `[tokens, d_in]` to `[tokens, r]`.
    fn fold(&self, input: Tensor<2>) -> Tensor<2> {
        let ([tokens, _], r, shards) = (input.dims(), self.r, self.shards());
        let missing = shards * r - self.d_in;
        let input = if missing > 0 {
            let zeros = Tensor::zeros([tokens, missing], &input.device());
            Tensor::cat(vec![input, zeros], 1)
        } else {
            input
        };
        input.reshape([tokens, shards, r]).sum_dim(1).squeeze_dim(1)
    }

    /// What `"bat"` adds to the weight `[d_in, d_out]`: `W M + M` of every block.
    fn bat(&self, tensors: &Tensors<'_>, weight: Tensor<2>) -> Tensor<2> {
        let (r, rows, columns) = (self.r, self.d_in / self.r, self.d_out / self.r);
        let blocks: Tensor<4> = weight.reshape([rows, r, columns, r]);
        let m: Tensor<4> = tensors.tensor3("miss_block").unsqueeze();
        // As in the file, the blocks are [outputs, inputs].
        let change = blocks.permute([0, 2, 3, 1]).matmul(m.clone()) + m;
        change
            .permute([0, 3, 1, 2])
            .reshape([self.d_in, self.d_out])
    }
}

impl LayerMethod for MissLayer {
    fn prefix(&self) -> &str {
        "miss"
    }

    fn layer_name(&self, _: LayerKind) -> String {
        "miss.MissLinear".into()
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        let init = match self.form {
            Form::Block { zeros: false } => Init::kaiming_uniform(self.d_out),
            _ => Init::Zeros,
        };
        vec![TensorSpec::named("miss_block", self.shape()).with_init(init)]
    }

    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        let output = base.forward(input.clone());
        match self.form {
            Form::Bat => output + input.matmul(self.bat(tensors, base.weight())),
            _ => {
                let folded = self.fold(apply_dropout(&self.dropout, input));
                output + folded.matmul(self.block(tensors))
            }
        }
    }

    fn delta_weight(&self, tensors: &Tensors<'_>, layer: &Frozen<'_>) -> Option<Tensor<2>> {
        Some(match self.form {
            Form::Bat => self.bat(tensors, layer.weight()),
            _ => {
                let repeated = self.block(tensors).repeat_dim(0, self.shards());
                repeated.narrow(0, 0, self.d_in)
            }
        })
    }

    fn parts(&self) -> Vec<(String, String)> {
        vec![
            dropout("miss_dropout", self.dropout.prob),
            parameter("miss_block", self.shape()),
        ]
    }
}
