//! An objective other than a language model's goes through loader, step, evaluation and resumption.

mod row_class;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use burn::module::Module;
use burn_peft_data::{
    DataConfig, DataSet, Example, Examples, IGNORE_INDEX, Limits, Shape, train_bpe,
};

use self::row_class::{MEASURES, RowClass};
use crate::run::loader::Order;
use crate::run::state::Position;
use crate::run::step::Trainee;
use crate::tests::{Screen, alone, arguments, first_step, lora, metrics, trained};
use crate::*;

fn objective() -> RowClass {
    let classes = ["even", "odd"].map(String::from).to_vec();
    RowClass { classes }
}

/// Rows of 3 to 7 tokens, which are of the class `odd` if their last token is odd.
fn examples(rows: usize) -> Examples {
    let row = |row: usize| {
        let input_ids: Vec<u32> = (0..3 + row % 5)
            .map(|i| (2 + (row * 7 + i * 5) % 21) as u32)
            .collect();
        let mut labels = vec![IGNORE_INDEX; input_ids.len()];
        labels[0] = i64::from(input_ids[input_ids.len() - 1] % 2);
        Example {
            input_ids,
            labels,
            row: row + 1,
        }
    };
    let rows: Vec<Example> = (0..rows).map(row).collect();
    Examples::of_task(&objective(), "rows.jsonl", Shape::Tokenized, &rows).unwrap()
}

fn run(
    dir: &Path,
    steps: i64,
    resume: Option<&Path>,
) -> (TrainOutcome<crate::tests::Lora>, String) {
    let arguments = TrainingArguments {
        max_steps: steps,
        learning_rate: 2e-2,
        gradient_accumulation_steps: 2,
        eval_strategy: IntervalStrategy::Steps,
        eval_steps: Some(10),
        save_steps: 10,
        load_best_model_at_end: true,
        metric_for_best_model: BestMetric::new(&MEASURES.metrics[1]),
        ..arguments(dir)
    };
    let screen = Screen::default();
    let renderer = ProgressRenderer::to_writer(screen.clone(), 10).with_measures(&MEASURES);
    let options = TrainOptions {
        renderer: Box::new(renderer),
        resume: resume.map(Path::to_path_buf),
        ..TrainOptions::default()
    };
    let (data, objective) = (examples(24), Arc::new(objective()));
    let outcome = train_with(
        objective,
        lora(0.1),
        data.clone(),
        Some(data),
        &arguments,
        options,
    );
    (outcome.unwrap(), screen.text())
}

#[test]
fn a_run_learns_classes_shows_its_metrics_and_keeps_the_best() {
    let _alone = alone();
    let dir = tempfile::tempdir().unwrap();
    let data = examples(24);
    let before = evaluate_with(&objective(), &lora(0.0), &data, 5, |_, _| ()).unwrap();
    assert_eq!(before.count(), 24);
    let (outcome, screen) = run(dir.path(), 30, None);
    let after = evaluate_with(&objective(), &outcome.model, &data, 24, |_, _| ()).unwrap();
    let accuracy = after.get("accuracy").unwrap();
    assert!(accuracy > before.get("accuracy").unwrap() && accuracy > 0.8);
    assert!(after.get("perplexity").is_none());
    assert_eq!(
        after.to_string(),
        format!(
            "loss {:.4}  accuracy {accuracy:.3}  (24 examples)",
            after.loss()
        )
    );

    let logged: Vec<f64> = metrics(dir.path())
        .iter()
        .filter_map(|entry| entry["eval_accuracy"].as_f64())
        .collect();
    assert_eq!(logged.len(), 3);
    // Higher is better, although `greater_is_better` is not set.
    let best = logged.iter().copied().fold(0.0, f64::max);
    assert_eq!(outcome.best.best_checkpoint.unwrap().metric, best);
    assert!((accuracy - best).abs() < 1e-9, "{accuracy} {logged:?}");
    let shown = format!("eval_accuracy {:.3}  in ", logged[2]);
    assert!(screen.contains(&shown), "{shown} is not in {screen}");

    let report = Report {
        measures: &MEASURES,
        after_step: 30,
        ..Report::default()
    };
    let page = fs::read_to_string(report.save(dir.path()).unwrap()).unwrap();
    assert!(page.contains("loss (nats per example)<th class=\"number\">accuracy"));
    assert!(!page.contains("perplexity"));
}

