//! Targets in a model's layers, and the errors where there are none.

use super::*;
use crate::config::{LoraConfig, TargetModules, TaskType};
use crate::{LayerInfo, LayerKind, Result};

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

/// The layers of a GPT-2 with a classifier's head or without one.
fn gpt2(blocks: usize, head: Option<&str>) -> Vec<LayerInfo> {
    let layer = |path: String, kind| LayerInfo {
        conv: None,
        is_input: path.ends_with("wte"),
        is_output: path == "lm_head",
        path,
        kind,
        d_in: 4,
        d_out: 4,
        has_bias: true,
    };
    let mut layers = vec![
        layer("transformer.wte".into(), LayerKind::Embedding),
        layer("transformer.wpe".into(), LayerKind::Embedding),
    ];
    for block in 0..blocks {
        for (name, kind) in [
            ("ln_1", LayerKind::LayerNorm),
            ("attn.c_attn", LayerKind::Conv1D),
            ("attn.c_proj", LayerKind::Conv1D),
            ("ln_2", LayerKind::LayerNorm),
            ("mlp.c_fc", LayerKind::Conv1D),
            ("mlp.c_proj", LayerKind::Conv1D),
        ] {
            layers.push(layer(format!("transformer.h.{block}.{name}"), kind));
        }
    }
    layers.push(layer("transformer.ln_f".into(), LayerKind::LayerNorm));
    layers.extend(head.map(|name| layer(name.to_string(), LayerKind::Linear)));
    layers
}

fn targets(config: &LoraConfig, layers: &[LayerInfo]) -> Result<Targets> {
    config.validate()?;
    target_layers(&config.common, layers, config, "gpt2")
}

/// The paths found in two blocks, without `transformer.`.
fn found(config: &LoraConfig) -> Vec<String> {
    let targets = targets(config, &gpt2(2, None)).unwrap();
    let short = |path: &String| path.trim_start_matches("transformer.").to_string();
    targets.paths.iter().map(short).collect()
}

#[test]
fn a_model_s_layers_are_found_in_its_order() {
    let lora = LoraConfig::new;
    let both = ["h.0.attn.c_attn", "h.1.attn.c_attn"];
    assert_eq!(found(&lora()), both);
    assert_eq!(
        found(&lora().with_target_modules(["c_attn", "nothing"])),
        both
    );
    assert_eq!(
        found(&lora().with_target_modules(["mlp.c_proj", "wte"])),
        ["wte", "h.0.mlp.c_proj", "h.1.mlp.c_proj"]
    );
    assert_eq!(
        found(&lora().with_target_modules(r".*\.h\.[01]\.(attn\.c_attn|mlp\.c_fc)")),
        [
            "h.0.attn.c_attn",
            "h.0.mlp.c_fc",
            "h.1.attn.c_attn",
            "h.1.mlp.c_fc"
        ]
    );
    let last = lora()
        .with_layers_to_transform([1])
        .with_layers_pattern("h");
    assert_eq!(found(&last), both[1..]);
    assert_eq!(
        found(&lora().with_exclude_modules(["h.0.attn.c_attn"])),
        both[1..]
    );
    assert_eq!(
        found(&lora().with_exclude_modules(r".*h\.1\..*")),
        both[..1]
    );
    // Excluding a module does not exclude what it holds.
    assert_eq!(found(&lora().with_exclude_modules(["attn"])), both);
}

#[test]
fn all_linear_becomes_names() {
    let config = LoraConfig::new().with_target_modules("ALL-Linear");
    let few = targets(&config, &gpt2(2, Some("lm_head"))).unwrap();
    assert_eq!(few.paths.len(), 8);
    assert_eq!(few.target_modules, TargetModules::list(few.paths.clone()));
    let many = targets(&config, &gpt2(5, Some("lm_head"))).unwrap();
    assert_eq!(many.paths.len(), 20);
    assert_eq!(
        many.target_modules,
        TargetModules::list(["c_attn", "c_fc", "c_proj"])
    );
    // A classifier's head stays out for that task only.
    let head = gpt2(2, Some("score"));
    assert_eq!(targets(&config, &head).unwrap().paths.len(), 9);
    let config = config.with_task_type(TaskType::SeqCls);
    assert_eq!(targets(&config, &head).unwrap().paths.len(), 8);
}

#[test]
fn long_lists_are_shortened_where_nothing_else_has_the_name() {
    let short = |names: Vec<String>| {
        let config = LoraConfig::new().with_target_modules(names);
        targets(&config, &gpt2(20, None)).unwrap()
    };
    let all: Vec<_> = (0..20)
        .map(|i| format!("transformer.h.{i}.mlp.c_proj"))
        .collect();
    let targets = short(all.clone());
    assert_eq!(targets.target_modules, TargetModules::list(["mlp.c_proj"]));
    assert_eq!(targets.paths, all);
    let named: Vec<_> = (0..20).map(|i| format!("h.{i}.attn.c_attn")).collect();
    assert_eq!(short(named).target_modules, TargetModules::list(["c_attn"]));
    let fewer = all[..19].to_vec();
    assert_eq!(
        short(fewer.clone()).target_modules,
        TargetModules::List(fewer)
    );
}

