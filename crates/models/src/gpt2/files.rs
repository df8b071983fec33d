//! GPT-2 from and to a Hugging Face model folder.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Device, FloatDType, TensorData};
use burn_peft::{Adaptable, AnyParam, LayerKind};
use burn_peft_device::{check_size, check_weight};

use super::GPT2LMHeadModel;
use crate::checkpoint::{Checkpoint, NamedTensor, save_model};
use crate::gpt2::config::Gpt2Config;
use crate::hub::{self, ModelFiles};
use crate::{CausalLm, ModelError, Result};

/// The files of a model folder that are read.
pub const MODEL_FILES: [&str; 2] = ["config.json", "model.safetensors"];

impl GPT2LMHeadModel {
    /// Loads a model from a folder or from the Hub: `config.json` and `model.safetensors`, with
    /// or without the `transformer.` prefix, in F32, F16 or BF16.
    ///
    /// # Errors
    /// If a file is missing or broken, or if a tensor is missing, left over, or of another shape
    /// than the configuration says.
    pub fn from_pretrained(model: &str, device: &Device) -> Result<Self> {
        Self::from_files(&hub::resolve(model, &MODEL_FILES, &[])?, device)
    }

    /// As [`from_pretrained`](Self::from_pretrained) from files that are there already.
    ///
    /// # Errors
    /// As [`from_pretrained`](Self::from_pretrained).
    pub fn from_files(files: &ModelFiles, device: &Device) -> Result<Self> {
        let (config, checkpoint) = open(files)?;
        let mut model = Self::new(&config, device);
        model.load(|name| {
            let found = find(&checkpoint, name, &config);
            found.map(|found| checkpoint.tensor(found)).transpose()
        })?;
        model.refuse_others(&checkpoint)?;
        Ok(model)
    }

    /// As [`from_files`](Self::from_files), for a model of which most will be kept in 16 bits or
    /// fewer ([`burn_peft::cast_frozen`], [`burn_peft::quantize_frozen`]): each weight is read when
    /// it is first used, so that few are ever there in 32 bits. One that is too large for the device
    /// in 32 bits, and will be frozen in `narrow`, is so from the start: who trains a copy of it
    /// (`modules_to_save`) checks the size.
    ///
    /// As with Burn's own parameters before their first use, clones share the reading, and whether
    /// it makes them trainable.
    ///
    /// # Errors
    /// As [`from_files`](Self::from_files), at once.
    pub fn from_files_lazily(
        files: &ModelFiles,
        device: &Device,
        narrow: Option<FloatDType>,
    ) -> Result<Self> {
        let (config, checkpoint) = open(files)?;
        let checkpoint = Arc::new(checkpoint);
        let mut model = Self::new(&config, device);
        model.try_weights(|name, param, transposed| {
            let found = find(&checkpoint, name, &config)
                .ok_or_else(|| missing(name))?
                .to_string();
            let shape = checkpoint.check(&found)?;
            check_shape(name, shape, param, transposed)?;
            let kept = narrow.filter(|_| is_castable(name));
            let kept = kept_in(device, name, param.num_elements(), kept)?;
            let checkpoint = Arc::clone(&checkpoint);
            let read = move || {
                let data = checkpoint.tensor(&found).expect("it was checked");
                data.convert_dtype(kept)
            };
            param.set_lazily(Box::new(read), transposed);
            Ok(())
        })?;
        model.refuse_others(&checkpoint)?;
        Ok(model)
    }

    /// Sets every weight from tensors named as in transformers' checkpoint.
    ///
    /// # Errors
    /// If `tensor` fails, has nothing for a weight, or something of another shape.
    pub fn load(
        &mut self,
        mut tensor: impl FnMut(&str) -> Result<Option<TensorData>>,
    ) -> Result<()> {
        let device = self.device();
        self.try_weights(|name, param, transposed| {
            let data = tensor(name)?.ok_or_else(|| missing(name))?;
            check_shape(name, data.shape(), param, transposed)?;
            check_weight(&device, name, data.as_bytes().len() as u64)?;
            param.set_data(data, transposed);
            Ok(())
        })
    }

    /// Tensors that no weight took are a sign of another architecture.
    fn refuse_others(&mut self, checkpoint: &Checkpoint) -> Result<()> {
        let mut known = std::collections::HashSet::new();
        self.visit_weights(|name, _, _| {
            known.insert(
                name.strip_prefix("transformer.")
                    .unwrap_or(name)
                    .to_string(),
            );
        });
        let others: Vec<&str> = checkpoint
            .names()
            .filter(|name| {
                let name = name.strip_prefix("transformer.").unwrap_or(name);
                // Old checkpoints hold the causal mask as buffers, and a tied head a second time.
                let is_buffer = name.ends_with(".attn.bias") || name.ends_with(".attn.masked_bias");
                !(known.contains(name) || is_buffer || name == "lm_head.weight")
            })
            .take(4)
            .collect();
        match others.is_empty() {
            true => Ok(()),
            false => Err(ModelError::Weights(format!(
                "the checkpoint holds tensors that GPT-2 with this config.json does not have \
                 (first {})",
                others.join(", ")
            ))),
        }
    }

    /// Writes `config.json` and `model.safetensors` so that transformers loads them. Adapters are
    /// left out unless they are merged; a tied head that would change by it is written untied.
    ///
    /// # Errors
    /// If a weight is not finite or a file cannot be written; there are no partial files then.
    pub fn save_pretrained(&self, directory: impl AsRef<Path>) -> Result<()> {
        let mut shapes = Vec::new();
        // A clone shares the weights.
        let mut model = self.clone();
        burn_peft::untie_merged(&mut model)?;
        model.clone().visit_weights(|name, param, transposed| {
            let mut dims = param.dims();
            if transposed {
                dims.reverse();
            }
            shapes.push((name.to_string(), dims));
        });
        let model = &model;
        let tensors = shapes.into_iter().map(|(name, shape)| {
            NamedTensor::new(name.clone(), shape, move || model.weight(&name))
        });
        save_model(directory.as_ref(), &model.config.to_json(), tensors, true)
    }

