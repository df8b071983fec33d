//! The supported architectures: llama.cpp's names of a family and its weights, and what it changes
//! in the weights.

/// An architecture in llama.cpp.
#[derive(Debug)]
pub(super) struct Architecture {
    /// `general.architecture`.
    pub name: &'static str,
    /// transformers' `model_type`, and its class.
    pub model_type: &'static str,
    pub class: &'static str,
    /// Other values of `model_type` that llama.cpp stores under the same name.
    pub also: &'static [&'static str],
    /// The prefix of all block names in transformers.
    pub blocks: &'static str,
    /// llama.cpp's names outside of blocks, with transformers'.
    pub outside: &'static [Name],
    /// The names within a block; they take precedence over the common ones.
    pub block: &'static [Name],
    /// The names that all architectures of this kind share.
    pub block_rest: &'static [Name],
    pub changes: Changes,
}

/// llama.cpp's name and transformers', both without `.weight` or `.bias`.
pub(super) type Name = (&'static str, &'static str);

/// What llama.cpp changes in the weights.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Changes {
    Nothing,
    /// The rows of query and key are reordered so that neighbours are rotated together.
    Interleaved,
    /// One is added to the weights of norms.
    NormsAroundOne,
    /// Matrices are transposed.
    Turned,
    /// The query, key and value of each head lie side by side in transformers, and one after the
    /// other in the file.
    FusedByHead,
}

impl Architecture {
    /// The architecture with this name in files.
    pub fn of(name: &str) -> Option<&'static Self> {
        ARCHITECTURES.iter().find(|of| of.name == name)
    }

    /// All names, for a message.
    pub fn all() -> String {
        let names = ARCHITECTURES.iter().map(|of| of.name);
        names.collect::<Vec<_>>().join(", ")
    }

    /// The architecture of a `model_type`.
    pub fn of_model(model_type: &str) -> Option<&'static Self> {
        let is_it = |of: &&Self| of.model_type == model_type || of.also.contains(&model_type);
        ARCHITECTURES.iter().find(is_it)
    }

    /// Whether a tensor of the model is stored as a key.
    pub fn is_key(&self, name: &str) -> bool {
        self.name == "apertus" && name.contains(".act_fn.")
    }

    /// The values of `model_type` that can be written, for a message.
    pub fn models() -> String {
        let types = ARCHITECTURES.iter();
        let types = types.flat_map(|of| [&[of.model_type], of.also].concat());
        types.collect::<Vec<_>>().join(", ")
    }

    /// The file's name of a tensor with a name in transformers, and its index if the file joins
    /// several tensors into one.
    pub fn name_in_file(&self, name: &str) -> Option<(String, Option<usize>)> {
        let (path, end) = name.rsplit_once('.')?;
        let find = |names: &[Name], path: &str, number: Option<usize>| {
            let is_it = |here: &str| match here.strip_suffix(".*") {
                Some(start) => number.is_some() && path == start,
                None => number.is_none() && path == here,
            };
            let found = names.iter().find(|(_, here)| is_it(here));
            found.map(|(there, _)| *there)
        };
        let inner = path.strip_prefix(self.blocks);
        let Some(inner) = inner.and_then(|inner| inner.strip_prefix('.')) else {
            return Some((format!("{}.{end}", find(self.outside, path, None)?), None));
        };
        let (block, part) = inner.split_once('.')?;
        let (part, number) = match part.rsplit_once('.') {
            Some((start, last)) if last.parse::<usize>().is_ok() => (start, last.parse().ok()),
            _ => (part, None),
        };
        let there =
            find(self.block, part, number).or_else(|| find(self.block_rest, part, number))?;
        Some((format!("blk.{block}.{there}.{end}"), number))
    }

    /// transformers' name of a tensor, or the file's own name if there is none; `*` stands for the
    /// row number if each row is a tensor in transformers.
    pub fn rename(&self, name: &str) -> String {
        self.renamed(name).unwrap_or_else(|| name.to_string())
    }

    fn renamed(&self, name: &str) -> Option<String> {
        let (path, end) = name.rsplit_once('.')?;
        let find = |names: &[Name], path: &str| {
            let found = names.iter().find(|(there, _)| *there == path);
            found.map(|(_, here)| *here)
        };
        let Some(inner) = path.strip_prefix("blk.") else {
            return Some(format!("{}.{end}", find(self.outside, path)?));
        };
        let (number, part) = inner.split_once('.')?;
        let here = find(self.block, part).or_else(|| find(self.block_rest, part))?;
        Some(format!("{}.{number}.{here}.{end}", self.blocks))
    }
}

