//! A training run: the loop, its steps, the batches that it draws, and what is trained.

pub(crate) mod backward;
pub(crate) mod estimate;
pub(crate) mod eva;
pub(crate) mod evaluate;
pub(crate) mod loader;
pub(crate) mod local_steps;
pub(crate) mod places;
pub(crate) mod reduce;
pub(crate) mod same;
pub(crate) mod state;
pub(crate) mod step;
pub(crate) mod target;
pub(crate) mod train;
pub(crate) mod training_loop;
