//! How a text is split before merging, by the names of `tokenizer.ggml.pre`.

use serde_json::{Map, Value, json};

/// A rule, and what llama.cpp does in addition.
pub(super) struct Split {
    /// The `pre_tokenizer` of a `tokenizer.json`.
    pub pre_tokenizer: Value,
    /// Whether a piece that is itself a token is not split further.
    pub ignores_merges: bool,
    /// Whether a text begins with the first special token by default.
    pub adds_bos: bool,
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

impl Split {
    /// The rule with this name, if it is known.
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

/// The names that can be written; names of the same rule come in order of preference.
const WRITTEN: &[&str] = &[
    "gpt-2",
    "phi-2",
    "olmo",
    "smollm",
    "starcoder",
    "refact",
    "command-r",
    "llama-bpe",
    "dbrx",
    "glm4",
    "tekken",
    "qwen2",
    "stablelm2",
    "gpt-4o",
];

/// The names that llama.cpp's converter gives to the tokenizers of a family, among those of one
/// rule.
const OF_FAMILIES: &[(&str, &str)] = &[
    ("phi", "phi-2"),
    ("gpt_neox", "olmo"),
    ("olmo", "olmo"),
    ("starcoder2", "starcoder"),
    ("granite", "refact"),
    ("cohere", "command-r"),
    ("cohere2", "command-r"),
    ("glm", "glm4"),
    ("glm4", "glm4"),
    ("stablelm", "stablelm2"),
    ("stablelm", "olmo"),
];

/// The name of the rule in a `tokenizer.json`, for a model of this `model_type`; `None` if
/// llama.cpp has no name for it that is known here.
pub(super) fn name_of(
    pre_tokenizer: &Value,
    ignores_merges: bool,
    model_type: &str,
) -> Option<&'static str> {
    let wanted = steps(pre_tokenizer);
    let split = |name| Split::of(name).expect("it is known");
    let mut names: Vec<&'static str> = WRITTEN.to_vec();
    names.retain(|name| steps(&split(name).pre_tokenizer) == wanted);
    let of_family = |name: &str| OF_FAMILIES.contains(&(model_type, name));
    // The sort is stable, and `false` comes first.
    names.sort_by_key(|name| {
        let other_merges = split(name).ignores_merges != ignores_merges;
        (other_merges, !of_family(name))
    });
    names.first().copied()
}

/// The names that [`name_of`] knows, for a message.
pub(super) fn written() -> String {
    WRITTEN.join(", ")
}

/// The steps of a `pre_tokenizer` in order, leaving out none.
fn steps(pre_tokenizer: &Value) -> Vec<Value> {
    if pre_tokenizer["type"] == "Sequence" {
        let parts = pre_tokenizer["pretokenizers"].as_array();
        return parts.into_iter().flatten().flat_map(steps).collect();
    }
    let mut step: Map<String, Value> = pre_tokenizer.as_object().cloned().unwrap_or_default();
    match pre_tokenizer["type"].as_str() {
        Some("ByteLevel") => {
            step.remove("trim_offsets");
            step.entry("add_prefix_space").or_insert(true.into());
            step.entry("use_regex").or_insert(true.into());
        }
        // The expressions leave nothing between two matches.
        Some("Split")
            if pre_tokenizer["behavior"] == "Removed" && pre_tokenizer["invert"] == true =>
        {
            step.insert("behavior".into(), "Isolated".into());
            step.insert("invert".into(), false.into());
        }
        _ => {}
    }
    vec![Value::Object(step)]
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
