//! GPT-2 made of plain Burn modules and trained through Burn's own `apply_lora`: a rival of
//! `peft train`.
//!
//! ```text
//! cargo run --release --example apply_lora -- MODEL ADAPTER ROWS.jsonl STEPS SETTINGS.json
//! ```
//!
//! `MODEL` and `ADAPTER` (rank 8 and alpha 16 on `c_attn`) are folders as `peft` writes them. All
//! rows have the same length. The settings are `learning_rate`, `weight_decay` and
//! `per_device_train_batch_size`. Prints each step's loss and time as JSON.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use burn::module::{Lora, Module, ModuleMapper, Param, ParamGroup};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Embedding, Gelu, LayerNorm, LayerNormConfig, Linear};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::module::attention;
use burn::tensor::ops::AttentionModuleOptions;
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_peft::tensor_file::read_tensors;
use serde_json::{Value, json};

#[derive(Module, Debug)]
struct Gpt2 {
    wte: Embedding,
    wpe: Embedding,
    h: Vec<Block>,
    ln_f: LayerNorm,
}

#[derive(Module, Debug)]
struct Block {
    ln_1: LayerNorm,
    c_attn: Linear,
    attn_proj: Linear,
    ln_2: LayerNorm,
    c_fc: Linear,
    mlp_proj: Linear,
    heads: usize,
}

impl Gpt2 {
    /// The mean loss of rows `[batch, length]`.
    fn loss(&self, ids: Tensor<2, Int>) -> Tensor<1> {
        let [batch, length] = ids.dims();
        let device = ids.device();
        let positions = Tensor::arange(0..length as i64, &device).reshape([1, length]);
        let x = self.wte.forward(ids.clone()) + self.wpe.forward(positions);
        let d = x.dims()[2];
        // Flat, since otherwise the gradient of an adapted weight would be made once for each row.
        let mut x = x.reshape([batch * length, d]);
        for block in &self.h {
            x = block.forward(x, batch);
        }
        let x = self.ln_f.forward(x).reshape([batch, length, d]);
        let x = x.narrow(1, 0, length - 1).reshape([-1, d as i32]);
        let logits = x.matmul(self.wte.weight.val().transpose());
        let labels = ids.narrow(1, 1, length - 1).reshape([-1]);
        CrossEntropyLossConfig::new()
            .init(&device)
            .forward(logits, labels)
    }
}

impl Block {
    /// From `[batch · length, d]` to the same shape.
    fn forward(&self, x: Tensor<2>, batch: usize) -> Tensor<2> {
        let [tokens, d] = x.dims();
        let shape = [batch, tokens / batch, self.heads, d / self.heads];
        let qkv = self.c_attn.forward(self.ln_1.forward(x.clone()));
        let part = |index: usize| {
            let part = qkv.clone().narrow(1, index * d, d);
            part.reshape(shape).swap_dims(1, 2)
        };
        let options = AttentionModuleOptions {
            is_causal: true,
            ..Default::default()
        };
        let heads = attention(part(0), part(1), part(2), None, None, options);
        let heads = heads.swap_dims(1, 2).reshape([tokens, d]);
        let x = x + self.attn_proj.forward(heads);
        let inner = self.c_fc.forward(self.ln_2.forward(x.clone()));
        let inner = Gelu::new_approximate().forward(inner);
        x + self.mlp_proj.forward(inner)
    }
}

/// Tensors of a file on their way into a model.
struct Weights {
    tensors: HashMap<String, TensorData>,
    device: Device,
}

impl Weights {
    fn read(path: &Path, device: &Device) -> Result<Self> {
        let tensors = read_tensors(path)?.into_iter();
        Ok(Self {
            tensors: tensors
                .map(|(name, data)| (name.replace("transformer.", ""), data))
                .collect(),
            device: device.clone(),
        })
    }

    fn take<const D: usize>(&mut self, name: &str) -> Result<Tensor<D>> {
        let data = self.tensors.remove(name);
        let data = data.with_context(|| format!("the weights have no tensor {name}"))?;
        Ok(Tensor::from_data(data, &self.device))
    }

    fn param<const D: usize>(&mut self, name: &str) -> Result<Param<Tensor<D>>> {
        Ok(Param::from_tensor(self.take(name)?))
    }

    fn linear(&mut self, name: &str) -> Result<Linear> {
        Ok(Linear {
            weight: self.param(&format!("{name}.weight"))?,
            bias: Some(self.param(&format!("{name}.bias"))?),
        })
    }

    fn norm(&mut self, name: &str, epsilon: f64) -> Result<LayerNorm> {
        let gamma = self.param::<1>(&format!("{name}.weight"))?;
        let config = LayerNormConfig::new(gamma.dims()[0]).with_epsilon(epsilon);
        let mut norm = config.init(&self.device);
        norm.gamma = gamma;
        norm.beta = Some(self.param(&format!("{name}.bias"))?);
        Ok(norm)
    }
}

