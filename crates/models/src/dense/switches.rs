//! The differences between the families' decoders.

use burn::tensor::{Device, Tensor};
use serde_json::{Map, Value};

use super::{Keys, Layout, ROPE_KEYS, RopeKeys, layout, rope};
use crate::config::{MAX_LAYERS, MAX_SIZE, TokenIds, check_heads, check_sizes};
use crate::parts::{Activation, Norm, Rope};

type Result<T> = std::result::Result<T, String>;

/// A family: its names, the values that transformers gives to missing keys, and how its blocks
/// differ from Llama's.
pub struct Family {
    /// The value of `model_type` in `config.json`.
    pub model_type: &'static str,
    /// The defaults, as the text of a JSON object.
    pub defaults: &'static str,
    /// Sets the switches, starting from Llama's.
    pub switches: fn(&Keys, &mut Switches) -> Result<()>,
    /// The published models that `peft init` knows: name and text of `config.json`.
    pub presets: &'static [(&'static str, &'static str)],
    /// From the keys of a file, those that are read and written back.
    pub own_keys: fn(Map<String, Value>) -> Map<String, Value>,
}

impl Family {
    /// The values of the fields that few families change.
    pub const PLAIN: Self = Self {
        model_type: "",
        defaults: "{}",
        switches: |_, _| Ok(()),
        presets: &[],
        own_keys: |keys| keys,
    };
}

/// A decoder, as its configuration describes it.
#[derive(Clone, Debug)]
pub struct Switches {
    /// The names of its parts.
    pub layout: Layout,
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// The padding token, whose embedding is initialised to zero.
    pub padding: Option<usize>,
    /// Width of the hidden states.
    pub hidden_size: usize,
    /// Width inside the feed-forward network.
    pub intermediate_size: usize,
    /// The number of query heads.
    pub heads: usize,
    /// The number of key-value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// The number of positions that the model was trained for.
    pub max_positions: usize,
    /// Biases of query, key and value.
    pub qkv_bias: bool,
    /// Bias of the projection back from the heads.
    pub output_bias: bool,
    /// Biases of the feed-forward network.
    pub mlp_bias: bool,
    /// Bias of the head.
    pub head_bias: bool,
    /// Added to the variance in norms, so that they do not divide by zero.
    pub norm_epsilon: f64,
    /// Whether the norms of queries and keys run over all heads together.
    pub norm_all_heads: bool,
    /// Whether the norms of queries and keys come after the rotation.
    pub norm_after_rope: bool,
    /// Whether attention and feed-forward network run in parallel instead of one after the other.
    pub parallel: bool,
    /// The activation function of the feed-forward network.
    pub activation: Activation,
    /// The kinds of rotary embedding.
    pub ropes: Vec<Rope>,
    /// Whether neighbouring values are rotated together, instead of values half a head apart.
    pub interleaved: bool,
    /// Whether a text is recomputed once `longrope` has other frequencies for it.
    pub forgets_short: bool,
    /// By what queries grow at far positions: `beta · ln(1 + ⌊position / original⌋)`.
    pub query_growth: Option<QueryGrowth>,
    /// The blocks.
    pub layers: Vec<Layer>,
    /// The factor of the scores.
    pub score_scale: f64,
    /// The soft cap of scores.
    pub score_cap: Option<f64>,
    /// Whether the fused product has the query, key and value of each head side by side.
    pub fused_by_head: bool,
    /// The factor of token embeddings.
    pub embedding_scale: f64,
    /// The factor of everything that enters the first block.
    pub input_scale: f64,
    /// The factor of each part's output.
    pub residual_scale: f64,
    /// The factor of the logits.
    pub logit_scale: f64,
    /// The soft cap of logits.
    pub logit_cap: Option<f64>,
    /// Dropout of the embeddings.
    pub embedding_dropout: f64,
    /// Dropout of the attention weights.
    pub attention_dropout: f64,
    /// Dropout of the attention's output.
    pub output_dropout: f64,
    /// Dropout of the feed-forward network's output.
    pub mlp_dropout: f64,
    /// Standard deviation of random weights.
    pub initializer_range: f64,
    /// Whether the head shares the token embedding's weight.
    pub tied: bool,
    /// Tokens that end a text.
    pub eos_token_id: Option<TokenIds>,
}

