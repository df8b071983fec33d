//! Texts with a common beginning, which is computed once.

use std::ops::Range;

use burn::tensor::{Device, Tensor, TensorData};
use burn_peft_kernels::Texts;

use super::{Form, Host, IGNORE_INDEX, Labelled, LmBatch, Other, Ragged, Rows};

impl LmBatch {
    /// As [`ragged`](Self::ragged), with the common beginning of the texts in each of these groups
    /// computed once. [`as_matrix`](Self::as_matrix) has every text by itself. Nothing is shared in
    /// packed rows, or if no group has texts with a common beginning.
    ///
    /// # Panics
    /// If there are no tokens, if the number of labels differs, or if a group has texts that do not
    /// exist.
    pub fn sharing(ragged: &Ragged<'_>, groups: &[Range<usize>], device: &Device) -> Self {
        let shared = Shared::new(ragged, groups);
        if ragged.packed.is_some() || shared.input_ids.len() == ragged.input_ids.len() {
            return Self::ragged(ragged, device);
        }
        shared.batch(ragged, device)
    }
}

/// The tokens of a batch, with shared ones only once.
#[derive(Debug, Default)]
struct Shared {
    input_ids: Vec<i64>,
    position_ids: Vec<i64>,
    /// The ranges of tokens that each text consists of.
    texts: Vec<Vec<Range<usize>>>,
    labelled: Labelled,
}

impl Shared {
    fn new(ragged: &Ragged<'_>, groups: &[Range<usize>]) -> Self {
        let mut shared = Self::default();
        for group in groups {
            let texts = &ragged.texts[group.clone()];
            let ids = |text: &Range<usize>| &ragged.input_ids[text.clone()];
            let first = texts.first().map_or(&[][..], ids);
            let alike = |text| {
                let pairs = first.iter().zip(ids(text));
                pairs.take_while(|(a, b)| a == b).count()
            };
            let alike = match texts.len() {
                0 | 1 => 0,
                _ => texts.iter().map(alike).min().unwrap_or(0),
            };
            let begin = shared.push(&first[..alike], 0);
            for text in texts {
                let own = shared.push(&ids(text)[alike..], alike);
                let token = |at: usize| {
                    if at < alike {
                        begin.start + at
                    } else {
                        own.start + at - alike
                    }
                };
                let labels = ragged.labels[text.clone()].iter().enumerate().skip(1);
                for (at, &label) in labels.filter(|(_, label)| **label != IGNORE_INDEX) {
                    shared.labelled.positions.push(token(at - 1));
                    shared.labelled.targets.push(label);
                }
                shared.texts.push(vec![begin.clone(), own]);
            }
        }
        shared
    }

    /// Adds tokens, the first of which is at this position; returns their range.
    fn push(&mut self, ids: &[i64], position: usize) -> Range<usize> {
        let start = self.input_ids.len();
        self.input_ids.extend(ids);
        let positions = position..position + ids.len();
        self.position_ids.extend(positions.map(|at| at as i64));
        start..self.input_ids.len()
    }

    fn batch(self, ragged: &Ragged<'_>, device: &Device) -> LmBatch {
        let tokens = self.input_ids.len();
        // Each place once, in the order of the labels, and for each label the index of its place.
        let (mut places, mut number_of) = (Vec::new(), vec![None; tokens]);
        let takes = self.labelled.positions.iter().map(|&place| {
            let number = *number_of[place].get_or_insert_with(|| {
                places.push(place);
                places.len() - 1
            });
            number as i64
        });
        let takes: Vec<i64> = takes.collect();
        let repeats = places.len() < takes.len();
        let once = Labelled {
            positions: places,
            targets: self.labelled.targets,
        };
        let count = takes.len();
        let host = Host {
            shape: [1, tokens],
            input_ids: &self.input_ids,
            position_ids: Some(&self.position_ids),
            texts: Some(Texts::sharing(&self.texts, tokens)),
            ..Host::default()
        };
        let mut batch = LmBatch::of(host, once, device);
        batch.repeated =
            repeats.then(|| Tensor::from_data(TensorData::new(takes, [count]), device));
        batch.tokens = ragged.input_ids.len();
        batch.other = Other::Matrix(Form::new(Rows::of_ragged(ragged), device));
        batch
    }
}
