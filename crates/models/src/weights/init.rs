//! Random initial weights, as transformers' `_init_weights` draws them.

use std::collections::HashMap;

use burn::tensor::{Device, TensorData};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use super::NamedTensor;
use super::load::{is_transposed, shape_in_file};
use crate::config::ModelConfig;
use crate::decoder::Decoder;
use crate::error::Result;

/// The weights of a new model, each made when it is requested.
///
/// Linear and embedding weights are normal with the family's standard deviation
/// ([`Decoder::initial_std`]); biases are zero, and norms start as their layers make them. A
/// tensor's values depend only on `seed` and its name.
pub fn initial_weights<C: ModelConfig>(config: &C, seed: u64) -> Vec<NamedTensor<'static>> {
    let model = C::Model::new(config, &Device::flex());
    let norms = norms_of(&model);
    let make = |weight: WeightInfo| {
        let WeightInfo { name, shape } = weight;
        let norm = norms.get(&name).copied();
        let start = match norm.or_else(|| C::Model::initial_value(config, &name)) {
            Some(value) => Start::Constant(value),
            None if name.ends_with(".bias") => Start::Constant(0.0),
            None => Start::Normal(C::Model::initial_std(config, &name)),
        };
        let stream = hash(&name);
        let empty = C::Model::empty_row(config, &name);
        let name = config.names_in_file(&name).swap_remove(0);
        NamedTensor::new(name, shape.clone(), move || {
            let mut values = start.values(&shape, seed, stream);
            if let Some(row) = empty {
                let width = values.len() / shape[0];
                values[row * width..(row + 1) * width].fill(0.0);
            }
            Ok(TensorData::new(values, shape))
        })
    };
    let weights = weights_of(config).into_iter().map(make);
    weights.chain(model.buffers()).collect()
}

/// The initial values of one weight, by its name in the model.
pub(super) fn initial_weight<C: ModelConfig>(
    config: &C,
    name: &str,
    seed: u64,
) -> Option<Result<TensorData>> {
    let name = config.names_in_file(name).swap_remove(0);
    let mut weights = initial_weights(&config.with_layers(1), seed).into_iter();
    weights
        .find(|weight| weight.name == name)
        .map(|weight| weight.load())
}

/// A weight of a model with some configuration.
pub(crate) struct WeightInfo {
    /// The name in the checkpoint.
    pub name: String,
    /// The shape in the checkpoint.
    pub shape: Vec<usize>,
}

/// The weights of a model with this configuration; none of them is made.
pub(crate) fn weights_of<C: ModelConfig>(config: &C) -> Vec<WeightInfo> {
    let model = C::Model::new(config, &Device::flex());
    let mut weights = Vec::new();
    burn_peft::Adaptable::visit_slots(&model, &mut Default::default(), &mut |path, slot| {
        let kind = slot.kind();
        slot.visit_base(&mut |name, param| {
            let name = format!("{path}.{name}");
            let shape = shape_in_file(param, is_transposed(&name, kind));
            weights.push(WeightInfo { name, shape });
        });
    });
    weights
}

/// The initial values of each norm's parameters, by name. This makes their tensors, so it is for
/// making weights, not for counting them.
fn norms_of(model: &impl burn_peft::Adaptable) -> HashMap<String, f32> {
    let mut starts = HashMap::new();
    model.visit_slots(&mut Default::default(), &mut |path, slot| {
        if slot.kind().is_norm() {
            slot.visit_base(&mut |name, param| {
                let first = param.to_data().iter::<f32>().next();
                starts.extend(first.map(|first| (format!("{path}.{name}"), first)));
            });
        }
    });
    starts
}

enum Start {
    Constant(f32),
    Normal(f64),
}

impl Start {
    fn values(&self, shape: &[usize], seed: u64, stream: u64) -> Vec<f32> {
        let count = shape.iter().product();
        match *self {
            Self::Constant(value) => vec![value; count],
            Self::Normal(std) => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(stream);
                let normal = rng.sample_iter::<f64, _>(StandardNormal);
                normal.take(count).map(|z| (z * std) as f32).collect()
            }
        }
    }
}

