//! The tokenised examples of several files, numbered one file after the other.

use crate::tokens::example::Example;
use crate::tokens::store::Store;
use blake3::{Hash, Hasher};
use std::sync::Arc;

/// Stores one after the other.
#[derive(Clone, Debug)]
pub(crate) struct Stores {
    stores: Vec<Arc<Store>>,
    /// The number of the first example of each.
    firsts: Vec<usize>,
}

impl Stores {
    pub fn one(store: Store) -> Self {
        Self {
            stores: vec![Arc::new(store)],
            firsts: vec![0],
        }
    }

    pub fn join<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let stores = all.into_iter().flat_map(|stores| stores.stores.clone());
        let stores: Vec<Arc<Store>> = stores.collect();
        let mut first = 0;
        let firsts = stores.iter().map(|store| {
            first += store.len();
            first - store.len()
        });
        let firsts = firsts.collect();
        Self { stores, firsts }
    }

    pub fn len(&self) -> usize {
        self.stores.iter().map(|store| store.len()).sum()
    }

    /// The number of tokens of each example.
    pub fn lengths(&self) -> impl Iterator<Item = usize> + '_ {
        self.stores.iter().flat_map(|store| store.lengths())
    }

    /// The index of the store that holds an example.
    pub fn store_of(&self, index: usize) -> usize {
        self.firsts.partition_point(|first| *first <= index) - 1
    }

    /// The number of labels of an example that count.
    pub fn supervised(&self, index: usize) -> usize {
        let store = self.store_of(index);
        self.stores[store].supervised(index - self.firsts[store])
    }

    /// A copy of an example.
    pub fn get(&self, index: usize) -> Example {
        let store = self.store_of(index);
        self.stores[store].get(index - self.firsts[store])
    }

    /// The BLAKE3 hash of the tokens and labels of all examples; for a single file, the file's.
    pub fn hash(&self) -> Hash {
        if let [store] = &self.stores[..] {
            return *store.hash();
        }
        let mut hasher = Hasher::new();
        for store in &self.stores {
            hasher.update(store.hash().as_bytes());
        }
        hasher.finalize()
    }
}
