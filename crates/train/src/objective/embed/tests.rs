//! The figures of embeddings equal those of sentence-transformers' evaluators, in the fixture made
//! by `tests/fixtures/embed/make.py`.

use std::collections::BTreeMap;

use burn::tensor::Device;
use serde::Deserialize;

use super::measures::{ALIKE, FOUND_AND_TOLD_APART};
use super::retrieval::{cosine, figures};
use super::{EmbedConfig, EmbedLoss};
use crate::objective::metric::{Measures, Sums, Vectors};

#[derive(Deserialize)]
struct Fixture {
    vectors: BTreeMap<String, Vec<f32>>,
    rows: Vec<[u64; 3]>,
    scores: Vec<f64>,
    figures: BTreeMap<String, f64>,
}

fn fixture() -> Fixture {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/embed/retrieval.json"
    );
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn check(measures: &Measures, sums: &Sums, fixture: &Fixture) {
    for metric in &measures.metrics[1..] {
        let (found, expected) = ((metric.of)(sums), fixture.figures[metric.name]);
        let name = metric.name;
        assert!(
            (found - expected).abs() < 1e-6,
            "{name}: {found} in place of {expected}"
        );
    }
}

#[test]
fn figures_of_what_is_looked_for_are_those_of_evaluators() {
    let fixture = fixture();
    let texts = || fixture.rows.iter().flatten();
    let vectors = Vectors {
        d: 6,
        keys: texts().copied().collect(),
        values: texts()
            .flat_map(|text| fixture.vectors[&text.to_string()].clone())
            .collect(),
    };
    let sums = Sums {
        count: fixture.rows.len(),
        sums: figures(vectors, 3, false, &Device::flex()).unwrap(),
        ..Sums::default()
    };
    check(&FOUND_AND_TOLD_APART, &sums, &fixture);
}

#[test]
fn figures_of_scored_pairs_are_those_of_evaluators() {
    let fixture = fixture();
    let vector = |text: u64| -> Vec<f64> {
        let values = fixture.vectors[&text.to_string()].iter();
        values.map(|&value| f64::from(value)).collect()
    };
    let rows = fixture.rows.iter().zip(&fixture.scores);
    let pairs = rows.map(|(row, &score)| [cosine(&vector(row[0]), &vector(row[1])), score]);
    let sums = Sums {
        count: fixture.rows.len(),
        pairs: pairs.collect(),
        ..Sums::default()
    };
    check(&ALIKE, &sums, &fixture);
}

#[test]
fn keys_that_make_no_loss_are_refused() {
    let refused = |change: &dyn Fn(&mut EmbedConfig)| {
        let mut config = EmbedConfig::default();
        change(&mut config);
        config.validate().unwrap_err()
    };
    let columns = |names: &[&str]| Some(names.iter().map(ToString::to_string).collect());
    let said = refused(&|config| config.columns = columns(&[]));
    assert!(said.ends_with("these have one text"), "{said}");
    let said = refused(&|config| {
        config.columns = columns(&["anchor", "positive"]);
        config.loss = Some(EmbedLoss::TripletLoss);
    });
    assert!(
        said.contains("three texts: anchor, positive and negative"),
        "{said}"
    );
    let said = refused(&|config| {
        config.columns = columns(&["anchor", "positive"]);
        config.prompts.insert("query".into(), "q: ".into());
    });
    assert!(said.contains("embed.prompts has `query`"), "{said}");
    assert!(refused(&|config| config.scale = 0.0).starts_with("embed.scale is 0"));
    assert!(refused(&|config| config.matryoshka_weights = vec![1.0]).contains("1 weights"));
    assert!(EmbedConfig::default().validate().is_ok());
    let config = EmbedConfig {
        matryoshka_dims: vec![8, 128],
        ..EmbedConfig::default()
    };
    assert!(config.check_width(64).unwrap_err().contains("128"));
}
