//! `load_best_model_at_end` and early stopping.

use crate::common::{Lab, with_keys};

/// The evaluations of a run: step and loss.
fn evaluations(lab: &Lab) -> Vec<(u64, f64)> {
    let entries = lab.metrics("out").into_iter();
    entries
        .filter_map(|entry| Some((entry["step"].as_u64()?, entry["eval_loss"].as_f64()?)))
        // The model before training is not a checkpoint.
        .filter(|(step, _)| *step > 0)
        .collect()
}

/// A run that learns a few sentences by heart, and is evaluated on another one.
fn overfit(lab: &Lab, more: &[&str]) -> String {
    lab.write(
        "other.jsonl",
        "{\"text\": \"the dog and the cat sat on a mat\"}\n",
    );
    let keys = [
        "data.validation=other.jsonl",
        "training.max_steps=60",
        "training.lr_scheduler_type=constant",
        "training.eval_strategy=steps",
        "training.eval_steps=2",
        "training.save_steps=4",
        "training.load_best_model_at_end=true",
    ];
    lab.ok(&with_keys("train.toml", &[&keys, more].concat()))
}

#[test]
fn the_best_checkpoint_is_kept_and_is_the_result() {
    let lab = Lab::new();
    let out = overfit(&lab, &["training.save_total_limit=1"]);
    let evaluations = evaluations(&lab);
    assert_eq!(evaluations.len(), 30);
    let saved = evaluations.iter().filter(|(step, _)| step % 4 == 0);
    let (best, loss) = saved.min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert!(*best < 60, "{evaluations:?}");
    let line = format!("the result is the best checkpoint, of step {best} (eval_loss {loss:.4})");
    assert!(out.contains(&line), "{out}");
    let mut checkpoints = lab.names("out");
    checkpoints.retain(|name| name.starts_with("checkpoint-"));
    assert_eq!(
        checkpoints,
        [format!("checkpoint-{best}"), "checkpoint-60".into()]
    );
    assert_eq!(
        lab.weights("out"),
        lab.weights(&format!("out/checkpoint-{best}"))
    );
    assert_ne!(lab.weights("out"), lab.weights("out/checkpoint-60"));
}

#[test]
fn a_run_out_of_patience_stops() {
    let lab = Lab::new();
    let out = overfit(&lab, &["training.early_stopping_patience=3"]);
    let evaluations = evaluations(&lab);
    let (last, _) = evaluations[evaluations.len() - 1];
    let line = format!("stopped at step {last}: 3 evaluations in a row were no better");
    assert!(last < 60 && out.contains(&line), "{out}");
    // The last three evaluations are no better than the best one before them, and no earlier three
    // in a row are.
    let worse: Vec<bool> = (0..evaluations.len())
        .map(|i| {
            evaluations[..i]
                .iter()
                .any(|(_, loss)| *loss <= evaluations[i].1)
        })
        .collect();
    let streaks: Vec<usize> = (0..worse.len())
        .filter(|&i| i >= 2 && worse[i - 2..=i].iter().all(|worse| *worse))
        .collect();
    assert_eq!(streaks, [worse.len() - 1], "{evaluations:?}");
}

#[test]
fn strategies_that_do_not_match_are_named() {
    let lab = Lab::new();
    lab.fails(
        &with_keys("train.toml", &["training.load_best_model_at_end=true"]),
        &["training.load_best_model_at_end needs evaluations and checkpoints at the same steps"],
    );
}