const LLAMA_OUTSIDE: &[Name] = &[
    ("token_embd", "model.embed_tokens"),
    ("output_norm", "model.norm"),
    ("output", "lm_head"),
];

const LLAMA_BLOCK: &[Name] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("attn_output", "self_attn.o_proj"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Norms after attention and feed-forward network, and possibly before the latter.
const NORMS_AFTER: &[Name] = &[
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];

/// Llama under another name.
const fn like_llama(
    name: &'static str,
    model_type: &'static str,
    class: &'static str,
    changes: Changes,
) -> Architecture {
    Architecture {
        name,
        model_type,
        class,
        also: &[],
        blocks: "model.layers",
        outside: LLAMA_OUTSIDE,
        block: &[],
        block_rest: LLAMA_BLOCK,
        changes,
    }
}

static ARCHITECTURES: [Architecture; 24] = [
    Architecture {
        also: &["mistral", "ministral"],
        ..like_llama("llama", "llama", "LlamaForCausalLM", Changes::Interleaved)
    },
    like_llama("qwen2", "qwen2", "Qwen2ForCausalLM", Changes::Nothing),
    like_llama("qwen3", "qwen3", "Qwen3ForCausalLM", Changes::Nothing),
    like_llama(
        "gemma",
        "gemma",
        "GemmaForCausalLM",
        Changes::NormsAroundOne,
    ),
    Architecture {
        block: NORMS_AFTER,
        ..like_llama(
            "gemma2",
            "gemma2",
            "Gemma2ForCausalLM",
            Changes::NormsAroundOne,
        )
    },
    Architecture {
        block: NORMS_AFTER,
        ..like_llama(
            "gemma3",
            "gemma3_text",
            "Gemma3ForCausalLM",
            Changes::NormsAroundOne,
        )
    },
    Architecture {
        block: &[
            ("attn_qkv", "self_attn.qkv_proj"),
            ("ffn_up", "mlp.gate_up_proj"),
        ],
        ..like_llama("phi3", "phi3", "Phi3ForCausalLM", Changes::Nothing)
    },
    Architecture {
        also: &["olmo3"],
        block: NORMS_AFTER,
        ..like_llama("olmo2", "olmo2", "Olmo2ForCausalLM", Changes::Nothing)
    },
    like_llama(
        "granite",
        "granite",
        "GraniteForCausalLM",
        Changes::Interleaved,
    ),
    like_llama(
        "smollm3",
        "smollm3",
        "SmolLM3ForCausalLM",
        Changes::Interleaved,
    ),
    Architecture {
        name: "gpt2",
        model_type: "gpt2",
        class: "GPT2LMHeadModel",
        also: &[],
        blocks: "transformer.h",
        outside: &[
            ("token_embd", "transformer.wte"),
            ("position_embd", "transformer.wpe"),
            ("output_norm", "transformer.ln_f"),
            ("output", "lm_head"),
        ],
        block: &[
            ("attn_norm", "ln_1"),
            ("attn_qkv", "attn.c_attn"),
            ("attn_output", "attn.c_proj"),
            ("ffn_norm", "ln_2"),
            ("ffn_up", "mlp.c_fc"),
            ("ffn_down", "mlp.c_proj"),
        ],
        block_rest: &[],
        changes: Changes::Turned,
    },
    Architecture {
        name: "gptneox",
        model_type: "gpt_neox",
        class: "GPTNeoXForCausalLM",
        also: &[],
        blocks: "gpt_neox.layers",
        outside: &[
            ("token_embd", "gpt_neox.embed_in"),
            ("output_norm", "gpt_neox.final_layer_norm"),
            ("output", "embed_out"),
        ],
        block: &[
            ("attn_norm", "input_layernorm"),
            ("attn_qkv", "attention.query_key_value"),
            ("attn_output", "attention.dense"),
            ("ffn_norm", "post_attention_layernorm"),
            ("ffn_up", "mlp.dense_h_to_4h"),
            ("ffn_down", "mlp.dense_4h_to_h"),
        ],
        block_rest: &[],
        changes: Changes::FusedByHead,
    },
    Architecture {
        block: &[("ffn_up", "mlp.c_fc"), ("ffn_down", "mlp.c_proj")],
        ..like_llama(
            "starcoder2",
            "starcoder2",
            "Starcoder2ForCausalLM",
            Changes::Nothing,
        )
    },
    Architecture {
        block: &[
            ("attn_q_norm", "self_attn.q_layernorm.norms.*"),
            ("attn_k_norm", "self_attn.k_layernorm.norms.*"),
        ],
        ..like_llama(
            "stablelm",
            "stablelm",
            "StableLmForCausalLM",
            Changes::Nothing,
        )
    },
    like_llama(
        "mistral3",
        "ministral3",
        "Ministral3ForCausalLM",
        Changes::Interleaved,
    ),
    like_llama("arcee", "arcee", "ArceeForCausalLM", Changes::Interleaved),
    Architecture {
        block: &[
            ("attn_norm", "attention_layernorm"),
            ("ffn_norm", "feedforward_layernorm"),
        ],
        ..like_llama("apertus", "apertus", "ApertusForCausalLM", Changes::Nothing)
    },
    like_llama("cohere2", "cohere2", "Cohere2ForCausalLM", Changes::Nothing),
    like_llama(
        "ernie4_5",
        "ernie4_5",
        "Ernie4_5ForCausalLM",
        Changes::Nothing,
    ),
    Architecture {
        block: NORMS_AFTER,
        ..like_llama("exaone4", "exaone4", "Exaone4ForCausalLM", Changes::Nothing)
    },
    Architecture {
        block: &[
            ("post_attention_norm", "post_self_attn_layernorm"),
            ("ffn_norm", "post_attention_layernorm"),
            ("post_ffw_norm", "post_mlp_layernorm"),
            ("ffn_up", "mlp.gate_up_proj"),
        ],
        ..like_llama("glm4", "glm4", "Glm4ForCausalLM", Changes::Nothing)
    },
    Architecture {
        block: &[
            ("attn_q_norm", "self_attn.query_layernorm"),
            ("attn_k_norm", "self_attn.key_layernorm"),
        ],
        ..like_llama(
            "hunyuan-dense",
            "hunyuan_v1_dense",
            "HunYuanDenseV1ForCausalLM",
            Changes::Nothing,
        )
    },
    Architecture {
        outside: &[
            ("token_embd", "model.embed_tokens"),
            ("output_norm", "model.final_layernorm"),
            ("output", "lm_head"),
        ],
        block: &[
            ("attn_output", "self_attn.dense"),
            ("ffn_up", "mlp.fc1"),
            ("ffn_down", "mlp.fc2"),
        ],
        ..like_llama("phi2", "phi", "PhiForCausalLM", Changes::Nothing)
    },
    Architecture {
        block: &[("post_attention_norm", "post_attention_layernorm")],
        ..like_llama(
            "seed_oss",
            "seed_oss",
            "SeedOssForCausalLM",
            Changes::Nothing,
        )
    },
];
