//! Steps that each rank makes on its own, with an exchange every `distributed.local_steps` steps.

use std::path::Path;

use burn::module::Module;
use burn::optim::ModuleOptimizer;
use burn_pack::Bytes;
use burn_peft::parameters::NamedParameter;

use crate::checkpoint::rank_files::{OUTER_NAME, collect, name_of, read, to_bytes};
use crate::configuration::distributed::DistributedConfig;
use crate::error::{Result, TrainError};
use crate::exchange::Exchange;
use crate::optimizer::outer::Outer;
use crate::optimizer::state_file;
use crate::optimizer::trained::Trained;

#[cfg(test)]
mod tests;

/// The names of the parts of the files.
const WEIGHTS: &str = "weights";
const OPTIMIZER: &str = "optimizer";
const VELOCITY: &str = "velocity";

/// The state of a run whose ranks make steps on their own.
pub(crate) struct LocalSteps {
    every: usize,
    outer: Outer,
    /// The weights that are exchanged.
    pub trained: Trained,
}

impl LocalSteps {
    /// Begins with the weights of `model`, which are the same on all ranks; `None` if `local_steps`
    /// is not set.
    ///
    /// # Errors
    /// If the run cannot be combined with local steps, or if the device fails.
    pub fn begin<M: Module>(
        config: &DistributedConfig,
        model: &M,
        parameters: &[NamedParameter],
    ) -> Result<Option<Self>> {
        let Some(every) = config.local_steps else {
            return Ok(None);
        };
        if let Some(problem) = config.problem_with(parameters) {
            return Err(TrainError::config("the training file", problem));
        }
        let trained = Trained::new(parameters);
        let outer = Outer::new(config, trained.read(model)?);
        Ok(Some(Self {
            every,
            outer,
            trained,
        }))
    }

    /// Whether the ranks exchange what they have learnt after the step `step`.
    pub fn is_due(&self, step: usize) -> bool {
        step.is_multiple_of(self.every)
    }

    /// Exchanges what the ranks have learnt; returns the weights that all of them continue with.
    ///
    /// # Errors
    /// If a rank cannot be reached, or if the device fails.
    pub fn exchange<M: Module>(&mut self, model: &M, exchange: &dyn Exchange) -> Result<Vec<f32>> {
        let own = self.trained.read(model)?;
        self.outer.step(&own, exchange)?;
        Ok(self.outer.weights.clone())
    }

    /// The model with the weights of the last exchange, which is the one to evaluate, save and
    /// keep.
    pub fn common<M: Module>(&self, model: M) -> M {
        self.trained.write(model, &self.outer.weights)
    }

    /// Writes what a checkpoint needs besides the [`common`](Self::common) weights: each rank's
    /// model with its optimizer, and the outer optimizer's momentum. Only the first rank gives the
    /// checkpoint's `folder`. All ranks must call this.
    ///
    /// # Errors
    /// If a file cannot be written or a rank cannot be reached.
    pub fn save<M: Module>(
        &self,
        exchange: &dyn Exchange,
        folder: Option<&Path>,
        model: &M,
        optimizer: Bytes,
    ) -> Result<()> {
        if let Some(folder) = folder {
            let path = folder.join(OUTER_NAME);
            let bytes = to_bytes((VELOCITY, &self.outer.velocity), None)?;
            std::fs::write(&path, &*bytes).map_err(TrainError::io(&path))?;
        }
        let weights = self.trained.read(model)?;
        let own = to_bytes((WEIGHTS, &weights), Some((OPTIMIZER, optimizer)))?;
        collect(exchange, folder, own.to_vec())
    }

    /// Continues from a checkpoint that `ranks` ranks have written: returns the model and the
    /// optimizer as this rank had them. If the number of ranks has changed, a rank without its own
    /// file takes another rank's.
    ///
    /// # Errors
    /// If a file is missing or broken, or if it is another model's.
    pub fn resume<M: Module>(
        &mut self,
        (checkpoint, ranks): (&Path, usize),
        exchange: &dyn Exchange,
        model: M,
        optimizer: ModuleOptimizer,
        parameters: &[NamedParameter],
    ) -> Result<(M, ModuleOptimizer)> {
        let count = self.outer.weights.len();
        (self.outer.velocity, _) = read(&checkpoint.join(OUTER_NAME), (VELOCITY, count), None)?;
        let path = checkpoint.join(name_of(exchange.rank() % ranks.max(1)));
        let (weights, state) = read(&path, (WEIGHTS, count), Some(OPTIMIZER))?;
        let optimizer = state_file::from_bytes(optimizer, state, &path, parameters)?;
        Ok((self.trained.write(model, &weights), optimizer))
    }
}
