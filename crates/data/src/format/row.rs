//! A row of a file.

use serde_json::{Map, Value};

/// One row: named values.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Where it stands in its file, counted from 1: a line, or a row where there are no lines.
    pub number: usize,
    /// Its values by column.
    pub columns: Map<String, Value>,
}
