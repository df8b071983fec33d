//! Which parameters have their own weight decay and learning rate, by their names.

use burn::module::ParamId;
use burn_peft::parameters::NamedParameter;

/// Whether weight decay applies to a parameter: not to biases and norms, as in transformers'
/// `Trainer.get_decay_parameter_names`. Norms are recognised by their names, `ln_…` among them.
pub(crate) fn decays(name: &str) -> bool {
    let name = name.to_lowercase();
    let forbidden = ["bias", "layernorm", "rmsnorm"];
    let is_norm = |part: &str| part == "norm" || part.ends_with("_norm") || part.starts_with("ln_");
    !forbidden.iter().any(|text| name.contains(text)) && !name.split('.').any(is_norm)
}

/// The group of a parameter in LoRA+ (PEFT's `create_loraplus_optimizer`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LoraPlusGroup {
    /// `lora_A` and everything else: the learning rate as it is.
    A,
    /// `lora_B` and all vectors: the learning rate times `loraplus_lr_ratio`.
    B,
    /// The factors of an embedding: a learning rate of `loraplus_lr_embedding`.
    Embedding,
}

pub(crate) fn loraplus_group(parameter: &NamedParameter) -> LoraPlusGroup {
    if parameter.name.contains("lora_embedding_") {
        LoraPlusGroup::Embedding
    } else if parameter.name.contains("lora_B") || parameter.shape.len() == 1 {
        LoraPlusGroup::B
    } else {
        LoraPlusGroup::A
    }
}

/// The ids of the trained parameters that meet a condition.
pub(crate) fn ids(
    parameters: &[NamedParameter],
    condition: impl Fn(&NamedParameter) -> bool,
) -> Vec<ParamId> {
    let chosen = parameters
        .iter()
        .filter(|parameter| parameter.requires_grad && condition(parameter));
    chosen.map(|parameter| parameter.id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn biases_and_norms_do_not_decay() {
        for name in [
            "transformer.h.0.attn.c_attn.bias",
            "transformer.h.0.ln_1.weight",
            "base_model.model.transformer.ln_f.modules_to_save.default.weight",
            "model.layers.0.input_layernorm.weight",
            "model.layers.0.self_attn.q_norm.weight",
            "model.norm.weight",
            "gpt_neox.final_layer_norm.weight",
            "model.layers.0.post_feedforward_layernorm.weight",
        ] {
            assert!(!decays(name), "{name}");
        }
        for name in [
            "transformer.wte.weight",
            "transformer.h.0.mlp.c_fc.weight",
            "base_model.model.transformer.h.0.attn.c_attn.lora_A.default.weight",
            "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector.default.weight",
            "model.normal.weight",
        ] {
            assert!(decays(name), "{name}");
        }
    }

    #[test]
    fn loraplus_knows_its_groups() {
        let group = |name: &str, shape: &[usize]| {
            loraplus_group(&NamedParameter {
                name: name.into(),
                shape: shape.to_vec(),
                requires_grad: true,
                id: ParamId::new(),
                is_embedding: false,
            })
        };
        assert_eq!(
            group("h.0.lora_A.default.weight", &[4, 8]),
            LoraPlusGroup::A
        );
        assert_eq!(
            group("h.0.lora_B.default.weight", &[8, 4]),
            LoraPlusGroup::B
        );
        assert_eq!(group("h.0.c_attn.bias", &[8]), LoraPlusGroup::B);
        assert_eq!(
            group("wte.lora_embedding_B.default", &[8, 4]),
            LoraPlusGroup::Embedding
        );
    }
}
