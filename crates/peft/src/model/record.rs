//! Storing base and adapters separately, as Burn records.

use std::path::Path;

use burn::module::{Module, ParamGroup, ParamId};
use burn::store::{ModuleRecord, RecordError};

use crate::{BaseModel, PeftError, PeftModel, Result};

impl<M: BaseModel> PeftModel<M> {
    /// Writes the adapters (all of them, with copies of layers and trained biases) as a Burn
    /// record (`.bpk`).
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save_adapter_record(&self, path: impl AsRef<Path>) -> Result<()> {
        self.save_record(path.as_ref(), self.adapter_ids())
    }

    /// Writes the frozen base as a Burn record (`.bpk`).
    ///
    /// # Errors
    /// If the file cannot be written, or the base is quantised: codes are not parameters. A base
    /// kept in blocks is written in 32 bits.
    pub fn save_base_record(&self, path: impl AsRef<Path>) -> Result<()> {
        let mut quantized = None;
        self.visit_slots(|path, slot| {
            let found = slot.is_quantized().then(|| path.to_string());
            quantized = quantized.take().or(found);
        });
        if let Some(layer) = quantized {
            return Err(PeftError::Quantized { layer });
        }
        let adapters = self.adapter_ids();
        let all = self
            .named_parameters()
            .into_iter()
            .map(|parameter| parameter.id);
        let base = all.filter(|id| !adapters.contains(id)).collect();
        let mut dense = self.clone();
        dense.visit_slots_mut(|_, slot| slot.make_dense());
        dense.save_record(path.as_ref(), base)
    }

    /// Loads what [`save_adapter_record`](Self::save_adapter_record) or
    /// [`save_base_record`](Self::save_base_record) has written; everything else is unchanged.
    ///
    /// The model has to hold the same adapters: a record holds tensors, but no configuration.
    ///
    /// # Errors
    /// If the file is missing, or holds tensors that the model does not have.
    pub fn load_record_part(self, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let record = ModuleRecord::load(path).map_err(|error| record_error(path, error))?;
        let record = record.allow_partial(true);
        self.try_load_record(record)
            .map_err(|error| record_error(path, error))
    }

    fn save_record(&self, path: &Path, ids: Vec<ParamId>) -> Result<()> {
        let record = self.clone().into_record_group(ParamGroup::from_ids(ids));
        record.save(path).map_err(|error| record_error(path, error))
    }

    fn adapter_ids(&self) -> Vec<ParamId> {
        let mut ids = Vec::new();
        let names: Vec<String> = self.peft_config.keys().cloned().collect();
        for name in &names {
            self.clone()
                .visit_adapter(name, |entry| ids.push(entry.param.id()));
        }
        ids
    }
}

fn record_error(path: &Path, error: RecordError) -> PeftError {
    PeftError::File {
        path: path.to_path_buf(),
        reason: error.to_string(),
    }
}
