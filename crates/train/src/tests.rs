//! Whole runs of a tiny GPT-2 on the CPU.

mod late;
mod ranks;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use burn::module::{Module, ModuleVisitor, Param};
use burn::optim::GradientsParams;
use burn::tensor::{Device, Tensor};
use burn::train::Learner;
use burn_peft::{LoraConfig, PeftModel, get_peft_model};
use burn_peft_data::{Example, Examples, Lm, Shape};
use burn_peft_models::{
    AutoModel, Decoder, GPT2LMHeadModel, Gpt2Config, LanguageModel, ModelConfig,
};
use serde_json::Value;

use crate::lock::lock;
use crate::run::backward::{Backward, backward};
use crate::run::loader::{Loader, Order};
use crate::run::state::Position;
use crate::run::step::Trainee;
use crate::*;
use burn::data::dataloader::DataLoader;

/// Burn's CPU backend has a single random number generator, so runs come one at a time.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static RUN: Mutex<()> = Mutex::new(());
    lock(&RUN)
}

fn gpt2(dropout: f64) -> AutoModel {
    let config = format!(
        r#"{{"model_type": "gpt2", "vocab_size": 23, "n_positions": 16, "n_embd": 16, "n_layer": 2,
            "n_head": 2, "initializer_range": 0.4, "resid_pdrop": {dropout}, "embd_pdrop": {dropout}, "attn_pdrop": {dropout}}}"#
    );
    let device = Device::flex();
    device.seed(1);
    // Drawn now instead of at the first use.
    let config = Gpt2Config::from_json(&config).unwrap();
    AutoModel::from(GPT2LMHeadModel::new(&config, &device)).valid()
}

pub(crate) type Lora = PeftModel<AutoModel>;

/// A run from the beginning, without validation.
pub(crate) fn trained<T: TrainTarget>(
    model: T,
    data: Examples,
    arguments: &TrainingArguments,
) -> Result<TrainOutcome<T>> {
    train(model, data, None, arguments, TrainOptions::default())
}

/// Loss and gradients of the first step over all of `data`, in batches of this size.
pub(crate) fn first_step(
    model: &Trainee<Lora>,
    objective: impl Objective<Lora> + 'static,
    data: Examples,
    batch_size: usize,
    order: Order,
) -> (f64, Vec<f32>) {
    let batches = data.len().div_ceil(batch_size);
    let loader = Loader::new(Arc::new(objective), Arc::new(data), batch_size, order).unwrap();
    let window = loader.iter().take(batches).map(std::result::Result::unwrap);
    let learner = Learner::new(model.clone(), adamw(&TrainingArguments::default()), 1.0);
    let Backward {
        mean_loss: loss,
        gradients,
        ..
    } = backward(&learner, window.collect(), 42, 0);
    (loss.into_scalar::<f64>(), flat(model, &gradients))
}

pub(crate) fn lora(dropout: f64) -> Lora {
    let config = LoraConfig::new()
        .with_r(4)
        .with_lora_alpha(16.0)
        .with_lora_dropout(dropout);
    get_peft_model(gpt2(dropout), config).unwrap()
}

/// Rows that count up by their step: 2, 4, 6, ….
pub(crate) fn examples(rows: usize) -> Examples {
    let row = |row: usize| {
        let ids = (0..4 + row % 5).map(|i| ((1 + row % 3) * (i + row)) as u32 % 23);
        let input_ids: Vec<u32> = ids.collect();
        let labels = input_ids.iter().map(|&id| i64::from(id)).collect();
        Example {
            input_ids,
            labels,
            row: row + 1,
        }
    };
    let rows: Vec<Example> = (0..rows).map(row).collect();
    Examples::new("rows.jsonl", Shape::Tokenized, &rows).unwrap()
}

pub(crate) fn arguments(dir: &Path) -> TrainingArguments {
    TrainingArguments {
        per_device_train_batch_size: 4,
        learning_rate: 1e-2,
        max_steps: 40,
        ..TrainingArguments::new(dir)
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.into_string().unwrap()).collect();
    names.sort();
    names
}

