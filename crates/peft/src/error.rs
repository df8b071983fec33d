//! The errors of this crate: what was wrong, with which value, and the way out.

use std::path::{Path, PathBuf};

use burn_peft_files::FileError;

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, PeftError>;

/// What can go wrong with adapters, their configurations and their files.
/// There is a variant for each kind of error. A field `problem` is the part of the message that
/// says what is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PeftError {
    // Configurations.
    /// A key of a configuration has a value that cannot be used.
    #[error("{key} = {value}: {problem}")]
    Value {
        /// The key.
        key: String,
        /// Its value, as a file writes it.
        value: String,
        /// Why it cannot be used.
        problem: String,
    },
    /// Keys of a configuration cannot be used together, or one needs another.
    #[error("{problem}")]
    Conflict {
        /// The keys.
        keys: &'static [&'static str],
        /// Why they do not go together.
        problem: String,
    },
    /// A key that has to be given is missing.
    #[error("{problem}")]
    MissingKey {
        /// The key.
        key: &'static str,
        /// What it is for.
        problem: String,
    },
    /// A key that no method has, where that is an error.
    #[error("{problem}")]
    UnknownKey {
        /// The key.
        key: String,
        /// What exists instead.
        problem: String,
    },
    /// A `peft_type` that is not in the registry.
    #[error("peft_type \"{peft_type}\" is not supported; supported: {}", known.join(", "))]
    UnknownMethod {
        /// The `peft_type`.
        peft_type: String,
        /// The known ones.
        known: Vec<String>,
    },
    /// A configuration does not fit a layer.
    #[error("{problem}")]
    Unfit {
        /// The path of the layer.
        layer: String,
        /// Why it does not fit.
        problem: String,
    },
    /// A tensor would be too large.
    #[error(
        "the tensor {tensor} would have the shape {shape:?}, and at most {most} numbers are \
         possible: choose a smaller rank or size"
    )]
    TooLarge {
        /// The name of the tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// The most values that a tensor can have.
        most: usize,
    },
    /// A method's tensor has an unsupported number of axes.
    #[error("the tensor {tensor} {problem}")]
    Axes {
        /// The name of the tensor.
        tensor: String,
        /// What is wrong with its axes.
        problem: String,
    },
    /// A configuration that a custom method rejects for another reason.
    #[error("{0}")]
    Config(String),
    /// An error in a configuration that was read from somewhere.
    #[error("{place}: {error}")]
    In {
        /// The file or table.
        place: String,
        /// The error.
        error: Box<PeftError>,
    },
    /// A text that is not the JSON of a configuration.
    #[error("{place}: {problem}")]
    Syntax {
        /// The file or table.
        place: String,
        /// What is wrong with it.
        problem: String,
    },

    // The choice of layers.
    /// Names or patterns select no layer, or layers that cannot be adapted.
    #[error("{key} {problem}")]
    Target {
        /// The key with the names, such as `target_modules`.
        key: String,
        /// What they select.
        problem: String,
    },
    /// A pattern that is not a regular expression, or takes too long to match.
    #[error("{key} {pattern:?} {problem}")]
    Pattern {
        /// The key with the pattern.
        key: String,
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Two keys of one configuration select the same layer.
    #[error(
        "{layer} would get two adapters of one name, one by target_modules and one by another \
         key: choose one"
    )]
    AdaptedTwice {
        /// The path of the layer.
        layer: String,
    },
    /// An output layer shares the input embedding's weight and cannot get its own.
    #[error("{output} shares the weight of {input}{problem}")]
    Tied {
        /// The path of the output layer.
        output: String,
        /// The path of the input embedding.
        input: String,
        /// Why it needs its own.
        problem: String,
    },

    // Adapters.
    /// There is no adapter with this name.
    #[error("there is no adapter `{name}`; the model has {}", known.join(", "))]
    NoAdapter {
        /// The name.
        name: String,
        /// The existing names.
        known: Vec<String>,
    },
    /// There already is an adapter with this name.
    #[error(
        "there already is an adapter `{name}`: remove it with delete_adapter, or choose another name"
    )]
    NameTaken {
        /// The name.
        name: String,
    },
    /// An invalid adapter name.
    #[error(
        "the adapter name {name:?} is not usable: it becomes part of parameter names and a \
         folder, so it has to be non-empty and without dots and slashes"
    )]
    BadName {
        /// The name.
        name: String,
    },
    /// The model to be wrapped already holds adapters.
    #[error(
        "the model already holds adapters (first at {layer}): unload them, or add one more with \
         PeftModel::add_adapter"
    )]
    AlreadyWrapped {
        /// The path of the first adapted layer.
        layer: String,
    },
    /// Another adapter already trains the base's biases.
    #[error(
        "the adapter `{adapter}` already trains the base's biases: of several adapters only one \
         can have bias other than \"none\""
    )]
    BiasTaken {
        /// The other adapter.
        adapter: String,
    },
    /// A method that acts at the model, in a place where only methods that act at layers can be
    /// used, or a model without a place for it.
    #[error("{problem}")]
    AtModel {
        /// The `peft_type`s of the methods, or the names of the adapters.
        names: Vec<String>,
        /// What cannot be done.
        problem: String,
    },
    /// Adapters are merged into the weights, but must not be.
    #[error("{problem}")]
    Merged {
        /// What cannot be done.
        problem: String,
    },
    /// An adapter holds a part of the base's weights, but must not.
    #[error("{problem}")]
    HoldsWeight {
        /// What cannot be done.
        problem: String,
    },
    /// An adapter that cannot be merged.
    #[error("the adapter `{adapter}` cannot be merged{problem}")]
    NotMergeable {
        /// The name of the adapter.
        adapter: String,
        /// Into what, and why.
        problem: String,
    },
    /// An adapter that cannot be converted to another kind.
    #[error("{problem}")]
    NotConvertible {
        /// Why.
        problem: String,
    },
    /// Adapters that cannot be combined, or not in this way.
    #[error("{problem}")]
    NotCombinable {
        /// Why.
        problem: String,
    },
    /// A weight with NaN or infinite values.
    #[error("{problem}")]
    NotFinite {
        /// Where they are.
        problem: String,
    },
    /// The weight of a layer is quantised.
    #[error(
        "the weight of {layer} is quantised, and a Burn record cannot hold its codes: save the \
         record of the full-precision base"
    )]
    Quantized {
        /// The path of the layer.
        layer: String,
    },

    // Training.
    /// The model keeps no gradients.
    #[error(
        "the model keeps no gradients, since it is not in training: call .train() on it before \
         its forward pass, as in get_peft_model(model, config)?.train()"
    )]
    NotTraining,
    /// Trainable tensors have no gradient.
    #[error(
        "{count} trainable tensors would not learn, since the loss does not depend on them: {}",
        first.join(", ")
    )]
    NoGradient {
        /// The number of such tensors.
        count: usize,
        /// The names of the first ones.
        first: Vec<String>,
    },
    /// EVA cannot set an adapter's initial values.
    #[error("{problem}")]
    Eva {
        /// Why.
        problem: String,
    },
    /// LoRA-FA cannot train an adapter.
    #[error("{problem}")]
    LoraFa {
        /// Why.
        problem: String,
    },

    // Files.
    /// An adapter's file is too small for its configuration.
    #[error(
        "the adapter's file is too small for its configuration: at {layer} {tensor} would be \
         {shape:?}; adapter_config.json is not the one it was saved with"
    )]
    TooSmall {
        /// The path of the layer.
        layer: String,
        /// The first tensor that cannot be in it.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A file with the wrong content.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file that could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
}

