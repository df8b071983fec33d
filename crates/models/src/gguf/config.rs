//! The `config.json` that a file's keys amount to.

use serde_json::{Map, Value, json};

use super::Gguf;
use super::architecture::Architecture;
use super::rope;
use crate::error::Result;

/// The keys of one architecture in a file.
pub(super) struct Keys<'a> {
    pub file: &'a Gguf,
    pub prefix: &'static str,
}

impl Keys<'_> {
    fn name(&self, key: &str) -> String {
        format!("{}.{key}", self.prefix)
    }

    pub fn whole(&self, key: &str) -> Result<Option<u64>> {
        self.file.whole(&self.name(key))
    }

    pub fn number(&self, key: &str) -> Result<Option<f64>> {
        self.file.number(&self.name(key))
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        self.file.text(&self.name(key))
    }

    fn flag(&self, key: &str) -> Result<Option<bool>> {
        self.file.flag(&self.name(key))
    }

    /// A whole number that has to be there.
    pub fn size(&self, key: &str) -> Result<u64> {
        let size = self.whole(key)?;
        size.ok_or_else(|| self.file.missing(&self.name(key)))
    }

    /// The heads of the queries, and of the keys.
    pub fn heads(&self) -> Result<(u64, u64)> {
        let heads = self.size("attention.head_count")?;
        let of_keys = self.whole("attention.head_count_kv")?.unwrap_or(heads);
        Ok((heads, of_keys))
    }

    /// The width of a head.
    pub fn head_dim(&self) -> Result<u64> {
        let (heads, _) = self.heads()?;
        let width = self.whole("attention.key_length")?;
        let of_values = self.whole("attention.value_length")?;
        let width = match width {
            Some(width) => width,
            None => self
                .size("embedding_length")?
                .checked_div(heads)
                .unwrap_or(0),
        };
        if let Some(of_values) = of_values.filter(|&of_values| of_values != width) {
            return Err(self.file.error(format!(
                "{} = {of_values}, and keys are {width} wide: heads whose values have another width \
                 than their keys are not supported",
                self.name("attention.value_length")
            )));
        }
        Ok(width)
    }
}

/// The object of the `config.json` that describes a file's model.
///
/// # Errors
/// An architecture that is not read, a key that is missing or of another kind.
pub(super) fn config(file: &Gguf, of: &'static Architecture) -> Result<Map<String, Value>> {
    let keys = Keys {
        file,
        prefix: of.name,
    };
    let embedding = file.tensors.get("token_embd.weight");
    let embedding = embedding.ok_or_else(|| file.error("has no tensor token_embd.weight"))?;
    let (heads, of_keys) = keys.heads()?;
    let has = |tensor: &str| file.tensors.contains_key(tensor);
    let mut config = json!({
        "architectures": [of.class],
        "model_type": of.model_type,
        "vocab_size": embedding.shape[0],
        "hidden_size": keys.size("embedding_length")?,
        "num_hidden_layers": keys.size("block_count")?,
        "num_attention_heads": heads,
        "max_position_embeddings": keys.size("context_length")?,
        "tie_word_embeddings": !has("output.weight"),
    });
    let add = |config: &mut Value, more: Value| {
        if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
            config.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
        }
    };
    for (key, own) in [
        ("bos_token_id", "bos"),
        ("eos_token_id", "eos"),
        ("pad_token_id", "padding"),
    ] {
        let id = file.whole(&format!("tokenizer.ggml.{own}_token_id"))?;
        add(&mut config, json!({key: id}));
    }
    if of.model_type == "gpt2" {
        add(
            &mut config,
            json!({
                "n_inner": keys.whole("feed_forward_length")?,
                "layer_norm_epsilon": epsilon(&keys)?,
                "activation_function": "gelu_new",
            }),
        );
    } else {
        add(
            &mut config,
            json!({
                "intermediate_size": keys.size("feed_forward_length")?,
                "num_key_value_heads": of_keys,
                "head_dim": keys.head_dim()?,
                "rms_norm_eps": keys.number("attention.layer_norm_rms_epsilon")?,
                "attention_bias": has("blk.0.attn_output.bias"),
            }),
        );
        add(&mut config, rope::parameters(&keys, of)?);
    }
    add(&mut config, own_keys(&keys, of, &has)?);
    let Value::Object(config) = config else {
        unreachable!("it was made as an object");
    };
    Ok(config)
}

