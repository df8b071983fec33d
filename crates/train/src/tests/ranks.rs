//! Several ranks against one process: how rows are distributed changes nothing.

use std::path::PathBuf;

use burn_peft::methods::AdaLoraConfig;
use tempfile::TempDir;

use super::*;

/// A run with 12 rows in a batch on this many ranks.
struct Ranks<'a> {
    size: usize,
    accumulates: bool,
    /// Whether it evaluates and saves every 5 steps, at a learning rate that is too high, and ends
    /// with the best checkpoint.
    keeps_best: bool,
    model: &'a dyn Fn() -> Lora,
    data: &'a Examples,
    resume: Option<PathBuf>,
    /// The rank that is told to stop before it begins.
    stopped: Option<usize>,
}

impl<'a> Ranks<'a> {
    fn new(size: usize, model: &'a dyn Fn() -> Lora, data: &'a Examples) -> Self {
        Self {
            size,
            accumulates: false,
            keeps_best: false,
            model,
            data,
            resume: None,
            stopped: None,
        }
    }

    fn run(self) -> (TempDir, Vec<TrainOutcome<Lora>>) {
        let rows = 12 / self.size;
        self.run_with(rows)
    }

    /// Runs the ranks, each in a thread with its share of the rows; returns what the first one
    /// leaves, and all results.
    fn run_with(self, rows: usize) -> (TempDir, Vec<TrainOutcome<Lora>>) {
        let dir = tempfile::tempdir().unwrap();
        let parts = if self.accumulates { 3 } else { 1 };
        let arguments = TrainingArguments {
            per_device_train_batch_size: rows / parts,
            gradient_accumulation_steps: parts,
            per_device_eval_batch_size: 4,
            max_steps: 50,
            learning_rate: 2e-3,
            logging_steps: 1,
            eval_strategy: IntervalStrategy::Epoch,
            save_steps: 20,
            ..arguments(dir.path())
        };
        let arguments = if self.keeps_best {
            TrainingArguments {
                learning_rate: 1e-1,
                eval_strategy: IntervalStrategy::Steps,
                eval_steps: Some(5),
                save_steps: 5,
                load_best_model_at_end: true,
                ..arguments
            }
        } else {
            arguments
        };
        // One after the other, because they share a random number generator.
        let models: Vec<Lora> = (0..self.size).map(|_| (self.model)()).collect();
        let outcomes = std::thread::scope(|scope| {
            let ranks = threads(self.size).into_iter().zip(models);
            let ranks = ranks.map(|(exchange, model)| {
                let options = TrainOptions {
                    resume: self.resume.clone(),
                    ..TrainOptions::default()
                };
                if self.stopped == Some(exchange.rank()) {
                    options.interrupter.stop(Some("a signal"));
                }
                let data = self.data.clone();
                let mut arguments = arguments.clone();
                if exchange.rank() > 0 {
                    // Only the first rank sees it.
                    arguments.output_dir = "/nowhere".into();
                }
                scope.spawn(move || {
                    let options = TrainOptions {
                        exchange: Arc::new(exchange),
                        ..options
                    };
                    train(model, data.clone(), Some(data), &arguments, options).unwrap()
                })
            });
            let ranks: Vec<_> = ranks.collect();
            let ranks = ranks.into_iter().map(|rank| rank.join().unwrap());
            ranks.collect::<Vec<_>>()
        });
        (dir, outcomes)
    }
}

/// Compares the logs of two runs, to a millionth.
fn same(one: &Path, other: &Path) {
    let [one, other] = [one, other].map(metrics);
    assert_eq!(one.len(), other.len());
    for (one, other) in one.iter().zip(&other) {
        for key in ["step", "num_input_tokens_seen"] {
            assert_eq!(one[key], other[key]);
        }
        for key in ["loss", "eval_loss"] {
            let [at, other_at] = [one, other].map(|of| of[key].as_f64().unwrap_or_default());
            let near = (at - other_at).abs() <= 1e-6 * at.abs().max(1.0);
            assert!(near, "{key} of step {}: {at} and {other_at}", one["step"]);
        }
    }
}

