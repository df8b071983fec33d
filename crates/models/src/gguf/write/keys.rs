//! The keys that a configuration becomes, as llama.cpp's converter writes them.

use std::collections::BTreeMap;

use super::plan::refused;
use super::rope;
use super::value::KeyValue;
use crate::auto::AutoConfig;
use crate::config::ModelConfig;
use crate::dense::Switches;
use crate::error::Result;
use crate::families::gpt2::Gpt2Config;
use crate::gguf::architecture::Architecture;
use crate::parts::NormKind;

/// The current version of the block types.
const QUANTIZATION_VERSION: u32 = 2;

/// The keys of a file, and the tensors that are stored as keys.
pub(super) struct Keys {
    pub of: &'static Architecture,
    pub keys: Vec<(String, KeyValue)>,
    pub constants: Vec<(String, Vec<f32>)>,
}

impl Keys {
    /// The keys of a model; `values` reads one of its small tensors.
    pub fn of(
        of: &'static Architecture,
        model: &AutoConfig,
        shapes: &BTreeMap<String, Vec<usize>>,
        values: &dyn Fn(&str) -> Result<Vec<f32>>,
    ) -> Result<Self> {
        let general = |key: &str, value| (format!("general.{key}"), value);
        let mut keys = Self {
            of,
            keys: vec![
                general("architecture", KeyValue::Text(of.name.into())),
                general("type", KeyValue::Text("model".into())),
                general("quantization_version", KeyValue::U32(QUANTIZATION_VERSION)),
            ],
            constants: Vec::new(),
        };
        match model {
            AutoConfig::Gpt2(config) => gpt2(&mut keys, config)?,
            AutoConfig::Dense(config) => {
                dense(&mut keys, config.switches())?;
                if of.name == "apertus" {
                    activations(&mut keys, config.switches(), shapes, values)?;
                }
                // Written only if the model's own file has it.
                if config.to_map().contains_key("head_dim") || has_own_width(config.switches()) {
                    keys.size("attention.key_length", config.switches().head_dim)?;
                    keys.size("attention.value_length", config.switches().head_dim)?;
                }
            }
            _ => return Err(refused("encoders are not written as GGUF files")),
        }
        Ok(keys)
    }

    /// Adds a key with the architecture's prefix.
    pub fn add(&mut self, key: &str, value: KeyValue) {
        let key = format!("{}.{key}", self.of.name);
        self.keys.push((key, value));
    }

    /// Adds a size.
    pub fn size(&mut self, key: &str, size: usize) -> Result<()> {
        let narrow = u32::try_from(size);
        let size =
            narrow.map_err(|_| refused(format!("{key} = {size} does not fit into 32 bits")))?;
        self.add(key, KeyValue::U32(size));
        Ok(())
    }

    /// Adds a number, which files store in 32 bits.
    pub fn number(&mut self, key: &str, number: f64) {
        self.add(key, KeyValue::F32(number as f32));
    }
}

fn has_own_width(switches: &Switches) -> bool {
    switches.heads * switches.head_dim != switches.hidden_size
}

fn gpt2(keys: &mut Keys, config: &Gpt2Config) -> Result<()> {
    if config.scale_attn_by_inverse_layer_idx || !config.scale_attn_weights {
        return Err(refused(
            "scale_attn_by_inverse_layer_idx = true and scale_attn_weights = false cannot be expressed in \
             GGUF files",
        ));
    }
    keys.size("context_length", config.n_positions)?;
    keys.size("embedding_length", config.n_embd)?;
    keys.size("block_count", config.n_layer)?;
    keys.size("feed_forward_length", config.inner_size())?;
    keys.size("attention.head_count", config.n_head)?;
    keys.number("attention.layer_norm_epsilon", config.layer_norm_epsilon);
    Ok(())
}

