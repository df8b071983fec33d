//! A whole training step with the specialised bodies against one with the plain bodies:
//! `cargo bench -p burn-peft-cli --bench step`, which fails where the first is not at least 1.5
//! times as fast.
//!
//! Two blocks of GPT-2 small with its vocabulary, LoRA on `c_attn`, 4 texts of 256 tokens.

mod pairs;

use std::process::ExitCode;

use burn::module::Module;
use burn::tensor::Device;
use burn_peft::{LoraConfig, get_peft_model};
use burn_peft_models::{CausalLm, GPT2LMHeadModel, Gpt2Config, LmBatch};

/// What `.ci/run` insists on.
const LEAST: f64 = 1.5;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Gpt2Config {
        n_layer: 2,
        embd_pdrop: 0.0,
        attn_pdrop: 0.0,
        resid_pdrop: 0.0,
        ..Gpt2Config::default()
    };
    let device = Device::flex();
    let base = GPT2LMHeadModel::new(&config, &device);
    let model = get_peft_model(base, LoraConfig::new())?.train();
    let ids: Vec<i64> = (0..1024).map(|i| i * 7919 % 50_257).collect();
    let batch = LmBatch::new(&ids, &[1; 1024], &ids, [4, 256], &device)?;
    let step = || {
        model.loss(&batch).backward();
    };
    let comparison = pairs::compare("step, forward and backward", 3, &step);
    println!("{comparison}");
    if comparison.ratio >= LEAST {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("the kernels have to be at least {LEAST} times as fast as their plain bodies");
    Ok(ExitCode::FAILURE)
}