/// 64-bit FNV-1a: the same on every machine and in every version.
fn hash(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::Gpt2Config;

    /// Names and shapes in `../shared/conformance/base/gpt2/model.safetensors`; those of a block
    /// once.
    const CONFORMANCE: &[(&str, &[usize])] = &[
        ("transformer.h.{}.attn.c_attn.bias", &[192]),
        ("transformer.h.{}.attn.c_attn.weight", &[64, 192]),
        ("transformer.h.{}.attn.c_proj.bias", &[64]),
        ("transformer.h.{}.attn.c_proj.weight", &[64, 64]),
        ("transformer.h.{}.ln_1.bias", &[64]),
        ("transformer.h.{}.ln_1.weight", &[64]),
        ("transformer.h.{}.ln_2.bias", &[64]),
        ("transformer.h.{}.ln_2.weight", &[64]),
        ("transformer.h.{}.mlp.c_fc.bias", &[256]),
        ("transformer.h.{}.mlp.c_fc.weight", &[64, 256]),
        ("transformer.h.{}.mlp.c_proj.bias", &[64]),
        ("transformer.h.{}.mlp.c_proj.weight", &[256, 64]),
        ("transformer.ln_f.bias", &[64]),
        ("transformer.ln_f.weight", &[64]),
        ("transformer.wpe.weight", &[64, 64]),
        ("transformer.wte.weight", &[199, 64]),
    ];

    fn tiny() -> Gpt2Config {
        Gpt2Config {
            vocab_size: 199,
            n_positions: 64,
            n_embd: 64,
            n_head: 4,
            n_layer: 2,
            ..Gpt2Config::default()
        }
    }

    fn weights(config: &Gpt2Config, seed: u64) -> BTreeMap<String, Vec<f32>> {
        initial_weights(config, seed)
            .into_iter()
            .map(|tensor| {
                (
                    tensor.name.clone(),
                    tensor.load().unwrap().try_into_vec().unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn names_and_shapes_are_those_of_transformers() {
        let expected: BTreeMap<String, Vec<usize>> = CONFORMANCE
            .iter()
            .flat_map(|(name, shape)| {
                ["0", "1"].map(|layer| (name.replace("{}", layer), shape.to_vec()))
            })
            .collect();
        let made: BTreeMap<_, _> = initial_weights(&tiny(), 0)
            .into_iter()
            .map(|t| (t.name, t.shape))
            .collect();
        assert_eq!(made, expected);

        let untied = Gpt2Config {
            tie_word_embeddings: false,
            ..tiny()
        };
        let head = initial_weights(&untied, 0)
            .into_iter()
            .find(|t| t.name == "lm_head.weight");
        assert_eq!(head.unwrap().shape, [199, 64]);
    }

    #[test]
    fn values_have_the_right_spread() {
        for (name, values) in weights(&tiny(), 7) {
            let n = values.len() as f64;
            let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
            let variance = values
                .iter()
                .map(|&v| (f64::from(v) - mean).powi(2))
                .sum::<f64>()
                / n;
            if name.ends_with(".bias") {
                assert!(values.iter().all(|&v| v == 0.0), "{name}");
            } else if name.contains(".ln_") {
                assert!(values.iter().all(|&v| v == 1.0), "{name}");
            } else {
                // 0.02 / sqrt(2 * 2 layers) = 0.01
                let std = if name.ends_with("c_proj.weight") {
                    0.01
                } else {
                    0.02
                };
                // Five standard errors of a mean and of a standard deviation.
                assert!(mean.abs() < 5.0 * std / n.sqrt(), "{name}: mean {mean}");
                let off = (variance.sqrt() - std).abs();
                assert!(
                    off < 5.0 * std / (2.0 * n).sqrt(),
                    "{name}: std {}",
                    variance.sqrt()
                );
            }
        }
    }

    #[test]
    fn a_tensor_depends_on_seed_and_name_alone() {
        let (small, again, other) = (
            weights(&tiny(), 1),
            weights(&tiny(), 1),
            weights(&tiny(), 2),
        );
        assert_eq!(small, again);
        let name = "transformer.h.0.attn.c_attn.weight";
        assert_ne!(small[name], other[name]);
        assert_ne!(small[name], small["transformer.h.1.attn.c_attn.weight"]);
        let deeper = weights(
            &Gpt2Config {
                n_layer: 3,
                ..tiny()
            },
            1,
        );
        assert_eq!(small[name], deeper[name]);
    }
}
