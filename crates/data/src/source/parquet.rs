//! Parquet files, if the crate is built with the feature `parquet`.

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
    use crate::error::{DataError, FileProblem, Result};
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
        Err(DataError::file(name, FileProblem::NoParquet))
    }

    pub fn schema(name: &str, file: File) -> Result<Map<String, Value>> {
        records(name, file, ProgressBar::hidden(), None).map(|_| Map::new())
    }
}

#[cfg(all(test, feature = "parquet"))]
mod tests;
