//! Parquet files, where the crate is built with the feature `parquet`.

#[cfg(feature = "parquet")]
mod pages;
#[cfg(feature = "parquet")]
mod read;
#[cfg(feature = "parquet")]
pub(crate) use read::{records, schema};

#[cfg(not(feature = "parquet"))]
pub(crate) use without::{records, schema};

#[cfg(not(feature = "parquet"))]
mod without {
    use crate::error::{DataError, Result};
    use crate::source::Records;
    use indicatif::ProgressBar;
    use serde_json::{Map, Value};
    use std::fs::File;

    pub fn records<'a>(
        name: &str,
        _: File,
        _: ProgressBar,
        _: Option<&[String]>,
    ) -> Result<Records<'a>> {
        Err(DataError::File {
            file: name.into(),
            problem: "is Parquet, which this peft was built without: build it with \
                      `--features parquet`, or write the rows as .jsonl"
                .into(),
        })
    }

    pub fn schema(name: &str, file: File) -> Result<Map<String, Value>> {
        records(name, file, ProgressBar::hidden(), None).map(|_| Map::new())
    }
}

#[cfg(all(test, feature = "parquet"))]
mod tests;
