//! Models from and to Hugging Face folders.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, FloatDType};
use burn_peft::tensor_file::transpose;
use burn_peft_kernels::is_specialised;

use super::load::{
    check_last_block, is_transposed, load, load_blocks, load_lazily, shape_in_file,
    untie_other_head,
};
use super::{CONFIG, NamedTensor, SaveOptions, WeightsError, open, save_model};
use crate::CausalLm;
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::{ModelError, Result};
use crate::heads::{Head, WantedHead};
use crate::hub::{self, ModelFiles};

/// A model that comes from and goes to a Hugging Face folder; every [`Decoder`] does.
pub trait Pretrained: Sized {
    /// Loads a model from a folder or from the Hub: `config.json` and its weights, with or without
    /// the prefix of all names (`transformer.`), in F32, F16 or BF16.
    ///
    /// # Errors
    /// If a file is missing or broken, or if a tensor is missing, left over, or of another shape
    /// than the configuration says.
    fn from_pretrained(model: &str, device: &Device) -> Result<Self> {
        Self::from_files(&hub::resolve(model, &[CONFIG], &[])?, device)
    }

    /// As [`from_pretrained`](Self::from_pretrained) from files that are there already.
    ///
    /// # Errors
    /// As [`from_pretrained`](Self::from_pretrained).
    fn from_files(files: &ModelFiles, device: &Device) -> Result<Self>;

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
    fn from_files_lazily(
        files: &ModelFiles,
        device: &Device,
        narrow: Option<FloatDType>,
    ) -> Result<Self>;

    /// As [`from_files`](Self::from_files), for a model whose weights stay frozen: matrices of a GGUF
    /// file stay in its blocks, mapped into memory, and products unpack them. What asks for a dense
    /// weight has it made for that moment; one that is set is a parameter again. On devices other than
    /// the CPU, and under `BURN_PEFT_KERNELS=plain`, the weights are read in 32 bits.
    ///
    /// # Errors
    /// As [`from_files`](Self::from_files).
    fn from_files_in_blocks(files: &ModelFiles, device: &Device) -> Result<Self>;

    /// Sets the weights to those that this model has written, with [`save_with`](Self::save_with)
    /// or [`save_pretrained`](Self::save_pretrained); the rest, its [`dtype`](Self::dtype) among
    /// it, stays.
    ///
    /// # Errors
    /// If a file is missing or broken, or another model's.
    fn reload(&mut self, directory: impl AsRef<Path>) -> Result<()>;

    /// The type of the weights in the files that it comes from; `F32` of a new model.
    fn dtype(&self) -> FloatDType;

    /// Writes `config.json` and `model.safetensors`, or its shards, so that transformers loads them,
    /// in the [`dtype`](Self::dtype) the model was read from; in 32 bits where a weight has left
    /// the range of float16. Adapters are left out unless they are merged; a tied head that would
    /// change by it is written untied.
    ///
    /// # Errors
    /// If a weight is not finite or a file cannot be written; there are no partial files then.
    fn save_pretrained(&self, directory: impl AsRef<Path>) -> Result<()> {
        let options = SaveOptions {
            dtype: self.dtype(),
            ..SaveOptions::default()
        };
        match self.save_with(&directory, &options) {
            Err(error @ ModelError::Weights(WeightsError::OutOfRange { .. })) => {
                tracing::warn!("{error}: all weights are saved in float32");
                self.save_with(directory, &SaveOptions::default())
            }
            saved => saved,
        }
    }

    /// As [`save_pretrained`](Self::save_pretrained), in another type or in files of another size.
    ///
    /// # Errors
    /// As [`save_pretrained`](Self::save_pretrained); a weight that is out of the type's range.
    fn save_with(&self, directory: impl AsRef<Path>, options: &SaveOptions) -> Result<()>;
}

impl<D: Decoder> Pretrained for D {
    fn from_files(files: &ModelFiles, device: &Device) -> Result<Self> {
        model_of(config_of::<D>(files)?, files, device, Reading::Now, None)
    }