/// What differs from block to block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer {
    /// Which of the rotary embeddings applies, if any.
    pub rope: Option<usize>,
    /// How many positions are visible, including the own one.
    pub window: Option<usize>,
}

/// How queries grow with their position.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QueryGrowth {
    /// The growth factor.
    pub beta: f64,
    /// The last position without growth.
    pub original: usize,
}

impl QueryGrowth {
    /// The factors of the queries at `positions`, `[tokens]`: `[tokens, 1]`.
    pub(crate) fn of(self, positions: Tensor<1>) -> Tensor<2> {
        let times = (positions / self.original as f64).floor();
        (times.log1p() * self.beta + 1.0).unsqueeze_dim(1)
    }
}

impl Switches {
    /// A decoder like Llama's, from the keys that families share.
    ///
    /// # Errors
    /// The first key whose value is missing, of the wrong type or invalid.
    pub fn llama(keys: &Keys) -> Result<Self> {
        let hidden_size = keys.size("hidden_size")?;
        let heads = keys.size("num_attention_heads")?;
        let kv_heads = keys.size_if("num_key_value_heads")?.unwrap_or(heads);
        if !heads.is_multiple_of(kv_heads) {
            return Err(format!(
                "num_attention_heads = {heads} is not a multiple of num_key_value_heads = \
                 {kv_heads}"
            ));
        }
        let head_dim = match keys.size_if("head_dim")? {
            Some(head_dim) => head_dim,
            None => {
                let width = ("hidden_size", hidden_size);
                check_heads(width, ("num_attention_heads", heads))?;
                hidden_size / heads
            }
        };
        check_sizes(&[("num_attention_heads · head_dim", heads * head_dim, MAX_SIZE)])?;
        let count = keys.size("num_hidden_layers")?;
        check_sizes(&[("num_hidden_layers", count, MAX_LAYERS)])?;
        let vocab_size = keys.size("vocab_size")?;
        let padding = keys.parse_if::<i64>("pad_token_id")?;
        let padding = padding.and_then(|id| usize::try_from(id).ok());
        let full = Layer {
            rope: Some(0),
            window: None,
        };
        let (attention_bias, mlp_bias) = (keys.flag("attention_bias")?, keys.flag("mlp_bias")?);
        Ok(Self {
            layout: layout::LLAMA,
            vocab_size,
            padding: padding.filter(|&id| id < vocab_size),
            hidden_size,
            intermediate_size: keys.size("intermediate_size")?,
            heads,
            kv_heads,
            head_dim,
            max_positions: keys.size("max_position_embeddings")?,
            qkv_bias: attention_bias,
            output_bias: attention_bias,
            mlp_bias,
            head_bias: false,
            norm_epsilon: epsilon(keys)?,
            norm_all_heads: false,
            norm_after_rope: false,
            parallel: false,
            activation: activation(keys)?,
            ropes: vec![rope(keys, ROPE_KEYS, "full_attention", head_dim)?],
            interleaved: false,
            forgets_short: false,
            query_growth: None,
            layers: vec![full; count],
            score_scale: 1.0 / (head_dim as f64).sqrt(),
            score_cap: None,
            fused_by_head: false,
            embedding_scale: 1.0,
            input_scale: 1.0,
            residual_scale: 1.0,
            logit_scale: 1.0,
            logit_cap: None,
            embedding_dropout: 0.0,
            attention_dropout: keys.dropout("attention_dropout")?,
            output_dropout: 0.0,
            mlp_dropout: 0.0,
            initializer_range: range(keys)?,
            tied: keys.flag("tie_word_embeddings")?,
            eos_token_id: keys.parse_if("eos_token_id")?,
        })
    }

