//! The behaviour of PEFT's own tests of targeting, as tables, and the errors that are ours.

use super::matching::{Matcher, Verdict};
use super::*;
use crate::config::{CommonConfig, LoraConfig, OneOrMany, TargetModules, TaskType};
use crate::{LayerInfo, LayerKind, Result};

/// `key`, `target_modules`, `layers_to_transform`, `layers_pattern`, whether it is a target.
type Row = (
    &'static str,
    &'static [&'static str],
    &'static [i64],
    &'static [&'static str],
    bool,
);

const NAMES: &[Row] = &[
    ("", &[], &[], &[], false),
    ("", &["foo"], &[], &[], false),
    ("foo", &[], &[], &[], false),
    ("foo", &["foo"], &[], &[], true),
    ("foo", &["bar"], &[], &[], false),
    ("foo", &["foo", "bar"], &[], &[], true),
    ("foo.bar.1.baz", &["baz"], &[1], &["bar"], true),
    ("foo.bar.1.baz", &["baz"], &[0], &["bar"], false),
    ("foo.bar.1.baz", &["baz"], &[2], &["bar"], false),
    ("foo.bar.10.baz", &["baz"], &[0], &["bar"], false),
    ("foo.bar.10.baz", &["baz"], &[1], &["bar"], false),
    ("foo.bar.1.baz", &["baz"], &[0, 1, 2], &["bar"], true),
    ("foo.bar.1.baz", &["baz", "spam"], &[1], &["bar"], true),
    (
        "foo.bar.1.baz",
        &["baz", "spam"],
        &[0, 1, 2],
        &["bar"],
        true,
    ),
    ("foo.whatever.1.baz", &["baz"], &[1], &[], true),
    ("foo.whatever.1.baz", &["baz"], &[0], &[], false),
    (
        "transformer.h.1.attn.attention.q_proj.foo",
        &["q_proj"],
        &[],
        &[],
        false,
    ),
    (
        "transformer.h.1.attn.attention.q_proj",
        &[],
        &[],
        &[],
        false,
    ),
    (
        "transformer.h.1.attn.attention.q_proj",
        &["q_proj"],
        &[],
        &[],
        true,
    ),
    (
        "transformer.h.1.attn.attention.q_proj",
        &["q_proj", "v_proj"],
        &[],
        &[],
        true,
    ),
    (
        "transformer.h.1.attn.attention.resid_dropout",
        &["q_proj", "v_proj"],
        &[],
        &[],
        false,
    ),
    (
        "transformer.h.1.attn.attention.q_proj",
        &["q_proj"],
        &[1],
        &["h"],
        true,
    ),
    (
        "transformer.h.1.attn.attention.q_proj",
        &["q_proj"],
        &[0],
        &["h"],
        false,
    ),
    (
        "transformer.h.1.attn.attention.q_proj",
        &["q_proj"],
        &[2],
        &["h"],
        false,
    ),
    (
        "transformer.h.1.attn.attention.q_proj",
        &["q_proj"],
        &[0, 1, 2],
        &["h"],
        true,
    ),
    (
        "transformer.h.1.attn.attention.q_proj",
        &["q_proj", "v_proj"],
        &[0, 1, 2],
        &["h"],
        true,
    ),
    ("foo.bar.q_proj", &["q_proj"], &[], &[], true),
    ("foo.bar.1.baz", &["baz"], &[1], &["foo"], false),
    ("foo.bar.1.baz", &["baz"], &[1], &["baz"], false),
    ("bar.1.baz", &["baz"], &[1], &["bar"], false),
    ("foo.bar.001.baz", &["baz"], &[1], &["bar"], true),
    ("foo.bar.1.spam.2.baz", &["baz"], &[1], &["bar"], true),
    ("foo.bar.2.spam.1.baz", &["baz"], &[1], &["bar"], false),
    ("blocks.1.weight", &["weight"], &[1], &["blocks"], false),
    ("blocks.1.bias", &["weight"], &[1], &["blocks"], false),
    ("mlp.blocks.1.weight", &["weight"], &[1], &["blocks"], true),
    ("mlp.blocks.1.bias", &["weight"], &[1], &["blocks"], false),
    // Not in PEFT's table: a whole path in the list counts whatever its index, and without a
    // pattern the first index counts, which needs a name before that of the list.
    ("foo.bar.1.baz", &["foo.bar.1.baz"], &[0], &["bar"], true),
    ("h.1.attn.c_attn", &["c_attn"], &[1], &[], false),
    ("foo.bar.1.spam.2.baz", &["baz"], &[2], &[], false),
];

