//! Combinations against PEFT's, made by tests/fixtures/weighted/make.py.

use std::path::PathBuf;

use super::lora::{Lora, combine_with, factors_of};
use super::*;
use crate::files::PREFIX;

/// For each layer, `A`, `B` and the resulting weight.
fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/weighted")
}

fn part(name: &str, weight: f64) -> Lora {
    let read = WeightedAdapter::read(&fixtures().join(name), weight);
    read.unwrap().of(LoraConfig::from_fields).unwrap()
}

/// make.py's replacement for `torch.bernoulli`: the k-th value of a tensor is kept if `7 k mod 10`
/// is below ten times the density.
fn mask(length: usize, density: f64) -> Vec<bool> {
    let kept = |k: usize| ((7 * k) % 10) as f64 + 0.5 < 10.0 * density;
    (0..length).map(kept).collect()
}

fn assert_close(what: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (a, b)) in found.iter().zip(expected).enumerate() {
        assert!((a - b).abs() < 2e-5, "{what}[{index}] is {a}, PEFT has {b}");
    }
}

#[test]
fn every_type_is_pefts() {
    let text = std::fs::read_to_string(fixtures().join("cases.json")).unwrap();
    let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 18);
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let combination = Combination {
            combination_type: case["type"].as_str().unwrap().parse().unwrap(),
            svd_rank: case["svd_rank"].as_u64().map(|rank| rank as usize),
            density: case["density"].as_f64(),
            majority_sign_method: case["sign"].as_str().unwrap().parse().unwrap(),
            seed: 0,
        };
        let parts = case["adapters"].as_array().unwrap().iter();
        let parts = parts.map(|of| part(of[0].as_str().unwrap(), of[1].as_f64().unwrap()));
        let parts: Vec<_> = parts.collect();
        let (config, found) = combine_with(&parts, &combination, &mut mask).unwrap();
        let folder = fixtures().join("combined").join(name);
        let expected = part(&format!("combined/{name}"), 1.0);
        assert_eq!(config.r, expected.config.r, "{name}");
        assert_eq!(config.lora_alpha, expected.config.lora_alpha, "{name}");
        assert!(folder.is_dir());

        let found = WeightedAdapter {
            name: name.into(),
            config,
            tensors: found.into_iter().collect(),
            weight: 1.0,
        };
        let keys = |part: &Lora| -> Vec<String> {
            let mut keys: Vec<_> = part.tensors.keys().cloned().collect();
            keys.sort();
            keys
        };
        assert_eq!(keys(&found), keys(&expected), "{name}");
        // Singular vectors may have either sign, so for these the products are compared.
        for ((path, a), (_, b)) in
            std::iter::zip(factors_of(&found).unwrap(), factors_of(&expected).unwrap())
        {
            if path == "emb" && name.starts_with("dare") && combination.is_by_svd() {
                // PEFT's change of an embedding is transposed, and so is the mask.
                continue;
            }
            assert_close(&format!("{name} {path}"), &a.delta(), &b.delta());
            if !combination.is_by_svd() {
                assert_close(&format!("{name} {path} A"), &a.a, &b.a);
                assert_close(&format!("{name} {path} B"), &a.b, &b.b);
            }
        }
    }
}

/// DARE keeps the given share, scales it, and gives the same result for the same seed.
#[test]
fn random_pruning_keeps_the_sum_on_average() {
    let ones = || WeightedAdapter {
        name: "ones".into(),
        config: LoraConfig::new().with_r(1).with_lora_alpha(1.0),
        tensors: [("lora_A.weight", [1, 5000]), ("lora_B.weight", [2000, 1])]
            .map(|(end, shape)| {
                let values = vec![1.0_f32; shape[0] * shape[1]];
                (format!("{PREFIX}fc.{end}"), TensorData::new(values, shape))
            })
            .into_iter()
            .collect(),
        weight: 0.5,
    };
    let run = |seed| {
        let combination = Combination {
            seed,
            ..Combination::new(CombinationType::DareLinear).with_density(0.25)
        };
        let combined = lora::combine(&[ones(), ones()], &combination).unwrap();
        combined.tensors[0].1.iter::<f32>().collect::<Vec<f32>>()
    };
    let found = run(1);
    // Two times sqrt(1/2) / 0.25 where both are kept, zero where neither is.
    let one = 0.5_f32.sqrt() / 0.25;
    let count = |value: f32| found.iter().filter(|v| (*v - value).abs() < 1e-4).count();
    let shares = [0.0, one, 2.0 * one].map(|value| count(value) as f64 / 5000.0);
    for (share, expected) in shares.iter().zip([0.5625, 0.375, 0.0625]) {
        assert!((share - expected).abs() < 0.03, "{shares:?}");
    }
    assert!(run(1) == found && run(2) != found);
}

#[test]
fn what_cannot_be_combined_says_why() {
    let error = |parts: &[Lora], combination: Combination| {
        let parts = parts.iter().cloned().map(|part| WeightedAdapter {
            config: Arc::new(part.config) as Arc<dyn Method>,
            name: part.name,
            tensors: part.tensors,
            weight: part.weight,
        });
        combine(parts.collect(), &combination)
            .unwrap_err()
            .to_string()
    };
    let kind = Combination::new;
    let both = [part("a", 1.0), part("b", 1.0)];
    let message = error(&both, kind(CombinationType::Ties));
    assert!(message.contains("ties needs a density"), "{message}");
    let message = error(&both, kind(CombinationType::Ties).with_density(1.5));
    assert!(message.contains("density = 1.5"), "{message}");
    let message = error(&both, kind(CombinationType::Cat).with_density(0.5));
    assert!(message.contains("no meaning"), "{message}");
    let unequal = [part("a", 1.0), part("wide", 1.0)];
    let message = error(&unequal, kind(CombinationType::Linear));
    assert!(message.contains("these have 4, 6"), "{message}");
    let mut nan = both.clone();
    nan[0].weight = f64::NAN;
    let message = error(&nan, kind(CombinationType::Cat));
    assert!(message.contains("NaN is not finite"), "{message}");
    let message = error(&[], kind(CombinationType::Cat));
    assert!(message.contains("no adapter"), "{message}");
    let ia3 = WeightedAdapter::read(&fixtures().join("../weighted_ia3/a"), 1.0).unwrap();
    let lora = WeightedAdapter::read(&fixtures().join("a"), 1.0).unwrap();
    let loha = WeightedAdapter::read(&fixtures().join("../linear/loha"), 1.0).unwrap();
    for (parts, said) in [
        (vec![lora, ia3], "weighted/a is a LORA adapter"),
        (vec![loha.clone(), loha], "only LORA and IA3"),
    ] {
        let error = combine(parts, &kind(CombinationType::Linear)).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    let mut copies = both.clone();
    copies[1].config.common.modules_to_save = Some(vec!["head".into()]);
    let message = error(&copies, kind(CombinationType::Cat));
    assert!(message.contains("modules_to_save = head"), "{message}");
    let mut lost = both.clone();
    lost[0].tensors.shift_remove_index(1);
    let message = error(&lost, kind(CombinationType::Cat));
    assert!(message.contains("no lora_embedding_B"), "{message}");
}