    /// Sets windows in the layers that `layer_types` names, or, without it, in those for which
    /// `slides` is true.
    ///
    /// # Errors
    /// If there are types for too few layers, or unknown types, or the window is missing.
    pub fn slide(&mut self, keys: &Keys, slides: impl Fn(usize) -> bool) -> Result<()> {
        let window = keys.size_if("sliding_window")?;
        let given = keys.texts_if("layer_types")?;
        if let Some(types) = given
            .as_ref()
            .filter(|types| types.len() < self.layers.len())
        {
            let (types, layers) = (types.len(), self.layers.len());
            return Err(format!(
                "layer_types has {types} entries and num_hidden_layers is {layers}"
            ));
        }
        for (index, layer) in self.layers.iter_mut().enumerate() {
            let slides = match given.as_ref().map(|types| types[index].as_str()) {
                None => window.is_some() && slides(index),
                Some("sliding_attention") => true,
                Some("full_attention") => false,
                Some(other) => {
                    return Err(format!(
                        "layer_types has {other:?}; supported: \"full_attention\", \
                         \"sliding_attention\""
                    ));
                }
            };
            if slides {
                let missing =
                    "layer_types has \"sliding_attention\", but sliding_window is missing";
                layer.window = Some(window.ok_or(missing)?);
            }
        }
        Ok(())
    }

    /// Sets a window in every layer, if there is one.
    ///
    /// # Errors
    /// If the window is not a valid size.
    pub fn slide_all(&mut self, keys: &Keys) -> Result<()> {
        let window = keys.size_if("sliding_window")?;
        self.layers
            .iter_mut()
            .for_each(|layer| layer.window = window);
        Ok(())
    }

    /// Sets a second rotary embedding, read by `names`, in the layers with a window.
    ///
    /// # Errors
    /// As [`rope`].
    pub fn turn_windows_by(&mut self, keys: &Keys, names: RopeKeys) -> Result<()> {
        let second = rope(keys, names, "sliding_attention", self.head_dim)?;
        self.ropes.push(second);
        for layer in &mut self.layers {
            layer.rope = Some(layer.window.is_some().into());
        }
        Ok(())
    }

    /// The row of the token embeddings that is initialised to zero.
    pub(crate) fn empty_row(&self) -> Option<usize> {
        self.padding.filter(|_| self.layout.embedding_pads)
    }

    /// A norm over rows of `d` values.
    pub(crate) fn new_norm(&self, d: usize, device: &Device) -> Norm {
        Norm::new(self.layout.norm, d, self.norm_epsilon, device)
    }

    /// Whether a block has a window: all but every `pattern`-th, counted from 1.
    pub fn all_but_every(pattern: usize) -> impl Fn(usize) -> bool {
        move |index| !(index + 1).is_multiple_of(pattern)
    }
}

fn epsilon(keys: &Keys) -> Result<f64> {
    let names = ["rms_norm_eps", "layer_norm_eps", "norm_epsilon"];
    let name = names.into_iter().find(|name| keys.get(name).is_some());
    let name = name.unwrap_or(names[0]);
    match keys.number_or(name, 1e-6)? {
        epsilon if epsilon > 0.0 => Ok(epsilon),
        epsilon => Err(format!("{name} = {epsilon} is not above 0")),
    }
}

fn range(keys: &Keys) -> Result<f64> {
    match keys.number_or("initializer_range", 0.02)? {
        range if range >= 0.0 => Ok(range),
        range => Err(format!("initializer_range = {range} is negative")),
    }
}

fn activation(keys: &Keys) -> Result<Activation> {
    let names = ["hidden_activation", "hidden_act"];
    let name = names.into_iter().find(|name| keys.get(name).is_some());
    Ok(keys
        .parse_if(name.unwrap_or(names[1]))?
        .unwrap_or(Activation::Silu))
}
