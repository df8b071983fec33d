//! Checking that a file's keys mean what the model's configuration means.

use std::fs;

use super::limits::WINDOWS;
use super::plan::{Plan, refused};
use super::value::{KeyValue, text};
use crate::auto::AutoConfig;
use crate::config::ModelConfig;
use crate::dense::{Layer, Switches};
use crate::error::{ModelError, Result};
use crate::gguf::Gguf;
use crate::gguf::config::config;
use crate::gguf::own_folder;

/// Reads the keys of a plan as [`Gguf`] does, and compares their meaning with the model. The
/// returned lines say what llama.cpp computes differently.
///
/// # Errors
/// If a file cannot express something; the error names the configuration's key.
pub(super) fn check(plan: &Plan, model: &AutoConfig) -> Result<Vec<String>> {
    let vocabulary = model.common().vocab_size;
    let folder = own_folder()?;
    let path = folder.path().join("keys.gguf");
    fs::write(&path, small(plan, vocabulary)).map_err(ModelError::io(&path))?;
    let read = config(&Gguf::open(&path)?, plan.architecture)?;
    let read = AutoConfig::from_map(read);
    let read = read.map_err(|problem| ModelError::Config {
        path: None,
        problem,
    })?;
    let name = plan.architecture.name;
    let lost = |keys: &str, config: &serde_json::Map<String, serde_json::Value>| {
        let said = keys
            .split(' ')
            .filter_map(|key| Some((key, config.get(key)?)));
        let mut said = said.map(|(key, value)| format!("{key} = {value}"));
        let said = said.next().unwrap_or_else(|| keys.replace(' ', ", "));
        refused(format!(
            "{said} cannot be expressed in a GGUF file of architecture {name:?}: llama.cpp would compute \
             something else"
        ))
    };
    match (model, &read) {
        (AutoConfig::Gpt2(model), AutoConfig::Gpt2(read)) => {
            let kinds = [model, read].map(|config| config.activation_function.kind());
            if kinds[0] == kinds[1] {
                Ok(Vec::new())
            } else {
                Err(lost("activation_function", &model.to_map()))
            }
        }
        (AutoConfig::Dense(model), AutoConfig::Dense(read)) => {
            if let Some(keys) = difference(model.switches(), read.switches()) {
                return Err(lost(keys, &model.to_map()));
            }
            let window = shortest(name, model.switches());
            Ok(window.into_iter().map(|window| {
                format!(
                    "llama.cpp has no sliding window for architecture {name:?}: it treats texts of more than \
                     {window} tokens differently"
                )
            }).collect())
        }
        _ => Err(refused("model_type: the file would be of another family")),
    }
}

/// A file with the plan's keys and the smallest possible tensors.
pub(super) fn small(plan: &Plan, vocabulary: usize) -> Vec<u8> {
    let tensors = plan.tensors.iter().map(|tensor| {
        let rows = match tensor.name.as_str() {
            "token_embd.weight" => vocabulary,
            _ => 1,
        };
        (tensor.name.as_str(), vec![0.0; rows], 1u64)
    });
    let constants = plan.constants.iter();
    let constants = constants.map(|(name, values)| (name.as_str(), values.clone(), 0));
    let tensors: Vec<(&str, Vec<f32>, u64)> = tensors.chain(constants).collect();
    let mut out = b"GGUF\x03\0\0\0".to_vec();
    out.extend((tensors.len() as u64).to_le_bytes());
    out.extend((plan.keys.len() as u64).to_le_bytes());
    for (key, value) in &plan.keys {
        text(&mut out, key);
        KeyValue::write(value, &mut out);
    }
    let (mut offset, mut data) = (0u64, Vec::new());
    for (name, values, columns) in &tensors {
        text(&mut out, name);
        // Each matrix has one column.
        out.extend((1 + *columns as u32).to_le_bytes());
        out.extend((0..*columns).flat_map(|_| 1u64.to_le_bytes()));
        out.extend((values.len() as u64).to_le_bytes());
        out.extend(0u32.to_le_bytes());
        out.extend(offset.to_le_bytes());
        data.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        data.resize(data.len().next_multiple_of(32), 0);
        offset = data.len() as u64;
    }
    out.resize(out.len().next_multiple_of(32), 0);
    out.extend(data);
    out
}

