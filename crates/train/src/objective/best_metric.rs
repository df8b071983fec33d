//! The metrics that can choose the best model, of all objectives.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{EnumAccess, Error, VariantAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::objective::lm;
use crate::objective::metric::Metric;
use crate::objective::registry::KINDS;

/// `metric_for_best_model`: the metric that evaluations are compared by.
#[derive(Clone, Copy)]
pub struct BestMetric(&'static Metric);

impl BestMetric {
    /// Compares by this metric.
    pub const fn new(metric: &'static Metric) -> Self {
        Self(metric)
    }

    /// The metric.
    pub fn metric(self) -> &'static Metric {
        self.0
    }
}

impl Default for BestMetric {
    fn default() -> Self {
        Self(&lm::MEASURES.metrics[0])
    }
}

impl fmt::Debug for BestMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BestMetric({})", self.0.name)
    }
}

impl PartialEq for BestMetric {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for BestMetric {}

impl Serialize for BestMetric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

/// Every metric's name in a training file, with the metric.
static NAMES: LazyLock<Vec<(&'static str, &'static Metric)>> = LazyLock::new(|| {
    let metrics = KINDS.iter().flat_map(|kind| kind.measures.metrics);
    let mut names: Vec<(&'static str, &'static Metric)> = Vec::new();
    for metric in metrics {
        if names.iter().all(|(name, _)| *name != metric.name) {
            // Made once for the whole program.
            names.push((String::leak(metric.key()), metric));
            names.push((metric.name, metric));
        }
    }
    names
});
static VARIANTS: LazyLock<Vec<&'static str>> =
    LazyLock::new(|| NAMES.iter().map(|(name, _)| *name).collect());

impl JsonSchema for BestMetric {
    fn schema_name() -> Cow<'static, str> {
        "BestMetric".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": &*VARIANTS })
    }
}

/// Read like an enum with all names.
impl<'de> Deserialize<'de> for BestMetric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = BestMetric;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("enum BestMetric")
            }

            fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<BestMetric, A::Error> {
                let (name, variant) = data.variant::<String>()?;
                variant.unit_variant()?;
                let found = NAMES.iter().find(|(known, _)| *known == name);
                let metric = found.map(|(_, metric)| BestMetric(metric));
                metric.ok_or_else(|| A::Error::unknown_variant(&name, &VARIANTS))
            }
        }

        deserializer.deserialize_enum("BestMetric", &VARIANTS, Names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_by_either_name() {
        let read = |name: &str| serde_json::from_value::<BestMetric>(name.into());
        assert_eq!(read("loss").unwrap(), BestMetric::default());
        assert_eq!(read("eval_loss").unwrap(), BestMetric::default());
        let perplexity = read("eval_perplexity").unwrap();
        assert_eq!(serde_json::to_value(perplexity).unwrap(), "perplexity");
        let error = read("bleu").unwrap_err().to_string();
        let said = "unknown variant `bleu`, expected one of `eval_loss`, `loss`, \
                    `eval_perplexity`, `perplexity`, ";
        assert!(error.starts_with(said), "{error}");
    }
}
