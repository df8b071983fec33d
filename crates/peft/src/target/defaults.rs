//! The layers that are adapted if a configuration names none.

use crate::config::TargetModules;

/// (IA)³'s `target_modules` for a model type, and which of them are feed-forward layers.
pub fn ia3_target_modules(model_type: &str) -> Option<(TargetModules, TargetModules)> {
    let (names, feedforward): (&[&str], &[&str]) = match model_type {
        "gpt2" | "gpt_bigcode" => (&["c_attn", "mlp.c_proj"], &["mlp.c_proj"]),
        "llama" | "mistral" => (&["k_proj", "v_proj", "down_proj"], &["down_proj"]),
        "gemma" | "gemma2" | "gemma3_text" | "llama4" | "qwen2" | "qwen3" => {
            (&["q_proj", "v_proj", "down_proj"], &["down_proj"])
        }
        "mixtral" => (&["k_proj", "v_proj", "w2"], &["w2"]),
        "opt" => (&["q_proj", "k_proj", "fc2"], &["fc2"]),
        "gpt_neox" | "falcon" | "RefinedWeb" | "RefinedWebModel" => {
            (&["query_key_value", "dense_4h_to_h"], &["dense_4h_to_h"])
        }
        "phi" => (&["q_proj", "v_proj", "fc2"], &["fc2"]),
        "gptj" => (&["q_proj", "v_proj", "fc_out"], &["fc_out"]),
        "bert" | "roberta" => (&["key", "value", "output.dense"], &["output.dense"]),
        _ => return None,
    };
    let list = |names: &[&str]| TargetModules::list(names.iter().copied());
    Some((list(names), list(feedforward)))
}

/// LN tuning's `target_modules` for a model type.
pub fn ln_tuning_target_modules(model_type: &str) -> Option<TargetModules> {
    let names: &[&str] = match model_type {
        "gpt2" => &["ln_1", "ln_2", "ln_f"],
        "llama" | "mistral" | "gemma" => &["input_layernorm", "post_attention_layernorm", "norm"],
        "gemma2" | "gemma3_text" => &[
            "input_layernorm",
            "post_attention_layernorm",
            "pre_feedforward_layernorm",
            "post_feedforward_layernorm",
            "norm",
        ],
        "qwen2" | "qwen3" => &["post_attention_layernorm"],
        "phi" => &["input_layernorm", "final_layernorm"],
        "gptj" => &["ln_1", "ln_f"],
        _ => return None,
    };
    Some(TargetModules::list(names.iter().copied()))
}

/// FourierFT's and WaveFT's `target_modules` for a model type: LoRA's, except for GPT-2.
pub fn fourierft_target_modules(model_type: &str) -> Option<TargetModules> {
    match model_type {
        "gpt2" => Some(TargetModules::list(["mlp.c_proj"])),
        _ => lora_target_modules(model_type),
    }
}

/// AdaLoRA's `target_modules` for a model type: LoRA's, except for RoBERTa.
pub fn adalora_target_modules(model_type: &str) -> Option<TargetModules> {
    match model_type {
        "roberta" => Some(TargetModules::list(["query", "key", "value", "dense"])),
        "xlm-roberta" => None,
        _ => lora_target_modules(model_type),
    }
}

/// VeRA's `target_modules` for a model type: LoRA's, except for Phi.
pub fn vera_target_modules(model_type: &str) -> Option<TargetModules> {
    match model_type {
        "phi" => Some(TargetModules::list(["q_proj", "v_proj"])),
        _ => lora_target_modules(model_type),
    }
}

/// LoRA's `target_modules` for a model type (`model_type` in its `config.json`), if PEFT has a
/// default for it; other methods start from the same table.
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