#[test]
fn errors_name_the_target_and_the_way_out() {
    let lora = LoraConfig::new;
    let error = |config: LoraConfig| targets(&config, &gpt2(2, None)).unwrap_err().to_string();
    assert_eq!(
        error(lora().with_target_modules(["q_proj"])),
        "target_modules [\"q_proj\"] matches no layer of gpt2; its adaptable layers are: \
         attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj, wte, wpe (the default for gpt2 is \
         [\"c_attn\"])"
    );
    assert_eq!(
        error(lora().with_exclude_modules(["c_attn"])),
        "target_modules [\"c_attn\"] matches layers of gpt2, but none is left: exclude_modules \
         [\"c_attn\"] removes 2"
    );
    assert_eq!(
        error(
            lora()
                .with_layers_to_transform([7])
                .with_modules_to_save(["0.attn"])
        ),
        "target_modules [\"c_attn\"] matches layers of gpt2, but none is left: modules_to_save \
         0.attn removes 1; layers_to_transform [7] removes 1, whose indices are 1"
    );
    assert_eq!(
        error(
            lora()
                .with_layers_to_transform([0])
                .with_layers_pattern("layers")
        ),
        "target_modules [\"c_attn\"] matches layers of gpt2, but none is left: \
         layers_to_transform [0] with layers_pattern [\"layers\"] removes 2, as no index was \
         found in their paths"
    );
    assert_eq!(
        error(lora().with_target_modules(["ln_1"])),
        "target_modules [\"ln_1\"] matches transformer.h.0.ln_1 (LayerNorm), which \
         LORA cannot adapt; in gpt2 it adapts Embedding and Conv1D layers \
         (methods for such a layer: LN_TUNING)"
    );
    assert_eq!(
        error(lora().with_target_modules(["mlp"])),
        "target_modules [\"mlp\"] matches transformer.h.0.mlp, which is not a layer but holds \
         layers; name those: mlp.c_fc, mlp.c_proj"
    );
    assert_eq!(
        error(lora().with_target_modules("c_attn")),
        "target_modules \"c_attn\" matches no layer of gpt2; a string is a pattern for whole paths; \
         names are a list: [\"c_attn\"]; its adaptable layers are: attn.c_attn, attn.c_proj, \
         mlp.c_fc, mlp.c_proj, wte, wpe (the default for gpt2 is [\"c_attn\"])"
    );
    for (string, shown) in [
        ("mlp.c_proj", r#"names are a list: ["mlp.c_proj"];"#),
        ("c_attn, c_fc", r#"names are a list: ["c_attn", "c_fc"];"#),
        (
            r"mlp\.c_(fc|proj)",
            r"this one ends some: '.*\.(mlp\.c_(fc|proj))';",
        ),
        ("q_proj", "matches no layer of gpt2; its adaptable layers"),
    ] {
        let message = error(lora().with_target_modules(string));
        assert!(message.contains(shown), "{message}");
    }
    let message = error(lora().with_target_modules("(c_attn"));
    assert!(
        message.starts_with("target_modules \"(c_attn\" is not a regular expression: "),
        "{message}"
    );
    let none = target_layers(&lora().common, &gpt2(0, None)[2..], &lora(), "");
    assert_eq!(
        none.unwrap_err().to_string(),
        "target_modules is not given and has no default for the model; it has no layer that \
         this method can adapt"
    );
}

#[test]
fn modules_to_save_match_the_end_of_a_path() {
    let layers: Vec<_> = gpt2(2, Some("my_score"))
        .into_iter()
        .map(|l| l.path)
        .collect();
    let save = |names: &[&str], targeted: &[&str]| {
        let config = LoraConfig::new().with_modules_to_save(names.iter().copied());
        modules_to_save(&config.common, &layers, &owned(targeted))
    };
    // No dot is needed before the name, and a module stands for the layers it holds.
    assert_eq!(
        save(&["score", "f"], &[]).unwrap(),
        ["transformer.ln_f", "my_score"]
    );
    assert_eq!(
        save(&["h.1.mlp", "1.mlp.c_fc"], &[]).unwrap(),
        ["transformer.h.1.mlp.c_fc", "transformer.h.1.mlp.c_proj"]
    );
    assert_eq!(save(&[], &[]).unwrap(), [""; 0]);
    let error = |names: &[&str], targeted: &[&str]| save(names, targeted).unwrap_err().to_string();
    assert_eq!(
        error(&["classifier"], &[]),
        "modules_to_save \"classifier\" matches no module; the layers are: ln_1, attn.c_attn, \
         attn.c_proj, ln_2, mlp.c_fc, mlp.c_proj, wte, wpe, ln_f, my_score"
    );
    assert!(error(&[""], &[]).contains("matches no module"));
    assert_eq!(
        error(&["h"], &[]),
        "modules_to_save \"h\" matches transformer.h, a list of modules; name the modules in it"
    );
    assert_eq!(
        error(&["_attn"], &["transformer.h.0.attn.c_attn"]),
        "modules_to_save \"_attn\" matches transformer.h.0.attn.c_attn, which target_modules \
         adapts: choose one"
    );
}
