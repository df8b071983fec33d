//! One measurement: a model with random weights is trained for some steps.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Device, FloatDType};
use burn_peft::{LoraConfig, get_peft_model, set_seed};
use burn_peft_data::{DataConfig, DataSet};
use burn_peft_models::weights::{SaveOptions, save_model};
use burn_peft_models::{
    AutoConfig, AutoModel, CausalLm, Decoder, DenseForCausalLM, GPT2LMHeadModel, LanguageModel,
    LmBatch, Pretrained,
};
use burn_peft_train::{IntervalStrategy, TrainOptions, TrainingArguments, limits, train_with};
use serde::{Deserialize, Serialize};

use crate::marks::{Alone, Marked, Marks};

/// Steps in which kernels are compiled and chosen.
const WARM_UP: usize = 3;
/// Steps after them, whose launches are counted and which are not timed.
const COUNTED: usize = 3;

/// A model, by its `config.json`.
pub struct Shape {
    pub name: &'static str,
    pub config: &'static str,
    /// The number of rows, and the tokens of each.
    pub batch: [usize; 2],
}

pub const SHAPES: [Shape; 3] = [
    Shape {
        name: "GPT-2 small",
        config: include_str!("gpt2.json"),
        batch: [4, 256],
    },
    Shape {
        name: "SmolLM2-135M",
        config: include_str!("smollm2-135m.json"),
        batch: [4, 256],
    },
    Shape {
        name: "Llama-3.2-1B",
        config: include_str!("llama-3.2-1b.json"),
        batch: [4, 256],
    },
];

/// Tiny models, to see that everything runs.
pub const SMOKE: [Shape; 2] = [
    Shape {
        name: "tiny GPT-2",
        config: include_str!("../launches/gpt2.json"),
        batch: [2, 32],
    },
    Shape {
        name: "tiny Llama",
        config: include_str!("../launches/llama.json"),
        batch: [2, 32],
    },
];

/// The result of a measurement.
#[derive(Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Tokens per second, from the median time of the steps.
    pub tokens_per_second: f64,
    pub step_seconds: f64,
    pub launches: usize,
    pub compiled_after_warm_up: usize,
    pub bytes_reserved: u64,
    pub warm_up_seconds: f64,
}

/// Trains a model with frozen weights in this type.
pub fn measure(
    shape: &Shape,
    dtype: FloatDType,
    steps: usize,
    device: &Device,
) -> Result<Measured> {
    has_dtype(device, dtype)?;
    let dir = tempfile::tempdir()?;
    let mut model = with_lora(on_device(shape.config, dir.path(), device)?)?;
    if dtype != FloatDType::F32 {
        model.cast_frozen(dtype);
    }
    let rows = dir.path().join("rows.jsonl");
    write_rows(
        &rows,
        shape.batch,
        (WARM_UP + COUNTED + steps) * shape.batch[0],
        model.vocab_size(),
    )?;
    let mut data = DataConfig::new(rows.display().to_string());
    data.cache_dir = Some(dir.path().join("cache"));
    let data = DataSet::load(&data, None, limits(&model), 42)?;
    let arguments = TrainingArguments {
        max_steps: (WARM_UP + COUNTED + steps) as i64,
        per_device_train_batch_size: shape.batch[0],
        save_strategy: IntervalStrategy::No,
        ..TrainingArguments::new(dir.path().join("run"))
    };
    let marks = Marks::new(device, false, WARM_UP + COUNTED);
    let options = TrainOptions {
        discard: true,
        exchange: Arc::new(Alone(Arc::clone(&marks))),
        ..TrainOptions::default()
    };
    let objective = Arc::new(Marked(Arc::clone(&marks)));
    train_with(objective, model, data.train, None, &arguments, options)?;
    let all = marks.finish();
    let (first, rest) = all.split_at(WARM_UP.min(all.len()));
    let (counted, timed) = rest.split_at(COUNTED.min(rest.len()));
    let mut seconds: Vec<f64> = timed.iter().map(|step| step.seconds).collect();
    seconds.sort_by(f64::total_cmp);
    let step_seconds = *seconds
        .get(seconds.len() / 2)
        .context("no step was timed")?;
    let last = counted.last().context("no step was counted")?;
    Ok(Measured {
        tokens_per_second: (shape.batch[0] * shape.batch[1]) as f64 / step_seconds,
        step_seconds,
        launches: last.whole().launches.total(),
        compiled_after_warm_up: counted.iter().map(|step| step.whole().launches.first).sum(),
        bytes_reserved: timed
            .iter()
            .map(|step| step.bytes_reserved)
            .max()
            .unwrap_or(0),
        warm_up_seconds: first.iter().map(|step| step.seconds).sum(),
    })
}

