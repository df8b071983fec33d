//! What can be wrong with a setting of the `[data]` table, and why a file leaves nothing to train
//! on.

use crate::mixture::StoppingStrategy;
use crate::tokens::example::Limits;
use crate::tokens::train_on::TrainOn;

/// What is wrong with a setting; the text continues a sentence that begins with the key.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingProblem {
    /// A number that is too small.
    #[error("is {value}; it must be {least} or more")]
    TooSmall {
        /// The number.
        value: usize,
        /// The smallest value allowed.
        least: usize,
    },
    /// A length that is larger than the model can take.
    #[error("is {value}, more than {}", limits.positions())]
    TooLong {
        /// The length.
        value: usize,
        /// The most that the model takes.
        limits: Limits,
    },
    /// Two settings that exclude each other.
    #[error("and data.{0} are both set; keep one of them")]
    Both(&'static str),
    /// Two settings say what is learnt, and disagree.
    #[error(
        "is \"{train_on}\" and data.completion_only_loss is {only}, which says something else; keep \
         one of them"
    )]
    Contradicts {
        /// What the one says.
        train_on: TrainOn,
        /// What the other says.
        only: bool,
    },
    /// A key about what is learnt, with an objective that compares answers.
    #[error(
        "is {value}, and this objective compares answers, of pairs `chosen` and `rejected`: leave it out"
    )]
    OfAnswers {
        /// Its value.
        value: String,
    },
    /// A key that has no meaning for an objective without labels.
    #[error(
        "is {0:?}, and this objective learns no labels: leave it out, or set training.objective to \
         \"classify\" or \"tag\""
    )]
    NoLabels(String),
    /// A split that is neither a share nor a number.
    #[error("is {0}; give a share between 0 and 1, or a number of rows")]
    Split(f64),
    /// A split that takes all the rows.
    #[error(
        "is {size}, which takes {count} of the {rows} rows of {file} and leaves none to train on"
    )]
    SplitOfAll {
        /// The split.
        size: f64,
        /// The number of rows that it takes.
        count: usize,
        /// The number of rows in the file.
        rows: usize,
        /// Their file.
        file: String,
    },
    /// A setting for plain text, with a file of another kind.
    #[error("is for plain text (.txt) only, and data is {0}")]
    NoText(String),
    /// Columns that the setting names and the file does not have.
    #[error("{}, but {file} has the columns {}", wanted, columns.join(", "))]
    NoColumn {
        /// What the setting asks for.
        wanted: WantedColumn,
        /// The file.
        file: String,
        /// The columns that the file has.
        columns: Vec<String>,
    },
    /// Padding to more than the model can take.
    #[error(
        "is {multiple}, which pads {longest} tokens of {file} to {width}, more than {}",
        limits.positions()
    )]
    Padding {
        /// The multiple that batches are padded to.
        multiple: usize,
        /// The length of the longest row.
        longest: usize,
        /// Their file.
        file: String,
        /// The length after padding.
        width: usize,
        /// The most that the model takes.
        limits: Limits,
    },
    /// Packing, with examples that have to stay together.
    #[error("is true, but the {0} examples of a row stay together")]
    Packing(usize),
    /// Packing, with examples that need a row each.
    #[error("is true, but each text stays in a row of its own with this objective")]
    NoPacking,
    /// An empty list of sets.
    #[error("is an empty list; name a file, or several")]
    NoSets,
    /// A set without a path.
    #[error("is empty; name a file, a folder, or a data set on the Hub")]
    NoPath,
    /// An invalid weight.
    #[error("is {value}; give {path} a number above 0, or leave it out")]
    Weight {
        /// The weight.
        value: f64,
        /// The path of the set.
        path: String,
    },
    /// A weight for rows that are evaluated on.
    #[error("is {0}, and every row is evaluated on once; leave it out")]
    NoWeight(f64),
    /// A set that is in the list twice.
    #[error(
        "is {path}, as {first} has it; leave one of the two out: in data.train a weight makes \
         rows come more often"
    )]
    SameSet {
        /// The path of the set.
        path: String,
        /// The entry that has it already.
        first: String,
    },
    /// A split, beside a path that has a slice.
    #[error("is {split:?}, and {path} has a slice of its own; keep one of them")]
    TwoSlices {
        /// The split.
        split: String,
        /// The path of the set.
        path: String,
    },
    /// A split of a single file.
    #[error(
        "is {split:?}, and {path} is a file, which has the split train alone; a slice of its rows is \
         \"[:500]\""
    )]
    NoSplit {
        /// The split.
        split: String,
        /// The path of the set.
        path: String,
    },
    /// Two settings of one set that exclude each other.
    #[error("and {0} of the same entry are both set; keep one of them")]
    BothOfSet(&'static str),
    /// A rule for the end of a mixture, without weights.
    #[error(
        "is \"{0}\", and no set of data.train has a weight: then every row comes once in an epoch; \
         give weights, or leave it out"
    )]
    NoWeights(StoppingStrategy),
    /// Weights that are too far apart.
    #[error(
        "is \"all_exhausted\", and with weights so far apart for sets of {} rows an epoch has \
         hundreds of millions of rows; give weights that are closer, or \"first_exhausted\"",
        rows(.0)
    )]
    LongEpoch(Vec<usize>),
    /// It cannot be written as JSON.
    #[error("cannot be written as JSON: {0}")]
    NoJson(String),
}

fn rows(rows: &[usize]) -> String {
    let rows = rows.iter().map(ToString::to_string);
    rows.collect::<Vec<_>>().join(", ")
}

/// The columns of a file that a setting asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WantedColumn {
    /// A column.
    #[error("is {0:?}")]
    Named(String),
    /// A column that a template names.
    #[error("asks for {{{0}}}")]
    OfTemplate(String),
    /// A column of completions, without a column that they complete.
    #[error(
        "is {0:?}, and there is neither `prompt` nor `instruction` nor `messages` for it to \
         complete; write the prompt with data.template"
    )]
    WithPrompt(String),
}

/// Why a file leaves nothing to train on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmptyProblem {
    /// It is empty.
    #[error("the file is empty")]
    File,
    /// It has no rows.
    #[error("it has no rows")]
    Rows,
    /// All its rows were dropped; says why.
    #[error("{}", .0.join("; "))]
    LeftOut(Vec<String>),
    /// None of its rows has a label.
    #[error("no row has a label (a column label, labels, class, category or target)")]
    Labels,
    /// None of its words has a tag.
    #[error("no word has a tag (a column ner_tags, tags, labels, pos_tags or ner)")]
    Tags,
    /// There are no examples.
    #[error("nothing to train on")]
    Examples,
    /// The rows of a batch have no tokens.
    #[error("the rows of a batch have no tokens")]
    Tokens,
}
