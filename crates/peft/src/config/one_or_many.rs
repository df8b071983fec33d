//! A value for which Python accepts one item or a list of items.

use serde::{Deserialize, Serialize};

/// One value or a list of values, written back the way it was given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "expected one value or a list of them")]
pub enum OneOrMany<T> {
    /// A single value.
    One(T),
    /// A list.
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    /// The values, in order.
    pub fn as_slice(&self) -> &[T] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Many(values) => values,
        }
    }
}

impl OneOrMany<String> {
    /// The strings, where `""` and `[]` both mean "none given", as in PEFT.
    pub fn given(&self) -> &[String] {
        match self {
            Self::One(value) if value.is_empty() => &[],
            _ => self.as_slice(),
        }
    }
}
