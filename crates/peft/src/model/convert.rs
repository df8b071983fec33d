//! Converting an adapter of another method into a LoRA adapter (PEFT's `convert_to_lora`).

use burn::tensor::{Tensor, TensorData};

use crate::combine::low_rank;
use crate::config::{Bias, HEAD_KEYS};
use crate::files::PREFIX;
use crate::files::tensor_file::oriented;
use crate::methods::lora::FACTORS;
use crate::target::target_layers;
use crate::{BaseModel, LayerKind, LoraConfig, Method, PeftError, PeftModel, Result};

/// A LoRA adapter that approximates another adapter.
#[derive(Clone, Debug)]
pub struct Conversion {
    /// Its configuration; α = r.
    pub config: LoraConfig,
    /// Its tensors, by their keys in the file.
    pub tensors: Vec<(String, TensorData)>,
    /// The relative error: the Frobenius norm of the difference between all changes of weights,
    /// divided by that of the changes.
    pub error: f64,
    /// The same for each layer, in the order of the model.
    pub layers: Vec<(String, f64)>,
}

impl<M: BaseModel> PeftModel<M> {
    /// The LoRA adapter of rank `r` that is nearest to an adapter's change of the weights: `B A` is
    /// the truncated singular value decomposition of the change.
    ///
    /// Works for every method that can be merged. Copies of layers (`modules_to_save`) and the
    /// base's embeddings in the adapter's file are kept. Costs a decomposition for each layer.
    ///
    /// # Errors
    /// If there is no adapter of this name; if it cannot be merged, changes biases or layers that
    /// LoRA cannot change, or is merged now; or if `r` is 0 or too large for a layer.
    pub fn convert_to_lora(&self, adapter_name: &str, r: usize) -> Result<Conversion> {
        let old = self.config(adapter_name)?;
        let refuse = |reason: String| {
            Err(PeftError::NotConvertible {
                problem: format!(
                    "the adapter `{adapter_name}` ({}) cannot be converted to LoRA: {reason}",
                    old.peft_type()
                ),
            })
        };
        if old.bias() != Bias::None {
            return refuse("it trains biases of the base".into());
        }
        if self.model_adapter(adapter_name).is_some() {
            return refuse("it acts at the model and changes no weight".into());
        }
        let mut config = LoraConfig::new().with_r(r).with_lora_alpha(r as f64);
        config.common = old.common().clone();
        // What a classifier scores does not depend on the method.
        let unknown = &mut config.common.unknown;
        unknown.retain(|key, _| HEAD_KEYS.contains(&key.as_str()));
        config.common.turned_off.clear();
        config.validate()?;
        let (mut layers, mut tensors) = (Vec::new(), Vec::new());
        let mut failed = None;
        self.visit_slots(|path, slot| {
            let Some(adapter) = slot.adapter(adapter_name).filter(|_| failed.is_none()) else {
                return;
            };
            let info = slot.info(path, &self.base_model);
            let in_groups = info.conv.as_ref().is_some_and(|conv| conv.groups > 1);
            let converted = if !config.supports(&info) {
                Err(format!("LoRA takes no {}", info.kind))
            } else if in_groups {
                Err("LoRA of a convolution in groups is not a change of its weight".into())
            } else {
                // LoRA may refuse the rank or the layer, such as a dilated convolution.
                let fits = config.layer(&info).map(drop).map_err(|error| match error {
                    PeftError::Unfit { problem, .. } => problem,
                    error => error.to_string(),
                });
                fits.and_then(|()| layer(adapter, slot, r))
                    .map(|layer| (info.kind, layer))
            };
            match converted {
                Ok((kind, layer)) => {
                    config.fan_in_fan_out |= kind == LayerKind::Conv1D;
                    layers.push((path.to_string(), layer.lost, layer.all));
                    let [linear, embedding] = FACTORS;
                    let ends = match kind {
                        LayerKind::Embedding => embedding,
                        _ => linear,
                    };
                    for (end, data) in ends.into_iter().zip(layer.factors) {
                        tensors.push((format!("{PREFIX}{path}.{end}"), data));
                    }
                }
                Err(reason) => failed = Some(format!("{path}: {reason}")),
            }
        });
        if let Some(reason) = failed {
            return refuse(reason);
        }
        if layers.is_empty() {
            return refuse("it changes no layer's weight".into());
        }
        let model_type = self.base_model.model_type();
        let named = target_layers(&config.common, &self.layers(), &config, model_type)?.paths;
        if let Some((path, ..)) = layers.iter().find(|(path, ..)| !named.contains(path)) {
            return refuse(format!(
                "it changes {path} too, which its target_modules do not name"
            ));
        }
        self.visit_slots(|path, slot| {
            let kind = slot.kind();
            slot.visit_saved(adapter_name, &mut |name, param| {
                let data = param.to_data().convert::<f32>();
                let data = oriented(data, kind.is_transposed(name));
                tensors.push((format!("{PREFIX}{path}.{name}"), data));
            });
        });
        // The changes above are relative to the embeddings from the adapter's file.
        tensors.extend(self.stored_weights(adapter_name));
        let share = |lost: f64, all: f64| if all > 0.0 { (lost / all).sqrt() } else { 0.0 };
        let sums = layers.iter();
        let (lost, all) = sums.fold((0.0, 0.0), |(lost, all), (_, l, a)| (lost + l, all + a));
        let layers = layers.into_iter();
        Ok(Conversion {
            config,
            tensors,
            error: share(lost, all),
            layers: layers.map(|(path, l, a)| (path, share(l, a))).collect(),
        })
    }
}

