//! A method of your own, outside the library: one type for its configuration, one for what it does
//! at a layer. Attaching, freezing, counting, merging, saving and loading come for free, and so
//! does the whole `peft` command.
//!
//! The toy method scales every output feature: `y = (1 + max_gain · tanh(gain)) ⊙ base(x)`, and starts
//! at `gain = 0`.
//!
//! ```text
//! cargo run --release --example custom_method
//! ```
//!
//! With arguments it is `peft` with one more method:
//!
//! ```text
//! cargo run --release --example custom_method -- train configs/quickstart.toml \
//!     --set peft.peft_type=GAIN --set peft.max_gain=0.5
//! ```

use std::process::ExitCode;
use std::sync::Arc;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use burn_peft::config::{CommonConfig, TargetModules};
use burn_peft::{
    Adaptable, Base, Frozen, LayerInfo, LayerMethod, LoraAdapter, Method, PeftError, PeftModel,
    Result, TensorSpec, Tensors, get_peft_model, method_of_keys, methods, peft_config, target,
};
use serde::{Deserialize, Serialize};

/// The configuration: the keys that all methods have, and one key of its own.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default)]
struct GainConfig {
    #[serde(skip)]
    common: CommonConfig,
    /// The largest distance of a scale from 1; above 0.
    max_gain: f64,
}

impl Default for GainConfig {
    fn default() -> Self {
        Self {
            common: CommonConfig::default(),
            max_gain: 1.0,
        }
    }
}

// The name in files, the name in printed trees, and the shared keys that it does not have.
peft_config!(GainConfig, "GAIN", "Gain", without: []);

impl Method for GainConfig {
    method_of_keys!();

    fn validate(&self) -> Result<()> {
        if self.max_gain > 0.0 && self.max_gain.is_finite() {
            return Ok(());
        }
        let problem = "must be above 0";
        Err(PeftError::value("max_gain", self.max_gain, problem))
    }

    fn default_target_modules(&self, model_type: &str) -> Option<TargetModules> {
        target::lora_target_modules(model_type)
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        Ok(Arc::new(GainLayer {
            d_out: layer.d_out,
            max_gain: self.max_gain,
        }))
    }
}

/// The method at one layer.
#[derive(Debug)]
struct GainLayer {
    d_out: usize,
    max_gain: f64,
}

impl GainLayer {
    /// The factors of the output, `[d_out]`.
    fn scales(&self, tensors: &Tensors<'_>) -> Tensor<1> {
        tensors.vector("gain").tanh() * self.max_gain + 1.0
    }
}

impl LayerMethod for GainLayer {
    fn prefix(&self) -> &str {
        "gain"
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        vec![TensorSpec::named("gain", [self.d_out])]
    }

    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        base.forward(input) * self.scales(tensors).unsqueeze()
    }

    fn merge(
        &self,
        tensors: &Tensors<'_>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        let scales = self.scales(tensors);
        let bias = bias.map(|bias| bias * scales.clone());
        Some((weight * scales.unsqueeze(), bias))
    }

    fn parts(&self) -> Vec<(String, String)> {
        vec![("gain".into(), format!("Parameter({})", self.d_out))]
    }
}

fn main() -> ExitCode {
    // From here on `peft_type = "GAIN"` is known in files and on the command line.
    methods::register::<GainConfig>();
    if std::env::args().len() > 1 {
        return burn_peft_cli::main();
    }
    match in_a_model() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

#[derive(Module, Adaptable, Debug)]
struct Net {
    linear: LoraAdapter<Linear>,
}

/// The method in a model of your own: it is trained, saved, loaded and merged.
fn in_a_model() -> anyhow::Result<()> {
    let device = Device::flex();
    device.seed(0);
    let base = Net {
        linear: LoraAdapter::new(LinearConfig::new(4, 2).init(&device)),
    };
    let mut config = GainConfig::default();
    config.common.target_modules = Some(["linear"].into());
    let mut model = get_peft_model(base.clone(), config)?.train();
    println!("{}", model.tree());
    model.print_trainable_parameters();

    let x = Tensor::<2>::ones([1, 4], &device);
    let mut optimizer = AdamWConfig::new().init();
    for _ in 0..10 {
        let loss = model.linear.forward(x.clone()).square().sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(0.1, model, gradients);
    }
    let model = model.valid();
    let trained = model.linear.forward(x.clone());

    let folder = tempfile::tempdir()?;
    model.save_pretrained(folder.path())?;
    let loaded = PeftModel::from_pretrained(base, folder.path(), false)?;
    let again = loaded.linear.forward(x.clone());
    let merged = model.merge_and_unload(true)?.linear.forward(x);

    println!("trained {}", trained.to_data());
    println!("loaded  {}", again.to_data());
    println!("merged  {}", merged.to_data());
    anyhow::ensure!(trained.to_data() == again.to_data(), "the adapter was lost");
    anyhow::ensure!(
        merged.all_close(trained, None, Some(1e-5)),
        "merging changed it"
    );
    Ok(())
}