fn epsilon(keys: &Keys) -> Result<Option<f64>> {
    keys.number("attention.layer_norm_epsilon")
}

/// What one architecture has and others have not.
fn own_keys(keys: &Keys, of: &Architecture, has: &dyn Fn(&str) -> bool) -> Result<Value> {
    let (heads, _) = keys.heads()?;
    // The largest Gemmas scale by the width of a head that they would have without `head_dim`.
    let scalar = |largest: u64| -> Result<u64> {
        let width = keys.size("embedding_length")?;
        let is_largest = keys.size("block_count")? == largest;
        let plain = width.checked_div(heads).unwrap_or_default();
        Ok(if is_largest { plain } else { keys.head_dim()? })
    };
    let window = || keys.whole("attention.sliding_window");
    Ok(match of.name {
        "llama" => json!({"mlp_bias": has("blk.0.ffn_up.bias")}),
        "gemma" => json!({"hidden_act": "gelu_pytorch_tanh"}),
        "gemma2" => json!({
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": scalar(46)?,
            "attn_logit_softcapping": keys.number("attn_logit_softcapping")?,
            "final_logit_softcapping": keys.number("final_logit_softcapping")?,
            "sliding_window": window()?,
        }),
        "gemma3" => json!({
            "hidden_activation": "gelu_pytorch_tanh",
            "query_pre_attn_scalar": scalar(62)?,
            "final_logit_softcapping": keys.number("final_logit_softcapping")?,
            "sliding_window": window()?,
            "sliding_window_pattern": keys.whole("attention.sliding_window_pattern")?.unwrap_or(6),
        }),
        "phi3" => json!({"sliding_window": window()?.filter(|&window| window != 0)}),
        "granite" => json!({
            "embedding_multiplier": keys.number("embedding_scale")?,
            "residual_multiplier": keys.number("residual_scale")?,
            "attention_multiplier": keys.number("attention.scale")?,
            "logits_scaling": keys.number("logit_scale")?,
            "mlp_bias": has("blk.0.ffn_up.bias"),
        }),
        "gptneox" => json!({
            "hidden_act": "gelu",
            "layer_norm_eps": epsilon(keys)?,
            "use_parallel_residual": keys.flag("use_parallel_residual")?.unwrap_or(true),
        }),
        "starcoder2" => json!({
            "hidden_act": "gelu_pytorch_tanh",
            "norm_epsilon": epsilon(keys)?,
            "use_bias": has("blk.0.attn_q.bias"),
        }),
        "stablelm" => json!({
            "layer_norm_eps": epsilon(keys)?,
            "use_qkv_bias": has("blk.0.attn_q.bias"),
            "use_parallel_residual": !has("blk.0.ffn_norm.weight"),
            "qk_layernorm": has("blk.0.attn_q_norm.weight"),
        }),
        _ => json!({}),
    })
}

/// The object of the `generation_config.json` that a file's keys amount to: where a text ends, and
/// how its authors sample.
pub(super) fn generation_config(file: &Gguf) -> Result<Value> {
    let mut ends = Vec::new();
    for key in ["eos", "eot", "eom"] {
        let id = file.whole(&format!("tokenizer.ggml.{key}_token_id"))?;
        ends.extend(id.filter(|id| !ends.contains(id)));
    }
    let mut said = Map::new();
    let ids = match ends.as_slice() {
        [] => Value::Null,
        [one] => json!(one),
        several => json!(several),
    };
    let sampling = |key: &str| file.number(&format!("general.sampling.{key}"));
    let temperature = sampling("temp")?;
    let top_k = file.whole("general.sampling.top_k")?;
    for (key, value) in [
        (
            "bos_token_id",
            json!(file.whole("tokenizer.ggml.bos_token_id")?),
        ),
        ("eos_token_id", ids),
        (
            "pad_token_id",
            json!(file.whole("tokenizer.ggml.padding_token_id")?),
        ),
        (
            "do_sample",
            json!(temperature.map(|temperature| temperature > 0.0)),
        ),
        (
            "temperature",
            json!(temperature.filter(|&temperature| temperature > 0.0)),
        ),
        ("top_k", json!(top_k)),
        ("top_p", json!(sampling("top_p")?)),
        ("min_p", json!(sampling("min_p")?)),
        ("repetition_penalty", json!(sampling("penalty_repeat")?)),
    ] {
        if !value.is_null() {
            said.insert(key.to_string(), value);
        }
    }
    Ok(Value::Object(said))
}
