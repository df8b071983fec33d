//! LoRA adds r · (d_in + d_out) parameters to a layer: compares the formula with the count.
//!
//! ```text
//! cargo run --release --example parameter_count
//! ```

use burn::tensor::Device;
use burn_peft::{LoraConfig, get_peft_model, parameters::thousands};
use burn_peft_models::{Decoder, GPT2LMHeadModel, Gpt2Config, ModelConfig};

fn main() -> anyhow::Result<()> {
    let device = Device::flex();
    // Weights are created when they are first used, and counting does not use them.
    let config = Gpt2Config::preset("gpt2")?;
    println!("gpt2, target_modules = [\"c_attn\"]");
    println!("{:>4} {:>12} {:>12}", "r", "r(in+out)", "counted");
    for r in [1, 4, 8, 16, 64] {
        let model = GPT2LMHeadModel::new(&config, &device);
        let targets = LoraConfig::new().with_r(r).with_target_modules(["c_attn"]);
        let model = get_peft_model(model, targets)?;
        let adapted = model.layers().into_iter();
        let adapted = adapted.filter(|layer| layer.path.ends_with(".c_attn"));
        let formula: usize = adapted.map(|layer| r * (layer.d_in + layer.d_out)).sum();
        let (counted, _) = model.get_nb_trainable_parameters();
        println!(
            "{r:>4} {:>12} {:>12}",
            thousands(formula),
            thousands(counted)
        );
        anyhow::ensure!(formula == counted, "r = {r}: {formula} is not {counted}");
    }
    Ok(())
}