    fn from_files_in_blocks(files: &ModelFiles, device: &Device) -> Result<Self> {
        model_of(
            config_of::<D>(files)?,
            files,
            device,
            Reading::InBlocks,
            None,
        )
    }

    fn from_files_lazily(
        files: &ModelFiles,
        device: &Device,
        narrow: Option<FloatDType>,
    ) -> Result<Self> {
        model_of(
            config_of::<D>(files)?,
            files,
            device,
            Reading::Lazily(narrow),
            None,
        )
    }

    fn reload(&mut self, directory: impl AsRef<Path>) -> Result<()> {
        let weights = open(&ModelFiles::folder(directory.as_ref()))?;
        let mut model = D::new(self.config(), &self.device());
        load(&mut model, weights.as_ref(), None)?;
        *self = model;
        Ok(())
    }

    fn dtype(&self) -> FloatDType {
        self.config().dtype()
    }

    fn save_with(&self, directory: impl AsRef<Path>, options: &SaveOptions) -> Result<()> {
        // A clone shares the weights.
        let mut model = self.clone();
        burn_peft::untie_merged(&mut model)?;
        let config = model.config().to_json_with(options.dtype);
        save_model(directory.as_ref(), &config, tensors(&model), options)
    }
}

fn config_of<D: Decoder>(files: &ModelFiles) -> Result<D::Config> {
    D::Config::from_file(files.get(CONFIG)?)
}

/// How weights come into a model.
#[derive(Clone, Copy, Debug)]
pub enum Reading {
    /// [`Pretrained::from_files`].
    Now,
    /// [`Pretrained::from_files_lazily`].
    Lazily(Option<FloatDType>),
    /// [`Pretrained::from_files_in_blocks`].
    InBlocks,
}

/// The model that a folder's `config.json` describes with its weights. Its head may be
/// another one.
pub(crate) fn model_of<D: Decoder>(
    mut config: D::Config,
    files: &ModelFiles,
    device: &Device,
    reading: Reading,
    head: Option<&WantedHead>,
) -> Result<D> {
    let weights = open(files)?;
    if let Some(head) = head {
        let path = files.get(CONFIG)?;
        let wanted = head.for_config(&config);
        config.set_head(wanted.map_err(|problem| ModelError::config(&path)(problem.into()))?);
    } else if config.head().is_none() {
        // A decoder whose head is its token embedding is a language model as it is.
        let mut other = config.clone();
        other.set_head(Head::default());
        let is_causal = || Decoder::is_causal(&D::new(&other.with_layers(1), device));
        if other.common().tie_word_embeddings && is_causal() {
            config = other;
        }
    }
    // What it is saved in again, whatever the file says.
    config.set_dtype(weights.written_dtype()?);
    check_last_block::<D>(&config, weights.as_ref())?;
    untie_other_head::<D>(&mut config, weights.as_ref(), &files.get(CONFIG)?)?;
    let mut model = D::new(&config, device);
    let seed = head.map(|head| head.seed);
    match reading {
        Reading::Lazily(narrow) => load_lazily(&mut model, &Arc::from(weights), narrow, seed)?,
        Reading::InBlocks if is_specialised(device) => {
            load_blocks(&mut model, weights.as_ref(), seed)?;
        }
        _ => load(&mut model, weights.as_ref(), seed)?,
    }
    Ok(model)
}

/// Every weight as the checkpoint holds it, fetched when it is written.
pub(super) fn tensors<D: Decoder>(model: &D) -> Vec<NamedTensor<'static>> {
    let mut tensors = Vec::new();
    model.visit_slots(&mut burn_peft::Path::default(), &mut |path, slot| {
        let kind = slot.kind();
        slot.visit_base(&mut |name, param| {
            let name = format!("{path}.{name}");
            let transposed = is_transposed(&name, kind);
            let shape = shape_in_file(param, transposed);
            let name = model.config().names_in_file(&name).swap_remove(0);
            let param = param.share();
            let load = move || {
                let data = param.to_data().convert::<f32>();
                Ok(if transposed { transpose(data) } else { data })
            };
            tensors.push(NamedTensor::new(name, shape, load));
        });
    });
    tensors.extend(model.buffers());
    tensors
}