pub(crate) fn metrics(dir: &Path) -> Vec<Value> {
    let text = fs::read_to_string(dir.join(METRICS_NAME)).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[derive(Clone, Default)]
pub(crate) struct Screen(Arc<Mutex<Vec<u8>>>);

impl Screen {
    /// What was written.
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_run_learns_logs_evaluates_and_saves_the_adapter_alone() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("out");
    let data = examples(30);
    let arguments = TrainingArguments {
        warmup_steps: 4,
        eval_strategy: IntervalStrategy::Epoch,
        save_steps: 8,
        save_total_limit: Some(2),
        ..arguments(&dir)
    };
    let model = lora(0.0);
    let before = evaluate(&model, &data, 8, |_, _| ()).unwrap();
    let screen = Screen::default();
    let options = TrainOptions {
        renderer: Box::new(ProgressRenderer::to_writer(screen.clone(), 10)),
        ..TrainOptions::default()
    };
    let outcome = train(model, data.clone(), Some(data.clone()), &arguments, options).unwrap();
    let after = evaluate(&outcome.model, &data, 8, |_, _| ()).unwrap();
    assert!(after.loss() < 0.8 * before.loss(), "{before:?} {after:?}");
    let perplexity = after.get("perplexity").unwrap();
    assert!((perplexity - after.loss().exp()).abs() < 1e-9);
    assert_eq!(after.count(), data.supervised());
    let again = evaluate(&outcome.model, &data, 1, |_, _| ()).unwrap();
    assert!(
        (after.loss() - again.loss()).abs() < 1e-5,
        "padding changes nothing"
    );

    // 30 rows are 8 batches; 40 steps are 5 epochs.
    assert_eq!(
        (outcome.steps, outcome.epoch, outcome.interrupted),
        (40, 5.0, None)
    );
    assert_eq!(outcome.tokens, 5 * data.tokens());
    assert_eq!(outcome.evaluations.len(), 5);
    assert_eq!(outcome.evaluations[4].get("loss"), Some(after.loss()));

    let adapter = ["adapter_config.json", "adapter_model.safetensors"];
    let all = [
        &adapter[..],
        &[
            "checkpoint-32",
            "checkpoint-40",
            EVENTS_NAME,
            "metrics.jsonl",
        ],
    ]
    .concat();
    assert_eq!(names(&dir), all);
    let whole = [&adapter[..], &["optimizer.bpk", "trainer_state.toml"]].concat();
    assert_eq!(names(&dir.join("checkpoint-40")), whole);
    let read = |path: &str| fs::read(dir.join(path)).unwrap();
    assert_eq!(
        read(adapter[1]),
        read("checkpoint-40/adapter_model.safetensors")
    );
    assert_ne!(
        read(adapter[1]),
        read("checkpoint-32/adapter_model.safetensors")
    );
    let loaded = PeftModel::from_pretrained(gpt2(0.0), &dir, false).unwrap();
    assert_eq!(evaluate(&loaded, &data, 8, |_, _| ()).unwrap(), after);

    let metrics = metrics(&dir);
    let steps: Vec<_> = metrics
        .iter()
        .map(|entry| entry["step"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [8, 10, 16, 20, 24, 30, 32, 40, 40]);
    let last = &metrics[7];
    assert_eq!(
        (
            last["epoch"].as_f64(),
            last["num_input_tokens_seen"].as_u64()
        ),
        (Some(5.0), Some(outcome.tokens as u64))
    );
    // The last of 36 steps down from 1e-2.
    assert!((last["learning_rate"].as_f64().unwrap() - 1e-2 / 36.0).abs() < 1e-12);
    assert!(last["grad_norm"].as_f64().unwrap() > 0.0);
    assert!(last["tokens_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(metrics[8]["eval_loss"].as_f64(), Some(after.loss()));
    let logged: f64 = metrics
        .iter()
        .filter_map(|entry| entry["loss"].as_f64())
        .sum();
    assert!(
        (logged / 4.0 - outcome.train_loss).abs() < 1e-9,
        "means of ten steps each"
    );

    let screen = screen.text();
    let lines: Vec<&str> = screen.lines().collect();
    assert_eq!(lines.len(), 4 + 5, "{screen}");
    let loss = last["loss"].as_f64().unwrap();
    assert!(
        lines[7].starts_with(&format!(
            "step 40/40  epoch 5.00  loss {loss:.4}  learning_rate 2.78e-4  "
        )),
        "{screen}"
    );
    assert_eq!(
        lines[8].split("  in 0:0").next().unwrap(),
        format!(
            "step 40/40  eval_loss {:.4}  eval_perplexity {:.2}",
            after.loss(),
            perplexity
        )
    );
}

#[test]
fn a_seed_gives_the_same_run_bit_for_bit() {
    let _alone = alone();
    let run = |seed| {
        let dir = tempfile::tempdir().unwrap();
        let arguments = TrainingArguments {
            max_steps: 6,
            logging_steps: 1,
            gradient_accumulation_steps: 2,
            seed,
            ..arguments(dir.path())
        };
        let outcome = trained(lora(0.1), examples(10), &arguments).unwrap();
        let losses = metrics(dir.path())
            .iter()
            .map(|entry| entry["loss"].to_string())
            .collect::<Vec<_>>();
        let adapter = fs::read(dir.path().join("adapter_model.safetensors")).unwrap();
        (losses, outcome.train_loss, adapter)
    };
    assert!(run(42) == run(42));
    assert_ne!(run(42).0, run(43).0);
}

#[test]
fn accumulated_gradients_are_those_of_one_big_batch() {
    let _alone = alone();
    let model = Trainee::new(lora(0.0).train(), false);
    let gradients = |batch_size: usize| {
        let order = Order::Shuffled {
            seed: 42,
            start: Position::default(),
        };
        first_step(&model, Lm, examples(7), batch_size, order)
    };
    let (big_loss, big) = gradients(7);
    assert!(big.iter().any(|value| value.abs() > 1e-3));
    for batch_size in [1, 2, 3] {
        let (loss, found) = gradients(batch_size);
        assert!((loss - big_loss).abs() < 1e-5, "{loss} {big_loss}");
        assert_eq!(found.len(), big.len());
        for (a, b) in found.iter().zip(&big) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }
}

/// All gradients, concatenated.
pub(crate) fn flat(model: &impl Module, gradients: &GradientsParams) -> Vec<f32> {
    struct Flat<'a>(&'a GradientsParams, Vec<f32>);
    impl ModuleVisitor for Flat<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                self.1.extend(gradient.into_data().iter::<f32>());
            }
        }
    }
    let mut flat = Flat(gradients, Vec::new());
    model.visit(&mut flat);
    flat.1
}

