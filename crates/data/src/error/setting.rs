//! Which settings of the `[data]` table cannot be, and why a file gives nothing to train on.

use crate::mixture::StoppingStrategy;
use crate::tokens::example::Limits;
use crate::tokens::train_on::TrainOn;

/// What is wrong with a setting, to be read after its key.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingProblem {
    /// A number that is too small.
    #[error("is {value}; it must be {least} or more")]
    TooSmall {
        /// The number.
        value: usize,
        /// The least it can be.
        least: usize,
    },
    /// A length beyond what the model can take.
    #[error("is {value}, more than {}", limits.positions())]
    TooLong {
        /// The length.
        value: usize,
        /// What the model can take.
        limits: Limits,
    },
    /// Two settings that exclude each other.
    #[error("and data.{0} are both set; keep one of them")]
    Both(&'static str),
    /// Two settings say what is learnt, and not the same.
    #[error(
        "is \"{train_on}\" and data.completion_only_loss is {only}, which says something else; keep \
         one of them"
    )]
    Contradicts {
        /// What the one says.
        train_on: TrainOn,
        /// And the other.
        only: bool,
    },
    /// A key about what is learnt, where answers are compared.
    #[error(
        "is {value}, and this objective compares answers, of pairs `chosen` and `rejected`: leave it out"
    )]
    OfAnswers {
        /// Its value.
        value: String,
    },
    /// It means nothing where rows have no labels.
    #[error(
        "is {0:?}, and this objective learns no labels: leave it out, or set training.objective to \
         \"classify\" or \"tag\""
    )]
    NoLabels(String),
    /// A split that is neither a share nor a number.
    #[error("is {0}; give a share between 0 and 1, or a number of rows")]
    Split(f64),
    /// A split that takes all rows.
    #[error(
        "is {size}, which takes {count} of the {rows} rows of {file} and leaves none to train on"
    )]
    SplitOfAll {
        /// The split.
        size: f64,
        /// The rows it takes.
        count: usize,
        /// The rows there are.
        rows: usize,
        /// Their file.
        file: String,
    },
    /// A setting for plain text, and the file is another.
    #[error("is for plain text (.txt) only, and data is {0}")]
    NoText(String),
    /// Columns that it asks for and the file does not have.
    #[error("{}, but {file} has the columns {}", wanted, columns.join(", "))]
    NoColumn {
        /// What it asks for.
        wanted: WantedColumn,
        /// The file.
        file: String,
        /// The columns there are.
        columns: Vec<String>,
    },
    /// Padding beyond what the model can take.
    #[error(
        "is {multiple}, which pads {longest} tokens of {file} to {width}, more than {}",
        limits.positions()
    )]
    Padding {
        /// The multiple that is padded to.
        multiple: usize,
        /// The tokens of the longest row.
        longest: usize,
        /// Their file.
        file: String,
        /// What they are padded to.
        width: usize,
        /// What the model can take.
        limits: Limits,
    },
    /// Packing of examples that belong together.
    #[error("is true, but the {0} examples of a row stay together")]
    Packing(usize),
    /// Packing of examples that stay in rows of their own.
    #[error("is true, but each text stays in a row of its own with this objective")]
    NoPacking,
    /// A list of sets without one.
    #[error("is an empty list; name a file, or several")]
    NoSets,
    /// A set without a path.
    #[error("is empty; name a file, a folder, or a data set on the Hub")]
    NoPath,
    /// A weight that is none.
    #[error("is {value}; give {path} a number above 0, or leave it out")]
    Weight {
        /// The weight.
        value: f64,
        /// The path of the set.
        path: String,
    },
    /// A weight of rows that are evaluated on.
    #[error("is {0}, and every row is evaluated on once; leave it out")]
    NoWeight(f64),
    /// A set that is in the list already.
    #[error(
        "is {path}, as {first} has it; leave one of the two out: in data.train a weight makes \
         rows come more often"
    )]
    SameSet {
        /// The path of the set.
        path: String,
        /// The entry that has it too.
        first: String,
    },
    /// A split of a path that has a slice.
    #[error("is {split:?}, and {path} has a slice of its own; keep one of them")]
    TwoSlices {
        /// The split.
        split: String,
        /// The path of the set.
        path: String,
    },
    /// A split of a file.
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
    /// Two settings of a set that exclude each other.
    #[error("and {0} of the same entry are both set; keep one of them")]
    BothOfSet(&'static str),
    /// A rule for the end of a mixture that is none.
    #[error(
        "is \"{0}\", and no set of data.train has a weight: then every row comes once in an epoch; \
         give weights, or leave it out"
    )]
    NoWeights(StoppingStrategy),
    /// Weights that lie too far apart.
    #[error(
        "is \"all_exhausted\", and with weights so far apart for sets of {} rows an epoch has \
         hundreds of millions of rows; give weights that are closer, or \"first_exhausted\"",
        rows(.0)
    )]
    LongEpoch(Vec<usize>),
    /// It cannot be written down.
    #[error("cannot be written as JSON: {0}")]
    NoJson(String),
}

fn rows(rows: &[usize]) -> String {
    let rows = rows.iter().map(ToString::to_string);
    rows.collect::<Vec<_>>().join(", ")
}

/// What a setting asks for of the columns of a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WantedColumn {
    /// A column.
    #[error("is {0:?}")]
    Named(String),
    /// A column of a template.
    #[error("asks for {{{0}}}")]
    OfTemplate(String),
    /// A column of completions, and one that they complete.
    #[error(
        "is {0:?}, and there is neither `prompt` nor `instruction` nor `messages` for it to \
         complete; write the prompt with data.template"
    )]
    WithPrompt(String),
}

/// Why a file gives nothing to train on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmptyProblem {
    /// It has no content.
    #[error("the file is empty")]
    File,
    /// It has no rows.
    #[error("it has no rows")]
    Rows,
    /// All its rows are left out: why, in words.
    #[error("{}", .0.join("; "))]
    LeftOut(Vec<String>),
    /// No row has a label.
    #[error("no row has a label (a column label, labels, class, category or target)")]
    Labels,
    /// No word has a tag.
    #[error("no word has a tag (a column ner_tags, tags, labels, pos_tags or ner)")]
    Tags,
    /// There are no examples.
    #[error("nothing to train on")]
    Examples,
    /// The rows of a batch have no tokens.
    #[error("the rows of a batch have no tokens")]
    Tokens,
}
