//! A model's weights with its adapters merged, made when they are requested.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::tensor::{FloatDType, TensorData};
use burn_peft::config::Bias;
use burn_peft::tensor_file::transpose;
use burn_peft::{Adaptable, LayerKind, Path, PeftModel};
use burn_peft_kernels::BlockWeight;
use serde_json::{Map, Value};

use super::load::{is_transposed, lazily, shape_in_file};
use super::{NamedTensor, SaveOptions, Weights, WeightsError, save_model};
use crate::AutoModel;
use crate::error::Result;

/// The weights with which a model would be saved, under the names it would be saved with. Each is
/// read from the files of its base, or merged with what acts on it, when it is requested, and
/// released afterwards. So a model that was loaded [lazily](crate::Pretrained::from_files_lazily)
/// can be exported without ever being in memory as a whole.
pub struct MergedWeights {
    base: Arc<dyn Weights>,
    tensors: BTreeMap<String, Entry>,
    /// The names in `base` of the parameters that the model has from there.
    in_files: BTreeMap<String, String>,
    model: Mutex<AutoModel>,
}

struct Entry {
    shape: Vec<usize>,
    source: Source,
}

enum Source {
    /// The base's tensor of this name.
    File(String),
    /// A parameter of the layer at `path`.
    Layer {
        path: String,
        parameter: String,
        transposed: bool,
    },
    /// Something that is not a weight.
    Here(TensorData),
}

impl MergedWeights {
    /// The weights of a model that was read from `base`, without adapters.
    ///
    /// # Errors
    /// If the model has a weight that is not in its files.
    pub fn plain(base: Box<dyn Weights>, model: AutoModel) -> Result<Self> {
        Self::of(base, model, false)
    }

    /// The weights of a model that was read from `base`, with its active adapters merged. What
    /// adapters take from a weight when they are attached is kept in memory; everything else is
    /// read again.
    ///
    /// # Errors
    /// If an adapter acts at the model, or around its parts, instead of on weights. Whether a
    /// method can be merged into a layer is checked when the layer's weight is requested.
    pub fn new(base: Box<dyn Weights>, model: &PeftModel<AutoModel>) -> Result<Self> {
        model.check_mergeable()?;
        let mut configs = model.peft_config().values();
        let has_biases = configs.any(|config| config.bias() != Bias::None);
        Self::of(base, model.get_base_model().clone(), has_biases)
    }

    /// With `has_biases`, an adapter came with biases of its own.
    fn of(base: Box<dyn Weights>, mut model: AutoModel, has_biases: bool) -> Result<Self> {
        let base: Arc<dyn Weights> = Arc::from(base);
        let own_head = untie_changed(&mut model)?;
        let (mut tensors, mut in_files) = (BTreeMap::new(), BTreeMap::new());
        let mut refused = Ok(());
        model.visit_slots(&mut Path::default(), &mut |path, slot| {
            // A part has no weight that could be merged with what acts around it.
            if slot.kind() == LayerKind::Module && slot.is_adapted() && refused.is_ok() {
                refused = slot.merged(path).map(drop);
            }
            let is_own = slot.has_own_weight() || own_head.as_deref() == Some(path);
            slot.visit_base(&mut |parameter, param| {
                let name = format!("{path}.{parameter}");
                let transposed = is_transposed(&name, slot.kind());
                let shape = shape_in_file(param, transposed);
                let is_kept = is_own || (has_biases && parameter == "bias");
                let found = model.name_in(base.as_ref(), &name);
                let found = found.filter(|found| base.shape(found) == Some(&shape) && !is_kept);
                if let Some(found) = &found {
                    in_files.insert(name.clone(), found.clone());
                }
                let source = match found.filter(|_| !slot.is_adapted()) {
                    Some(found) => Source::File(found),
                    None => Source::Layer {
                        path: path.to_string(),
                        parameter: parameter.to_string(),
                        transposed,
                    },
                };
                tensors.insert(model.written_name(&name), Entry { shape, source });
            });
        });
        refused?;
        for buffer in model.buffers() {
            let (name, shape) = (buffer.name.clone(), buffer.shape.clone());
            let source = Source::Here(buffer.load()?);
            tensors.insert(name, Entry { shape, source });
        }
        let merged = Self {
            base,
            tensors,
            in_files,
            model: Mutex::new(model),
        };
        merged.forget(&mut merged.model(), None);
        Ok(merged)
    }

    /// The object of the `config.json` that describes them.
    pub fn config(&self) -> Map<String, Value> {
        self.model().config_map()
    }