/// Runs that should equal that of one process with 12 rows, whose last batch has fewer.
fn all_are_one(model: &dyn Fn() -> Lora, data: &Examples, accumulation_too: bool) {
    let (one, alone) = Ranks::new(1, model, data).run();
    for size in [2, 3] {
        let (dir, outcomes) = Ranks::new(size, model, data).run();
        same(one.path(), dir.path());
        for outcome in &outcomes {
            assert_eq!(outcome.steps, 50);
            assert_eq!(outcome.train_loss, outcomes[0].train_loss);
            assert_eq!(outcome.tokens, alone[0].tokens);
        }
    }
    if accumulation_too {
        let mut accumulated = Ranks::new(1, model, data);
        accumulated.accumulates = true;
        same(one.path(), accumulated.run().0.path());
    }
}

#[test]
fn ranks_train_as_one_process_does() {
    let _alone = alone();
    all_are_one(&|| lora(0.1), &examples(29), true);
}

#[test]
fn ranks_share_packed_rows() {
    let _alone = alone();
    all_are_one(&|| lora(0.1), &examples(60).packed(15), false);
}

#[test]
fn ranks_of_adalora_have_the_same_ranks() {
    let _alone = alone();
    let model = || {
        let config = AdaLoraConfig {
            init_r: 4,
            target_r: 2,
            tinit: 5,
            tfinal: 20,
            delta_t: 2,
            total_step: Some(50),
            lora_dropout: 0.1,
            ..AdaLoraConfig::default()
        };
        get_peft_model(gpt2(0.1), config).unwrap()
    };
    all_are_one(&model, &examples(29), true);
}

#[test]
fn an_evaluation_is_that_of_one_process_to_the_last_bit() {
    let _alone = alone();
    let (data, models) = (examples(29), [(); 3].map(|()| lora(0.0)));
    let expected = evaluate(&models[0], &data, 4, |_, _| ()).unwrap();
    std::thread::scope(|scope| {
        for (exchange, model) in threads(3).into_iter().zip(models) {
            let (data, expected) = (&data, &expected);
            scope.spawn(move || {
                let found = evaluate_shared(&exchange, &Lm, &model, data, 4, |_, _| ()).unwrap();
                assert_eq!(&found, expected);
            });
        }
    });
}

#[test]
fn more_or_fewer_ranks_go_on_with_a_run() {
    let _alone = alone();
    let (model, data) = (|| lora(0.1), examples(29));
    let (whole, _) = Ranks::new(2, &model, &data).run();
    let from = whole.path().join("checkpoint-20");
    for size in [1, 2, 3] {
        let again = Ranks {
            resume: Some(from.clone()),
            // The file says the same as before: 6 rows for each rank.
            ..Ranks::new(2, &model, &data)
        };
        let (dir, outcomes) = Ranks { size, ..again }.run_with(6);
        same(whole.path(), dir.path());
        assert_eq!(outcomes.len(), size);
        let weights = |dir: &Path| fs::read(dir.join("adapter_model.safetensors")).unwrap();
        if size == 2 {
            assert!(weights(dir.path()) == weights(whole.path()));
        }
    }
}

#[test]
fn all_end_with_the_best_checkpoint() {
    let _alone = alone();
    let (model, data) = (|| lora(0.1), examples(29));
    let ranks = Ranks {
        keeps_best: true,
        ..Ranks::new(2, &model, &data)
    };
    let (dir, outcomes) = ranks.run();
    let best = outcomes[0].best.checkpoint().unwrap();
    let kept = fs::read(dir.path().join("adapter_model.safetensors")).unwrap();
    let best = dir.path().join(format!("checkpoint-{best}"));
    assert!(kept == fs::read(best.join("adapter_model.safetensors")).unwrap());
    let evaluations = outcomes.iter().map(|outcome| {
        let result = evaluate(&outcome.model, &data, 4, |_, _| ()).unwrap();
        result.loss()
    });
    let evaluations: Vec<f64> = evaluations.collect();
    assert_eq!(evaluations[0], evaluations[1]);
    let logged = outcomes[0].best.best_metric.unwrap();
    assert_eq!(evaluations[0], logged);
}

#[test]
fn all_stop_after_the_same_step_where_one_is_told_to() {
    let _alone = alone();
    let (model, data) = (|| lora(0.0), examples(29));
    let ranks = Ranks {
        stopped: Some(1),
        ..Ranks::new(3, &model, &data)
    };
    let (dir, outcomes) = ranks.run();
    for outcome in &outcomes {
        assert_eq!(outcome.steps, 1);
        assert!(outcome.interrupted.is_some());
    }
    assert!(dir.path().join("checkpoint-1/optimizer.bpk").is_file());
}

