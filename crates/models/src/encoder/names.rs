//! The names of weights in the checkpoints of encoders, and which configurations are not supported.

use serde_json::{Map, Value};

use crate::Head;

/// A family's names in its checkpoints.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EncoderNames {
    /// transformers' `base_model_prefix`.
    pub base: &'static str,
    /// The prefixes of the names of the head that predicts tokens.
    pub masked: &'static [&'static str],
}

/// The heads of classifiers.
const CLASSIFIERS: [&str; 2] = ["classifier.", "pre_classifier."];

impl EncoderNames {
    /// The path of everything but the head; empty if the model has no head.
    pub fn base_of(&self, head: &Head) -> &'static str {
        if head.is_none() { "" } else { self.base }
    }

    /// The names that a weight may have in a checkpoint: with or without the prefix, and with the
    /// names of norms in checkpoints converted from TensorFlow.
    pub fn in_file(&self, name: &str) -> Vec<String> {
        let prefix = format!("{}.", self.base);
        let bare = name.strip_prefix(&prefix).unwrap_or(name);
        let mut names = vec![name.to_string()];
        if bare != name {
            names.push(bare.to_string());
        } else if !self.is_of_head(name) {
            names.push(format!("{prefix}{name}"));
        }
        let old = |name: &String| {
            let (layer, parameter) = name.rsplit_once('.')?;
            let parameter = match parameter {
                "weight" => "gamma",
                "bias" => "beta",
                _ => return None,
            };
            layer
                .ends_with("LayerNorm")
                .then(|| format!("{layer}.{parameter}"))
        };
        let old: Vec<_> = names.iter().filter_map(old).collect();
        names.extend(old);
        names
    }

    fn is_of_head(&self, name: &str) -> bool {
        let mut heads = self.masked.iter().chain(&CLASSIFIERS);
        heads.any(|head| name.starts_with(head))
    }

    /// Whether a tensor in a checkpoint is not a weight of a model with this head: it belongs to
    /// another head, or is not a weight at all.
    pub fn is_buffer(&self, head: &Head, has_pooler: bool, name: &str) -> bool {
        let begins = |heads: &[&str]| heads.iter().any(|head| name.starts_with(head));
        let bare = name.strip_prefix(self.base).unwrap_or(name);
        let bare = bare.trim_start_matches('.');
        begins(&["cls.seq_relationship."])
            || (!head.predicts_tokens() && begins(self.masked))
            || (!head.classifies() && begins(&CLASSIFIERS))
            || (!has_pooler && bare.starts_with("pooler."))
            || ["embeddings.position_ids", "embeddings.token_type_ids"].contains(&bare)
    }

    /// Whether a weight is a classifier's head.
    pub fn is_new_head(&self, head: &Head, name: &str) -> bool {
        head.classifies() && CLASSIFIERS.iter().any(|of| name.starts_with(of))
    }
}

/// The row of an embedding that is zero: that of the padding token.
pub(crate) fn padding_row(pad_token_id: Option<i64>) -> Option<usize> {
    usize::try_from(pad_token_id?).ok()
}

/// Rejects settings that turn an encoder into another kind of model.
pub(crate) fn check_unsupported(keys: &Map<String, Value>) -> Result<(), String> {
    for key in ["is_decoder", "add_cross_attention"] {
        if keys.get(key) == Some(&Value::Bool(true)) {
            return Err(format!("{key} = true is not supported: only encoders"));
        }
    }
    match keys.get("position_embedding_type") {
        None | Some(Value::Null) => Ok(()),
        Some(kind) if kind == "absolute" => Ok(()),
        Some(kind) => Err(format!(
            "position_embedding_type = {kind} is not supported: only \"absolute\""
        )),
    }
}
