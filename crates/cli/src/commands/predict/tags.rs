//! The predictions of a token classifier.

use anyhow::Result;
use burn_peft_data::{AskedRow, Batch, IGNORE_INDEX};
use burn_peft_models::{Head, LanguageModel};
use burn_peft_train::{Entity, best_label, entities, read_all, tag_scores};
use serde_json::json;

use super::Line;

/// The tag of a word that the model has not seen: the same as outside of entities.
const OUTSIDE: &str = "O";

/// The tags of the words of a batch's rows, and the entities that they form.
pub fn tagged(
    model: &LanguageModel,
    head: &Head,
    batch: &Batch,
    rows: &[&AskedRow],
) -> Result<Vec<Line>> {
    let scores = read_all(tag_scores(model, batch))?;
    let mut found = scores.chunks(head.num_labels()).map(best_label);
    let names = &head.labels.names;
    let line = |(labels, row): (&[i64], &&AskedRow)| {
        let mut tags = vec![OUTSIDE; row.words.len()];
        for &word in labels.iter().filter(|label| **label != IGNORE_INDEX) {
            let name = found.next().and_then(|tag| names.get(tag));
            let tag = usize::try_from(word)
                .ok()
                .and_then(|word| tags.get_mut(word));
            if let (Some(tag), Some(name)) = (tag, name) {
                *tag = name;
            }
        }
        told(&tags, row)
    };
    Ok(batch.example_labels().zip(rows).map(line).collect())
}

/// The line for a row of which no word was seen.
pub fn untagged(row: &AskedRow) -> Line {
    told(&vec![OUTSIDE; row.words.len()], row)
}

fn told(tags: &[&str], row: &AskedRow) -> Line {
    let of_entity = |entity: Entity| {
        json!({
            "type": entity.kind,
            "start": row.words[entity.start].0,
            "end": row.words[entity.end - 1].1,
        })
    };
    let entities = entities(tags.iter().copied()).into_iter().map(of_entity);
    Line::from_iter([
        ("tags".to_string(), json!(tags)),
        ("entities".to_string(), entities.collect()),
    ])
}
