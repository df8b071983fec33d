//! The behaviour of PEFT's own tests of targeting, as tables.

use super::matching::{Matcher, Verdict};
use crate::config::{CommonConfig, LoraConfig, OneOrMany, TargetModules};

/// `key`, `target_modules`, `layers_to_transform`, `layers_pattern`, whether it is a target.
type Row = (
    &'static str,
    &'static [&'static str],
    &'static [i64],
    &'static [&'static str],
    bool,
);

#[rustfmt::skip]
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
    ("foo.bar.1.baz", &["baz", "spam"], &[0, 1, 2], &["bar"], true),
    ("foo.whatever.1.baz", &["baz"], &[1], &[], true),
    ("foo.whatever.1.baz", &["baz"], &[0], &[], false),
    ("transformer.h.1.attn.attention.q_proj.foo", &["q_proj"], &[], &[], false),
    ("transformer.h.1.attn.attention.q_proj", &[], &[], &[], false),
    ("transformer.h.1.attn.attention.q_proj", &["q_proj"], &[], &[], true),
    ("transformer.h.1.attn.attention.q_proj", &["q_proj", "v_proj"], &[], &[], true),
    ("transformer.h.1.attn.attention.resid_dropout", &["q_proj", "v_proj"], &[], &[], false),
    ("transformer.h.1.attn.attention.q_proj", &["q_proj"], &[1], &["h"], true),
    ("transformer.h.1.attn.attention.q_proj", &["q_proj"], &[0], &["h"], false),
    ("transformer.h.1.attn.attention.q_proj", &["q_proj"], &[2], &["h"], false),
    ("transformer.h.1.attn.attention.q_proj", &["q_proj"], &[0, 1, 2], &["h"], true),
    ("transformer.h.1.attn.attention.q_proj", &["q_proj", "v_proj"], &[0, 1, 2], &["h"], true),
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
    // Not in PEFT's table: a whole path in the list matches whatever its index, and without a
    // pattern the first index counts, which has to be preceded by the name of the list.
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
        // Here the name must start after a dot, unlike where copies are made.
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

type Patterns = &'static [(&'static str, usize)];

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
    #[rustfmt::skip]
    let cases: &[(Patterns, [usize; 6])] = &[
        (&[], [8, 8, 8, 8, 8, 8]),
        (&[("bla", 4), ("oof", 6)], [8, 8, 8, 8, 8, 8]),
        (&[("foo", 16)], [16, 8, 16, 8, 16, 8]),
        (&[("^foo", 16)], [16, 8, 8, 8, 8, 8]),
        (&[("^module.foo", 16)], [8, 8, 16, 8, 8, 8]),
        (&[("module.module.foo", 16)], [8, 8, 8, 8, 16, 8]),
        (&[("^module.module.foo", 16)], [8, 8, 8, 8, 16, 8]),
        (&[("module.foo", 16)], [8, 8, 16, 8, 16, 8]),
        (&[("^module.foo", 16), ("^module.module.foo", 24)], [8, 8, 16, 8, 24, 8]),
        (&[("^foo", 16), ("^module.foo", 24)], [16, 8, 24, 8, 8, 8]),
        (&[("^foo", 16), ("module.module.foo", 24)], [16, 8, 8, 8, 24, 8]),
        (&[("^foo", 16), ("^module.module.foo", 24)], [16, 8, 8, 8, 24, 8]),
        (&[("^foo", 16), ("^module.foo", 24), ("^module.module.foo", 32)], [16, 8, 24, 8, 32, 8]),
        (&[("^module.module.foo", 32), ("^module.foo", 24), ("^foo", 16)], [16, 8, 24, 8, 32, 8]),
        // The first pattern that matches decides.
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

#[test]
fn a_pattern_that_never_ends_is_an_error() {
    let pattern = r"(?:(a|aa)+\1)+b(?!c)";
    let common = LoraConfig::new().with_target_modules(pattern).common;
    let targets = common.target_modules.as_ref().unwrap();
    let verdict = Matcher::new(&common, targets)
        .unwrap()
        .verdict(&"a".repeat(60));
    let message = verdict.unwrap_err().to_string();
    assert!(message.contains("could not be matched to aaa"), "{message}");
}