    /// One weight as the checkpoint holds it.
    fn weight(&self, wanted: &str) -> Result<TensorData> {
        let mut found = None;
        self.clone().visit_weights(|name, param, transposed| {
            if name == wanted {
                let data = param.to_data().convert::<f32>();
                found = Some(match transposed {
                    true => burn_peft::tensor_file::transpose(data),
                    false => data,
                });
            }
        });
        found.ok_or_else(|| ModelError::Weights(format!("the model has no weight {wanted}")))
    }

    /// As [`visit_weights`](Self::visit_weights), until one fails.
    fn try_weights(
        &mut self,
        mut visit: impl FnMut(&str, &mut dyn AnyParam, bool) -> Result<()>,
    ) -> Result<()> {
        let mut result = Ok(());
        self.visit_weights(|name, param, transposed| {
            if result.is_ok() {
                result = visit(name, param, transposed);
            }
        });
        result
    }

    /// Calls `visit` with every weight, its name in the checkpoint, and whether the checkpoint
    /// holds it transposed.
    fn visit_weights(&mut self, mut visit: impl FnMut(&str, &mut dyn AnyParam, bool)) {
        self.visit_slots_mut(&mut burn_peft::Path::default(), &mut |path, slot| {
            let is_linear = slot.kind() == LayerKind::Linear;
            slot.visit_base_mut(&mut |name, param| {
                visit(
                    &format!("{path}.{name}"),
                    param,
                    is_linear && name == "weight",
                );
            });
        });
    }
}

const EMBEDDING: &str = "transformer.wte.weight";
const HEAD: &str = "lm_head.weight";

/// Configuration and weights of a model folder. As in transformers 5, a head beside the embedding
/// that is another matrix is kept, whatever the configuration says of tying them.
fn open(files: &ModelFiles) -> Result<(Gpt2Config, Checkpoint)> {
    let path = files.get("config.json")?;
    let mut config = Gpt2Config::from_file(&path)?;
    let checkpoint = Checkpoint::open(files)?;
    // Before a model of so many blocks is made.
    let last = format!("transformer.h.{}.ln_1.weight", config.n_layer - 1);
    if find(&checkpoint, &last, &config).is_none() {
        return Err(missing(&last));
    }
    let has_head = config.tie_word_embeddings && checkpoint.shape(HEAD).is_some();
    if let (true, Some(embedding)) = (has_head, find(&checkpoint, EMBEDDING, &config))
        && !checkpoint.are_equal(embedding, HEAD)?
    {
        tracing::warn!(
            "{}: tie_word_embeddings = true, but the weights hold a {HEAD} that differs from \
             {EMBEDDING}: they are not tied; set tie_word_embeddings to false",
            path.display()
        );
        config.tie_word_embeddings = false;
    }
    Ok((config, checkpoint))
}

/// The name in the checkpoint of the weight that transformers calls `name`, if it is there; of a
/// tied embedding that is not, the head's.
fn find<'a>(checkpoint: &Checkpoint, name: &'a str, config: &Gpt2Config) -> Option<&'a str> {
    let bare = name.strip_prefix("transformer.").unwrap_or(name);
    let tied = (name == EMBEDDING && config.tie_word_embeddings).then_some(HEAD);
    let mut names = [name, bare].into_iter().chain(tied);
    names.find(|name| checkpoint.shape(name).is_some())
}

fn missing(name: &str) -> ModelError {
    ModelError::Weights(format!("the checkpoint has no tensor {name}"))
}

fn check_shape(name: &str, found: &[usize], param: &dyn AnyParam, transposed: bool) -> Result<()> {
    let mut dims = param.dims();
    if transposed {
        dims.reverse();
    }
    match found == dims {
        true => Ok(()),
        false => Err(ModelError::Weights(format!(
            "the checkpoint's {name} is {found:?}, config.json asks for {dims:?}"
        ))),
    }
}

/// Whether [`burn_peft::cast_frozen`] takes the weight: biases and norms stay in 32 bits.
fn is_castable(name: &str) -> bool {
    name.ends_with(".weight") && !name.contains(".ln_")
}

/// The type in which a weight of so many numbers comes to the device: 32 bits where they fit, or
/// else `narrow`.
fn kept_in(device: &Device, name: &str, count: usize, narrow: Option<FloatDType>) -> Result<DType> {
    let fits = check_weight(device, name, 4 * count as u64);
    match (fits, narrow) {
        (Err(_), Some(narrow)) => {
            check_size(device, name, 2 * count as u64)?;
            Ok(narrow.into())
        }
        (fits, _) => Ok(fits.map(|()| DType::F32)?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_model_is_made_of_blocks_that_the_weights_lack() {
        let fixture = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fixtures/conformance/base-gpt2"
        );
        let fixture = Path::new(fixture);
        let dir = tempfile::tempdir().unwrap();
        let config = std::fs::read_to_string(fixture.join("config.json")).unwrap();
        let config = config.replace("\"n_layer\": 2", "\"n_layer\": 1000");
        std::fs::write(dir.path().join("config.json"), config).unwrap();
        std::fs::copy(
            fixture.join("model.safetensors"),
            dir.path().join("model.safetensors"),
        )
        .unwrap();
        let files = ModelFiles::folder(dir.path());
        let error = GPT2LMHeadModel::from_files(&files, &Device::flex())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("has no tensor transformer.h.999.ln_1.weight"),
            "{error}"
        );
    }
}
