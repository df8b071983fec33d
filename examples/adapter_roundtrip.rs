//! Saving and loading an adapter never leads to a model that trains or runs without it.
//!
//! In Python, loading an adapter into a model that is already wrapped wraps it twice: the keys no
//! longer match, and the loaded adapter silently has no effect (PEFT issue 2115). The output below
//! shows the base, the trained adapter, and the adapter loaded in two ways.
//!
//! ```text
//! cargo run --release --example adapter_roundtrip
//! ```

use burn::module::Module;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use burn_peft::{Adaptable, LoraAdapter, LoraConfig, PeftModel, get_peft_model};

#[derive(Module, Adaptable, Debug)]
struct Net {
    linear: LoraAdapter<Linear>,
}

fn show(title: &str, output: Tensor<2>) -> f32 {
    let value = output.into_scalar::<f32>();
    println!("{title:<44} {value:.6}");
    value
}

fn main() -> anyhow::Result<()> {
    let device = Device::flex();
    device.seed(0);
    let base = Net {
        linear: LoraAdapter::new(LinearConfig::new(10, 1).init(&device)),
    };
    let config = || LoraConfig::new().with_target_modules(["linear"]);
    let x = Tensor::<2>::ones([1, 10], &device);
    let original = show("base", base.linear.forward(x.clone()));

    // Twenty steps towards an output of 3.
    let mut model = get_peft_model(base.clone(), config())?.train();
    let mut optimizer = AdamWConfig::new().init();
    for _ in 0..20 {
        let error = model.linear.forward(x.clone().autodiff()) - 3.0;
        let gradients = (error.clone() * error).sum().backward();
        let gradients = GradientsParams::from_grads(gradients, &model);
        model = optimizer.step(0.05, model, gradients);
    }
    let model = model.valid();
    let trained = show("base + trained adapter", model.linear.forward(x.clone()));

    let folder = tempfile::tempdir()?;
    model.save_pretrained(folder.path())?;

    let loaded = PeftModel::from_pretrained(base.clone(), folder.path(), false)?;
    let fresh = show("loaded onto a fresh base", loaded.linear.forward(x.clone()));

    let mut wrapped = get_peft_model(base, config())?;
    wrapped.load_adapter(folder.path(), "default", false)?;
    let again = show(
        "loaded onto a model wrapped before",
        wrapped.linear.forward(x),
    );

    anyhow::ensure!(original != trained, "the adapter has no effect");
    anyhow::ensure!(trained == fresh && trained == again, "an adapter was lost");
    println!("all three adapted outputs are equal");
    Ok(())
}
