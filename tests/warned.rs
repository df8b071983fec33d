//! Settings without effect, or with a surprising one, cause a warning.

use crate::common::{Lab, adapted, anew};

/// The output of `peft train` with these keys, which has to succeed.
fn said(lab: &Lab, keys: &[&str]) -> String {
    let answer = lab.peft(&anew("train.toml", keys));
    assert_eq!(answer.code, Some(0), "{answer:?}");
    answer.err
}

#[test]
fn entries_of_patterns_and_indices_without_effect_are_named() {
    let lab = Lab::new();
    let quiet = said(
        &lab,
        &[
            "peft.target_modules=[\"c_attn\"]",
            "peft.rank_pattern={\"h.1.attn.c_attn\"=2}",
            "peft.layers_to_transform=[1]",
            "peft.layers_pattern=\"h\"",
        ],
    );
    assert!(!quiet.contains("no effect"), "{quiet}");
    let cases = [
        (
            "peft.rank_pattern={\"c_attn\"=2,\"q_proj\"=3}",
            "rank_pattern: entries with no effect: q_proj (",
        ),
        (
            "peft.alpha_pattern={\"h.7.attn.c_attn\"=2}",
            "alpha_pattern: entries with no effect: h.7.attn.c_attn (",
        ),
        (
            "peft.layers_to_transform=[0,7,9]",
            "layers_to_transform: entries with no effect: 7, 9 (",
        ),
        (
            "peft.exclude_modules=[\"h.0.attn.c_attn\",\"v_proj\"]",
            "exclude_modules [\"v_proj\"] excludes nothing",
        ),
    ];
    for (key, expected) in cases {
        let said = said(&lab, &["peft.target_modules=[\"c_attn\"]", key]);
        assert!(said.contains(expected), "{expected:?} is not in {said}");
    }
    let patterns = [
        "peft.target_modules=[\"c_attn\"]",
        "peft.layers_to_transform=[0]",
        "peft.layers_pattern=[\"h\",\"layers\"]",
    ];
    let said = said(&lab, &patterns);
    assert!(
        said.contains("layers_pattern: entries with no effect: layers ("),
        "{said}"
    );
}

#[test]
fn first_values_without_effect_are_named() {
    let lab = Lab::new();
    let loftq = "peft.loftq_config={loftq_bits=4}";
    let on_loftq = "peft.init_lora_weights=\"loftq\"";
    let both = "peft.target_modules=[\"c_attn\",\"wte\"]";
    let named = "loftq_config has no effect with init_lora_weights = true";
    assert!(said(&lab, &[loftq]).contains(named));
    assert!(!said(&lab, &[loftq, on_loftq]).contains("no effect"));
    for init in ["pissa", "olora"] {
        let key = format!("peft.init_lora_weights=\"{init}\"");
        let said_of_both = said(&lab, &[&key, both]);
        let named = format!("init_lora_weights = \"{init}\" has no effect on transformer.wte:");
        assert!(said_of_both.contains(&named), "{said_of_both}");
        assert!(!said(&lab, &[&key]).contains("no effect"));
    }
}

#[test]
fn the_patterns_of_other_methods_too() {
    let lab = Lab::new();
    let keys = [
        "peft.peft_type=FOURIERFT",
        "peft.n_frequency=10",
        "peft.n_frequency_pattern={\"c_atn\"=5}",
    ];
    let said = said(&lab, &keys);
    assert!(
        said.contains("n_frequency_pattern: entries with no effect: c_atn ("),
        "{said}"
    );
}

#[test]
fn an_adapter_for_another_task_is_named() {
    let lab = Lab::with_adapter();
    let eval = adapted("eval", &["--data", "train.jsonl"]);
    let mut config = lab.json("out/adapter_config.json");
    for (task, is_said) in [
        ("FEATURE_EXTRACTION", true),
        ("QUESTION_ANS", true),
        ("CAUSAL_LM", false),
    ] {
        config["task_type"] = task.into();
        lab.write("out/adapter_config.json", config.to_string());
        let answer = lab.peft(&eval);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert_eq!(
            answer.err.contains(&format!("task_type = \"{task}\"")),
            is_said,
            "{answer:?}"
        );
    }
}
