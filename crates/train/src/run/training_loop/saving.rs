//! A checkpoint during a run.

use std::sync::Arc;

use super::Run;
use crate::checkpoint::identity::frozen_hash;
use crate::checkpoint::saved::{OPTIMIZER_NAME, STATE_NAME};
use crate::checkpoint::whole::hashes;
use crate::error::{Result, TrainError};
use crate::optimizer::state_file;
use crate::run::step::optimizer_record;
use crate::run::target::TrainTarget;

impl<T: TrainTarget> Run<'_, T> {
    /// Writes the checkpoint of the last step.
    pub(super) fn save(&mut self) -> Result<()> {
        self.settle()?;
        let step = self.record.state.global_step;
        self.record.state.best.saved(self.arguments, step);
        self.keep_best();
        let exchange = Arc::clone(&self.strategy.exchange);
        if !exchange.is_first() {
            self.record.checkpoints.note(step);
            if self.record.local.is_none() {
                return Ok(());
            }
        }
        let own = self.learner.model().model;
        let model = self.common_model().model;
        let optimizer = optimizer_record(&mut self.learner);
        let optimizer = state_file::to_bytes(optimizer, &own.parameters())?;
        let modules = self.strategy.modules.as_ref();
        let record = &mut *self.record;
        if let (Some(local), false) = (&record.local, exchange.is_first()) {
            return local.save(&*exchange, None, &own, optimizer);
        }
        let mut identity = self.strategy.identity.borrow_mut();
        if identity.base.is_none() {
            identity.base = frozen_hash(&model);
        }
        identity.state = record.state.clone();
        if exchange.size() > 1 {
            identity.state.exchanged_bytes = exchange.bytes();
        }
        identity.stamp();
        // Before the checkpoint, so that it never knows more steps than the file.
        record.metrics.sync()?;
        record.checkpoints.save(step, |folder| {
            model.save_checkpoint(folder)?;
            if let Some((modules, d)) = modules {
                modules.save(folder, *d)?;
            }
            let write = |name: &str, bytes: &[u8]| {
                let path = folder.join(name);
                std::fs::write(&path, bytes).map_err(TrainError::io(&path))
            };
            match &record.local {
                Some(local) => local.save(&*exchange, Some(folder), &own, optimizer)?,
                None => write(OPTIMIZER_NAME, &optimizer)?,
            }
            identity.files = hashes(folder)?;
            write(STATE_NAME, identity.to_toml()?.as_bytes())
        })
    }

    /// Names the checkpoint that is kept whatever its age.
    pub(super) fn keep_best(&mut self) {
        if self.arguments.load_best_model_at_end {
            self.record.checkpoints.best = self.record.state.best.checkpoint();
        }
    }
}
