//! Numbers that are read late, as on a GPU, equal those that are read in every step.

use tempfile::TempDir;

use super::*;
use crate::run::training_loop::done::forced::late;

/// A run that logs every 4 steps, with gradients that are clipped.
fn run(
    change: impl FnOnce(TrainingArguments) -> TrainingArguments,
    resume: Option<&Path>,
) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let arguments = change(TrainingArguments {
        max_steps: 14,
        logging_steps: 4,
        max_grad_norm: 0.1,
        ..arguments(dir.path())
    });
    let options = TrainOptions {
        resume: resume.map(Path::to_path_buf),
        ..TrainOptions::default()
    };
    train(lora(0.1), examples(60), None, &arguments, options).unwrap();
    dir
}

/// The same steps with the same numbers, except for times and memory.
fn assert_same(found: &Path, expected: &Path) {
    let (found, expected) = (metrics(found), metrics(expected));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        let (found, expected) = (found.as_object().unwrap(), expected.as_object().unwrap());
        assert!(found.keys().eq(expected.keys()), "{found:?}");
        for (key, expected) in expected {
            let found = &found[key];
            match (found.as_f64(), expected.as_f64()) {
                _ if ["tokens_per_second", "peak_memory_bytes"].contains(&key.as_str()) => {}
                // The gradients were clipped by a factor in 32 bits instead of 64.
                (Some(a), Some(b)) => assert!((a - b).abs() <= 1e-5 * b.abs(), "{key}: {a}, {b}"),
                _ => assert_eq!(found, expected, "{key}"),
            }
        }
    }
}

#[test]
fn metrics_are_the_same() {
    let _alone = alone();
    let expected = run(|arguments| arguments, None);
    let (found, most) = late(|| run(|arguments| arguments, None));
    assert_eq!(most, 4);
    assert_eq!(metrics(found.path()).len(), 4);
    assert_same(found.path(), expected.path());
}

#[test]
fn a_loss_that_is_no_number_has_its_step_and_rows() {
    let _alone = alone();
    let run = || {
        let dir = tempfile::tempdir().unwrap();
        let arguments = TrainingArguments {
            learning_rate: 1e30,
            max_grad_norm: 0.0,
            save_steps: 10,
            logging_steps: 5,
            ..arguments(dir.path())
        };
        let options = TrainOptions::default();
        let error = train(lora(0.0), examples(60), None, &arguments, options);
        assert!(!dir.path().join("adapter_model.safetensors").exists());
        error.unwrap_err().to_string()
    };
    let expected = run();
    let (found, most) = late(run);
    assert_eq!(most, 5);
    assert!(found.contains("at step 2, with rows "), "{found}");
    assert_eq!(found, expected);
}

/// A checkpoint between two readings has all numbers up to its step, and a run can resume from it
/// with either way of reading.
#[test]
fn a_checkpoint_between_two_readings_is_whole() {
    let _alone = alone();
    let saving = |arguments| TrainingArguments {
        save_steps: 6,
        ..arguments
    };
    let expected = run(saving, None);
    let (found, _) = late(|| run(saving, None));
    assert_same(found.path(), expected.path());
    let from = found.path().join("checkpoint-6");
    let (resumed, _) = late(|| run(saving, Some(&from)));
    assert_same(resumed.path(), expected.path());
    assert_same(run(saving, Some(&from)).path(), expected.path());
}