    /// Writes `config.json` and `model.safetensors`, or its shards, tensor by tensor, in a type of
    /// 16 or 32 bits.
    ///
    /// # Errors
    /// As [`save_model`].
    pub fn save(&self, directory: &std::path::Path, dtype: FloatDType) -> Result<()> {
        let options = SaveOptions {
            dtype,
            ..SaveOptions::default()
        };
        let config = self.model().config_json_with(dtype);
        let tensor = |(name, entry): (&String, &Entry)| {
            let from = name.clone();
            NamedTensor::new(name, entry.shape.clone(), move || self.tensor(&from))
        };
        save_model(
            directory,
            &config,
            self.tensors.iter().map(tensor),
            &options,
        )
    }

    fn model(&self) -> MutexGuard<'_, AutoModel> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases the values of a layer, or of all layers, that can be read again.
    fn forget(&self, model: &mut AutoModel, only: Option<&str>) {
        model.visit_slots_mut(&mut Path::default(), &mut |path, slot| {
            let is_kept = slot.is_quantized() || slot.blocks().is_some();
            if is_kept || only.is_some_and(|only| only != path) {
                return;
            }
            let kind = slot.kind();
            slot.visit_base_mut(&mut |parameter, param| {
                let name = format!("{path}.{parameter}");
                let transposed = is_transposed(&name, kind);
                if let Some(found) = self.in_files.get(&name) {
                    let read = lazily(&self.base, found.clone(), transposed, FloatDType::F32);
                    param.set_lazily(read, false);
                }
            });
        });
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        let missing = || WeightsError::NoTensor {
            files: "the merged model".to_string(),
            name: name.to_string(),
        };
        Ok(self.tensors.get(name).ok_or_else(missing)?)
    }

    /// A parameter of a layer, with what acts on it.
    fn merged(&self, at: &str, parameter: &str, transposed: bool) -> Result<TensorData> {
        let mut model = self.model();
        let mut found = None;
        model.visit_slots(&mut Path::default(), &mut |path, slot| {
            if path == at {
                found = Some(slot.merged(path));
            }
        });
        let parameters = found.expect("it was there when the model was visited")?;
        self.forget(&mut model, Some(at));
        let data = parameters.into_iter().find(|(name, _)| name == parameter);
        let (_, data) = data.expect("it was there when the model was visited");
        let data = data.convert::<f32>();
        Ok(if transposed { transpose(data) } else { data })
    }
}

/// Gives a tied output layer a weight of its own if adapters change only the embedding; returns the
/// path of the output layer in that case.
fn untie_changed(model: &mut AutoModel) -> Result<Option<String>> {
    let (input, output) = (
        model.input_embedding().to_string(),
        model.output_embedding().to_string(),
    );
    let mut is_tied = true;
    let mut weights = None;
    model.visit_slots(&mut Path::default(), &mut |path, slot| {
        is_tied &= path != output;
        if path == input && slot.is_adapted() {
            weights = Some((slot.merged(path), slot.tied_weight()));
        }
    });
    let Some((merged, tied)) = weights.filter(|_| is_tied) else {
        return Ok(None);
    };
    let tied = tied.cast(FloatDType::F32);
    let merged = merged?.into_iter().map(|(_, data)| data.convert::<f32>());
    if merged.collect::<Vec<_>>() == [tied.to_data()] || !model.untie_output() {
        return Ok(None);
    }
    model.visit_slots_mut(&mut Path::default(), &mut |path, slot| {
        if path == output {
            slot.set_weight(tied.clone().transpose());
        }
    });
    Ok(Some(output))
}

impl Weights for MergedWeights {
    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        Box::new(self.tensors.keys().map(String::as_str))
    }

    fn dtype(&self) -> FloatDType {
        self.base.dtype()
    }

    fn written_dtype(&self) -> Result<FloatDType> {
        self.base.written_dtype()
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(&self.tensors.get(name)?.shape)
    }

    fn read(&self, name: &str, piece: usize, visit: &mut dyn FnMut(&[f32])) -> Result<()> {
        let mut here = |data: &TensorData| {
            let values: &[f32] = data.as_slice().expect("it is in float32");
            values.chunks(piece.max(1)).for_each(&mut *visit);
        };
        match &self.entry(name)?.source {
            Source::File(found) => return self.base.read(found, piece, visit),
            Source::Here(data) => here(data),
            Source::Layer {
                path,
                parameter,
                transposed,
            } => here(&self.merged(path, parameter, *transposed)?),
        }
        Ok(())
    }

    fn blocks(&self, name: &str) -> Result<Option<BlockWeight>> {
        match &self.entry(name)?.source {
            Source::File(found) => self.base.blocks(found),
            _ => Ok(None),
        }
    }

    fn check(&self, name: &str) -> Result<&[usize]> {
        let entry = self.entry(name)?;
        if let Source::File(found) = &entry.source {
            self.base.check(found)?;
        }
        Ok(&entry.shape)
    }

    fn are_equal(&self, a: &str, b: &str) -> Result<bool> {
        Ok(self.tensor(a)? == self.tensor(b)?)
    }
}
