//! A row of a file.

use serde_json::{Map, Value};

/// One row: named values.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its number in the file, counted from 1: of lines, or of rows where there are no lines.
    pub number: usize,
    /// Its values by column.
    pub columns: Map<String, Value>,
}
