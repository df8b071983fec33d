//! The tensors in an adapter's file, and their keys.

use crate::AnyParam;

/// A tensor that is saved with an adapter.
pub(crate) struct Entry<'a> {
    /// Its key in the file.
    pub key: &'a str,
    pub param: &'a mut dyn AnyParam,
    /// Whether the file holds it transposed.
    pub transposed: bool,
    /// Whether it may be missing, or was visited under another key before.
    pub repeated: bool,
    /// Whether it belongs to the base and is trained with the adapter.
    pub of_base: bool,
    /// For a tensor of the method: the path of its layer, and its name.
    pub tensor: Option<(&'a str, &'a str)>,
    /// For indices: the upper limit of each row.
    pub limits: &'a [usize],
}

impl<'a> Entry<'a> {
    pub fn new(key: &'a str, param: &'a mut dyn AnyParam, transposed: bool) -> Self {
        Self {
            key,
            param,
            transposed,
            repeated: false,
            of_base: false,
            tensor: None,
            limits: &[],
        }
    }

    /// The same parameter under another key.
    pub fn repeated(key: &'a str, param: &'a mut dyn AnyParam) -> Self {
        Self {
            repeated: true,
            ..Self::new(key, param, false)
        }
    }
}
