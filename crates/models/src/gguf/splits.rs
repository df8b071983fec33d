//! How a text is cut before its pairs are merged: what `tokenizer.ggml.pre` names.

use serde_json::{Value, json};

/// A rule, and what llama.cpp does beside it.
pub(super) struct Split {
    /// The `pre_tokenizer` of a `tokenizer.json`.
    pub pre_tokenizer: Value,
    /// Whether a piece that is a token is not cut again.
    pub ignores_merges: bool,
    /// Whether a text begins with the first special token where nothing is said.
    pub adds_bos: bool,
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Split {
    /// The rule of a name, if it is known.
    pub fn of(name: &str) -> Option<Self> {
        let plain = |pre_tokenizer| Self {
            pre_tokenizer,
            ignores_merges: false,
            adds_bos: false,
        };
        let expression = |expression| plain(by_expression(expression));
        Some(match name {
            "gpt-2" | "gpt2" | "default" | "phi-2" | "mpt" | "olmo" | "jais" => plain(bytes(true)),
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => plain(json!({
                "type": "Sequence",
                "pretokenizers": [{"type": "Digits", "individual_digits": true}, bytes(true)],
            })),
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "pixtral" => Self {
                ignores_merges: true,
                adds_bos: true,
                ..expression(LLAMA3)
            },
            "smaug-bpe" | "dbrx" | "glm4" | "chatglm-bpe" => expression(LLAMA3),
            "tekken" => Self {
                ignores_merges: true,
                adds_bos: true,
                ..expression(TEKKEN)
            },
            "qwen2" | "deepseek-r1-qwen" | "stablelm2" | "megrez" | "kormo" => expression(QWEN2),
            "gpt-4o" | "llama4" => expression(GPT4O),
            _ => return None,
        })
    }
}

fn bytes(splits: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": splits})
}

fn by_expression(expression: &str) -> Value {
    let split = json!({
        "type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false,
    });
    json!({"type": "Sequence", "pretokenizers": [split, bytes(false)]})
}
