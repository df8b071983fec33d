//! Counts what each part of a step asks of the device. An objective and an exchange, which
//! otherwise do what the usual ones do, mark where the parts begin.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use burn::tensor::{Device, Tensor};
use burn_peft_data::{Batch, IGNORE_INDEX, Lm, Task, forward_task};
use burn_peft_device::launches::{LaunchCounter, Launches};
use burn_peft_models::LanguageModel;
use burn_peft_train::{Exchange, Measures, Objective};

use crate::transfers::Transfers;

/// A part of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Forward,
    Backward,
    /// Clipping, and the optimizer's step.
    Optimizer,
}

/// What a step or a part of one asked of the device.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub launches: Launches,
    pub transfers: Transfers,
}

impl Asked {
    pub fn add(&mut self, other: &Self) {
        self.launches.add(&other.launches);
        self.transfers.add(&other.transfers);
    }
}

/// A step that is over.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Forward, backward, optimizer; if parts are not counted apart, all is in the last.
    pub parts: [Asked; 3],
    /// The number of tokens that its batch learns.
    pub tokens: usize,
    /// The most bytes that live tensors held at the end of a part.
    pub bytes_in_use: u64,
    /// The most bytes that the memory pools held then.
    pub bytes_reserved: u64,
    /// The time from its forward pass to the next one.
    pub seconds: f64,
}

impl Step {
    pub fn whole(&self) -> Asked {
        let mut all = Asked::default();
        self.parts.iter().for_each(|part| all.add(part));
        all
    }
}

struct State {
    /// The counter, as long as launches are counted.
    counter: Option<LaunchCounter>,
    transfers: Transfers,
    part: Option<Part>,
    step: Step,
    began: Instant,
    steps: Vec<Step>,
}

/// The steps of a run, counted.
pub struct Marks {
    device: Device,
    /// Whether to wait for the device between the parts of a step. Burn then fuses nothing across
    /// them, so a step has a few launches more.
    apart: bool,
    /// How many steps are counted. Counting costs time, so later steps are not counted.
    counted: usize,
    state: Mutex<State>,
}

impl std::fmt::Debug for Marks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Marks")
    }
}

impl Marks {
    /// Marks for a run whose first `counted` steps are counted.
    pub fn new(device: &Device, apart: bool, counted: usize) -> Arc<Self> {
        let state = State {
            counter: Some(LaunchCounter::new()),
            transfers: Transfers::so_far(),
            part: None,
            step: Step::default(),
            began: Instant::now(),
            steps: Vec::new(),
        };
        Arc::new(Self {
            device: device.clone().without_autodiff(),
            apart,
            counted,
            state: Mutex::new(state),
        })
    }

    /// Ends the run and returns its steps.
    pub fn finish(&self) -> Vec<Step> {
        self.reach(None, 0);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut state.steps)
    }

    /// Begins the next part; a forward pass is that of a batch with this many tokens.
    fn reach(&self, part: Option<Part>, tokens: usize) {
        let ends = matches!(part, None | Some(Part::Forward));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if ends || self.apart {
            self.device.sync().expect("the device answers");
            if let Some(usage) = self.device.memory_pool_usage() {
                let step = &mut state.step;
                step.bytes_in_use = step.bytes_in_use.max(usage.bytes_in_use);
                step.bytes_reserved = step.bytes_reserved.max(usage.bytes_reserved);
            }
            let now = Transfers::so_far();
            let counter = state.counter.as_mut();
            let asked = Asked {
                launches: counter.map(LaunchCounter::take).unwrap_or_default(),
                transfers: now.since(&state.transfers),
            };
            state.transfers = now;
            // What comes before the first step belongs to none.
            if let Some(part) = state.part {
                state.step.parts[part as usize].add(&asked);
            }
        }
        if ends && state.part.is_some() {
            let mut step = std::mem::take(&mut state.step);
            step.seconds = state.began.elapsed().as_secs_f64();
            state.steps.push(step);
            if state.steps.len() >= self.counted {
                state.counter = None;
            }
        }
        if part == Some(Part::Forward) {
            state.step.tokens = tokens;
            state.began = Instant::now();
        }
        state.part = part;
    }

    fn backward_ended(&self) {
        let part = self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .part;
        if part == Some(Part::Backward) {
            self.reach(Some(Part::Optimizer), 0);
        }
    }
}

/// The objective of language models, which marks where a forward pass begins and ends.
#[derive(Debug)]
pub struct Marked(pub Arc<Marks>);

impl Task for Marked {
    forward_task!(self => Lm);
}

impl Objective<LanguageModel> for Marked {
    fn measures(&self) -> &'static Measures {
        Objective::<LanguageModel>::measures(&Lm)
    }

    fn loss(&self, model: &LanguageModel, batch: &Batch) -> Tensor<1> {
        let tokens = batch.labels.iter().filter(|&&label| label != IGNORE_INDEX);
        self.0.reach(Some(Part::Forward), tokens.count());
        let loss = Lm.loss(model, batch);
        self.0.reach(Some(Part::Backward), 0);
        loss
    }
}

/// The exchange of a single process. It knows that a backward pass is over when it is asked for the
/// number of processes.
#[derive(Debug)]
pub struct Alone(pub Arc<Marks>);

impl Exchange for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        self.0.backward_ended();
        1
    }

    fn local_rank(&self) -> usize {
        0
    }

    fn local_size(&self) -> usize {
        1
    }

    fn host(&self) -> String {
        "this host".into()
    }

    fn sum(&self, _values: &mut [f32]) -> burn_peft_train::Result<()> {
        Ok(())
    }

    fn broadcast(&self, _root: usize, _bytes: &mut Vec<u8>) -> burn_peft_train::Result<()> {
        Ok(())
    }
}