fn dense(keys: &mut Keys, switches: &Switches) -> Result<()> {
    keys.size("context_length", switches.max_positions)?;
    keys.size("embedding_length", switches.hidden_size)?;
    keys.size("block_count", switches.layers.len())?;
    keys.size("feed_forward_length", switches.intermediate_size)?;
    keys.size("attention.head_count", switches.heads)?;
    if keys.of.name != "gptneox" {
        keys.size("attention.head_count_kv", switches.kv_heads)?;
    }
    let epsilon = match switches.layout.norm {
        NormKind::Layer | NormKind::LayerWithoutBias(_) => "attention.layer_norm_epsilon",
        NormKind::Rms(_) | NormKind::RmsAroundOne(_) => "attention.layer_norm_rms_epsilon",
    };
    keys.number(epsilon, switches.norm_epsilon);
    rope::keys(keys, switches)?;
    let window = switches.layers.iter().find_map(|layer| layer.window);
    match keys.of.name {
        "llama" | "smollm3" | "arcee" | "apertus" => {
            keys.size("vocab_size", switches.vocab_size)?;
        }
        "mistral3" => {
            keys.size("vocab_size", switches.vocab_size)?;
            if let Some(growth) = switches.query_growth {
                keys.number("attention.temperature_scale", growth.beta);
            }
        }
        "cohere2" => {
            keys.size("vocab_size", switches.vocab_size)?;
            keys.number("logit_scale", switches.logit_scale);
            keys.size("attention.sliding_window", window.unwrap_or(0))?;
            pattern(keys, switches, 4)?;
        }
        "exaone4" | "olmo2" => {
            if keys.of.name == "exaone4" {
                keys.size("vocab_size", switches.vocab_size)?;
            }
            if let Some(window) = window {
                keys.size("attention.sliding_window", window)?;
                pattern(keys, switches, 4)?;
            }
        }
        "gemma2" => {
            caps(keys, switches);
            keys.size("attention.sliding_window", window.unwrap_or(0))?;
        }
        "gemma3" => {
            caps(keys, switches);
            if let Some(window) = window {
                keys.size("attention.sliding_window", window)?;
                pattern(keys, switches, 6)?;
            }
        }
        "phi3" => keys.size("attention.sliding_window", window.unwrap_or(0))?,
        "granite" => {
            keys.size("vocab_size", switches.vocab_size)?;
            keys.number("attention.scale", switches.score_scale);
            keys.number("embedding_scale", switches.input_scale);
            keys.number("residual_scale", switches.residual_scale);
            keys.number("logit_scale", 1.0 / switches.logit_scale);
        }
        "gptneox" | "stablelm" => {
            keys.add("use_parallel_residual", KeyValue::Flag(switches.parallel))
        }
        _ => {}
    }
    Ok(())
}

/// The learnt activations of Apertus: a number for each block.
fn activations(
    keys: &mut Keys,
    switches: &Switches,
    shapes: &BTreeMap<String, Vec<usize>>,
    values: &dyn Fn(&str) -> Result<Vec<f32>>,
) -> Result<()> {
    for (part, usual) in [
        ("alpha_p", None),
        ("alpha_n", None),
        ("beta", Some(0.5)),
        ("eps", Some(-1e-6)),
    ] {
        let mut numbers = Vec::new();
        for block in 0..switches.layers.len() {
            let name = format!("{}.{part}", switches.layout.activation(block));
            let read = match usual {
                Some(usual) if !shapes.contains_key(&name) => Some(usual),
                _ => values(&name)?.first().copied(),
            };
            numbers.push(read.ok_or_else(|| refused(format!("tensor {name} has no value")))?);
        }
        keys.keys
            .push((format!("xielu.{part}"), KeyValue::F32s(numbers)));
    }
    Ok(())
}

fn caps(keys: &mut Keys, switches: &Switches) {
    if let Some(cap) = switches.score_cap {
        keys.number("attn_logit_softcapping", cap);
    }
    if let Some(cap) = switches.logit_cap {
        keys.number("final_logit_softcapping", cap);
    }
}

/// Which layers have a window, as llama.cpp expresses it: all but every nth; `usual` is its default
/// for n.
fn pattern(keys: &mut Keys, switches: &Switches, usual: usize) -> Result<()> {
    let windows = |every: usize| {
        let layers = switches.layers.iter().enumerate();
        layers
            .map(|(index, layer)| {
                (
                    layer.window.is_some(),
                    every == 0 || !(index + 1).is_multiple_of(every),
                )
            })
            .all(|(is, would)| is == would)
    };
    if windows(usual) {
        return Ok(());
    }
    let every = (0..=switches.layers.len()).find(|&every| windows(every));
    let every = every.ok_or_else(|| {
        refused("layer_types: GGUF files can express that all layers except every n-th have a window, not this")
    })?;
    keys.size("attention.sliding_window_pattern", every)
}