/// `key`, `target_modules` as a pattern, whether it is a target.
const PATTERNS: &[(&str, &str, bool)] = &[
    ("foo", "foo", true),
    ("foo", ".*oo", true),
    ("foo", "fo.*", true),
    ("foo", ".*bar.*", false),
    ("foobar", ".*oba.*", true),
    // Not in PEFT's table: the whole path must match, and look-around works.
    ("foobar", "foo", false),
    ("foobar", "foo|bar", false),
    ("h.1.c_attn", r"h\.(?!0)\d+\.c_attn", true),
    ("h.0.c_attn", r"h\.(?!0)\d+\.c_attn", false),
];

fn is_target(key: &str, targets: &TargetModules, common: &CommonConfig) -> bool {
    Matcher::new(common, targets).unwrap().verdict(key).unwrap() == Verdict::Targeted
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

#[test]
fn names_and_layer_indices_match_as_in_peft() {
    for &(key, targets, indices, patterns, expected) in NAMES {
        let common = CommonConfig {
            layers_to_transform: Some(OneOrMany::Many(indices.to_vec())),
            layers_pattern: Some(OneOrMany::Many(strings(patterns))),
            ..CommonConfig::default()
        };
        let targets = TargetModules::list(targets.iter().copied());
        assert_eq!(
            is_target(key, &targets, &common),
            expected,
            "{key} {targets} {indices:?}"
        );
    }
    for (layers_pattern, index, expected) in [("", 1, true), ("", 0, false), ("whatever", 1, true)]
    {
        let common = CommonConfig {
            layers_to_transform: Some(OneOrMany::One(index)),
            layers_pattern: Some(OneOrMany::One(layers_pattern.to_string())),
            ..CommonConfig::default()
        };
        let targets = TargetModules::list(["baz"]);
        assert_eq!(is_target("foo.whatever.1.baz", &targets, &common), expected);
    }
}

#[test]
fn patterns_match_whole_paths() {
    for &(key, pattern, expected) in PATTERNS {
        let targets = TargetModules::Pattern(pattern.to_string());
        let found = is_target(key, &targets, &CommonConfig::default());
        assert_eq!(found, expected, "{key} {pattern}");
    }
}

#[test]
fn modules_to_save_are_no_targets() {
    let targets = TargetModules::list(["baz", "classifier"]);
    for (name, key, expected) in [
        ("classifier", "classifier", false),
        ("classifier", "classifier.baz", false),
        ("classifier", "model.classifier.out.baz", false),
        // The name must begin at a dot here, unlike where the copies are made.
        ("classifier", "my_classifier.baz", true),
        ("class.*r", "model.classifier.baz", false),
    ] {
        let common = CommonConfig {
            modules_to_save: Some(strings(&[name])),
            ..CommonConfig::default()
        };
        assert_eq!(is_target(key, &targets, &common), expected, "{name} {key}");
    }
}

/// Paths of the model of PEFT's tests of `rank_pattern`.
const NESTED: [&str; 6] = [
    "foo",
    "bar",
    "module.foo",
    "module.foobar",
    "module.module.foo",
    "module.module.barfoo",
];

#[test]
fn rank_and_alpha_patterns_match_as_in_peft() {
    let cases: &[(&[(&str, usize)], [usize; 6])] = &[
        (&[], [8, 8, 8, 8, 8, 8]),
        (&[("bla", 4), ("oof", 6)], [8, 8, 8, 8, 8, 8]),
        (&[("foo", 16)], [16, 8, 16, 8, 16, 8]),
        (&[("^foo", 16)], [16, 8, 8, 8, 8, 8]),
        (&[("^module.foo", 16)], [8, 8, 16, 8, 8, 8]),
        (&[("module.module.foo", 16)], [8, 8, 8, 8, 16, 8]),
        (&[("^module.module.foo", 16)], [8, 8, 8, 8, 16, 8]),
        (&[("module.foo", 16)], [8, 8, 16, 8, 16, 8]),
        (
            &[("^module.foo", 16), ("^module.module.foo", 24)],
            [8, 8, 16, 8, 24, 8],
        ),
        (&[("^foo", 16), ("^module.foo", 24)], [16, 8, 24, 8, 8, 8]),
        (
            &[("^foo", 16), ("module.module.foo", 24)],
            [16, 8, 8, 8, 24, 8],
        ),
        (
            &[("^foo", 16), ("^module.module.foo", 24)],
            [16, 8, 8, 8, 24, 8],
        ),
        (
            &[
                ("^foo", 16),
                ("^module.foo", 24),
                ("^module.module.foo", 32),
            ],
            [16, 8, 24, 8, 32, 8],
        ),
        (
            &[
                ("^module.module.foo", 32),
                ("^module.foo", 24),
                ("^foo", 16),
            ],
            [16, 8, 24, 8, 32, 8],
        ),
        // The first that matches decides.
        (&[("foo", 16), ("module.foo", 24)], [16, 8, 16, 8, 16, 8]),
    ];
    for (patterns, expected) in cases {
        let config = LoraConfig::new()
            .with_rank_pattern(patterns.iter().copied())
            .with_alpha_pattern(patterns.iter().map(|&(key, rank)| (key, 2.0 * rank as f64)));
        for (path, &rank) in NESTED.iter().zip(expected) {
            assert_eq!(config.rank(path).unwrap(), rank, "{patterns:?} {path}");
            let scaling = if rank == 8 { 1.0 } else { 2.0 };
            assert_eq!(
                config.scaling(path).unwrap(),
                scaling,
                "{patterns:?} {path}"
            );
        }
    }
}

/// The layers of a GPT-2 with a classifier's head or without one.
fn gpt2(blocks: usize, head: Option<&str>) -> Vec<LayerInfo> {
    let layer = |path: String, kind| LayerInfo {
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
    let supported = |layer: &LayerInfo| layer.kind != LayerKind::LayerNorm;
    target_layers(
        &config.common,
        layers,
        &supported,
        "gpt2",
        lora_target_modules("gpt2"),
    )
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
        found(&lora().with_target_pattern(r".*\.h\.[01]\.(attn\.c_attn|mlp\.c_fc)")),
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
        found(&lora().with_exclude_pattern(r".*h\.1\..*")),
        both[..1]
    );
    // Excluding a module does not exclude what it holds.
    assert_eq!(found(&lora().with_exclude_modules(["attn"])), both);
}

#[test]
fn all_linear_becomes_names() {
    let config = LoraConfig::new().with_target_pattern("ALL-Linear");
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
         [\"0.attn\"] removes 1; layers_to_transform [7] removes 1, whose indices are {1}"
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
        "target_modules [\"ln_1\"] matches transformer.h.0.ln_1, a LayerNorm layer, which this \
         method cannot adapt; in gpt2 it adapts Embedding and Conv1D layers"
    );
    assert_eq!(
        error(lora().with_target_modules(["mlp"])),
        "target_modules [\"mlp\"] matches transformer.h.0.mlp, which is no layer but holds \
         layers; name those: mlp.c_fc, mlp.c_proj"
    );
    let message = error(lora().with_target_pattern("(c_attn"));
    assert!(
        message.starts_with("target_modules \"(c_attn\" is not a regular expression: "),
        "{message}"
    );
    let none = target_layers(&lora().common, &gpt2(1, None), &|_| false, "", None);
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
        modules_to_save(&config.common, &layers, &strings(targeted))
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

#[test]
fn a_pattern_that_never_ends_is_an_error() {
    let pattern = r"(?:(a|aa)+\1)+b(?!c)";
    let common = LoraConfig::new().with_target_pattern(pattern).common;
    let targets = common.target_modules.as_ref().unwrap();
    let verdict = Matcher::new(&common, targets)
        .unwrap()
        .verdict(&"a".repeat(60));
    let message = verdict.unwrap_err().to_string();
    assert!(message.contains("could not be matched to aaa"), "{message}");
}
