//! The predictions of a text classifier.

use anyhow::Result;
use burn_peft_data::{AskedRow, Batch, Classes, LabelKind};
use burn_peft_models::{Head, LanguageModel};
use burn_peft_train::{best_label, read_all, text_scores};
use serde_json::{Map, Value, json};

use super::Line;

/// The labels of the texts of a batch.
pub fn labelled(
    model: &LanguageModel,
    head: &Head,
    task: &Classes,
    batch: &Batch,
) -> Result<Vec<Line>> {
    let scores = read_all(text_scores(model, batch))?;
    let labels = batch.example_labels().map(|labels| labels[0]);
    let rows = scores.chunks(head.num_labels()).zip(labels);
    let line = |(scores, label): (&[f64], i64)| {
        let mut line = predicted(scores, head, task.kind);
        if label != Classes::UNLABELLED && task.kind == LabelKind::One {
            line.insert(
                "is_right".into(),
                (best_label(scores) as i64 == label).into(),
            );
        }
        line
    };
    Ok(rows.map(line).collect())
}

/// The line for a row without anything to classify.
pub fn unlabelled(row: &AskedRow) -> Line {
    let why = row.problem.as_ref().or(row.skipped.as_ref());
    let error = why.map(|why| ("error".to_string(), why.as_str().into()));
    error.into_iter().collect()
}

/// A model's prediction for a text, from the scores of its labels.
fn predicted(scores: &[f64], head: &Head, kind: LabelKind) -> Map<String, Value> {
    let names = &head.labels.names;
    let probabilities: Vec<f64> = match kind {
        LabelKind::Number => Vec::new(),
        LabelKind::One => {
            let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let powers: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
            let sum: f64 = powers.iter().sum();
            powers.into_iter().map(|power| power / sum).collect()
        }
        LabelKind::Several => scores
            .iter()
            .map(|score| 1.0 / (1.0 + (-score).exp()))
            .collect(),
    };
    let by_name = names.iter().zip(&probabilities);
    let by_name: Map<String, Value> = by_name
        .map(|(name, &of)| (name.clone(), of.into()))
        .collect();
    let said = match kind {
        LabelKind::Number => json!({ "value": scores.first() }),
        LabelKind::One => json!({
            "label": names.get(best_label(scores)),
            "probabilities": by_name,
        }),
        LabelKind::Several => {
            let found = names.iter().zip(scores).filter(|(_, score)| **score > 0.0);
            let found: Vec<&String> = found.map(|(name, _)| name).collect();
            json!({ "labels": found, "probabilities": by_name })
        }
    };
    said.as_object().cloned().unwrap_or_default()
}
