//! The configuration of a dense decoder: a `config.json` and its meaning.

use std::borrow::Cow;
use std::sync::Arc;

use burn::tensor::FloatDType;
use serde_json::{Map, Value};

use super::layout::MlpPart;
use super::{DenseForCausalLM, Family, Keys, Switches};
use crate::auto::FAMILIES;
use crate::config::{CommonConfig, ModelConfig, model_type, set_dtype, unsupported};
use crate::parts::Activation;
use crate::{ConfigError, Head};

/// The `config.json` of any of the families that share one decoder and differ by switches. All keys
/// are kept and written back.
#[derive(Clone, Debug)]
pub struct DenseConfig {
    keys: Map<String, Value>,
    family: &'static str,
    head: Head,
    switches: Arc<Switches>,
}

impl DenseConfig {
    /// The meaning of the keys.
    pub fn switches(&self) -> &Switches {
        &self.switches
    }

    pub(super) fn shared_switches(&self) -> Arc<Switches> {
        Arc::clone(&self.switches)
    }

    /// transformers' class of a classifier or of a model without a head; `None` for a language
    /// model.
    pub(super) fn class_of_head(&self) -> Option<String> {
        let class = match self.family {
            "gemma3_text" => "Gemma3Text",
            _ => self.switches.layout.class,
        };
        self.head.class().map(|end| format!("{class}{end}"))
    }

    /// The path of everything but the head; without a head, the path in transformers' `AutoModel`.
    pub(super) fn base_path(&self) -> &'static str {
        let base = self.switches.layout.base;
        if self.head.is_none() {
            base.split_once('.').map_or("", |(_, rest)| rest)
        } else {
            base
        }
    }

    /// The path of a part, from the path that it has beside a head.
    pub(super) fn path_of(&self, path: &str) -> String {
        let outer = self.switches.layout.base.split('.').next();
        let bare = path
            .split_once('.')
            .filter(|(first, _)| outer == Some(*first));
        match bare {
            Some((_, rest)) if self.head.is_none() => rest.into(),
            _ => path.into(),
        }
    }

    pub(super) fn family(&self) -> &'static str {
        self.family
    }

    fn change(&mut self, key: &str, value: Value, change: impl FnOnce(&mut Switches)) {
        self.keys.insert(key.to_string(), value);
        change(Arc::make_mut(&mut self.switches));
    }

    fn of(family: &Family, keys: Map<String, Value>) -> Result<Self, String> {
        let read = Keys::new(&keys, family.defaults);
        let mut switches = Switches::llama(&read)?;
        (family.switches)(&read, &mut switches)?;
        Ok(Self {
            head: Head::of(&keys)?,
            family: family.model_type,
            switches: Arc::new(switches),
            keys,
        })
    }
}

impl ModelConfig for DenseConfig {
    type Model = DenseForCausalLM;

    fn model_types() -> Vec<&'static str> {
        FAMILIES.iter().map(|family| family.model_type).collect()
    }

    fn presets() -> Vec<&'static str> {
        let presets = FAMILIES.iter().flat_map(|family| family.presets);
        presets.map(|(name, _)| *name).collect()
    }

    fn from_map(keys: Map<String, Value>) -> Result<Self, ConfigError> {
        let model_type = model_type(&keys)?;
        let family = FAMILIES
            .iter()
            .find(|family| family.model_type == model_type);
        match family {
            Some(family) => Ok(Self::of(family, (family.own_keys)(keys))?),
            None => Err(unsupported(&model_type.into(), Self::model_types())),
        }
    }

    fn to_map(&self) -> Map<String, Value> {
        self.keys.clone()
    }

    fn published(name: &str) -> Option<Self> {
        let presets = FAMILIES.iter().flat_map(|family| family.presets);
        let (_, text) = presets.into_iter().find(|(preset, _)| *preset == name)?;
        let keys = serde_json::from_str(text).expect("a preset is an object");
        Some(Self::from_map(keys).expect("a preset makes a model"))
    }

    fn common(&self) -> CommonConfig {
        let switches = self.switches();
        CommonConfig {
            model_type: self.family.into(),
            vocab_size: switches.vocab_size,
            max_positions: switches.max_positions,
            hidden_size: switches.hidden_size,
            num_hidden_layers: switches.layers.len(),
            num_attention_heads: switches.heads,
            num_key_value_heads: switches.kv_heads,
            head_dim: switches.head_dim,
            has_last_position: false,
            initializer_range: switches.initializer_range,
            tie_word_embeddings: switches.tied && self.head.predicts_tokens(),
            eos_token_id: switches.eos_token_id.clone(),
        }
    }

    fn head(&self) -> &Head {
        &self.head
    }

    fn set_head(&mut self, head: Head) {
        self.head = head;
        if let Some(class) = self.class_of_head() {
            self.head.write(&mut self.keys, &class);
        }
    }

    fn language_head(&self) -> &str {
        self.switches.layout.head
    }

    fn set_tie_word_embeddings(&mut self, tied: bool) {
        self.change("tie_word_embeddings", tied.into(), |switches| {
            switches.tied = tied;
        });
    }

    fn set_vocab_size(&mut self, rows: usize) {
        self.change("vocab_size", rows.into(), |switches| {
            switches.vocab_size = rows;
        });
    }

    fn set_dtype(&mut self, dtype: FloatDType) {
        set_dtype(&mut self.keys, dtype);
    }

    fn with_layers(&self, layers: usize) -> Self {
        let mut config = self.clone();
        config.change("num_hidden_layers", layers.into(), |switches| {
            let known = std::mem::take(&mut switches.layers);
            switches.layers = known.into_iter().cycle().take(layers).collect();
        });
        config
    }

    fn check(&self) -> Result<(), String> {
        let switches = self.switches();
        let layout = &switches.layout;
        let gated = layout.mlp_has(MlpPart::Gate) || layout.mlp_has(MlpPart::GateUp);
        if gated && switches.activation == Activation::Xielu {
            return Err("hidden_act = \"xielu\" is not supported beside a gate".into());
        }
        Ok(())
    }

    fn prefix(&self) -> Cow<'static, str> {
        format!("{}.", self.switches.layout.base).into()
    }

    fn names_in_file(&self, name: &str) -> Vec<String> {
        let layout = &self.switches.layout;
        let outer = layout.base.split('.').next().unwrap_or_default();
        if self.head.is_none() {
            let names = layout.names_in_file(&format!("{outer}.{name}"));
            let bare = names.iter().map(|name| {
                let bare = name
                    .strip_prefix(outer)
                    .and_then(|name| name.strip_prefix('.'));
                bare.unwrap_or(name).to_string()
            });
            let bare: Vec<String> = bare.collect();
            return [bare, names].concat();
        }
        let mut names = layout.names_in_file(name);
        let bare = name.strip_prefix(&*self.prefix());
        names.extend(bare.map(str::to_string));
        names
    }

    fn is_buffer(&self, name: &str) -> bool {
        let mut parts = self.switches.layout.left_out.iter();
        parts.any(|part| name.contains(part))
    }
}
