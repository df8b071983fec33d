//! Losses of embeddings by sentence-transformers (`fixtures/embed`, made by `make.py` there).

use std::fs;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn_peft::tensor_file::read_tensors;
use burn_peft_data::{Batch, Example, IGNORE_INDEX};
use burn_peft_models::LanguageModel;
use burn_peft_train::{Embed, EmbedConfig, Objective, TrainingArguments, adamw};
use serde_json::{Value, json};

use super::{Case, cases};
use crate::conformance::{fixtures, without_dropout};
use crate::families::close;

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

/// The objective that has these keys beside its columns.
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
        let mut model = without_dropout(LanguageModel::from(case.adapted()).train());
        let (objective, batch) = (objective(kind, keys), batch(kind));
        let rows = Objective::<LanguageModel>::count(&objective, &batch) as f64;
        assert_eq!(rows, 4.0);
        let arguments = TrainingArguments {
            weight_decay: 0.01,
            ..TrainingArguments::default()
        };
        let mut optimizer = adamw(&arguments);
        let mut losses = Vec::new();
        for step in 0..8 {
            let loss = objective.loss(&model, &batch) / rows;
            losses.push(loss.clone().inner().into_scalar::<f32>());
            let gradients = loss.backward();
            if step == 0 {
                let peft = model.as_peft().unwrap();
                for (key, gradient) in peft.adapter_gradients("default", &gradients) {
                    let gradient = gradient.expect(&key).try_to_vec::<f32>().unwrap();
                    let key = format!("{name}.grad.{key}");
                    close(&key, &gradient, &expected(&key)).unwrap();
                }
            }
            let gradients = GradientsParams::from_grads(gradients, &model);
            model = optimizer.step(1e-3, model, gradients);
        }
        close(name, &losses, &expected(&format!("{name}.losses"))).unwrap();
    }
}

/// One block of the model at a time: the same gradients, within rounding.
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
        for parameter in model.named_parameters().iter().filter(|p| p.requires_grad) {
            let numbers = |gradients: &GradientsParams| -> Vec<f32> {
                let gradient = gradients.get::<2>(parameter.id).expect(&parameter.name);
                gradient.into_data().try_to_vec().unwrap()
            };
            let (found, expected) = (numbers(&other.gradients), numbers(&plain));
            close(&parameter.name, &found, &expected).unwrap();
        }
    }
}
