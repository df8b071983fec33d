use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn_peft_data::{Example, Examples, Shape};

use crate::checkpoint::checkpoints::list;
use crate::exchange::threads::{Threads, threads};
use crate::tests::{Lora, alone, arguments, examples, lora, metrics};
use crate::*;

/// What ranks of this number come to, each in a thread; `model` is the same for all. What each has
/// given into exchanges comes with it.
fn together(
    size: usize,
    model: &Lora,
    arguments: &TrainingArguments,
    distributed: &DistributedConfig,
    resume: Option<&Path>,
) -> Vec<(Vec<u8>, u64)> {
    on(&examples(30), size, model, arguments, distributed, resume)
}

fn on(
    rows: &Examples,
    size: usize,
    model: &Lora,
    arguments: &TrainingArguments,
    distributed: &DistributedConfig,
    resume: Option<&Path>,
) -> Vec<(Vec<u8>, u64)> {
    let run = |exchange: Threads| {
        let exchange = Arc::new(exchange);
        let options = TrainOptions {
            exchange: Arc::clone(&exchange) as Arc<dyn Exchange>,
            distributed: distributed.clone(),
            resume: resume.map(Path::to_path_buf),
            ..TrainOptions::default()
        };
        let outcome = train(
            model.clone(),
            rows.clone(),
            Some(examples(6)),
            arguments,
            options,
        );
        let outcome = outcome.unwrap();
        let dir = tempfile::tempdir().unwrap();
        outcome.model.save(dir.path()).unwrap();
        let bytes = fs::read(dir.path().join("adapter_model.safetensors")).unwrap();
        (bytes, exchange.bytes())
    };
    std::thread::scope(|scope| {
        let ranks = threads(size).into_iter();
        let ranks: Vec<_> = ranks.map(|rank| scope.spawn(|| run(rank))).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    })
}

fn local_steps(steps: usize) -> DistributedConfig {
    DistributedConfig {
        local_steps: Some(steps),
        ..DistributedConfig::default()
    }
}

fn floats(file: &[u8]) -> Vec<f32> {
    let header = u64::from_le_bytes(file[..8].try_into().unwrap()) as usize;
    let (values, _) = file[8 + header..].as_chunks::<4>();
    values
        .iter()
        .map(|value| f32::from_le_bytes(*value))
        .collect()
}

#[test]
fn the_mean_after_every_step_of_plain_descent_is_the_step_of_all() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let model = lora(0.0);
    // Of one length, so that the means of all ranks count for as much.
    let row = |row: usize| Example {
        input_ids: (0..6).map(|i| (row + 2 * i) as u32 % 23).collect(),
        labels: (0..6).map(|i| (row + 2 * i) as i64 % 23).collect(),
        row: row + 1,
    };
    let rows: Vec<Example> = (0..30).map(row).collect();
    let rows = Examples::new("rows.jsonl", Shape::Tokenized, &rows).unwrap();
    let arguments = TrainingArguments {
        optim: OptimizerName::Sgd,
        per_device_train_batch_size: 1,
        train_sampling_strategy: SamplingStrategy::Sequential,
        max_grad_norm: 0.0,
        max_steps: 6,
        ..arguments(&dir.path().join("out"))
    };
    let each = on(
        &rows,
        2,
        &model,
        &arguments,
        &DistributedConfig::default(),
        None,
    );
    let mean = DistributedConfig {
        outer_lr: Some(1.0),
        outer_momentum: Some(0.0),
        ..local_steps(1)
    };
    let local = on(&rows, 2, &model, &arguments, &mean, None);
    assert_eq!(local[0].0, local[1].0);
    let (each, local) = (floats(&each[0].0), floats(&local[0].0));
    let far = each.iter().zip(&local).map(|(a, b)| (a - b).abs());
    let far = far.fold(0.0, f32::max);
    assert!(far < 1e-6, "{far}");
}

#[test]
fn few_exchanges_learn_and_give_little() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let model = lora(0.0);
    let arguments = |name: &str| TrainingArguments {
        per_device_train_batch_size: 2,
        max_steps: 60,
        ..arguments(&dir.path().join(name))
    };
    let loss = |name: &str| {
        let logged = metrics(&dir.path().join(name));
        logged.last().unwrap()["loss"].as_f64().unwrap()
    };
    let each = together(
        2,
        &model,
        &arguments("each"),
        &DistributedConfig::default(),
        None,
    );
    let local = together(2, &model, &arguments("local"), &local_steps(20), None);
    assert_eq!(
        local[0].0, local[1].0,
        "all ranks end with the same weights"
    );
    assert!(
        loss("local") < 1.2 * loss("each") + 0.1,
        "{} {}",
        loss("local"),
        loss("each")
    );
    let (each, local) = (each[1].1, local[1].1);
    assert!(local * 10 < each, "{local} of {each} bytes");
}

#[test]
fn a_run_goes_on_in_the_middle_between_two_exchanges_bit_for_bit() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let model = lora(0.1);
    let arguments = |name: &str, steps| TrainingArguments {
        per_device_train_batch_size: 2,
        max_steps: steps,
        lr_scheduler_type: SchedulerType::Constant,
        warmup_steps: 0,
        eval_strategy: IntervalStrategy::Steps,
        eval_steps: Some(5),
        save_steps: 7,
        logging_steps: 1,
        ..arguments(&dir.path().join(name))
    };
    let whole = together(2, &model, &arguments("whole", 21), &local_steps(4), None);
    let checkpoint = dir.path().join("whole/checkpoint-7");
    assert!(checkpoint.join("rank-1.bpk").is_file());
    let rest = together(
        2,
        &model,
        &arguments("rest", 21),
        &local_steps(4),
        Some(&checkpoint),
    );
    assert_eq!(rest[0].0, whole[0].0);
    assert_eq!(rest[1].0, whole[1].0);
    // Counted on from the checkpoint; the weights were handed out twice.
    assert!(rest[0].1 > whole[0].1, "{} {}", rest[0].1, whole[0].1);
    for file in [
        "adapter_model.safetensors",
        "outer.bpk",
        "rank-0.bpk",
        "rank-1.bpk",
    ] {
        let [a, b] = ["whole", "rest"]
            .map(|run| fs::read(dir.path().join(run).join("checkpoint-14").join(file)).unwrap());
        assert!(a == b, "{file}");
    }
    // A checkpoint has the weights of the last exchange, and goes on with another number of ranks.
    let more = together(
        3,
        &model,
        &arguments("more", 21),
        &local_steps(4),
        Some(&checkpoint),
    );
    assert_eq!(more[0].0, more[2].0);
    assert_eq!(list(&dir.path().join("more")).unwrap().len(), 2);
}

#[test]
fn a_rank_that_ends_ends_the_others() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let arguments = arguments(&dir.path().join("out"));
    let mut ranks = threads(2);
    drop(ranks.pop());
    let options = TrainOptions {
        exchange: Arc::new(ranks.remove(0)),
        ..TrainOptions::default()
    };
    let error = train(lora(0.0), examples(30), None, &arguments, options).unwrap_err();
    assert!(matches!(error, TrainError::Exchange(_)), "{error}");
}