/// The part of the layer's weight that an adapter took, `[d_in, d_out]`.
fn taken(slot: &dyn crate::Slot, adapter: &str) -> Option<Tensor<2>> {
    let originals = &slot.state().originals;
    let index = originals.iter().position(|(name, _)| name == adapter)?;
    let left = match originals.get(index + 1) {
        Some((_, weight)) => weight.clone(),
        None => slot.weight(),
    };
    Some(originals[index].1.clone() - left)
}

/// A layer's factors, and the squared norms of what they leave out and of the whole change.
struct Layer {
    factors: [TensorData; 2],
    lost: f64,
    all: f64,
}

fn layer(
    adapter: &crate::Adapter,
    slot: &dyn crate::Slot,
    r: usize,
) -> std::result::Result<Layer, String> {
    let [d_in, d_out] = slot.dims();
    if r > d_in.min(d_out) {
        return Err(format!(
            "r = {r} is more than its {} singular values",
            d_in.min(d_out)
        ));
    }
    if slot
        .state()
        .merged
        .iter()
        .any(|name| name == adapter.name())
    {
        return Err("it is merged: unmerge it first".into());
    }
    let mut bias = None;
    slot.visit_base(&mut |name, param| {
        if name == "bias" {
            bias = Some(param.to_data().convert::<f32>());
        }
    });
    let device = slot.device().without_autodiff();
    let before = bias.map(|data| Tensor::<1>::from_data(data, &device));
    let weight = slot.weight().without_autodiff();
    let (merged, after) = adapter
        .method()
        .merge(&adapter.tensors(), weight.clone(), before.clone())
        .ok_or("the method has no equal weight")?;
    if let (Some(before), Some(after)) = (before, after)
        && before.to_data() != after.without_autodiff().to_data()
    {
        return Err("it changes the layer's bias, which LoRA cannot".into());
    }
    // Relative to the untouched base, which still has the part that the adapter took.
    let delta = match taken(slot, adapter.name()) {
        Some(taken) => merged.without_autodiff() - weight - taken.without_autodiff(),
        None => merged.without_autodiff() - weight,
    };
    let delta = delta.transpose();
    let delta: Vec<f32> = delta.into_data().convert::<f32>().iter::<f32>().collect();
    let (a, b, singular) = low_rank(&delta, d_out, d_in, r).map_err(|error| error.to_string())?;
    let squares = |values: &[f32]| values.iter().map(|&s| f64::from(s).powi(2)).sum();
    Ok(Layer {
        factors: match slot.convolution() {
            Some(conv) => [
                TensorData::new(a, conv.shape(r, conv.channels_in)),
                TensorData::new(b, conv.pointwise(d_out, r)),
            ],
            None => [
                TensorData::new(a, [r, d_in]),
                TensorData::new(b, [d_out, r]),
            ],
        },
        lost: squares(&singular[r..]),
        all: squares(&singular),
    })
}