fn has_dtype(device: &Device, dtype: FloatDType) -> Result<()> {
    if !device.supports_dtype(dtype) {
        bail!("the device has no {}", format!("{dtype:?}").to_lowercase());
    }
    Ok(())
}

/// By how much the loss, and the gradients of LoRA's factors, differ from the CPU's, as shares of
/// the loss and of the largest gradient. Both devices have the frozen weights in this type.
pub fn conformance(shape: &Shape, dtype: FloatDType, device: &Device) -> Result<[f64; 2]> {
    has_dtype(device, dtype)?;
    let dir = tempfile::tempdir()?;
    let folder = folder_of(shape.config, dir.path())?;
    let found = [&Device::flex(), device].map(|device| -> Result<(f64, Vec<f32>)> {
        let base = AutoModel::from_pretrained(&folder, device)?;
        // Adapters start with the same values on all devices.
        set_seed(42, device);
        let mut model = with_lora(base)?;
        if dtype != FloatDType::F32 {
            model.cast_frozen(dtype);
        }
        let model = model.train();
        let ids: Vec<i64> = (0..40).map(|i| i * 37 % 1000).collect();
        let mask: Vec<i64> = (0..40).map(|i| i64::from(i < 33)).collect();
        let labels: Vec<i64> = (0..40)
            .map(|i| if i < 33 { ids[i] } else { -100 })
            .collect();
        let batch = LmBatch::new(&ids, &mask, &labels, [2, 20], device)?;
        let loss = model.loss(&batch);
        let value = loss.clone().inner().into_scalar::<f64>();
        let gradients = GradientsParams::from_grads(loss.backward(), &model);
        let mut values = Values {
            gradients,
            found: Vec::new(),
        };
        model.visit(&mut values);
        Ok((value, values.found))
    });
    let [cpu, gpu] = found;
    let (cpu, gpu) = (cpu?, gpu?);
    let largest = cpu
        .1
        .iter()
        .fold(0.0_f32, |most, value| most.max(value.abs()));
    let pairs = cpu.1.iter().zip(&gpu.1);
    let apart = pairs.fold(0.0_f32, |most, (a, b)| most.max((a - b).abs()));
    if cpu.1.len() != gpu.1.len() || largest == 0.0 {
        bail!("the device does not have the same gradients as the CPU");
    }
    Ok([((cpu.0 - gpu.0) / cpu.0).abs(), f64::from(apart / largest)])
}

struct Values {
    gradients: GradientsParams,
    found: Vec<f32>,
}

impl burn::module::ModuleVisitor for Values {
    fn visit_float<const D: usize>(
        &mut self,
        param: &burn::module::Param<burn::tensor::Tensor<D>>,
    ) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            self.found.extend(gradient.into_data().iter::<f32>());
        }
    }
}

fn with_lora(base: AutoModel) -> Result<LanguageModel> {
    let lora = LoraConfig::new()
        .with_r(8)
        .with_lora_alpha(16)
        .with_target_modules("all-linear");
    Ok(LanguageModel::from(get_peft_model(base, lora)?))
}

/// A model whose random weights are made on the device.
fn on_device(config: &str, dir: &Path, device: &Device) -> Result<AutoModel> {
    device.seed(42);
    let path = dir.join("config.json");
    std::fs::write(&path, config)?;
    Ok(match AutoConfig::from_file(&path)? {
        AutoConfig::Gpt2(config) => GPT2LMHeadModel::new(&config, device).into(),
        AutoConfig::Dense(config) => DenseForCausalLM::new(&config, device).into(),
        other => bail!("{} is not measured here", other.common().model_type),
    })
}

/// A model with random weights in files, the same on all devices.
fn folder_of(config: &str, dir: &Path) -> Result<String> {
    let path = dir.join("config.json");
    std::fs::write(&path, config)?;
    let config = AutoConfig::from_file(&path)?;
    let (folder, weights) = (dir.join("model"), config.initial_weights(42));
    save_model(&folder, &config.to_json(), weights, &SaveOptions::default())?;
    Ok(folder.display().to_string())
}

/// Rows of meaningless tokens.
fn write_rows(path: &Path, [_, seq]: [usize; 2], rows: usize, vocab: usize) -> Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for row in 0..rows {
        let ids: Vec<usize> = (0..seq)
            .map(|at| (row * 7919 + at * 104_729) % vocab)
            .collect();
        writeln!(file, "{}", serde_json::json!({ "input_ids": ids }))?;
    }
    Ok(file.flush()?)
}
