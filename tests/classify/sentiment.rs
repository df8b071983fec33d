//! The second quick start, as the README shows it, with fewer steps.

use std::collections::HashSet;
use std::fs;

use serde_json::Value;

use crate::common::{Lab, device_name, repository, values};

#[test]
fn the_second_quick_start() {
    if device_name().is_some() {
        return;
    }
    let root = repository(".").canonicalize().unwrap();
    let path = |name: &str| root.join(name).display().to_string();
    let rows = |name: &str| {
        let text = fs::read_to_string(path(name)).unwrap();
        let rows = values(&text).into_iter();
        rows.collect::<Vec<_>>()
    };
    // No held-out sentence is in the training data.
    let text = |row: &Value| row["text"].as_str().unwrap().to_lowercase();
    let trained: HashSet<String> = rows("data/sentiment/train.jsonl")
        .iter()
        .map(text)
        .collect();
    let held_out = rows("data/sentiment/validation.jsonl");
    assert_eq!((trained.len(), held_out.len()), (3_000, 400));
    assert!(!held_out.iter().any(|row| trained.contains(&text(row))));

    let lab = Lab::new();
    let sets = [
        format!("model={}", path("assets/tiny-bert")),
        format!("data.train={}", path("data/sentiment/train.jsonl")),
        format!(
            "data.validation={}",
            path("data/sentiment/validation.jsonl")
        ),
        "training.output_dir=out".to_owned(),
        "training.num_train_epochs=4".to_owned(),
        "training.learning_rate=1e-3".to_owned(),
    ];
    let config = path("configs/sentiment.toml");
    let mut args = vec!["train", &config];
    args.extend(sets.iter().flat_map(|set| ["--set", set.as_str()]));
    let said = lab.ok(&args);
    let accuracies = said.lines().filter_map(|line| {
        let (_, rest) = line
            .trim()
            .strip_prefix("evaluation:")?
            .split_once("accuracy ")?;
        rest.split(' ').next()?.parse::<f64>().ok()
    });
    let accuracies: Vec<f64> = accuracies.collect();
    assert!(
        accuracies.len() == 2 && accuracies[0] < 0.45 && accuracies[1] > 0.6,
        "{said}"
    );

    // The commands are those of the README.
    let readme = fs::read_to_string(path("README.md")).unwrap();
    assert!(readme.contains("peft train configs/sentiment.toml"));
    let asked = "peft predict --model assets/tiny-bert --adapter runs/sentiment --data mine.jsonl";
    assert!(readme.contains(asked), "{asked}");
    lab.write(
        "mine.jsonl",
        "{\"text\": \"The soup was not bad at all.\"}\n{\"text\": \"I loathed the zither.\"}\n",
    );
    let asked = asked.replace("assets/tiny-bert", &path("assets/tiny-bert"));
    let asked = asked.replace("runs/sentiment", "out");
    let asked: Vec<&str> = asked.split(' ').skip(1).collect();
    let lines = lab.ok(&asked);
    assert_eq!(lines.lines().count(), 2);
    for line in lines.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let labels = ["negative", "neutral", "positive"];
        let sum: f64 = labels
            .iter()
            .map(|label| line["probabilities"][label].as_f64().unwrap())
            .sum();
        assert!((sum - 1.0).abs() < 1e-6, "{line}");
    }
}
