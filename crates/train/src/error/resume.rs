//! Why a run cannot resume from a checkpoint.

/// Why a run cannot resume from a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeProblem {
    /// It is not a checkpoint.
    #[error("it is not a checkpoint: there is no {0} in it")]
    NoCheckpoint(&'static str),
    /// No checkpoint in the folder is complete.
    #[error("every checkpoint in it is broken; start over without --resume")]
    AllBroken,
    /// A file of it is missing.
    #[error("it is missing")]
    Missing,
    /// A file of it differs from what was written.
    #[error("it is not what the run wrote: it was truncated or changed ({0} bytes)")]
    Changed(u64),
    /// The state of the run differs from what was written.
    #[error("it is not what the run wrote: it was truncated or changed")]
    StateChanged,
    /// The state of the run cannot be read.
    #[error("it is not the state of a run ({bytes} bytes): {error}")]
    NoState {
        /// Its length.
        bytes: usize,
        /// What is wrong with it.
        error: String,
    },
    /// The state of the run cannot be written in TOML.
    #[error("{0}")]
    NoToml(String),
    /// A different value of a key that changes what is computed.
    #[error(
        "its run had {key} = {then}, this one has {now}, and the result would be that of neither; \
         set it back, or start over"
    )]
    OtherKey {
        /// The key.
        key: String,
        /// Its value in the checkpoint.
        then: String,
        /// Its value now.
        now: String,
    },
    /// A different value of a key of the adapter.
    #[error("its adapter has {key} = {then}, this run's has {now}; set it back, or start over")]
    OtherAdapter {
        /// The key.
        key: String,
        /// Its value in the checkpoint.
        then: String,
        /// Its value now.
        now: String,
    },
    /// A different reference policy.
    #[error(
        "its answers are compared with {then}, this run's with {now} (the model alone is `base`, an \
         adapter a hash): give it the adapter that it began with"
    )]
    OtherReference {
        /// The reference of the checkpoint's run.
        then: String,
        /// That of this run.
        now: String,
    },
    /// Different initial weights.
    #[error("its base was {then}, this run's is {now}; give it the same weights")]
    OtherBase {
        /// The checkpoint's model, with the hash of its weights.
        then: String,
        /// This run's.
        now: String,
    },
    /// A different value of a key of the model's `config.json`.
    #[error(
        "its model's config.json had {key} = {then}, this run's has {now}, and the result would be \
         that of neither; set it back, or start over"
    )]
    OtherModel {
        /// The key.
        key: String,
        /// Its value in the checkpoint.
        then: String,
        /// Its value now.
        now: String,
    },
    /// A different amount of data.
    #[error(
        "its run had {} examples with {} tokens to train on, this one has {} with {}; give it the \
         same data, or start over without --resume", then.0, then.1, now.0, now.1
    )]
    OtherLength {
        /// The checkpoint's examples and tokens.
        then: (usize, usize),
        /// This run's.
        now: (usize, usize),
    },
    /// Different data of the same length.
    #[error(
        "its run had other rows to train on, with as many tokens, or the same rows in another \
         order (BLAKE3 {then}, this run's {now}); give it the same data, or start over without \
         --resume"
    )]
    OtherRows {
        /// The hash of the checkpoint's data.
        then: String,
        /// That of this run's.
        now: String,
    },
}

/// Why an optimizer's state cannot be written or used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OptimizerProblem {
    /// It belongs to something that is not a parameter.
    #[error("it has a state for {0}, which is not a parameter")]
    NoParameter(String),
    /// It belongs to a parameter that the model does not have.
    #[error("it has a state for {0}, which is not a parameter of the model")]
    OtherModel(String),
    /// It belongs to another optimizer.
    #[error("the optimizer takes {taken} of its {tensors} tensors")]
    OtherOptimizer {
        /// What the optimizer can use.
        taken: usize,
        /// What was found.
        tensors: usize,
    },
    /// Burn's error about its bytes.
    #[error("{0}")]
    Record(String),
}
