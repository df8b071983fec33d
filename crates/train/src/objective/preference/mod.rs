//! Objectives that learn which of several answers people prefer: their configurations, losses and
//! metrics. Names and computations are TRL's.

mod checks;
pub(crate) mod cpo;
pub(crate) mod dpo;
pub(crate) mod kto;
mod measures;
pub(crate) mod orpo;
mod pairs;

pub use checks::TableProblem;
pub use cpo::{CpoConfig, CpoLossType, cpo_loss};
pub use dpo::{DpoConfig, DpoLossType, FDivergence, dpo_loss};
pub use kto::{KtoConfig, KtoLossType, Mismatched, kto_loss};
pub use measures::PreferenceLoss;
pub use orpo::{OrpoConfig, orpo_loss};
