//! A whole training step with the specialised bodies, compared with one with the plain bodies:
//! `cargo bench -p burn-peft-cli --bench step`, which fails unless the first is at least 1.5 times
//! as fast.
//!
//! The model has two blocks as wide as GPT-2 small's, LoRA on `c_attn` and 4096 words; the text has
//! 1024 tokens. That is small enough for every commit, and has every operation in it.

mod pairs;

use std::process::ExitCode;

use burn::module::Module;
use burn::tensor::Device;
use burn_peft::{LoraConfig, get_peft_model};
use burn_peft_models::{CausalLm, Decoder, GPT2LMHeadModel, Gpt2Config, LmBatch};

/// The least ratio that passes.
const LEAST: f64 = 1.5;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let config = Gpt2Config {
        n_layer: 2,
        vocab_size: 4096,
        embd_pdrop: 0.0,
        attn_pdrop: 0.0,
        resid_pdrop: 0.0,
        ..Gpt2Config::default()
    };
    let device = Device::flex();
    let base = GPT2LMHeadModel::new(&config, &device);
    let model = get_peft_model(base, LoraConfig::new())?.train();
    let ids: Vec<i64> = (0..1024).map(|i| i * 7919 % 4096).collect();
    let batch = LmBatch::new(&ids, &[1; 1024], &ids, [1, 1024], &device)?;
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