/// The errors of two ranks with a model, data, validation data and a learning rate each.
fn said_of<'a>(
    of: impl Fn(usize) -> (Lora, &'a Examples, &'a Examples, f64),
    resume: Option<[&Path; 2]>,
) -> [String; 2] {
    let dir = tempfile::tempdir().unwrap();
    let before = dir.path().join("metrics.jsonl");
    fs::write(&before, "of before").unwrap();
    let own = [0, 1].map(&of);
    let said = std::thread::scope(|scope| {
        let ranks = threads(2).into_iter().zip(own);
        let ranks = ranks.map(|(exchange, (model, data, validation, learning_rate))| {
            let rank = exchange.rank();
            let arguments = TrainingArguments {
                learning_rate,
                ..arguments(dir.path())
            };
            let options = TrainOptions {
                resume: resume.map(|of| of[rank].to_path_buf()),
                exchange: Arc::new(exchange),
                ..TrainOptions::default()
            };
            let (data, validation) = (data.clone(), Some(validation.clone()));
            scope.spawn(move || {
                let outcome = train(model, data, validation, &arguments, options);
                outcome.map_or_else(|error| error.to_string(), |_| String::new())
            })
        });
        let ranks: Vec<_> = ranks.collect();
        let mut said = ranks.into_iter().map(|rank| rank.join().unwrap());
        [0, 1].map(|_| said.next().unwrap())
    });
    assert_eq!(fs::read_to_string(&before).unwrap(), "of before");
    said
}

#[test]
fn ranks_that_differ_end_before_anything_is_written() {
    let _alone = alone();
    let (data, other) = (examples(29), examples(30));
    let of = |what: &'static str| {
        let (data, other) = (&data, &other);
        move |rank: usize| {
            let differs = |it: &str| rank == 1 && what == it;
            let pick = |it: &str| if differs(it) { other } else { data };
            let base = if differs("model") {
                gpt2(0.1)
            } else {
                gpt2(0.0)
            };
            let model = get_peft_model(base, LoraConfig::new().with_r(4)).unwrap();
            let rate = if differs("rate") { 2e-2 } else { 1e-2 };
            (model, pick("data"), pick("validation"), rate)
        }
    };
    for (what, expected) in [
        (
            "rate",
            "another training.learning_rate than that of rank 0: 0.02, not 0.01; give",
        ),
        (
            "model",
            "another model's config.json than that of rank 0: BLAKE3 ",
        ),
        (
            "data",
            "other training data than that of rank 0: 30 examples of ",
        ),
        (
            "validation",
            "other validation data than that of rank 0: 30 examples of ",
        ),
    ] {
        for said in said_of(of(what), None) {
            assert!(said.starts_with("rank 1 of 2 on this host has "), "{said}");
            assert!(said.contains(expected), "{said}");
        }
    }

    // Of the same shape, with other weights.
    let of = |rank: usize| {
        let base = gpt2(0.0);
        let base = if rank == 1 {
            base.map(&mut Twice)
        } else {
            base
        };
        let model = get_peft_model(base, LoraConfig::new().with_r(4)).unwrap();
        (model, &data, &data, 1e-2)
    };
    for said in said_of(of, None) {
        assert!(
            said.contains("has another model than that of rank 0: BLAKE3 "),
            "{said}"
        );
    }
}

/// Makes every weight twice as large.
struct Twice;

impl burn::module::ModuleMapper for Twice {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| tensor * 2.0)
    }
}

#[test]
fn a_rank_with_an_older_checkpoint_of_the_same_step_is_named() {
    let _alone = alone();
    let data = examples(29);
    let folders = [3, 4].map(|seed| {
        let dir = tempfile::tempdir().unwrap();
        let arguments = TrainingArguments {
            seed,
            save_steps: 20,
            ..arguments(dir.path())
        };
        train(
            lora(0.0),
            data.clone(),
            None,
            &arguments,
            TrainOptions::default(),
        )
        .unwrap();
        dir
    });
    let paths = [0, 1].map(|rank| folders[rank].path().join("checkpoint-20"));
    let of = |_| (lora(0.0), &data, &data, 1e-2);
    for said in said_of(of, Some([&paths[0], &paths[1]])) {
        let expected = "has another checkpoint of step 20 than that of rank 0: BLAKE3 ";
        assert!(said.contains(expected), "{said}");
    }
}
