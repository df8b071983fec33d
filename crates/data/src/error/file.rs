//! What can be wrong with a file of rows as a whole.

/// The kinds of files that are read, by the ends of their names.
pub const FILE_KINDS: &str = ".jsonl, .ndjson, .json, .csv, .tsv, .txt, .text, .md and .parquet";

/// What is wrong with a file, to be read after its name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileProblem {
    /// It is of another kind than it should be: compressed, UTF-16, a Git LFS pointer, ….
    #[error("{0}")]
    Content(String),
    /// Its name ends in this, which is no kind of file that is read.
    #[error("ends in {0:?}, a kind of file that is not read; read are {FILE_KINDS}")]
    Kind(String),
    /// It is Parquet, and the crate was built without.
    #[error(
        "is Parquet, which this peft was built without: build it with `--features parquet`, or \
         write the rows as .jsonl"
    )]
    NoParquet,
    /// It is broken Parquet.
    #[error("is no Parquet file that can be read: {0}")]
    Parquet(String),
    /// Two of its columns have this name.
    #[error("has the column {0:?} twice; which of them is meant cannot be told, so rename one")]
    ColumnTwice(String),
    /// Its first row is an empty object.
    #[error("has a first row without columns: {{}}")]
    NoColumns,
    /// It has one column, by whose name a separator was not the one that was expected.
    #[error(
        "has one column, {column:?}: is {separator} what stands between its columns? Here that is \
         a comma in .csv and a tab in .tsv; save it as one of them, or rename the column"
    )]
    OneColumn {
        /// The column's name.
        column: String,
        /// What the separator is called.
        separator: &'static str,
    },
    /// A record of CSV has more or fewer values than there are columns.
    #[error(
        "is not CSV:{} has {values} values, and there are {columns} columns", at(*line)
    )]
    Values {
        /// The line, where it is known.
        line: Option<usize>,
        /// The record's values.
        values: u64,
        /// The columns.
        columns: u64,
    },
    /// It is not CSV.
    #[error("is not CSV: {0}")]
    Csv(String),
    /// It could not be read to its end.
    #[error("{0}")]
    Read(String),
    /// It is not UTF-8.
    #[error("is not UTF-8 text: {error}{}; save it as UTF-8", of(*line))]
    Utf8 {
        /// The line, where it is read by lines.
        line: Option<usize>,
        /// Where in it.
        error: std::str::Utf8Error,
    },
    /// A record of CSV is not UTF-8.
    #[error("is not UTF-8 text:{} holds {error}; save it as UTF-8", at(*line))]
    RecordUtf8 {
        /// The line, where it is known.
        line: Option<usize>,
        /// What it holds.
        error: String,
    },
    /// It is not JSON.
    #[error("is not JSON: {0}")]
    Json(String),
    /// A list in it is asked for, and it is no object.
    #[error("is no object that holds a list `{0}`")]
    NoObject(String),
    /// It holds no list of this name.
    #[error("holds no list `{list}`; the lists of rows it holds are {lists}")]
    NoList {
        /// The name.
        list: String,
        /// The lists there are, with their lengths.
        lists: String,
    },
    /// It holds several lists of rows.
    #[error(
        "holds several lists of rows: {lists}; name the one that is meant, as in {file}:{first}"
    )]
    SeveralLists {
        /// The lists, with their lengths.
        lists: String,
        /// The file.
        file: String,
        /// The first list.
        first: String,
    },
    /// A list in it is asked for, and it is not JSON.
    #[error("asks for a list in a file; only a .json file holds lists to choose from")]
    ListOfOther,
    /// A slice begins or ends in no row.
    #[error(
        "cannot be cut out of {rows} rows: {bound} is neither a row from -{rows} to {rows} nor a \
         share from -100% to 100%"
    )]
    Slice {
        /// The bound as it was written.
        bound: String,
        /// The rows of the file.
        rows: usize,
    },
    /// A slice holds nothing.
    #[error("is empty: rows {from} to {to} of {rows}")]
    EmptySlice {
        /// The first row, counted from 0.
        from: usize,
        /// The row behind the last.
        to: usize,
        /// The rows of the file.
        rows: usize,
    },
    /// It holds pairs of answers.
    #[error(
        "holds preferences (`chosen` and `rejected`), and training here learns one answer, it does \
         not compare two: choose an objective that does (training.objective = \"dpo\"), name the \
         answer with data.completion_field = \"chosen\" (or \
         data.text_field, where it holds the prompt too), or leave both columns out"
    )]
    Preferences,
    /// It holds no pairs of answers.
    #[error(
        "has no pairs of answers, which this objective compares: its columns are {}, and a row of a \
         pair has `chosen` and `rejected`, with or without `prompt` (docs/preference.md)",
        names(.0)
    )]
    NoPairs(Vec<String>),
    /// It holds answers that nobody judges.
    #[error(
        "does not say which answers are good ones: its columns are {}, and beside the answer a row \
         has `label` (or `kto_tag`), true or false; or it is a pair of `chosen` and `rejected` \
         (docs/preference.md)",
        names(.0)
    )]
    NoLabel(Vec<String>),
    /// All its answers are of one kind.
    #[error(
        "has {0} answers only, and this objective learns from good ones beside bad ones: add rows of the \
         other kind"
    )]
    OneKind(&'static str),
}

fn names(columns: &[String]) -> String {
    let columns = columns.iter().map(|column| format!("`{column}`"));
    columns.collect::<Vec<_>>().join(", ")
}

fn at(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(" line {line}"))
}

fn of(line: Option<usize>) -> String {
    line.map_or_else(String::new, |line| format!(" of line {line}"))
}

impl From<&str> for FileProblem {
    /// What bytes are that are no text.
    fn from(content: &str) -> Self {
        Self::Content(content.into())
    }
}
