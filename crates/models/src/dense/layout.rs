//! The names of a family's parts, in the order in which they are printed.

use crate::parts::NormKind;

/// A part of the model apart from the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelPart {
    /// The token embeddings.
    Embedding,
    /// Dropout of the embeddings.
    EmbeddingDropout,
    /// The blocks.
    Blocks,
    /// The norm after the blocks.
    Norm,
    /// The rotary embedding, which has no weights.
    Rotary,
}

/// A part of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockPart {
    /// The attention.
    Attention,
    /// The feed-forward network.
    Mlp,
    /// The norm of the attention's input.
    BeforeAttention,
    /// The norm of the attention's output.
    AfterAttention,
    /// The norm of the feed-forward network's input.
    BeforeMlp,
    /// The norm of the feed-forward network's output.
    AfterMlp,
    /// Dropout of an output, at the place where it is printed.
    Dropout,
}

/// A layer of an attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionPart {
    /// From hidden states to queries.
    Query,
    /// From hidden states to keys.
    Key,
    /// From hidden states to values.
    Value,
    /// From hidden states to queries, keys and values in one product.
    Fused,
    /// From the heads back to hidden states.
    Output,
    /// The norm of the queries.
    QueryNorm,
    /// The norm of the keys.
    KeyNorm,
}

/// A layer of a feed-forward network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MlpPart {
    /// From hidden states to the gate.
    Gate,
    /// From hidden states to the inner values.
    Up,
    /// From hidden states to gate and inner values in one product.
    GateUp,
    /// From inner values back to hidden states.
    Down,
    /// The activation function.
    Activation,
}

/// The names of a family's parts, in the checkpoint and as transformers' classes.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// The prefix of all class names.
    pub class: &'static str,
    /// The path of everything but the head.
    pub base: &'static str,
    /// The suffix of its class.
    pub base_class: &'static str,
    /// The path of the head.
    pub head: &'static str,
    /// The parts apart from the head.
    pub model: &'static [(&'static str, ModelPart)],
    /// The class of the token embeddings.
    pub embedding_class: &'static str,
    /// Whether the token embeddings have a padding token.
    pub embedding_pads: bool,
    /// The suffix of the model's class.
    pub model_class: &'static str,
    /// The suffix of a block's class.
    pub block_class: &'static str,
    /// The class of the norms.
    pub norm: NormKind,
    /// The parts of a block.
    pub block: &'static [(&'static str, BlockPart)],
    /// The class of the module that holds a norm for each head, if queries and keys have such
    /// norms.
    pub norm_per_head: Option<&'static str>,
    /// The layers of the attention.
    pub attention: &'static [(&'static str, AttentionPart)],
    /// The layers of the feed-forward network.
    pub mlp: &'static [(&'static str, MlpPart)],
    /// The names that differ between checkpoints and the model.
    pub renamed: &'static [Renamed],
    /// Parts of names of tensors in checkpoints that are not weights of this model.
    pub left_out: &'static [&'static str],
}

/// A name in the model and another one that checkpoints have for it.
#[derive(Clone, Copy, Debug)]
pub struct Renamed {
    /// The prefix of the names in the model.
    pub here: &'static str,
    /// Their prefix in checkpoints.
    pub there: &'static str,
    /// Whether they are written with that prefix.
    pub written: bool,
}

/// The names of Llama's parts.
pub const LLAMA: Layout = Layout {
    class: "Llama",
    base: "model",
    base_class: "Model",
    head: "lm_head",
    model: &[
        ("embed_tokens", ModelPart::Embedding),
        ("layers", ModelPart::Blocks),
        ("norm", ModelPart::Norm),
        ("rotary_emb", ModelPart::Rotary),
    ],
    embedding_class: "Embedding",
    embedding_pads: true,
    model_class: "ForCausalLM",
    block_class: "DecoderLayer",
    norm: NormKind::Rms("LlamaRMSNorm"),
    block: &[
        ("self_attn", BlockPart::Attention),
        ("mlp", BlockPart::Mlp),
        ("input_layernorm", BlockPart::BeforeAttention),
        ("post_attention_layernorm", BlockPart::BeforeMlp),
    ],
    norm_per_head: None,
    attention: &[
        ("q_proj", AttentionPart::Query),
        ("k_proj", AttentionPart::Key),
        ("v_proj", AttentionPart::Value),
        ("o_proj", AttentionPart::Output),
    ],
    mlp: &[
        ("gate_proj", MlpPart::Gate),
        ("up_proj", MlpPart::Up),
        ("down_proj", MlpPart::Down),
        ("act_fn", MlpPart::Activation),
    ],
    renamed: &[],
    left_out: &["rotary_emb.inv_freq"],
};

