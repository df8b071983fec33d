//! The examples of several files, joined.

use crate::mixture::Mixture;
use crate::tokens::examples::Examples;
use crate::tokens::stores::Stores;
use std::sync::Arc;

/// More names than this are not listed.
const NAMES: usize = 3;

impl Examples {
    /// Joins the examples of several sets, one set after the other. An epoch has all of them.
    ///
    /// # Panics
    /// If there are none.
    pub(crate) fn join(sets: Vec<Self>) -> Self {
        if let [only] = &sets[..] {
            return only.clone();
        }
        let firsts = sets.iter().scan(0, |next, set| {
            let first = *next;
            *next += set.store.len() as u32;
            Some(first)
        });
        let in_sequences = sets.iter().any(|set| set.sequences.is_some());
        let sequences = sets.iter().zip(firsts).flat_map(|(set, first)| {
            let sequences = 0..set.sequences();
            sequences.map(move |index| match &set.sequences {
                Some(sequences) => sequences[index].iter().map(|i| first + i).collect(),
                None => vec![first + index as u32],
            })
        });
        let sequences = in_sequences.then(|| Arc::new(sequences.collect()));
        let names: Vec<&str> = sets.iter().map(|set| set.file.as_str()).collect();
        let file = match names.len() - 1 {
            more if more > NAMES => format!("{} and {more} other sets", names[0]),
            _ => names.join(", "),
        };
        Self {
            file,
            skipped: sets.iter().map(|set| set.skipped).sum(),
            truncated: sets.iter().map(|set| set.truncated).sum(),
            left_out: Vec::new(),
            warning: None,
            cache_file: None,
            store: Arc::new(Stores::join(sets.iter().map(|set| &*set.store))),
            sequences,
            packed: sets.iter().any(|set| set.packed),
            ..sets[0].clone()
        }
        .of(sets)
    }

    fn of(mut self, sets: Vec<Self>) -> Self {
        self.sets = Arc::new(sets);
        self
    }

    /// The same with this many sequences of each set in an epoch.
    pub(crate) fn mixed(mut self, per_epoch: &[usize]) -> Self {
        let sequences = self.sets().iter().map(Self::sequences);
        let mixture = Mixture::new(sequences.zip(per_epoch.iter().copied()));
        self.mixture = Some(Arc::new(mixture));
        self
    }

    /// The examples of each file: as they are without packing, or, with weights, as batches have
    /// them.
    pub fn sets(&self) -> &[Self] {
        if self.sets.is_empty() {
            std::slice::from_ref(self)
        } else {
            &self.sets
        }
    }

    /// The set, by its index, of each example in the given sequences.
    pub(super) fn sets_of(&self, sequences: &[usize]) -> Vec<usize> {
        let examples = sequences.iter().flat_map(|&index| match &self.sequences {
            Some(sequences) => sequences[index].clone(),
            None => vec![index as u32],
        });
        examples
            .map(|index| self.store.store_of(index as usize))
            .collect()
    }

    /// Whether one of the files holds chats.
    pub fn has_chats(&self) -> bool {
        self.sets().iter().any(|set| set.shape.is_chat())
    }

    /// How an epoch is mixed from several sets; `None` if it has every sequence once.
    pub fn mixture(&self) -> Option<&Arc<Mixture>> {
        self.mixture.as_ref()
    }

    /// The number of sequences in an epoch.
    pub fn sequences_per_epoch(&self) -> usize {
        match &self.mixture {
            Some(mixture) => mixture.len(),
            None => self.sequences(),
        }
    }

    /// The number of tokens in an epoch; an average if an epoch does not have all sequences of a
    /// set equally often.
    pub fn tokens_per_epoch(&self) -> usize {
        self.per_epoch(Self::tokens)
    }

    /// The number of labels that count in an epoch, with the same exception.
    pub fn supervised_per_epoch(&self) -> usize {
        self.per_epoch(Self::supervised)
    }

    fn per_epoch(&self, count: fn(&Self) -> usize) -> usize {
        let Some(mixture) = &self.mixture else {
            return count(self);
        };
        let sets = self.sets().iter().zip(mixture.per_epoch());
        sets.map(|(set, per_epoch)| set.share(count(set), per_epoch))
            .sum()
    }

    /// The share of a total over all sequences that belongs to this many of them.
    pub fn share(&self, sum: usize, sequences: usize) -> usize {
        let share = sum as u128 * sequences as u128;
        (share as f64 / self.sequences().max(1) as f64).round() as usize
    }

    /// All sequences once, those of each set spread as evenly as possible.
    pub fn spread(&self) -> Vec<usize> {
        let sets = Mixture::new(
            self.sets()
                .iter()
                .map(|set| (set.sequences(), set.sequences())),
        );
        // If they were packed together, they are no longer apart.
        if sets.len() == self.sequences() {
            sets.order(0, 0, false)
        } else {
            (0..self.sequences()).collect()
        }
    }
}
