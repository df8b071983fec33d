//! The configurations of families that are serde structs.

use serde_json::{Map, Value, json};

/// The functions of [`ModelConfig`](super::ModelConfig) that a serde struct with the fields `head`,
/// `extra`, `vocab_size` and `tie_word_embeddings` has. `layers` is the field with the number of
/// blocks, if changing it is all that [`with_layers`](super::ModelConfig::with_layers) does.
macro_rules! config_of_keys {
    ($(layers: $layers:ident)?) => {
        fn to_map(&self) -> Map<String, Value> {
            $crate::config::keys_of(self)
        }

        fn head(&self) -> &Head {
            &self.head
        }

        fn set_tie_word_embeddings(&mut self, tied: bool) {
            self.tie_word_embeddings = tied;
        }

        fn set_vocab_size(&mut self, rows: usize) {
            self.vocab_size = rows;
        }

        fn set_dtype(&mut self, dtype: burn::tensor::FloatDType) {
            $crate::config::set_dtype(&mut self.extra, dtype);
        }

        $(fn with_layers(&self, layers: usize) -> Self {
            Self {
                $layers: layers,
                ..self.clone()
            }
        })?
    };
}

/// The further keys of a published model of this class.
pub(crate) fn of_class(class: &str) -> Map<String, Value> {
    Map::from_iter([("architectures".to_string(), json!([class]))])
}

pub(crate) use config_of_keys;