/// Llama's attention with norms of queries and keys.
pub const NORMED_ATTENTION: &[(&str, AttentionPart)] = &[
    ("q_proj", AttentionPart::Query),
    ("k_proj", AttentionPart::Key),
    ("v_proj", AttentionPart::Value),
    ("o_proj", AttentionPart::Output),
    ("q_norm", AttentionPart::QueryNorm),
    ("k_norm", AttentionPart::KeyNorm),
];

/// A block with norms only after its parts.
pub const NORMS_AFTER: &[(&str, BlockPart)] = &[
    ("self_attn", BlockPart::Attention),
    ("mlp", BlockPart::Mlp),
    ("post_attention_layernorm", BlockPart::AfterAttention),
    ("post_feedforward_layernorm", BlockPart::AfterMlp),
];

/// A block with norms before and after its parts.
pub const NORMS_AROUND: &[(&str, BlockPart)] = &[
    ("self_attn", BlockPart::Attention),
    ("mlp", BlockPart::Mlp),
    ("input_layernorm", BlockPart::BeforeAttention),
    ("post_attention_layernorm", BlockPart::AfterAttention),
    ("pre_feedforward_layernorm", BlockPart::BeforeMlp),
    ("post_feedforward_layernorm", BlockPart::AfterMlp),
];

/// A feed-forward network without a gate, under Llama's names.
pub const UNGATED: &[(&str, MlpPart)] = &[
    ("up_proj", MlpPart::Up),
    ("down_proj", MlpPart::Down),
    ("act_fn", MlpPart::Activation),
];

/// A feed-forward network whose gate and inner values come from one product.
pub const FUSED_GATE: &[(&str, MlpPart)] = &[
    ("gate_up_proj", MlpPart::GateUp),
    ("down_proj", MlpPart::Down),
    ("activation_fn", MlpPart::Activation),
];

impl Layout {
    /// The names that a weight may have in a checkpoint; it is written under the first.
    pub(crate) fn names_in_file(&self, name: &str) -> Vec<String> {
        let other = |renamed: &Renamed| {
            let rest = name.strip_prefix(renamed.here)?;
            Some((format!("{}{rest}", renamed.there), renamed.written))
        };
        let mut names = vec![(name.to_string(), false)];
        names.extend(self.renamed.iter().filter_map(other));
        names.sort_by_key(|(_, written)| !written);
        names.into_iter().map(|(name, _)| name).collect()
    }

    /// The path of the token embeddings.
    pub(crate) fn embedding(&self) -> String {
        let name = name_of(self.model, ModelPart::Embedding).unwrap_or_default();
        format!("{}.{name}", self.base)
    }

    /// The path of the activation function in a block's feed-forward network.
    pub(crate) fn activation(&self, block: usize) -> String {
        let blocks = name_of(self.model, ModelPart::Blocks).unwrap_or_default();
        let mlp = name_of(self.block, BlockPart::Mlp).unwrap_or_default();
        let act = name_of(self.mlp, MlpPart::Activation).unwrap_or_default();
        format!("{}.{blocks}.{block}.{mlp}.{act}", self.base)
    }

    /// Whether blocks have this part.
    pub(crate) fn has(&self, part: BlockPart) -> bool {
        name_of(self.block, part).is_some()
    }

    /// Whether the attention has this layer.
    pub(crate) fn attention_has(&self, part: AttentionPart) -> bool {
        name_of(self.attention, part).is_some()
    }

    /// Whether the feed-forward network has this layer.
    pub(crate) fn mlp_has(&self, part: MlpPart) -> bool {
        name_of(self.mlp, part).is_some()
    }
}

/// The name of a part in a list of parts, if it is there.
fn name_of<P: PartialEq>(parts: &[(&'static str, P)], part: P) -> Option<&'static str> {
    let found = parts.iter().find(|(_, other)| *other == part);
    found.map(|(name, _)| *name)
}
