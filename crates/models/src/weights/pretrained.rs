//! Loading models from Hugging Face folders, and saving them.

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

/// A model that can be loaded from and saved to a Hugging Face folder; every [`Decoder`] is one.
pub trait Pretrained: Sized {
    /// Loads a model from a folder or from the Hub: `config.json` and its weights in F32, F16 or
    /// BF16, with or without the prefix of all names (`transformer.`).
    ///
    /// # Errors
    /// If a file is missing or malformed, or a tensor is missing, unknown, or of another shape than
    /// configured.
    fn from_pretrained(model: &str, device: &Device) -> Result<Self> {
        Self::from_files(&hub::resolve(model, &[CONFIG], &[])?, device)
    }

    /// As [`from_pretrained`](Self::from_pretrained), from local files.
    ///
    /// # Errors
    /// As [`from_pretrained`](Self::from_pretrained).
    fn from_files(files: &ModelFiles, device: &Device) -> Result<Self>;

    /// As [`from_files`](Self::from_files), for a model most of which will be stored in 16 bits or
    /// fewer ([`burn_peft::cast_frozen`], [`burn_peft::quantize_frozen`]): each weight is read when
    /// it is first used, so that only a few are ever in memory in 32 bits. A weight that is too
    /// large for the device in 32 bits, and will be frozen in `narrow`, has that type from the
    /// start; callers that train a copy of it (`modules_to_save`) have to check the size.
    ///
    /// As with Burn's own lazy parameters, clones share the reading, and whether it makes them
    /// trainable.
    ///
    /// # Errors
    /// As [`from_files`](Self::from_files), immediately.
    fn from_files_lazily(
        files: &ModelFiles,
        device: &Device,
        narrow: Option<FloatDType>,
    ) -> Result<Self>;

    /// As [`from_files`](Self::from_files), for a model whose weights stay frozen: matrices of a
    /// GGUF file stay in its blocks, mapped into memory, and products unpack them. A dense weight
    /// is made only when it is requested, for that moment; a weight that is set becomes a parameter
    /// again. On devices other than the CPU, and with `BURN_PEFT_KERNELS=plain`, weights are read
    /// in 32 bits.
    ///
    /// # Errors
    /// As [`from_files`](Self::from_files).
    fn from_files_in_blocks(files: &ModelFiles, device: &Device) -> Result<Self>;

    /// Sets the weights to those that this model has written with [`save_with`](Self::save_with) or
    /// [`save_pretrained`](Self::save_pretrained); everything else, such as its
    /// [`dtype`](Self::dtype), is kept.
    ///
    /// # Errors
    /// If a file is missing or malformed, or belongs to another model.
    fn reload(&mut self, directory: impl AsRef<Path>) -> Result<()>;

    /// The type of the weights in the files that it was read from; `F32` for a new model.
    fn dtype(&self) -> FloatDType;

    /// Writes `config.json` and `model.safetensors`, or its shards, in transformers' format and the
    /// [`dtype`](Self::dtype) that the model was read from; in 32 bits if a weight exceeds the
    /// range of float16. Adapters are left out unless they are merged. If merging has changed only
    /// one side of a tied head, the head is written untied.
    ///
    /// # Errors
    /// If a weight is not finite or a file cannot be written; no partial files are left behind.
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

    /// As [`save_pretrained`](Self::save_pretrained), in another type or with another size of
    /// files.
    ///
    /// # Errors
    /// As [`save_pretrained`](Self::save_pretrained), or if a weight is out of the type's range.
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

/// How weights are loaded into a model.
#[derive(Clone, Copy, Debug)]
pub enum Reading {
    /// [`Pretrained::from_files`].
    Now,
    /// [`Pretrained::from_files_lazily`].
    Lazily(Option<FloatDType>),
    /// [`Pretrained::from_files_in_blocks`].
    InBlocks,
}

/// The model that a folder's `config.json` describes, with its weights. Its head may be another
/// one.
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
        // A decoder whose head is its token embedding is already a language model.
        let mut other = config.clone();
        other.set_head(Head::default());
        let is_causal = || Decoder::is_causal(&D::new(&other.with_layers(1), device));
        if other.common().tie_word_embeddings && is_causal() {
            config = other;
        }
    }
    // The type to save it in again, whatever the file says.
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

/// Every weight in the checkpoint's arrangement, fetched when it is written.
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
