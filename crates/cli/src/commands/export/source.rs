//! What is exported: a model's files, with adapters.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use burn::module::Module;
use burn::tensor::Device;
use burn_peft::{DEFAULT_ADAPTER, PeftModel};
use burn_peft_models::gguf::{KeyValue, tokenizer_keys};
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::weights::{self, MergedWeights, Reading};
use burn_peft_models::{AutoModel, CausalLm, LanguageModel};

use crate::beside;
use crate::loading::{find_model, head_for, load_adapter, load_frozen, load_with_head};

/// A model whose weights are in memory only if an adapter needs them.
pub struct Source {
    pub files: ModelFiles,
    model: LanguageModel,
}

impl Source {
    /// Finds a model and loads adapters, all of which are active.
    pub fn open(model: &str, adapters: &[PathBuf], device: &Device) -> Result<Self> {
        let files = find_model(model)?;
        let base = match head_for(&files, adapters)? {
            Some(head) => load_with_head(&files, device, Reading::Lazily(None), &head)?,
            None => load_frozen(&files, device, None)?,
        };
        let base = base.no_grad();
        let Some((first, more)) = adapters.split_first() else {
            let model = base.into();
            return Ok(Self { files, model });
        };
        let mut model = load_adapter(base, first, false)?;
        let names: Vec<String> = (2..)
            .take(more.len())
            .map(|at| format!("adapter-{at}"))
            .collect();
        for (name, folder) in names.iter().zip(more) {
            model.load_adapter(folder, name, false)?;
        }
        let active = [DEFAULT_ADAPTER]
            .into_iter()
            .chain(names.iter().map(String::as_str));
        model.set_adapter(&active.collect::<Vec<_>>())?;
        let model = model.into();
        Ok(Self { files, model })
    }

    /// Rejects a classifier and a model without a head, which GGUF files cannot hold.
    pub fn check_language_model(&self) -> Result<()> {
        let head = self.model.get_base_model().head();
        ensure!(
            !head.is_none(),
            "the model has no head (task_type = {}), and GGUF files hold language models: give \
             --to safetensors for a folder",
            head.task
        );
        ensure!(
            !head.classifies(),
            "the model is a classifier (task_type = {}), and GGUF files hold language models: give \
             --to safetensors for a folder",
            head.task
        );
        Ok(())
    }

    /// The model, with its adapters if there are any.
    pub fn into_model(self) -> LanguageModel {
        self.model
    }

    /// The model with its adapters, if there are any.
    pub fn adapted(&self) -> Option<&PeftModel<AutoModel>> {
        self.model.as_peft()
    }

    /// The model's weights with the adapters in them.
    pub fn merged(self) -> Result<MergedWeights> {
        let base = weights::open(&self.files)?;
        Ok(match self.model {
            LanguageModel::Base(model) => MergedWeights::plain(base, model)?,
            LanguageModel::Peft(model) => MergedWeights::new(base, &model)?,
        })
    }

    /// The keys of the model's tokenizer, or of the one `given`; `None` if there is none.
    pub fn tokenizer_keys(&self, given: Option<&str>) -> Result<Vec<(String, KeyValue)>> {
        let given = given.map(|given| {
            let path = Path::new(given);
            match path.parent().filter(|_| path.ends_with("tokenizer.json")) {
                Some(folder) => Ok(ModelFiles::folder(folder)),
                None => beside::resolve(given),
            }
        });
        if given.is_none() {
            // For a Hub model they are fetched.
            beside::tokenizer_files(&self.files)?;
        }
        let vocab_size = CausalLm::vocab_size(self.model.get_base_model());
        let given = given.transpose()?;
        Ok(tokenizer_keys(
            &self.files,
            given.as_ref(),
            Some(vocab_size),
        )?)
    }
}

/// The key for the name in a file: that of the model or the adapter.
pub fn named(of: &Path) -> Vec<(String, KeyValue)> {
    let of = if of.extension().is_some_and(|end| end == "gguf") {
        of.file_stem()
    } else {
        of.file_name()
    };
    let name = of.map(|name| name.to_string_lossy().into_owned());
    let key = |name| ("general.name".to_string(), KeyValue::Text(name));
    name.map(key).into_iter().collect()
}