#[test]
fn a_loss_that_is_no_number_stops_with_step_and_rows() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let arguments = TrainingArguments {
        learning_rate: 1e30,
        max_grad_norm: 0.0,
        save_steps: 1,
        ..arguments(dir.path())
    };
    let error = trained(lora(0.0), examples(4), &arguments);
    let error = error.unwrap_err().to_string();
    assert!(error.contains("at step 2, with rows "), "{error}");
    assert!(
        error.contains(" of rows.jsonl; the last good checkpoint is ")
            && error.contains("checkpoint-1"),
        "{error}"
    );
    assert!(!dir.path().join("adapter_model.safetensors").exists());
}

#[test]
fn tensors_that_do_not_learn_stop_the_first_step() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let mut model = lora(0.0);
    model.disable_adapter_layers();
    let error = trained(model, examples(4), &arguments(dir.path()));
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("h.0.attn.c_attn.lora_B.default.weight (no gradient)"),
        "{error}"
    );
}

#[test]
fn an_interrupted_run_writes_what_it_has() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let options = TrainOptions::default();
    options.interrupter.stop(Some("Ctrl-C"));
    let outcome = train(
        lora(0.0),
        examples(4),
        None,
        &arguments(dir.path()),
        options,
    )
    .unwrap();
    assert_eq!(
        (outcome.steps, outcome.interrupted.as_deref()),
        (0, Some("Ctrl-C"))
    );
    assert_eq!(
        names(dir.path()),
        [
            "adapter_config.json",
            "adapter_model.safetensors",
            EVENTS_NAME,
            "metrics.jsonl"
        ]
    );
}

#[test]
fn all_weights_can_be_trained_and_are_saved() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let arguments = TrainingArguments {
        max_steps: 10,
        save_strategy: IntervalStrategy::No,
        ..arguments(dir.path())
    };
    let data = examples(8);
    let model = LanguageModel::from(gpt2(0.0));
    let before = evaluate(&model, &data, 8, |_, _| ()).unwrap();
    let outcome = trained(model, data.clone(), &arguments).unwrap();
    assert!(
        evaluate(&outcome.model, &data, 8, |_, _| ())
            .unwrap()
            .loss()
            < 0.9 * before.loss()
    );
    assert_eq!(
        names(dir.path()),
        [
            "config.json",
            EVENTS_NAME,
            "metrics.jsonl",
            "model.safetensors"
        ]
    );
}

#[test]
fn evaluations_need_something_to_evaluate_on() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = TrainingArguments {
        eval_strategy: IntervalStrategy::Steps,
        ..arguments(dir.path())
    };
    let error = trained(lora(0.0), examples(4), &arguments);
    assert!(
        error
            .unwrap_err()
            .to_string()
            .starts_with("training.eval_strategy asks for")
    );
}
