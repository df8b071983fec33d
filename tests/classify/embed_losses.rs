//! Losses of embeddings, compared with sentence-transformers (`fixtures/embed`, made by `make.py`
//! there).

use std::fs;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn_peft::tensor_file::read_tensors;
use burn_peft_data::{Batch, Example, IGNORE_INDEX};
use burn_peft_models::LanguageModel;
use burn_peft_train::{Embed, EmbedConfig, Objective};
use serde_json::{Value, json};

use super::{Case, cases};
use crate::conformance::{fixtures, without_dropout};
use crate::families::close;
use crate::steps::{assert_same_gradients, eight_steps};

/// The rows of the fixture as one batch.
fn batch(kind: &str) -> Batch {
    let text = fs::read_to_string(fixtures().join("embed/rows.json")).unwrap();
    let rows: Value = serde_json::from_str(&text).unwrap();
    let mut examples = Vec::new();
    for (row, texts) in rows[kind].as_array().unwrap().iter().enumerate() {
        for text in texts.as_array().unwrap() {
            let ids = text.as_array().unwrap().iter();
            let input_ids: Vec<u32> = ids.map(|id| id.as_u64().unwrap() as u32).collect();
            let mut labels = vec![IGNORE_INDEX; input_ids.len()];
            let score = rows["scores"][row].as_f64().unwrap() as f32;
            labels[0] = i64::from(score.to_bits());
            examples.push(Example {
                input_ids,
                labels,
                row,
            });
        }
    }
    Batch::collate(&examples, 1, None)
}

/// The objective with these keys, besides its columns.
fn objective(kind: &str, keys: Value) -> Embed {
    let mut keys = keys;
    keys["columns"] = match kind {
        "pairs" => json!(["anchor", "positive"]),
        _ => json!(["anchor", "positive", "negative"]),
    };
    Embed::new(serde_json::from_value::<EmbedConfig>(keys).unwrap())
}

/// Each case of the fixture: its rows and its keys.
fn losses() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("ranking", "pairs", json!({})),
        (
            "ranking_with_negatives",
            "triplets",
            json!({"pooling": "lasttoken", "normalize": true, "scale": 10.0}),
        ),
        (
            "ranking_by_dot",
            "pairs",
            json!({"scale": 1.0, "similarity_fct": "dot_score"}),
        ),
        (
            "cosine",
            "pairs",
            json!({"loss": "CosineSimilarityLoss", "pooling": "cls"}),
        ),
        ("triplet", "triplets", json!({"loss": "TripletLoss"})),
        (
            "triplet_by_cosine",
            "triplets",
            json!({"loss": "TripletLoss", "distance_metric": "cosine", "triplet_margin": 0.5,
                   "pooling": "weightedmean"}),
        ),
        (
            "triplet_by_manhattan",
            "triplets",
            json!({"loss": "TripletLoss", "distance_metric": "manhattan", "triplet_margin": 2.0,
                   "pooling": "max"}),
        ),
        (
            "matryoshka",
            "triplets",
            json!({"matryoshka_dims": [16, 64, 32], "matryoshka_weights": [0.25, 1.0, 0.5],
                   "pooling": "mean_sqrt_len_tokens"}),
        ),
    ]
}

fn case() -> Option<Case> {
    let mut cases = cases(false).into_iter();
    cases.find(|case| case.name == "qwen3_embed")
}

#[test]
fn losses_and_gradients_are_those_of_sentence_transformers() {
    let Some(case) = case() else { return };
    let expected = read_tensors(&fixtures().join("embed/expected.safetensors")).unwrap();
    let expected = |key: &str| expected[key].try_to_vec::<f32>().unwrap();
    for (name, kind, keys) in losses() {
        let model = without_dropout(LanguageModel::from(case.adapted()).train());
        let (objective, batch) = (objective(kind, keys), batch(kind));
        let rows = Objective::<LanguageModel>::count(&objective, &batch) as f64;
        assert_eq!(rows, 4.0);
        let (losses, found) = eight_steps(
            model,
            |model| objective.loss(model, &batch) / rows,
            |model, gradients| {
                let peft = model.as_peft().unwrap();
                peft.adapter_gradients("default", gradients)
            },
        );
        for (key, gradient) in found {
            let gradient = gradient.expect(&key).try_to_vec::<f32>().unwrap();
            let key = format!("{name}.grad.{key}");
            close(&key, &gradient, &expected(&key)).unwrap();
        }
        close(name, &losses, &expected(&format!("{name}.losses"))).unwrap();
    }
}

/// Checkpointing, with one block of the model at a time, gives the same gradients up to rounding.
#[test]
fn checkpointed_gradients_of_embeddings() {
    let Some(case) = case() else { return };
    for (_, kind, keys) in losses() {
        let model = without_dropout(LanguageModel::from(case.adapted()).train());
        let (objective, batch) = (objective(kind, keys), batch(kind));
        let loss = objective.loss(&model, &batch) * 0.25;
        let value = loss.clone().inner().into_scalar::<f32>();
        let plain = GradientsParams::from_grads(loss.backward(), &model);
        let other = objective
            .checkpointed_backward(&model, &batch, 0.25)
            .unwrap();
        close("loss", &[other.loss.into_scalar::<f32>()], &[value]).unwrap();
        assert_same_gradients((&model, &other.gradients), (&model, &plain), 1e-4);
    }
}
