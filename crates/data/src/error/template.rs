//! What can be wrong with a chat template, or with a chat under it.

/// What is wrong with a chat template, or with a chat under it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateProblem {
    /// It is longer than a template may be.
    #[error("the chat template ({origin}) has {bytes} bytes, and may have at most {most}")]
    TooLong {
        /// Where it was read.
        origin: String,
        /// Its bytes.
        bytes: usize,
        /// The most it may have.
        most: usize,
    },
    /// A tag of it has more operators than one may.
    #[error(
        "the chat template ({origin}) has more than {most} operators in one tag, in line {line}: \
         write it as several {{% set %}}"
    )]
    Operators {
        /// Where it was read.
        origin: String,
        /// The most a tag may have.
        most: usize,
        /// The line of the tag.
        line: usize,
    },
    /// It has more branches than a template may.
    #[error("the chat template ({origin}) has more than {most} elif, in line {line}")]
    Branches {
        /// Where it was read.
        origin: String,
        /// The most it may have.
        most: usize,
        /// The line of the first that is too much.
        line: usize,
    },
    /// It does what is not supported.
    #[error("the chat template ({origin}) {what}, in line {line}, which is not supported")]
    Unsupported {
        /// Where it was read.
        origin: String,
        /// What it does.
        what: &'static str,
        /// The line that does it.
        line: usize,
    },
    /// minijinja panics on it.
    #[error(
        "the chat template ({origin}) has something that minijinja, which renders it, fails on; \
         write it in another way"
    )]
    Panic {
        /// Where it was read.
        origin: String,
    },
    /// It takes longer or makes more than a chat can need.
    #[error(
        "the chat template ({origin}) does more than a chat can need: it may take {steps} steps \
         and make {megabytes} MiB of text; use another template"
    )]
    OutOfBudget {
        /// Where it was read.
        origin: String,
        /// The steps it may take.
        steps: u64,
        /// The text it may make.
        megabytes: usize,
    },
    /// It cannot be parsed, or it raised an exception.
    #[error("the chat template ({origin}) fails: {error}")]
    Fails {
        /// Where it was read.
        origin: String,
        /// What is wrong.
        error: String,
    },
    /// Its syntax cannot be set up.
    #[error("{0}")]
    Syntax(String),
    /// It makes more text of a chat than can become tokens.
    #[error(
        "the chat template fails: it makes {bytes} bytes of text of one chat, and at most {most} \
         can become tokens"
    )]
    TooMuchText {
        /// The bytes it makes.
        bytes: usize,
        /// The most that can become tokens.
        most: usize,
    },
    /// A message changes the text of those before it.
    #[error(
        "is a chat in which message {0} changes the text of those before it, so that nobody knows \
         what the assistant said: mark that in the chat template with {{% generation %}}, or learn \
         all with data.train_on = \"all\""
    )]
    MessageChangesOthers(usize),
    /// An answer has text, and the template writes nothing of it.
    #[error("is a chat in which the chat template leaves the text of message {0} out")]
    LeavesOut(usize),
    /// What the assistant says lies in what the assistant says.
    #[error("is a chat whose template nests {{% generation %}}")]
    NestedGeneration,
}
