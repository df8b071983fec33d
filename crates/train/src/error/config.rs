//! What can be wrong with a training file, or with an override.

/// What is wrong with a training file, or with a `--set`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigProblem {
    /// It is not valid TOML, or a value has another type; with the parser's message.
    #[error("{0}")]
    Toml(String),
    /// A value of the configuration cannot be written in TOML.
    #[error("cannot be written as TOML: {0}")]
    NoToml(String),
    /// A value that is not a text, for a key that takes one of some words.
    #[error("{key} = {value}: expected {words}")]
    NoWord {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// The words.
        words: String,
    },
    /// A number that is infinite or NaN.
    #[error("{key} = {value}: it must be a finite number")]
    NotFinite {
        /// The key.
        key: String,
        /// Its value.
        value: String,
    },
    /// A key of transformers that is not supported.
    #[error("{0} is a key of transformers that this trainer does not support yet; remove it")]
    Unsupported(String),
    /// An unknown key.
    #[error("{key} is not a known key; {}", way_out(meant, note, known))]
    UnknownKey {
        /// The key.
        key: String,
        /// The keys that may have been meant, the most likely first.
        meant: Vec<String>,
        /// A remark about them; often empty.
        note: &'static str,
        /// The known keys.
        known: Vec<String>,
    },
    /// An unknown method in `[peft]`.
    #[error("peft_type = \"{peft_type}\" is not a method; did you mean {meant}?")]
    NoMethod {
        /// The method.
        peft_type: String,
        /// Its name here.
        meant: String,
    },
    /// The method's error about its keys.
    #[error("{0}")]
    Method(String),
    /// A task that the objective cannot train.
    #[error(
        "peft.task_type = {task}: training.objective = \"{objective}\" trains {trained}; leave the \
         key out, or choose another objective"
    )]
    Task {
        /// The task.
        task: String,
        /// The objective.
        objective: &'static str,
        /// The task that it trains.
        trained: String,
    },
    /// Both a new adapter and a saved one.
    #[error(
        "has both `adapter` and [peft]; keep `adapter` to continue training a saved adapter, or [peft] \
         to begin a new one"
    )]
    TwoAdapters,
    /// No adapter.
    #[error(
        "names no adapter; add a [peft] table (peft_type = \"LORA\", r = 8, …) for a new \
         one, or adapter = \"DIR\" to continue training a saved one"
    )]
    NoAdapter,
    /// An invalid value in an objective's table.
    #[error("{0}")]
    Objective(String),
    /// The table of an objective that is not used.
    #[error(
        "has a table [{table}], and training.objective = \"{chosen}\": set training.objective = \
         \"{table}\", or leave the table out"
    )]
    OtherObjective {
        /// The table.
        table: &'static str,
        /// The objective of the run.
        chosen: &'static str,
    },
    /// A reference, for an objective that needs none.
    #[error(
        "has `reference`, and training.objective = \"{0}\" compares with no other model: leave it out"
    )]
    NoReference(&'static str),
    /// Two ways to quantise at once.
    #[error(
        "quantization_config has load_in_4bit = true and load_in_8bit = true: keep one of the two"
    )]
    TwoQuantizations,
    /// A key for eight-bit products without the key that it requires.
    #[error("quantization_config has {0} = true without {1} = true: add it, or remove {0}")]
    Int8Without(&'static str, &'static str),
    /// Layers that are not to be quantised, in a run that quantises none.
    #[error(
        "quantization_config has llm_int8_skip_modules, and neither load_in_8bit = true nor \
         load_in_4bit = true: add one, or leave llm_int8_skip_modules out"
    )]
    SkipsNothing,
    /// Two types for products with quantised weights.
    #[error(
        "quantization_config has int8_compute = true, which multiplies in eight bits, and \
         bnb_4bit_compute_dtype: keep one of the two"
    )]
    TwoComputeTypes,
    /// A 4-bit type, with weights in 8 bits.
    #[error(
        "quantization_config has load_in_8bit = true and bnb_4bit_quant_type = \"fp4\", which is of 4 bits: \
         keep one of the two"
    )]
    FourBitType,
    /// Quantisation of weights that are trained.
    #[error(
        "quantization_config quantises frozen weights, and with peft.peft_type = \"NONE\" none is \
         frozen: remove one of the two"
    )]
    NothingFrozen,
    /// A value of `[distributed]` that is invalid or has no effect.
    #[error("distributed.{0}")]
    Distributed(String),
    /// A `--set` without `=`.
    #[error("is not key=value")]
    NoAssignment,
    /// A `--set` without a key.
    #[error("has no key before the `=`: {0:?}")]
    NoKey(String),
    /// A `--set` without a value.
    #[error("has no key")]
    NoPath,
    /// A `--set` of a key below a value.
    #[error("goes into `{name}`, which is a {kind} and has no keys")]
    IntoValue {
        /// The key of the value.
        name: String,
        /// What kind of value it is.
        kind: &'static str,
    },
    /// A `--set` of the whole `[peft]` table.
    #[error("[peft] is a table of keys: set one of them, such as peft.r=8")]
    PeftTable,
    /// A `--set` of a malformed list, table or text.
    #[error(
        "the value is not valid TOML: quote strings inside of it, and all of it for the shell, as in \
         --set 'peft.target_modules=[\"c_attn\"]'"
    )]
    BrokenValue,
}

fn way_out(meant: &[String], note: &str, known: &[String]) -> String {
    match (meant.join(" or "), note) {
        (meant, "") if meant.is_empty() => format!("known: {}", known.join(", ")),
        (meant, note) if meant.is_empty() => note.to_string(),
        (meant, "") => format!("did you mean {meant}?"),
        (meant, note) => format!("did you mean {meant} ({note})?"),
    }
}
