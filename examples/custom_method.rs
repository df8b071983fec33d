//! A method of your own, outside the library: one type for its configuration, one for what it
//! does at a layer. Attaching, freezing, counting, merging, saving and loading come for free.
//!
//! The toy method scales every output feature: `y = (1 + gain) ⊙ base(x)`, and starts at
//! `gain = 0`.
//!
//! ```text
//! cargo run --release --example custom_method
//! ```

use std::sync::Arc;

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use burn_peft::config::{CommonConfig, Fields, TargetModules};
use burn_peft::methods::register_method;
use burn_peft::{
    Adaptable, Base, Frozen, LayerInfo, LayerMethod, LoraAdapter, Method, PeftModel, Result,
    TensorSpec, Tensors, get_peft_model,
};
use serde_json::{Map, Value};

/// The configuration: the keys that all methods have, and none of its own.
#[derive(Clone, Debug)]
struct GainConfig {
    common: CommonConfig,
}

impl GainConfig {
    fn read(mut fields: Fields) -> Result<Arc<dyn Method>> {
        let mut common = CommonConfig::from_fields(&mut fields)?;
        let _: Option<String> = fields.take("peft_type", None)?;
        common.unknown = fields.rest();
        Ok(Arc::new(Self { common }))
    }
}

impl Method for GainConfig {
    fn peft_type(&self) -> &str {
        "GAIN"
    }

    fn class_name(&self) -> &str {
        "Gain"
    }

    fn common(&self) -> &CommonConfig {
        &self.common
    }

    fn with_common(&self, common: CommonConfig) -> Arc<dyn Method> {
        Arc::new(Self { common })
    }

    fn to_json(&self) -> Map<String, Value> {
        self.common.to_json(self.peft_type())
    }

    fn layer(&self, layer: &LayerInfo) -> Result<Arc<dyn LayerMethod>> {
        let d_out = layer.d_out;
        Ok(Arc::new(GainLayer { d_out }))
    }
}

/// The method at one layer.
#[derive(Debug)]
struct GainLayer {
    d_out: usize,
}

impl LayerMethod for GainLayer {
    fn prefix(&self) -> &str {
        "gain"
    }

    fn tensors(&self, _layer: &Frozen<'_>) -> Vec<TensorSpec> {
        vec![TensorSpec::new("gain", "gain", [self.d_out])]
    }

    fn forward(
        &self,
        tensors: &Tensors<'_>,
        input: Tensor<2>,
        base: &Base<'_, Tensor<2>>,
    ) -> Tensor<2> {
        base.forward(input) * (tensors.vector("gain") + 1.0).unsqueeze()
    }

    fn merge(
        &self,
        tensors: &Tensors<'_>,
        weight: Tensor<2>,
        bias: Option<Tensor<1>>,
    ) -> Option<(Tensor<2>, Option<Tensor<1>>)> {
        let gain = tensors.vector("gain") + 1.0;
        let bias = bias.map(|bias| bias * gain.clone());
        Some((weight * gain.unsqueeze(), bias))
    }

    fn parts(&self) -> Vec<(String, String)> {
        vec![("gain".into(), format!("Parameter({})", self.d_out))]
    }
}

#[derive(Module, Adaptable, Debug)]
struct Net {
    linear: LoraAdapter<Linear>,
}

fn main() -> anyhow::Result<()> {
    let device = Device::flex();
    device.seed(0);
    let base = Net {
        linear: LoraAdapter::new(LinearConfig::new(4, 2).init(&device)),
    };
    let config = GainConfig {
        common: CommonConfig {
            target_modules: Some(TargetModules::list(["linear"])),
            ..Default::default()
        },
    };
    let mut model = get_peft_model(base.clone(), config)?.train();
    println!("{}", model.tree());
    model.print_trainable_parameters();

    let x = Tensor::<2>::ones([1, 4], &device);
    let mut optimizer = AdamWConfig::new().init();
    for _ in 0..10 {
        let loss = model.linear.forward(x.clone().autodiff()).square().sum();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(0.1, model, gradients);
    }
    let model = model.valid();
    let trained = model.linear.forward(x.clone());

    // Files: `peft_type` GAIN is found through the registry.
    register_method("GAIN", GainConfig::read);
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
