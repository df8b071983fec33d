//! Weights of labels in the loss of a classifier.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `class_weights`, or `pos_weight`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected \"balanced\", a list with a number for each label, or numbers by label \
                 { name = 2.0 }"
)]
pub enum LabelWeights {
    /// Computed from how often the labels occur.
    Rule(WeightRule),
    /// One for each label.
    List(Vec<f64>),
    /// By the names of the labels; the others weigh 1.
    ByName(BTreeMap<String, f64>),
}

/// How weights are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WeightRule {
    /// The rarer a label, the higher its weight.
    Balanced,
}

impl LabelWeights {
    /// Checks the numbers, and the labels if they are known; `key` is their name in errors.
    pub(crate) fn check(&self, key: &str, names: Option<&[String]>) -> Result<(), String> {
        let numbers: Vec<f64> = match self {
            Self::Rule(_) => Vec::new(),
            Self::List(list) => list.clone(),
            Self::ByName(map) => map.values().copied().collect(),
        };
        if let Some(bad) = numbers.iter().find(|weight| !is_weight(**weight)) {
            return Err(format!("{key} has the weight {bad}; it must be above 0"));
        }
        match (self, names) {
            (Self::List(list), Some(names)) if list.len() != names.len() => Err(format!(
                "{key} has {} weights, and there are {} labels: {}",
                list.len(),
                names.len(),
                names.join(", ")
            )),
            (Self::ByName(map), Some(names)) => {
                let unknown = map.keys().find(|name| !names.contains(name));
                unknown.map_or(Ok(()), |name| {
                    Err(format!(
                        "{key} names {name:?}, and the labels are {}",
                        names.join(", ")
                    ))
                })
            }
            _ => Ok(()),
        }
    }

    /// The weight of each label; `None` if they are computed from the rows.
    pub fn of_labels(&self, names: &[String]) -> Option<Vec<f64>> {
        match self {
            Self::Rule(_) => None,
            Self::List(list) => Some(list.clone()),
            Self::ByName(map) => {
                let weights = names.iter().map(|name| map.get(name).copied());
                Some(weights.map(|weight| weight.unwrap_or(1.0)).collect())
            }
        }
    }
}

fn is_weight(weight: f64) -> bool {
    weight > 0.0 && weight.is_finite()
}

/// The weights of labels with these counts, as scikit-learn's "balanced": the number of all,
/// divided by the number of labels and by the label's own count. A label that never occurs weighs
/// 1.
pub(crate) fn balanced(counts: &[usize]) -> Vec<f64> {
    let all: usize = counts.iter().sum();
    let weight = |&count: &usize| match count {
        0 => 1.0,
        count => all as f64 / (counts.len() * count) as f64,
    };
    counts.iter().map(weight).collect()
}

/// For each label, the number of rows without it divided by the number with it; 1 for a label that
/// none or all have.
pub(crate) fn balanced_pos(counts: &[usize], rows: usize) -> Vec<f64> {
    let weight = |&count: &usize| match rows.saturating_sub(count) {
        without if without == 0 || count == 0 => 1.0,
        without => without as f64 / count as f64,
    };
    counts.iter().map(weight).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// scikit-learn 1.9: `compute_class_weight("balanced", …)` of six, three and one.
    #[test]
    fn balanced_weights_are_scikit_learn_s() {
        let found = balanced(&[6, 3, 1]);
        for (found, expected) in found.iter().zip([0.555_555_56, 1.111_111_11, 3.333_333_33]) {
            assert!((found - expected).abs() < 1e-8, "{found}");
        }
        assert_eq!(balanced(&[2, 0]), [0.5, 1.0]);
        assert_eq!(balanced_pos(&[1, 0, 4], 4), [3.0, 1.0, 1.0]);
    }

    #[test]
    fn weights_are_by_label_and_above_zero() {
        let names = ["bad", "good"].map(String::from);
        let read = |text: &str| {
            let table: BTreeMap<String, LabelWeights> = toml::from_str(text).unwrap();
            table["w"].clone()
        };
        let by_name = read("w = { good = 3.0 }");
        assert_eq!(by_name.of_labels(&names), Some(vec![1.0, 3.0]));
        assert_eq!(read("w = [2, 1]").of_labels(&names), Some(vec![2.0, 1.0]));
        assert_eq!(read("w = \"balanced\"").of_labels(&names), None);
        for (text, said) in [
            ("w = [1.0]", "w has 1 weights, and there are 2 labels"),
            ("w = [1.0, 0.0]", "w has the weight 0; it must be above 0"),
            (
                "w = { fair = 1.0 }",
                "w names \"fair\", and the labels are bad, good",
            ),
        ] {
            let error = read(text).check("w", Some(&names)).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
        assert!(read("w = { fair = 1.0 }").check("w", None).is_ok());
    }
}