fn load(folder: &Path, device: &Device) -> Result<Gpt2> {
    let config = json_file(&folder.join("config.json"))?;
    let number = |key: &str| {
        let number = config[key].as_f64();
        number.with_context(|| format!("config.json has no number {key}"))
    };
    let epsilon = number("layer_norm_epsilon")?;
    let mut weights = Weights::read(&folder.join("model.safetensors"), device)?;
    let mut h = Vec::new();
    for index in 0..number("n_layer")? as usize {
        h.push(Block {
            ln_1: weights.norm(&format!("h.{index}.ln_1"), epsilon)?,
            c_attn: weights.linear(&format!("h.{index}.attn.c_attn"))?,
            attn_proj: weights.linear(&format!("h.{index}.attn.c_proj"))?,
            ln_2: weights.norm(&format!("h.{index}.ln_2"), epsilon)?,
            c_fc: weights.linear(&format!("h.{index}.mlp.c_fc"))?,
            mlp_proj: weights.linear(&format!("h.{index}.mlp.c_proj"))?,
            heads: number("n_head")? as usize,
        });
    }
    Ok(Gpt2 {
        wte: Embedding {
            weight: weights.param("wte.weight")?,
        },
        wpe: Embedding {
            weight: weights.param("wpe.weight")?,
        },
        h,
        ln_f: weights.norm("ln_f", epsilon)?,
    })
}

/// Replaces the start values that `apply_lora` drew by those of PEFT's file.
struct StartValues {
    adapter: Weights,
    path: Vec<String>,
    error: Option<anyhow::Error>,
}

impl StartValues {
    /// The tensor of a parameter, if it is one of the adapter's: `h.3.c_attn.weight.lora.a`.
    fn find<const D: usize>(&mut self) -> Result<Option<Tensor<D>>> {
        let parts: Vec<&str> = self.path.iter().map(String::as_str).collect();
        let ["h", layer, "c_attn", "weight", "lora", factor] = parts[..] else {
            return Ok(None);
        };
        let factor = factor.to_uppercase();
        let name = format!("base_model.model.h.{layer}.attn.c_attn.lora_{factor}.weight");
        Ok(Some(self.adapter.take::<D>(&name)?.transpose()))
    }
}

impl ModuleMapper for StartValues {
    fn enter_module(&mut self, name: &str, _container_type: &str) {
        self.path.push(name.to_string());
    }

    fn exit_module(&mut self, _name: &str, _container_type: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.find::<D>() {
            Ok(None) => param,
            Ok(Some(value)) => param.map(|_| value),
            Err(error) => {
                self.error = Some(error);
                param
            }
        }
    }
}

fn json_file(path: &Path) -> Result<Value> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not JSON", path.display()))
}

/// The token ids of every row.
fn read_rows(path: &Path) -> Result<Vec<Vec<i64>>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let row = |line: &str| -> Result<Vec<i64>> {
        let mut row: Value = serde_json::from_str(line)?;
        Ok(serde_json::from_value(row["input_ids"].take())?)
    };
    text.lines().map(row).collect()
}

fn main() -> Result<()> {
    let words: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [model, adapter, rows, steps, settings] = &words[..] else {
        anyhow::bail!("give MODEL ADAPTER ROWS.jsonl STEPS SETTINGS.json");
    };
    let steps: usize = steps.display().to_string().parse()?;
    let rows = read_rows(rows)?;
    let settings = json_file(settings)?;
    let setting = |key: &str| {
        let number = settings[key].as_f64();
        number.with_context(|| format!("the settings have no number {key}"))
    };
    let size = setting("per_device_train_batch_size")? as usize;
    ensure!(
        rows.len() >= size * steps,
        "too few rows for {steps} steps of {size}"
    );

    let device = Device::flex();
    let group = ParamGroup::from_regex(r"c_attn\.weight$").expect("the pattern is valid");
    let model = load(model, &device)?.apply_lora(Lora::new(8, 16.0).set_param_group(group));
    let mut start = StartValues {
        adapter: Weights::read(&adapter.join("adapter_model.safetensors"), &device)?,
        path: Vec::new(),
        error: None,
    };
    let mut model = model.map(&mut start).train();
    if let Some(error) = start.error {
        return Err(error);
    }
    ensure!(
        start.adapter.tensors.is_empty(),
        "left over: {:?}",
        start.adapter.tensors.keys()
    );

    let mut optimizer = AdamWConfig::new()
        .with_epsilon(1e-8)
        .with_weight_decay(setting("weight_decay")? as f32)
        .init();
    let learning_rate = setting("learning_rate")?;
    let device = device.autodiff();
    let (mut losses, mut seconds) = (Vec::new(), Vec::new());
    for batch in rows.chunks(size).take(steps) {
        let start = Instant::now();
        let ids = TensorData::new(batch.concat(), [size, batch[0].len()]);
        let loss = model.loss(Tensor::from_data(ids, &device));
        losses.push(loss.clone().inner().into_scalar::<f32>());
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        model = optimizer.step(learning_rate, model, gradients);
        seconds.push(start.elapsed().as_secs_f64());
    }
    println!("{}", json!({ "losses": losses, "step_seconds": seconds }));
    Ok(())
}
