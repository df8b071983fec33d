//! Making `config.json` from the keys of a file.

use serde_json::{Map, Value, json};

use super::Gguf;
use super::architecture::Architecture;
use super::rope;
use crate::config::MAX_LAYERS;
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

    /// A required whole number.
    pub fn size(&self, key: &str) -> Result<u64> {
        let size = self.whole(key)?;
        size.ok_or_else(|| self.file.missing(&self.name(key)))
    }

    /// The number of query heads, and of key-value heads.
    pub fn heads(&self) -> Result<(u64, u64)> {
        let heads = self.size("attention.head_count")?;
        let of_keys = self.whole("attention.head_count_kv")?.unwrap_or(heads);
        Ok((heads, of_keys))
    }

    /// The window of layers that have one, if there are such layers.
    pub fn window(&self) -> Result<Option<u64>> {
        let window = match self.whole("attention.sliding_window")? {
            // llama.cpp supports that family's windows only in its largest model.
            _ if self.prefix == "exaone4" && self.size("block_count")? != 64 => None,
            None if self.prefix == "exaone4" => Some(4096),
            window => window,
        };
        Ok(window.filter(|&window| window > 0))
    }

    /// `layer_types` of a model in which all but every nth layer have a window; `usual` is n if the
    /// file does not give it.
    fn layer_types(&self, usual: u64) -> Result<Value> {
        let blocks = self.size("block_count")?;
        if blocks > MAX_LAYERS as u64 {
            return Err(self.file.error(format!(
                "{} = {blocks}: at most {MAX_LAYERS} are read",
                self.name("block_count")
            )));
        }
        let name = self.name("attention.sliding_window_pattern");
        let slides: Vec<bool> = match self.file.flags(&name) {
            Ok(Some(said)) if said.len() as u64 == blocks => said,
            Ok(Some(said)) => {
                let said = said.len();
                return Err(self.file.error(format!(
                    "{name} has {said} entries and {} = {blocks}",
                    self.name("block_count")
                )));
            }
            _ => {
                let every = self.file.whole(&name)?.unwrap_or(usual);
                let slides = |block: u64| every == 0 || !(block + 1).is_multiple_of(every);
                (0..blocks).map(slides).collect()
            }
        };
        let kind = |slides| {
            if slides {
                "sliding_attention"
            } else {
                "full_attention"
            }
        };
        Ok(slides.into_iter().map(kind).collect())
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
/// If the architecture is not supported, or a key is missing or of another type.
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
        add(&mut config, json!({key: file.token(own)?}));
    }
    if of.model_type == "gpt2" {
        add(
            &mut config,
            json!({
                "n_inner": keys.whole("feed_forward_length")?,
                "layer_norm_epsilon": epsilon(&keys)?,
                "activation_function": "gelu_new",
                // The file does not give it, and transformers' default for GPT-2 is 0.1.
                "resid_pdrop": 0.0,
                "embd_pdrop": 0.0,
                "attn_pdrop": 0.0,
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
    if of.name == "exaone4" && keys.window()?.is_none() {
        // transformers' default is a window, unless the key is null.
        config["sliding_window"] = Value::Null;
    }
    let Value::Object(config) = config else {
        unreachable!("it was made as an object");
    };
    Ok(config)
}

fn epsilon(keys: &Keys) -> Result<Option<f64>> {
    keys.number("attention.layer_norm_epsilon")
}

/// What is specific to one architecture.
fn own_keys(keys: &Keys, of: &Architecture, has: &dyn Fn(&str) -> bool) -> Result<Value> {
    let (heads, _) = keys.heads()?;
    // The largest Gemma models scale by the head width that they would have without `head_dim`.
    let scalar = |largest: u64| -> Result<u64> {
        let width = keys.size("embedding_length")?;
        let is_largest = keys.size("block_count")? == largest;
        let plain = width.checked_div(heads).unwrap_or_default();
        Ok(if is_largest { plain } else { keys.head_dim()? })
    };
    let window = || keys.whole("attention.sliding_window");
    let has_bias = has("blk.0.attn_q.bias");
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
            "layer_types": keys.layer_types(6)?,
        }),
        "apertus" => json!({"hidden_act": "xielu"}),
        "arcee" => json!({"hidden_act": "relu2"}),
        "cohere2" => json!({
            "layer_norm_eps": epsilon(keys)?,
            "logit_scale": keys.number("logit_scale")?,
            "sliding_window": keys.size("attention.sliding_window")?,
            "layer_types": keys.layer_types(4)?,
        }),
        "exaone4" => match keys.window()? {
            Some(window) => json!({"sliding_window": window, "layer_types": keys.layer_types(4)?}),
            None => json!({}),
        },
        "glm4" => json!({"attention_bias": has_bias}),
        "olmo2" => match keys.window()? {
            Some(window) => json!({
                "model_type": "olmo3",
                "architectures": ["Olmo3ForCausalLM"],
                "sliding_window": window,
                "layer_types": keys.layer_types(4)?,
            }),
            None => json!({}),
        },
        "phi2" => json!({"hidden_act": "gelu_new", "layer_norm_eps": epsilon(keys)?}),
        "seed_oss" => json!({
            "attention_bias": has_bias,
            "attention_out_bias": has("blk.0.attn_output.bias"),
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
            "use_bias": has_bias,
        }),
        "stablelm" => json!({
            "layer_norm_eps": epsilon(keys)?,
            "use_qkv_bias": has_bias,
            "use_parallel_residual": !has("blk.0.ffn_norm.weight"),
            "qk_layernorm": has("blk.0.attn_q_norm.weight"),
        }),
        _ => json!({}),
    })
}

/// The object of `generation_config.json`, made from a file's keys: where a text ends, and how its
/// authors sample.
pub(super) fn generation_config(file: &Gguf) -> Result<Value> {
    file.warn_of_tokens()?;
    let mut ends = Vec::new();
    for key in ["eos", "eot", "eom"] {
        let id = file.token(key)?;
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
    let top_k = file.top_k()?;
    for (key, value) in [
        ("bos_token_id", json!(file.token("bos")?)),
        ("eos_token_id", ids),
        ("pad_token_id", json!(file.token("padding")?)),
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
