//! The layers that are adapted where a configuration names none.

use crate::config::TargetModules;

/// LoRA's `target_modules` for a model type (`model_type` of its `config.json`), where PEFT has
/// a default for it; other methods start from the same table.
pub fn lora_target_modules(model_type: &str) -> Option<TargetModules> {
    let names: &[&str] = match model_type {
        "gpt2" | "gpt_bigcode" => &["c_attn"],
        "bloom" | "chatglm" | "falcon" | "gpt_neox" | "RefinedWeb" | "RefinedWebModel" => {
            &["query_key_value"]
        }
        "bart" | "gemma" | "gemma2" | "gemma3_text" | "gpt_neo" | "gptj" | "llama" | "llama4"
        | "mistral" | "mixtral" | "opt" | "qwen2" | "qwen3" | "stablelm" => &["q_proj", "v_proj"],
        "bert" | "electra" | "layoutlm" | "roberta" | "xlm-roberta" => &["query", "value"],
        "blip-2" => &["q", "v", "q_proj", "v_proj"],
        "btlm" => &["c_proj", "c_attn"],
        "codegen" => &["qkv_proj"],
        "deberta" => &["in_proj"],
        "deberta-v2" => &["query_proj", "value_proj"],
        "mpt" => &["Wqkv"],
        "mt5" | "t5" => &["q", "v"],
        "phi" => &["q_proj", "v_proj", "fc1", "fc2"],
        _ => return None,
    };
    Some(TargetModules::list(names.iter().copied()))
}