/// The keys of the first difference between a model and what its file says. Several keys come in
/// the order in which families have them.
fn difference(model: &Switches, read: &Switches) -> Option<&'static str> {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * a.abs().max(b.abs());
    let cap = |a: Option<f64>, b: Option<f64>| near(a.unwrap_or(0.0), b.unwrap_or(0.0));
    let kinds = [model, read].map(|switches| switches.activation.kind());
    let learnt =
        [model, read].map(|switches| switches.activation == crate::parts::Activation::Xielu);
    let growth = [model, read].map(|switches| {
        let growth = switches.query_growth;
        growth.map_or((0.0, 0), |growth| (growth.beta, growth.original))
    });
    let pairs: [(&str, bool); 25] = [
        ("vocab_size", model.vocab_size == read.vocab_size),
        ("hidden_size", model.hidden_size == read.hidden_size),
        (
            "intermediate_size",
            model.intermediate_size == read.intermediate_size,
        ),
        ("num_hidden_layers", model.layers.len() == read.layers.len()),
        ("num_attention_heads", model.heads == read.heads),
        ("num_key_value_heads", model.kv_heads == read.kv_heads),
        ("head_dim", model.head_dim == read.head_dim),
        (
            "max_position_embeddings",
            model.max_positions == read.max_positions,
        ),
        (
            "attention_bias use_bias use_qkv_bias",
            model.qkv_bias == read.qkv_bias,
        ),
        (
            "attention_bias attention_out_bias use_bias",
            model.output_bias == read.output_bias,
        ),
        (
            "mlp_bias use_bias",
            model.mlp_bias == read.mlp_bias && model.head_bias == read.head_bias,
        ),
        (
            "rms_norm_eps layer_norm_eps norm_epsilon",
            near(model.norm_epsilon, read.norm_epsilon),
        ),
        ("use_parallel_residual", model.parallel == read.parallel),
        (
            "hidden_activation hidden_act",
            kinds[0] == kinds[1] && learnt[0] == learnt[1],
        ),
        (
            "query_pre_attn_scalar attention_multiplier",
            near(model.score_scale, read.score_scale),
        ),
        (
            "attn_logit_softcapping",
            cap(model.score_cap, read.score_cap),
        ),
        (
            "final_logit_softcapping",
            cap(model.logit_cap, read.logit_cap),
        ),
        (
            "embedding_multiplier",
            near(model.input_scale, read.input_scale),
        ),
        (
            "residual_multiplier",
            near(model.residual_scale, read.residual_scale),
        ),
        (
            "logits_scaling logit_scale",
            near(model.logit_scale, read.logit_scale),
        ),
        // A tied head may be stored twice.
        ("tie_word_embeddings", model.tied || !read.tied),
        (
            "llama_4_scaling_beta",
            near(growth[0].0, growth[1].0) && growth[0].1 == growth[1].1,
        ),
        (
            "no_rope_layers no_rope_layer_interval layer_types",
            are_turned(model, read),
        ),
        ("layer_types sliding_window", windows(model, read)),
        (
            "rope_parameters rope_scaling partial_rotary_factor rotary_pct",
            turns(model, read),
        ),
    ];
    let lost = pairs.into_iter().find(|(_, is_same)| !is_same);
    lost.map(|(keys, _)| keys)
}

/// Whether the same layers have rotary positions.
fn are_turned(model: &Switches, read: &Switches) -> bool {
    let mut both = model.layers.iter().zip(&read.layers);
    both.all(|(a, b)| a.rope.is_some() == b.rope.is_some())
}

/// Whether layers have the same windows, or effectively none.
fn windows(model: &Switches, read: &Switches) -> bool {
    let is_read = read.layers.iter().any(|layer| layer.window.is_some());
    let both = model.layers.iter().zip(&read.layers);
    let mut both = both.map(|(a, b): (&Layer, &Layer)| a.window == b.window || !is_read);
    both.all(|is_same| is_same)
}

/// Whether layers rotate by the same angles, in short and in long texts.
fn turns(model: &Switches, read: &Switches) -> bool {
    let near = |a: f32, b: f32| (a - b).abs() <= 2e-6 * a.abs();
    let lengths = [1, model.max_positions, 2 * model.max_positions];
    let both = model.layers.iter().zip(&read.layers);
    let mut both = both.filter_map(|(a, b)| Some((&model.ropes[a.rope?], &read.ropes[b.rope?])));
    both.all(|(a, b)| {
        let is_near = |length| {
            let (a, b) = (a.frequencies(length), b.frequencies(length));
            a.len() == b.len() && a.iter().zip(&b).all(|(&a, &b)| near(a, b))
        };
        near(a.attention_factor as f32, b.attention_factor as f32)
            && lengths.into_iter().all(is_near)
    })
}

/// The shortest window of the model that llama.cpp ignores, if texts can be longer.
fn shortest(name: &str, model: &Switches) -> Option<usize> {
    if WINDOWS.contains(&name) {
        return None;
    }
    let window = model.layers.iter().filter_map(|layer| layer.window).min();
    window.filter(|&window| window < model.max_positions)
}