impl From<FileError> for PeftError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { path, source } => Self::Io { path, source },
            other => Self::File {
                path: other.path().to_path_buf(),
                reason: other.problem(),
            },
        }
    }
}

impl PeftError {
    /// A key whose value cannot be used.
    pub fn value(key: impl Into<String>, value: impl ToString, problem: impl Into<String>) -> Self {
        Self::Value {
            key: key.into(),
            value: value.to_string(),
            problem: problem.into(),
        }
    }

    /// Keys that cannot be used together.
    pub fn conflict(keys: &'static [&'static str], problem: impl Into<String>) -> Self {
        Self::Conflict {
            keys,
            problem: problem.into(),
        }
    }

    /// A configuration that does not fit the layer at this path.
    pub fn unfit(layer: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Unfit {
            layer: layer.into(),
            problem: problem.into(),
        }
    }

    /// The same error with the file or table it is in.
    #[must_use]
    pub fn within(self, place: impl Into<String>) -> Self {
        Self::In {
            place: place.into(),
            error: Box::new(self),
        }
    }

    /// An error about names or patterns that select something that cannot be adapted.
    pub(crate) fn target(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Target {
            key: key.into(),
            problem: problem.into(),
        }
    }

    /// Adapters that cannot be combined.
    pub(crate) fn not_combinable(problem: impl Into<String>) -> Self {
        Self::NotCombinable {
            problem: problem.into(),
        }
    }

    /// An error about the content of a file or folder.
    pub(crate) fn file(path: &Path, reason: impl Into<String>) -> Self {
        Self::File {
            path: path.to_path_buf(),
            reason: reason.into(),
        }
    }

    /// An error about reading or writing a file or folder.
    pub(crate) fn io(path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            path: path.to_path_buf(),
            source,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PeftError;
    use crate::config::Fields;
    use crate::methods::config_from_fields;

    #[test]
    fn an_error_in_a_file_can_be_matched() {
        let read = |text: &str| {
            let error = config_from_fields(Fields::parse(text, "a.json")?).unwrap_err();
            let text = error.to_string();
            let PeftError::In { place, error } = error else {
                panic!("{error:?}");
            };
            assert_eq!(place, "a.json");
            Ok::<_, PeftError>((text, *error))
        };
        let (text, error) = read(r#"{"peft_type": "IA3", "target_modules": 3}"#).unwrap();
        assert!(matches!(&error, PeftError::Value { key, value, .. }
            if key == "target_modules" && value == "3"));
        assert!(text.starts_with("a.json: target_modules = 3: "), "{text}");
        let (text, error) = read(r#"{"peft_type": "LORRA"}"#).unwrap();
        assert!(
            matches!(error, PeftError::UnknownMethod { peft_type, .. } if peft_type == "LORRA")
        );
        assert!(text.starts_with(r#"a.json: peft_type "LORRA" is not supported; supported: LORA"#));
    }
}
