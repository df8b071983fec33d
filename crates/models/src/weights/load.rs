//! Loading weights into a model.

use std::collections::HashSet;
use std::sync::Arc;

use burn::tensor::{Device, FloatDType, TensorData};
use burn_peft::{Adaptable, AnyParam, LayerKind, LazyData, Path};
use burn_peft_device::{check_size, check_weight};

use super::init::initial_weight;
use super::{Weights, WeightsError, weights_of};
use crate::CausalLm;
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::{ModelError, Result};

/// Sets every weight from tensors that are named as in transformers' checkpoint.
///
/// # Errors
/// If `tensor` fails, or has no tensor for a weight, or one of another shape.
pub fn load_weights<D: Decoder>(
    model: &mut D,
    tensor: impl FnMut(&str) -> Result<Option<TensorData>>,
) -> Result<()> {
    set_weights(model, &HashSet::new(), tensor)
}

/// As [`load_weights`], except for weights that are already there.
fn set_weights<D: Decoder>(
    model: &mut D,
    there: &HashSet<String>,
    mut tensor: impl FnMut(&str) -> Result<Option<TensorData>>,
) -> Result<()> {
    let device = model.device();
    try_weights(model, |name, kind, param| {
        if there.contains(name) {
            return Ok(());
        }
        let data = tensor(name)?.ok_or_else(|| missing(name))?;
        let transposed = is_transposed(name, kind);
        check_shape(name, data.shape(), param, transposed)?;
        check_weight(&device, name, data.as_bytes().len() as u64)?;
        param.set_data(data, transposed);
        Ok(())
    })
}

/// Reads every weight now. A missing classifier's head is drawn by `seed`, if one is given.
pub(super) fn load<D: Decoder>(
    model: &mut D,
    weights: &dyn Weights,
    seed: Option<u64>,
) -> Result<()> {
    load_others(model, weights, &HashSet::new(), seed)
}

/// As [`load`], but matrices stay in the blocks of their file.
pub(super) fn load_blocks<D: Decoder>(
    model: &mut D,
    weights: &dyn Weights,
    seed: Option<u64>,
) -> Result<()> {
    let tied = tied_names(model);
    let config = model.config().clone();
    let mut there = HashSet::new();
    let mut result = Ok(());
    model.visit_slots_mut(&mut Path::default(), &mut |path, slot| {
        let (kind, name) = (slot.kind(), format!("{path}.weight"));
        let has_blocks = kind.is_linear() || kind == LayerKind::Embedding;
        let found = find(&config, weights, &name, tied.as_ref()).filter(|_| has_blocks);
        let Some(found) = found.filter(|_| result.is_ok()) else {
            return;
        };
        match weights.blocks(&found) {
            Err(error) => result = Err(error),
            Ok(None) => {}
            Ok(Some(blocks)) => {
                let blocks = if kind.is_linear() {
                    blocks.transposed()
                } else {
                    blocks
                };
                // A matrix that does not fit is rejected with the others.
                if blocks.dims() == slot.dims() {
                    slot.set_blocks(blocks);
                    there.insert(name);
                }
            }
        }
    });
    result?;
    load_others(model, weights, &there, seed)
}

/// Reads every weight that is not there yet.
fn load_others<D: Decoder>(
    model: &mut D,
    weights: &dyn Weights,
    there: &HashSet<String>,
    seed: Option<u64>,
) -> Result<()> {
    load_buffers(model, weights)?;
    let tied = tied_names(model);
    let config = model.config().clone();
    set_weights(model, there, |name| {
        match find(&config, weights, name, tied.as_ref()) {
            Some(found) => weights.tensor(&found).map(Some),
            None => new_head(&config, name, seed),
        }
    })?;
    refuse_others(model, weights)
}

