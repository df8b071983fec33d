//! Random weights, drawn as transformers' `GPT2PreTrainedModel._init_weights` draws them.

use burn::tensor::TensorData;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;

use crate::checkpoint::NamedTensor;
use crate::gpt2::config::Gpt2Config;

/// The weights of a fresh `GPT2LMHeadModel`, each made when it is asked for.
///
/// Linear, Conv1D and embedding weights are normal with `initializer_range` as their standard
/// deviation, those of the residual projections (`c_proj.weight`) with
/// `initializer_range / sqrt(2 * n_layer)`; biases are zero, layer norms start at one and zero.
/// A tensor's numbers depend on `seed` and its name alone.
pub fn init_gpt2(
    config: &Gpt2Config,
    seed: u64,
) -> impl Iterator<Item = NamedTensor<'static>> + use<> {
    let std = config.initializer_range;
    let residual_std = std / (2.0 * config.n_layer as f64).sqrt();
    config
        .parameter_shapes()
        .into_iter()
        .map(move |(name, shape)| {
            let start = if name.ends_with(".bias") {
                Start::Constant(0.0)
            } else if name.contains(".ln_") {
                Start::Constant(1.0)
            } else if name.ends_with("c_proj.weight") {
                Start::Normal(residual_std)
            } else {
                Start::Normal(std)
            };
            let stream = hash(&name);
            NamedTensor::new(name, shape.clone(), move || {
                Ok(TensorData::new(start.values(&shape, seed, stream), shape))
            })
        })
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

    /// Names and shapes in `../shared/conformance/base/gpt2/model.safetensors`, a block's once.
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
        init_gpt2(config, seed)
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
        let made: BTreeMap<_, _> = init_gpt2(&tiny(), 0).map(|t| (t.name, t.shape)).collect();
        assert_eq!(made, expected);

        let untied = Gpt2Config {
            tie_word_embeddings: false,
            ..tiny()
        };
        let head = init_gpt2(&untied, 0).find(|t| t.name == "lm_head.weight");
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
