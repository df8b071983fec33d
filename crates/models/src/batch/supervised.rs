//! What a loss needs of the labels.

use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_peft_kernels::{MovedRows, NO_TARGET};

/// The supervised positions in the flattened `[batch * seq]`, and what they have to predict.
#[derive(Clone, Debug, Default)]
pub(super) struct Labelled {
    pub positions: Vec<usize>,
    pub targets: Vec<i64>,
}

impl Labelled {
    /// What these labels ask for; `starts` tells the first positions of texts.
    pub fn of(labels: &[i64], starts: impl Fn(usize) -> bool) -> Self {
        let labelled = labels.iter().enumerate();
        let labelled = labelled.filter(|&(at, &label)| label != super::IGNORE_INDEX && !starts(at));
        let (positions, targets) = labelled.map(|(at, &label)| (at - 1, label)).unzip();
        Self { positions, targets }
    }

    /// What each of so many positions has to predict, if nearly all have to: to compute the loss of
    /// some more is quicker than to gather the others.
    pub fn of_all(&self, cells: usize) -> Option<Vec<i64>> {
        if self.positions.len() != self.targets.len() || 8 * self.targets.len() < 7 * cells {
            return None;
        }
        let mut all = vec![i64::from(NO_TARGET); cells];
        for (&at, &target) in self.positions.iter().zip(&self.targets) {
            all[at] = target;
        }
        Some(all)
    }
}

/// The same on the device, once it is asked for.
#[derive(Clone, Debug)]
pub(super) struct Supervised(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    labelled: Labelled,
    cells: usize,
    device: Device,
    moved: OnceLock<MovedRows>,
    targets: OnceLock<Tensor<1, Int>>,
    of_all: Option<Tensor<1, Int>>,
}

impl Supervised {
    /// Of so many positions; `of_all` is [`Labelled::of_all`] on the device.
    pub fn new(
        labelled: Labelled,
        cells: usize,
        of_all: Option<Tensor<1, Int>>,
        device: &Device,
    ) -> Self {
        Self(Arc::new(Inner {
            labelled,
            cells,
            device: device.clone(),
            moved: OnceLock::new(),
            targets: OnceLock::new(),
            of_all,
        }))
    }

    /// From all positions to those that predict.
    pub fn moved(&self) -> &MovedRows {
        let inner = &self.0;
        inner.moved.get_or_init(|| {
            let positions = inner.labelled.positions.iter().copied().map(Some);
            MovedRows::new(&positions.collect::<Vec<_>>(), inner.cells, &inner.device)
        })
    }

    /// What they have to predict.
    pub fn targets(&self) -> Tensor<1, Int> {
        let made = || {
            let targets = self.0.labelled.targets.clone();
            let count = targets.len();
            Tensor::from_data(TensorData::new(targets, [count]), &self.0.device)
        };
        self.0.targets.get_or_init(made).clone()
    }

    /// What each position has to predict or [`NO_TARGET`], if that is on the device.
    pub fn of_all(&self) -> Option<Tensor<1, Int>> {
        self.0.of_all.clone()
    }
}