#[test]
fn a_run_goes_on_bit_for_bit() {
    let _alone = alone();
    let [whole, again] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    run(whole.path(), 30, None);
    run(again.path(), 30, Some(&whole.path().join("checkpoint-10")));
    let weights =
        |dir: &Path| fs::read(dir.join("checkpoint-30/adapter_model.safetensors")).unwrap();
    assert!(weights(whole.path()) == weights(again.path()));
}

#[test]
fn a_step_is_a_mean_over_examples() {
    let _alone = alone();
    let model = Trainee::new(lora(0.0).train(), false);
    let step = |batch_size: usize| {
        let order = Order::Sequential {
            start: Position::default(),
        };
        first_step(&model, objective(), examples(6), batch_size, order)
    };
    let (loss, gradients) = step(6);
    let evaluation = evaluate_with(&objective(), &lora(0.0), &examples(6), 6, |_, _| ()).unwrap();
    assert!((loss - evaluation.loss()).abs() < 1e-5);
    assert!(gradients.iter().any(|value| value.abs() > 1e-3));
    for batch_size in [1, 2, 3] {
        let (other, found) = step(batch_size);
        assert!((other - loss).abs() < 1e-5, "{other} {loss}");
        assert!(
            found
                .iter()
                .zip(&gradients)
                .all(|(a, b)| (a - b).abs() < 1e-5)
        );
    }
}

#[test]
fn rows_of_a_file_become_what_the_task_makes_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.jsonl");
    let tokenizer = train_bpe(["two three"], 300).unwrap();
    let load = |rows: &str| {
        fs::write(&file, rows).unwrap();
        let mut config = DataConfig::new(file.display().to_string());
        config.cache_dir = Some(dir.path().join("cache"));
        let limits = Limits {
            max_positions: 16,
            positions_key: "n_positions",
            has_last_position: true,
            adapter_positions: 0,
            vocab_size: 300,
        };
        let tokenizer = Some(&tokenizer);
        DataSet::load_with(&config, tokenizer, limits, 42, &|_| Ok(None), &objective())
    };
    let rows = "{\"prompt\": \"two\", \"completion\": \"even\"}\n\
                {\"prompt\": \"three\", \"completion\": \"odd\"}\n";
    let data = load(rows).unwrap().train;
    assert_eq!((data.len(), data.supervised()), (2, 2));
    let batch = data.batch(&[0, 1]);
    let classes: Vec<i64> = batch.example_labels().map(|labels| labels[0]).collect();
    assert_eq!(classes, [0, 1]);
    let error = load("{\"prompt\": \"two\", \"completion\": \"green\"}").unwrap_err();
    let error = error.to_string();
    assert!(
        error.ends_with("a.jsonl line 1 is of an unknown class: green"),
        "{error}"
    );
}

#[test]
fn what_the_best_is_chosen_by_has_to_be_measured() {
    let dir = tempfile::tempdir().unwrap();
    let arguments = TrainingArguments {
        metric_for_best_model: BestMetric::new(&MEASURES.metrics[1]),
        ..arguments(dir.path())
    };
    let error = trained(lora(0.0), examples(4), &arguments);
    assert_eq!(
        error.unwrap_err().to_string(),
        "training.metric_for_best_model is \"accuracy\", which is not measured; measured: loss, \
         perplexity"
    );
}

/// The code shown in `docs/adding-an-objective.md` is the code that is tested here.
#[test]
fn the_page_on_objectives_has_this_objective() {
    let page = include_str!("../../../../../docs/adding-an-objective.md");
    assert!(page.contains(include_str!("row_class.rs").trim()));
}