/// Lets every weight be read when it is first used. A weight that is too large for the device in 32
/// bits is `narrow` from the start. A missing classifier's head is drawn by `seed`, if one is
/// given.
pub(super) fn load_lazily<D: Decoder>(
    model: &mut D,
    weights: &Arc<dyn Weights>,
    narrow: Option<FloatDType>,
    seed: Option<u64>,
) -> Result<()> {
    load_buffers(model, weights.as_ref())?;
    let device = model.device();
    let tied = tied_names(model);
    let config = model.config().clone();
    try_weights(model, |name, kind, param| {
        let found = find(&config, weights.as_ref(), name, tied.as_ref());
        let transposed = is_transposed(name, kind);
        let Some(found) = found else {
            let new = new_head(&config, name, seed)?;
            param.set_data(new.ok_or_else(|| missing(name))?, transposed);
            return Ok(());
        };
        check_shape(name, weights.check(&found)?, param, transposed)?;
        let kept = narrow.filter(|_| is_castable(name, kind));
        let kept = kept_in(&device, name, param.num_elements(), kept)?;
        param.set_lazily(lazily(weights, found, transposed, kept), false);
        Ok(())
    })?;
    refuse_others(model, weights.as_ref())
}

/// The initial values of a classifier's head, by its name, which files may lack, if there is a
/// seed.
fn new_head(
    config: &impl ModelConfig,
    name: &str,
    seed: Option<u64>,
) -> Result<Option<TensorData>> {
    let new = if config.is_optional(name) {
        if config.head().classifies() && name.ends_with(".weight") {
            tracing::warn!(
                "the model's files have no {name}: it gets random values, the same every time, \
                 and is not trained unless modules_to_save names it"
            );
        }
        Some(0)
    } else {
        seed.filter(|_| config.is_new_head(name))
    };
    let new = new.and_then(|seed| initial_weight(config, name, seed));
    new.transpose()
}

/// Reads a checked tensor in the type that it will be cast to, or `kept`.
pub(super) fn lazily(
    weights: &Arc<dyn Weights>,
    found: String,
    transposed: bool,
    kept: FloatDType,
) -> LazyData {
    let weights = Arc::clone(weights);
    Box::new(move |cast_to| {
        let dtype = cast_to.unwrap_or(kept);
        // Transposed on the host: the device would hold it twice.
        let data = weights.tensor_in(&found, dtype, transposed);
        data.expect("it was checked")
    })
}

/// Reads what is not a weight.
fn load_buffers<D: Decoder>(model: &mut D, weights: &dyn Weights) -> Result<()> {
    model.set_buffers(&|name| {
        let is_there = weights.shape(name).is_some();
        is_there.then(|| weights.tensor(name)).transpose()
    })
}

/// Tensors that belong to no weight indicate another architecture.
fn refuse_others<D: Decoder>(model: &mut D, weights: &dyn Weights) -> Result<()> {
    let config = model.config().clone();
    // A checkpoint may hold a tied head a second time.
    let of_head = |part: &str| config.names_in_file(&format!("{}.{part}", config.language_head()));
    let mut known: HashSet<String> = of_head("weight").into_iter().collect();
    if !config.head().predicts_tokens() {
        // The state of the model before.
        known.extend(of_head("bias"));
    }
    visit_weights(model, |name, _, _| known.extend(config.names_in_file(name)));
    let others: Vec<&str> = weights
        .names()
        .filter(|name| !(known.contains(*name) || config.is_buffer(name)))
        .take(4)
        .collect();
    if others.is_empty() {
        return Ok(());
    }
    let error = WeightsError::Unexpected {
        model_type: model.model_type().to_string(),
        first: others.into_iter().map(str::to_string).collect(),
    };
    Err(error.into())
}

/// As [`visit_weights`], until a call fails.
fn try_weights(
    model: &mut impl Adaptable,
    mut visit: impl FnMut(&str, LayerKind, &mut dyn AnyParam) -> Result<()>,
) -> Result<()> {
    let mut result = Ok(());
    visit_weights(model, |name, kind, param| {
        if result.is_ok() {
            result = visit(name, kind, param);
        }
    });
    result
}

/// Calls `visit` with every weight, its name in the checkpoint and the kind of its layer.
fn visit_weights(
    model: &mut impl Adaptable,
    mut visit: impl FnMut(&str, LayerKind, &mut dyn AnyParam),
) {
    model.visit_slots_mut(&mut Path::default(), &mut |path, slot| {
        let kind = slot.kind();
        slot.visit_base_mut(&mut |name, param| visit(&format!("{path}.{name}"), kind, param));
    });
}

/// Whether the checkpoint holds a weight transposed.
pub(super) fn is_transposed(name: &str, kind: LayerKind) -> bool {
    kind == LayerKind::Linear && name.ends_with(".weight")
}

