//! Computing things once instead of at every pass or for every layer.

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Int, Tensor};
use indexmap::IndexMap;

use crate::{LayerInfo, Result};

/// Constants on a device, without a graph, computed when they are first needed. A layer lives on
/// one device; on another one they are computed every time.
#[derive(Debug)]
pub(in crate::methods) struct OnDevice<T>(OnceLock<(Device, T)>);

impl<T> Default for OnDevice<T> {
    fn default() -> Self {
        Self(OnceLock::new())
    }
}

impl<T: Clone> OnDevice<T> {
    pub fn get(&self, device: &Device, make: impl Fn(&Device) -> T) -> T {
        let device = device.clone().without_autodiff();
        let (of, made) = self.0.get_or_init(|| (device.clone(), make(&device)));
        if *of == device {
            made.clone()
        } else {
            make(&device)
        }
    }
}

/// Indices for `select`.
pub(in crate::methods) fn indices(
    places: impl Iterator<Item = usize>,
    device: &Device,
) -> Tensor<1, Int> {
    let places: Vec<i64> = places.map(|place| place as i64).collect();
    Tensor::from_data(places.as_slice(), device)
}

/// Calls `make` for each layer; layers with the same `key` share the result.
///
/// # Errors
/// The errors of `key` and `make`.
pub(in crate::methods) fn shared_by<K: Copy + Eq + Hash, T>(
    layers: &[&LayerInfo],
    key: impl Fn(&LayerInfo) -> Result<K>,
    make: impl Fn(&LayerInfo, K) -> Result<T>,
) -> Result<Vec<Arc<T>>> {
    let mut by_key: IndexMap<K, Arc<T>> = IndexMap::new();
    let of_layer = |layer: &&LayerInfo| {
        let key = key(layer)?;
        if let Some(made) = by_key.get(&key) {
            return Ok(Arc::clone(made));
        }
        let made = Arc::new(make(layer, key)?);
        by_key.insert(key, Arc::clone(&made));
        Ok(made)
    };
    layers.iter().map(of_layer).collect()
}
