//! LoRA on GPT-2 small, from attaching to generating, with the library alone.
//!
//! The weights are random unless a folder (or Hub id) is given, so it runs without a download:
//!
//! ```text
//! cargo run --release --example gpt2_lora [-- MODEL]
//! ```

use std::ops::ControlFlow;

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use burn_peft::{LoraConfig, PeftModel, get_peft_model};
use burn_peft_models::{
    CausalLm, Decoder, GPT2LMHeadModel, GenerationConfig, Gpt2Config, LmBatch, ModelConfig,
    Pretrained, generate,
};

fn main() -> anyhow::Result<()> {
    let device = Device::flex();
    device.seed(42);
    let base = match std::env::args().nth(1) {
        Some(model) => GPT2LMHeadModel::from_pretrained(&model, &device)?,
        None => GPT2LMHeadModel::new(&Gpt2Config::preset("gpt2")?, &device),
    };

    // Attach.
    let config = LoraConfig::new()
        .with_r(8)
        .with_lora_alpha(32.0)
        .with_lora_dropout(0.1)
        .with_target_modules(["c_attn"]);
    let mut model = get_peft_model(base.clone(), config)?.train();
    println!("{}", model.tree());
    model.print_trainable_parameters();

    // Train: two rows of the same sixteen tokens, three steps.
    let ids: Vec<i64> = (0..32).map(|i| 1000 + i % 16).collect();
    let batch = LmBatch::new(&ids, &[1; 32], &ids, [2, 16], &device)?;
    let mut optimizer = AdamWConfig::new().init();
    for step in 1..=3 {
        let loss = model.loss(&batch) / batch.count as f32;
        println!(
            "step {step}: loss {:.4}",
            loss.clone().inner().into_scalar::<f32>()
        );
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model.check_gradients(&gradients)?;
        model = optimizer.step(5e-3, model, gradients);
    }
    let model = model.valid();
    let mean = |sum: Tensor<1>| sum.into_scalar::<f32>() / batch.count as f32;
    let trained = mean(model.loss(&batch));

    // Save (PEFT's files) and load.
    let folder = tempfile::tempdir()?;
    model.save_pretrained(folder.path())?;
    let loaded = PeftModel::from_pretrained(base, folder.path(), false)?;
    let reloaded = mean(loaded.loss(&batch));

    // Merge.
    let merged = loaded.merge_and_unload(true)?;
    let merged_loss = mean(merged.loss(&batch));
    println!("loss trained {trained:.4}, loaded {reloaded:.4}, merged {merged_loss:.4}");
    anyhow::ensure!(trained == reloaded, "the adapter was lost");
    anyhow::ensure!(
        (trained - merged_loss).abs() < 1e-3,
        "merging changed the model"
    );

    // Generate.
    let config = GenerationConfig {
        max_new_tokens: 8,
        ..Default::default()
    };
    let prompt: Vec<u32> = (1000..1008).collect();
    let tokens = generate(
        &merged,
        &prompt,
        &config,
        &mut |_| ControlFlow::Continue(()),
    )?;
    println!("{prompt:?} continues {tokens:?}");
    Ok(())
}