/// The shape of a weight in the checkpoint.
pub(super) fn shape_in_file(param: &dyn AnyParam, transposed: bool) -> Vec<usize> {
    let mut dims = param.dims();
    if transposed {
        dims.reverse();
    }
    dims
}

/// The weights of the input and output embedding, if they are tied.
fn tied_names<D: Decoder>(model: &D) -> Option<[String; 2]> {
    let names = [model.input_embedding(), model.output_embedding()];
    let tied = model.config().common().tie_word_embeddings;
    tied.then(|| names.map(|name| format!("{name}.weight")))
}

/// The name in the checkpoint of a model's weight that transformers calls `name`, if it is there.
pub(crate) fn name_in<D: Decoder>(model: &D, weights: &dyn Weights, name: &str) -> Option<String> {
    find(model.config(), weights, name, tied_names(model).as_ref())
}

/// The name in the checkpoint of the weight that transformers calls `name`, if it is there; for a
/// missing tied embedding, the head's name.
fn find(
    config: &impl ModelConfig,
    weights: &dyn Weights,
    name: &str,
    tied: Option<&[String; 2]>,
) -> Option<String> {
    let head = tied.filter(|[embedding, _]| embedding == name);
    let head = head.map(|[_, head]| config.names_in_file(head));
    let names = config.names_in_file(name).into_iter();
    let mut names = names.chain(head.into_iter().flatten());
    names.find(|name| weights.shape(name).is_some())
}

/// Rejects weights without the last block, before a model of this many blocks is made.
pub(super) fn check_last_block<D: Decoder>(
    config: &D::Config,
    weights: &dyn Weights,
) -> Result<()> {
    let names = |layers| {
        weights_of(&config.with_layers(layers))
            .into_iter()
            .map(|w| w.name)
    };
    let first: HashSet<String> = names(1).collect();
    let Some(second) = names(2).find(|name| !first.contains(name)) else {
        return Ok(());
    };
    let last = format!(".{}.", config.common().num_hidden_layers - 1);
    let last = second.replacen(".1.", &last, 1);
    if find(config, weights, &last, None).is_some() {
        return Ok(());
    }
    Err(missing(&last))
}

/// Unties the head in a configuration that ties it, if the weights have another head; transformers
/// 5 does the same, whatever the configuration says.
pub(super) fn untie_other_head<D: Decoder>(
    config: &mut D::Config,
    weights: &dyn Weights,
    path: &std::path::Path,
) -> Result<()> {
    let Some(tied) = tied_names(&D::new(&config.with_layers(1), &Device::flex())) else {
        return Ok(());
    };
    let [embedding, head] = &tied;
    if let Some(stored) = find(config, weights, head, None)
        && let Some(found) = find(config, weights, embedding, Some(&tied))
        && !weights.are_equal(&found, &stored)?
    {
        tracing::warn!(
            "{}: tie_word_embeddings = true, but the weights hold a {head} that differs from \
             {embedding}: they are not tied; set tie_word_embeddings to false",
            path.display()
        );
        config.set_tie_word_embeddings(false);
    }
    Ok(())
}

fn missing(name: &str) -> ModelError {
    let name = name.to_string();
    WeightsError::Missing { name }.into()
}

fn check_shape(name: &str, found: &[usize], param: &dyn AnyParam, transposed: bool) -> Result<()> {
    let expected = shape_in_file(param, transposed);
    if found == expected {
        return Ok(());
    }
    let error = WeightsError::Shape {
        name: name.to_string(),
        found: found.to_vec(),
        expected,
    };
    Err(error.into())
}

/// Whether [`burn_peft::cast_frozen`] converts the weight: biases and norms stay in 32 bits.
fn is_castable(name: &str, kind: LayerKind) -> bool {
    !kind.is_norm() && name.ends_with(".weight")
}

/// The type in which a weight of this many values is put on the device: 32 bits if they fit, else
/// `narrow`.
fn kept_in(
    device: &Device,
    name: &str,
    count: usize,
    narrow: Option<FloatDType>,
) -> Result<FloatDType> {
    let fits = check_weight(device, name, 4 * count as u64);
    match (fits, narrow) {
        (Err(_), Some(narrow)) => {
            check_size(device, name, 2 * count as u64)?;
            Ok(narrow)
        }
        (fits, _) => Ok(fits.map(|()| FloatDType::F32)?),
    }
}
