//! What llama.cpp reads of each architecture, found by giving files to it: it rejects a model with
//! one tensor more or less than it knows, or of another width.

use super::plan::{Planned, refused};
use crate::auto::AutoConfig;
use crate::error::Result;
use crate::gguf::architecture::Architecture;

/// Those that always have a head of their own: a tied one is written twice.
pub(super) const HEAD: [&str; 5] = ["olmo2", "gptneox", "stablelm", "apertus", "phi2"];
/// Those whose windows it supports; it ignores Phi 3's.
pub(super) const WINDOWS: [&str; 5] = ["gemma2", "gemma3", "cohere2", "olmo2", "exaone4"];
/// Those whose head is always tied to the embeddings.
const NO_HEAD: [&str; 3] = ["gemma", "gemma2", "cohere2"];
/// Those whose heads together have to be as wide as the hidden states.
const NO_WIDTH: [&str; 9] = [
    "qwen2",
    "phi3",
    "olmo2",
    "gptneox",
    "starcoder2",
    "stablelm",
    "cohere2",
    "exaone4",
    "phi2",
];
/// Those with biases in the feed-forward network.
const MLP_BIAS: [&str; 7] = [
    "llama",
    "granite",
    "mistral3",
    "starcoder2",
    "gpt2",
    "gptneox",
    "phi2",
];
/// Those that need biases.
const BIASES: [&str; 4] = ["gpt2", "gptneox", "starcoder2", "phi2"];

/// Checks that llama.cpp can read these tensors.
///
/// # Errors
/// The configuration's key, or the tensor.
pub(super) fn check(of: &Architecture, model: &AutoConfig, tensors: &[Planned]) -> Result<()> {
    let name = of.name;
    let refuse = |what: &str, why: &str| {
        Err(refused(format!(
            "{what} cannot be in a GGUF file of architecture {name:?}: llama.cpp {why}"
        )))
    };
    let unread = tensors.iter().find(|tensor| is_unread(name, &tensor.name));
    if let Some(unread) = unread {
        let what = format!(
            "tensor {} (attention_bias, mlp_bias, use_bias)",
            unread.from[0]
        );
        return refuse(&what, "reads no such bias");
    }
    let has = |wanted: &str| tensors.iter().any(|tensor| tensor.name == wanted);
    if BIASES.contains(&name) && !has("blk.0.attn_output.bias") {
        return refuse(
            "attention_bias = false, use_bias = false",
            "asks for biases",
        );
    }
    if NO_HEAD.contains(&name) && has("output.weight") {
        let what = "a head that is not the embeddings (tie_word_embeddings = false)";
        return refuse(what, "takes the embeddings");
    }
    let common = model.common();
    let (heads, width) = (common.num_attention_heads, common.head_dim);
    if NO_WIDTH.contains(&name) && heads * width != common.hidden_size {
        let hidden = common.hidden_size;
        let what = format!("head_dim = {width} of {heads} heads beside hidden_size = {hidden}");
        return refuse(&what, "divides the one by the other");
    }
    Ok(())
}

/// Whether a tensor is a bias that llama.cpp does not know.
fn is_unread(of: &str, name: &str) -> bool {
    let bias = |part: &str| name.contains(part) && name.ends_with(".bias");
    let of_output = bias(".attn_output.") && of != "apertus";
    let parts = [".ffn_gate.", ".ffn_up.", ".ffn_down."];
    let of_mlp = parts.into_iter().any(bias);
    (of_output || of_mlp) && !MLP_BIAS.contains(&of)
}
