//! What can be wrong with a data file as a whole.

/// The kinds of files that can be read, by extension.
pub const FILE_KINDS: &str = ".jsonl, .ndjson, .json, .csv, .tsv, .txt, .text, .md and .parquet";

/// What is wrong with a file; the text continues a sentence that begins with the file's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileProblem {
    /// Its content is of another kind: compressed, UTF-16, a Git LFS pointer, ….
    #[error("{0}")]
    Content(String),
    /// Its extension is not one that can be read.
    #[error("ends in {0:?}, a kind of file that is not supported; supported: {FILE_KINDS}")]
    Kind(String),
    /// It is a Parquet file, and this crate was built without Parquet.
    #[error(
        "is Parquet, which this peft was built without: build it with `--features parquet`, or \
         write the rows as .jsonl"
    )]
    NoParquet,
    /// It is a damaged Parquet file.
    #[error("is not a Parquet file that can be read: {0}")]
    Parquet(String),
    /// Two of its columns have the same name.
    #[error("has the column {0:?} twice; rename one of them")]
    ColumnTwice(String),
    /// Its first row is an object without columns.
    #[error("has a first row without columns: {{}}")]
    NoColumns,
    /// It has a single column whose name looks as if another separator was used.
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
    /// A CSV record has more or fewer values than there are columns.
    #[error(
        "is not CSV:{} has {values} values, and there are {columns} columns", at(*line)
    )]
    Values {
        /// The line, if known.
        line: Option<usize>,
        /// The number of values in the record.
        values: u64,
        /// The number of columns.
        columns: u64,
    },
    /// It is not valid CSV.
    #[error("is not CSV: {0}")]
    Csv(String),
    /// It could not be read to the end.
    #[error("{0}")]
    Read(String),
    /// It is not valid UTF-8.
    #[error("is not UTF-8 text: {error}{}; save it as UTF-8", of(*line))]
    Utf8 {
        /// The line, if the file is read line by line.
        line: Option<usize>,
        /// Where the error is.
        error: std::str::Utf8Error,
    },
    /// A CSV record is not valid UTF-8.
    #[error("is not UTF-8 text:{} holds {error}; save it as UTF-8", at(*line))]
    RecordUtf8 {
        /// The line, if known.
        line: Option<usize>,
        /// The bytes found.
        error: String,
    },
    /// It is not valid JSON.
    #[error("is not JSON: {0}")]
    Json(String),
    /// A list inside it is asked for, but the file does not hold an object.
    #[error("is not an object that holds a list `{0}`")]
    NoObject(String),
    /// It has no list of this name.
    #[error("holds no list `{list}`; the lists of rows it holds are {lists}")]
    NoList {
        /// The name.
        list: String,
        /// The lists that it has, with their lengths.
        lists: String,
    },
    /// It has several lists of rows.
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
    /// A list inside it is asked for, but it is not a JSON file.
    #[error("asks for a list in a file; only a .json file holds lists to choose from")]
    ListOfOther,
    /// A slice begins or ends at a row that does not exist.
    #[error(
        "cannot be cut out of {rows} rows: {bound} is neither a row from -{rows} to {rows} nor a \
         share from -100% to 100%"
    )]
    Slice {
        /// The bound as written.
        bound: String,
        /// The number of rows in the file.
        rows: usize,
    },
    /// A slice contains no rows.
    #[error("is empty: rows {from} to {to} of {rows}")]
    EmptySlice {
        /// The first row of the slice, counted from 0.
        from: usize,
        /// The row after the last.
        to: usize,
        /// The number of rows in the file.
        rows: usize,
    },
    /// It has pairs of answers, and one answer is wanted.
    #[error(
        "has preferences (`chosen` and `rejected`), but this objective learns one answer and does \
         not compare two: choose an objective that does (training.objective = \"dpo\"), name the \
         answer with data.completion_field = \"chosen\" (or \
         data.text_field, where it holds the prompt too), or leave both columns out"
    )]
    Preferences,
    /// It has no pairs of answers, and pairs are wanted.
    #[error(
        "has no pairs of answers, which this objective compares: its columns are {}, and a row of a \
         pair has `chosen` and `rejected`, with or without `prompt` (docs/preference.md)",
        names(.0)
    )]
    NoPairs(Vec<String>),
    /// It has answers without a judgement, and one is wanted.
    #[error(
        "does not say which answers are good: its columns are {}, and beside the answer a row \
         has `label` (or `kto_tag`), true or false; or it is a pair of `chosen` and `rejected` \
         (docs/preference.md)",
        names(.0)
    )]
    NoLabel(Vec<String>),
    /// All its answers are good, or all are bad.
    #[error(
        "has {0} answers only, and this objective needs both good and bad ones: add rows of the \
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
    /// What kind of bytes these are, if they are not text.
    fn from(content: &str) -> Self {
        Self::Content(content.into())
    }
}
