//! What can be wrong with a chat template, or with a chat rendered by it.

/// What is wrong with a chat template, or with a chat rendered by it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateProblem {
    /// It is longer than allowed.
    #[error("the chat template ({origin}) has {bytes} bytes, and may have at most {most}")]
    TooLong {
        /// Where it was read from.
        origin: String,
        /// Its size in bytes.
        bytes: usize,
        /// The largest size allowed.
        most: usize,
    },
    /// One of its tags has too many operators.
    #[error(
        "the chat template ({origin}) has more than {most} operators in one tag, in line {line}: \
         write it as several {{% set %}}"
    )]
    Operators {
        /// Where it was read from.
        origin: String,
        /// The most operators that a tag may have.
        most: usize,
        /// The line of the tag.
        line: usize,
    },
    /// It has too many branches.
    #[error("the chat template ({origin}) has more than {most} elif, in line {line}")]
    Branches {
        /// Where it was read from.
        origin: String,
        /// The most branches allowed.
        most: usize,
        /// The line of the first branch above the limit.
        line: usize,
    },
    /// It uses something that is not supported.
    #[error("the chat template ({origin}) {what}, in line {line}, which is not supported")]
    Unsupported {
        /// Where it was read from.
        origin: String,
        /// What it does.
        what: &'static str,
        /// The line that does so.
        line: usize,
    },
    /// minijinja panics on it.
    #[error(
        "the chat template ({origin}) has something that minijinja, which renders it, fails on; \
         write it in another way"
    )]
    Panic {
        /// Where it was read from.
        origin: String,
    },
    /// It takes more steps, or makes more text, than any chat needs.
    #[error(
        "the chat template ({origin}) does more than a chat can need: it may take {steps} steps \
         and make {megabytes} MiB of text; use another template"
    )]
    OutOfBudget {
        /// Where it was read from.
        origin: String,
        /// The steps allowed.
        steps: u64,
        /// The text allowed, in MiB.
        megabytes: usize,
    },
    /// It cannot be parsed, or it raised an exception.
    #[error("the chat template ({origin}) fails: {error}")]
    Fails {
        /// Where it was read from.
        origin: String,
        /// What is wrong.
        error: String,
    },
    /// The syntax could not be configured.
    #[error("{0}")]
    Syntax(String),
    /// It makes more text from a chat than can be tokenised.
    #[error(
        "the chat template fails: it makes {bytes} bytes of text of one chat, and at most {most} \
         can become tokens"
    )]
    TooMuchText {
        /// The bytes of text that it makes.
        bytes: usize,
        /// The most that can be tokenised.
        most: usize,
    },
    /// A message changes the text of the messages before it.
    #[error(
        "is a chat in which message {0} changes the text of those before it, so it is unclear \
         what the assistant said: mark that in the chat template with {{% generation %}}, or learn \
         all with data.train_on = \"all\""
    )]
    MessageChangesOthers(usize),
    /// An answer has text that the template leaves out.
    #[error("is a chat in which the chat template leaves out the text of message {0}")]
    LeavesOut(usize),
    /// The marks of the assistant's text are nested.
    #[error("is a chat whose template nests {{% generation %}}")]
    NestedGeneration,
}
