//! A method of your own that acts at the model, not at a layer: one type for its configuration, one
//! for what it prepends to a text. Attaching, freezing, counting, saving, loading and generation
//! with a cache come for free.
//!
//! The toy method is prompt tuning of low rank: the virtual tokens are `P = U V` with `U`
//! `[tokens, r]` and `V` `[r, token_dim]`, so that many virtual tokens cost little.
//!
//! ```text
//! cargo run --release --example custom_prompt
//! ```

use std::sync::Arc;

use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Device, Tensor};
use burn_peft::config::{Fields, PromptLearning};
use burn_peft::methods::register_method;
use burn_peft::{
    AtModel, Extra, Init, Method, ModelInfo, ModelMethod, PeftModel, Result, TensorSpec, Tensors,
    Tree, get_peft_model,
};
use burn_peft_models::{CausalLm, Decoder, GPT2LMHeadModel, Gpt2Config, LmBatch};
use serde_json::{Map, Value, json};

/// The configuration: the keys that methods with virtual tokens have, and a rank.
#[derive(Clone, Debug)]
struct LowRankPromptConfig {
    prompt: PromptLearning,
    r: usize,
}

impl LowRankPromptConfig {
    const PEFT_TYPE: &str = "LOW_RANK_PROMPT";

    fn read(mut fields: Fields) -> Result<Arc<dyn Method>> {
        let mut prompt = PromptLearning::from_fields(&mut fields, Self::PEFT_TYPE)?;
        let r = fields.take("r", 2)?;
        prompt.common.unknown = fields.rest();
        Ok(Arc::new(Self { prompt, r }))
    }
}

impl Method for LowRankPromptConfig {
    burn_peft::method_of_prompt!("LowRankPrompt");

    fn to_json(&self) -> Map<String, Value> {
        self.prompt.to_json(Self::PEFT_TYPE, [("r", json!(self.r))])
    }
}

impl AtModel for LowRankPromptConfig {
    fn model_method(&self, model: &ModelInfo) -> Result<(Arc<dyn Method>, Arc<dyn ModelMethod>)> {
        let prompt = self.prompt.fitted(model)?;
        let method = LowRankPrompt {
            tokens: prompt.num_virtual_tokens,
            token_dim: model.token_dim,
            r: self.r,
        };
        let config = Self { prompt, r: self.r };
        Ok((Arc::new(config), Arc::new(method)))
    }
}

/// The method at one model.
#[derive(Debug)]
struct LowRankPrompt {
    tokens: usize,
    token_dim: usize,
    r: usize,
}

impl ModelMethod for LowRankPrompt {
    fn tensors(&self, _embeddings: &dyn Fn() -> Tensor<2>) -> Vec<TensorSpec> {
        let (tokens, d, r) = (self.tokens, self.token_dim, self.r);
        vec![
            TensorSpec::new("U", "prompt_U", [tokens, r]).with_init(Init::kaiming_uniform(r)),
            TensorSpec::new("V", "prompt_V", [r, d]).with_init(Init::Normal(1.0)),
        ]
    }

    fn positions(&self) -> usize {
        self.tokens
    }

    fn extra(&self, tensors: &Tensors<'_>) -> Extra {
        Extra {
            embeddings: Some(tensors.matrix("U").matmul(tensors.matrix("V"))),
            ..Extra::default()
        }
    }

    fn describe(&self) -> Tree {
        let (tokens, d, r) = (self.tokens, self.token_dim, self.r);
        Tree::Leaf(format!("LowRankPrompt({tokens}, {d}, r={r})"))
    }
}

fn main() -> anyhow::Result<()> {
    let device = Device::flex();
    device.seed(0);
    let config = Gpt2Config {
        vocab_size: 24,
        n_positions: 32,
        n_embd: 16,
        n_layer: 2,
        n_head: 2,
        initializer_range: 0.3,
        resid_pdrop: 0.0,
        embd_pdrop: 0.0,
        attn_pdrop: 0.0,
        ..Gpt2Config::default()
    };
    let base = GPT2LMHeadModel::new(&config, &device);
    let method = LowRankPromptConfig {
        prompt: PromptLearning::new(8),
        r: 2,
    };
    let mut model = get_peft_model(base.clone(), method)?.train();
    println!("{}", model.tree());
    model.print_trainable_parameters();

    let ids = [3, 1, 4, 1, 5, 9, 2, 6];
    let batch = LmBatch::new(&ids, &[1; 8], &ids, [1, 8], &device)?;
    let untrained = model.valid().loss(&batch).into_scalar::<f32>();
    let mut optimizer = AdamWConfig::new().init();
    for step in 0..30 {
        let loss = model.loss(&batch) / batch.count as f32;
        if step % 10 == 0 {
            println!(
                "step {step:2}: loss {:.3}",
                loss.clone().into_scalar::<f32>()
            );
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model.check_gradients(&gradients)?;
        model = optimizer.step(0.03, model, gradients);
    }
    let model = model.valid();
    let trained = model.loss(&batch).into_scalar::<f32>();
    anyhow::ensure!(trained < untrained, "it learned nothing");

    // For files, `peft_type` is looked up in the registry.
    register_method(LowRankPromptConfig::PEFT_TYPE, LowRankPromptConfig::read);
    let folder = tempfile::tempdir()?;
    model.save_pretrained(folder.path())?;
    let loaded = PeftModel::from_pretrained(base, folder.path(), false)?;
    let again = loaded.loss(&batch).into_scalar::<f32>();
    anyhow::ensure!(trained == again, "the adapter was lost");
    println!(
        "{} extra positions, loaded: the same loss",
        loaded.extra_positions()
    );
    Ok(())
}
