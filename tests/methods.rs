//! Checks of every method that acts at layers, by the command and the method's name.

use std::fs;

use burn_peft::config::Fields;
use burn_peft::get_peft_model;
use burn_peft::methods::{AdaLoraConfig, config_from_fields};

use crate::common::{Lab, adapted};
use crate::linear_methods::net;

/// Each method with the keys it needs for a model of width 16, and whether it can be merged.
pub const METHODS: [(&str, &[&str], bool); 27] = [
    ("GRALORA", &["hybrid_r=2"], true),
    ("RANDLORA", &[], true),
    ("WAVEFT", &["n_frequency=20"], true),
    (
        "LORA",
        &["use_dora=true", "trainable_token_indices=[1,2]"],
        true,
    ),
    ("LORA", &["init_lora_weights=\"pissa\""], true),
    ("IA3", &[], true),
    ("LN_TUNING", &[], true),
    ("TRAINABLE_TOKENS", &["token_indices=[1, 5]"], true),
    (
        "ADALORA",
        &["total_step=6", "init_r=4", "target_r=2", "lora_dropout=0.1"],
        true,
    ),
    (
        "VBLORA",
        &[
            "r=2",
            "num_vectors=6",
            "vector_length=8",
            "vblora_dropout=0.1",
        ],
        true,
    ),
    (
        "LORA",
        &[
            "init_lora_weights=\"eva\"",
            "eva_config={ tau = 0.8, rho = 1.5 }",
        ],
        true,
    ),
    ("VERA", &["r=8", "save_projection=false"], true),
    ("FOURIERFT", &["n_frequency=20"], true),
    ("HIRA", &["r=4"], true),
    (
        "LOHA",
        &["r=2", "module_dropout=0.2", "rank_dropout=0.2"],
        true,
    ),
    ("LOKR", &["r=2"], true),
    ("OFT", &["r=0", "oft_block_size=4"], true),
    (
        "BOFT",
        &["boft_block_size=4", "boft_n_butterfly_factor=2"],
        true,
    ),
    ("HRA", &["r=2"], true),
    ("MISS", &["r=5", "miss_dropout=0.1"], true),
    ("MISS", &["r=4", "init_weights=bat"], true),
    ("C3A", &["block_size=8"], true),
    ("ROAD", &["group_size=16", "variant=road_2"], true),
    ("DELORA", &["r=2", "module_dropout=0.1"], true),
    ("SHIRA", &["r=2"], true),
    (
        "BOTTLENECK",
        &["architecture=houlsby", "reduction_factor=4"],
        false,
    ),
    (
        "BOTTLENECK",
        &["architecture=parallel", "non_linearity=gelu"],
        false,
    ),
];

/// The file is written for LoRA; only the method and the keys it needs are set.
#[test]
fn training_saving_resuming_and_merging() {
    let lab = Lab::new();
    for (peft_type, keys, can_merge) in METHODS {
        let _ = fs::remove_dir_all(lab.path("out"));
        let mut args = vec![
            "train".to_string(),
            "train.toml".into(),
            "--set".into(),
            format!("peft.peft_type={peft_type}"),
        ];
        let more = [
            "training.max_steps=6",
            "training.save_steps=3",
            "training.save_strategy=steps",
        ];
        let keys = keys.iter().map(|key| format!("peft.{key}"));
        for key in keys.chain(more.map(String::from)) {
            args.extend(["--set".to_string(), key]);
        }
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        lab.ok(&args);
        let whole = lab.weights("out");
        let losses = lab.losses("out");
        assert!(losses.len() == 6, "{peft_type} {losses:?}");
        assert!(
            losses.iter().all(|loss| loss.is_finite()),
            "{peft_type} {losses:?}"
        );

        // Resumed from the middle, it ends as if it had never stopped.
        fs::remove_dir_all(lab.path("out/checkpoint-6")).unwrap();
        fs::remove_file(lab.path("out/adapter_model.safetensors")).unwrap();
        args.push("--resume");
        lab.ok(&args);
        let resumed = lab.weights("out");
        assert!(
            whole == resumed,
            "{peft_type}: resuming changed the adapter"
        );
        assert_eq!(lab.losses("out"), losses, "{peft_type}");

        let eval = adapted("eval", &["--data", "train.jsonl"]);
        lab.ok(&eval);
        let merge = adapted("merge", &["--output", "merged"]);
        if can_merge {
            lab.ok(&merge);
            fs::remove_dir_all(lab.path("merged")).unwrap();
        } else {
            drop(lab.fails(&merge, &["cannot be merged"]))
        }
    }
}

fn error(keys: &str) -> String {
    let fields = Fields::parse(keys, "a.json").unwrap();
    let made = config_from_fields(fields)
        .and_then(|config| burn_peft::PeftModel::new(net(), "default", config).map(drop));
    made.unwrap_err().to_string()
}

#[test]
fn bad_configurations_name_the_key_and_the_value() {
    for (keys, named) in [
        (
            r#""IA3", "feedforward_modules": ["fc2"], "target_modules": ["fc1"]"#,
            "\"fc2\"",
        ),
        (
            r#""IA3", "target_modules": ["fc1"]"#,
            "feedforward_modules is not given",
        ),
        (
            r#""LN_TUNING", "target_modules": ["fc1"]"#,
            "fc1 (Linear), which LN_TUNING cannot",
        ),
        (
            r#""LN_TUNING", "target_modules": ["fc1"]"#,
            "methods for such a layer: LORA, IA3,",
        ),
        (r#""TRAINABLE_TOKENS""#, "token_indices = []"),
        (
            r#""TRAINABLE_TOKENS", "token_indices": [1, 1]"#,
            "the token 1 twice",
        ),
        (
            r#""TRAINABLE_TOKENS", "token_indices": [1]"#,
            "which is its input embedding",
        ),
        (
            r#""ADALORA", "target_modules": ["fc1"]"#,
            "total_step = null",
        ),
        (
            r#""ADALORA", "total_step": 9, "target_r": 13"#,
            "target_r = 13",
        ),
        (
            r#""ADALORA", "total_step": 9, "tinit": 5, "tfinal": 4"#,
            "total_step = 9",
        ),
        (r#""ADALORA", "total_step": 9, "beta1": 1.0"#, "beta1 = 1"),
        (
            r#""ADALORA", "total_step": 9, "use_dora": true"#,
            "use_dora = true",
        ),
        (r#""VERA", "r": 0"#, "r = 0"),
        (r#""VBLORA", "topk": 300"#, "topk = 300"),
        (
            r#""VBLORA", "vector_length": 5, "target_modules": ["fc1"]"#,
            "vector_length = 5 does not divide the 12 inputs of fc1",
        ),
        (
            r#""VBLORA", "save_only_topk_weights": true"#,
            "save_only_topk_weights = true",
        ),
        (
            r#""LORA", "init_lora_weights": "eva", "eva_config": {"rho": 0.5}"#,
            "eva_config.rho = 0.5",
        ),
        (
            r#""LORA", "eva_config": {"rho": 1.5}"#,
            "needs init_lora_weights = \"eva\"",
        ),
        (r#""VERA", "bias": "lora_only""#, "\"vera_only\""),
        (
            r#""VERA", "projection_prng_key": -1"#,
            "projection_prng_key = -1",
        ),
        (
            r#""FOURIERFT", "n_frequency": 193, "target_modules": ["fc1"]"#,
            "n_frequency = 193 for fc1",
        ),
        (r#""FOURIERFT", "n_frequency": 0"#, "n_frequency = 0"),
        (r#""HIRA", "init_weights": "magic""#, "\"magic\""),
        (
            r#""HIRA", "rank_pattern": {"fc1": 0}"#,
            "rank_pattern \"fc1\" = 0",
        ),
        (r#""LOHA", "rank_dropout": 1.5"#, "rank_dropout = 1.5"),
        (r#""LOKR", "decompose_factor": 0"#, "decompose_factor = 0"),
        (r#""OFT", "r": 2"#, "r = 2 and oft_block_size = 32"),
        (r#""OFT", "coft": true, "eps": 0"#, "eps = 0"),
        (r#""BOFT", "boft_dropout": 1.5"#, "boft_dropout = 1.5"),
        (
            r#""BOFT", "boft_block_size": 5, "target_modules": ["fc1"]"#,
            "boft_block_size = 5 does not divide",
        ),
        (
            r#""BOFT", "boft_n_butterfly_factor": 3, "target_modules": ["fc1"]"#,
            "boft_n_butterfly_factor = 3",
        ),
        (r#""GRALORA", "r": 3"#, "r = 3"),
        (
            r#""GRALORA", "r": 5, "gralora_k": 5, "target_modules": ["fc1"]"#,
            "gralora_k = 5",
        ),
        (
            r#""RANDLORA", "save_projection": false"#,
            "save_projection = false",
        ),
        (r#""WAVEFT", "wavelet_family": "sym2""#, "\"sym2\""),
        (r#""HRA", "r": 0"#, "r = 0"),
        (
            r#""MISS", "target_modules": ["fc1"]"#,
            "r = 64 is more than the 12 inputs of fc1",
        ),
        (
            r#""MISS", "r": 5, "init_weights": "bat", "target_modules": ["fc1"]"#,
            "r = 5 does not divide both sides of fc1",
        ),
        (
            r#""MISS", "r": 4, "mini_r": 3, "init_weights": "mini", "target_modules": ["fc2"]"#,
            "mini_r = 3 does not divide the 8 outputs of fc2",
        ),
        (r#""MISS", "init_weights": "bone""#, "\"bone\""),
        (r#""MISS", "bias": "bone_only""#, "\"miss_only\""),
        (
            r#""C3A", "target_modules": ["fc1"]"#,
            "block_size = 256 does not divide both sides of fc1, which has 12 inputs and 16 outputs; \
             the largest that does is 4",
        ),
        (
            r#""C3A", "block_size_pattern": {"fc1": 5}, "target_modules": ["fc1"]"#,
            "block_size_pattern = 5",
        ),
        (r#""C3A", "init_weights": "zeros""#, "\"zeros\""),
        (r#""ROAD", "variant": "road_3""#, "variant = \"road_3\""),
        (r#""ROAD", "group_size": 7"#, "group_size = 7: must be even"),
        (
            r#""ROAD", "target_modules": ["fc1"]"#,
            "group_size = 64 does not divide the 16 outputs of fc1",
        ),
        (
            r#""DELORA", "lambda_pattern": {"fc1": 1e13}"#,
            "lambda_pattern \"fc1\" = 10000000000000",
        ),
        (r#""SHIRA", "mask_type": "mine""#, "mask_type = \"mine\""),
        (
            r#""SHIRA", "r": 7, "target_modules": ["fc1"]"#,
            "r = 7 trains 196 entries of fc1, whose weight has 12 x 16; at most 6 fits",
        ),
        (
            r#""BOTTLENECK", "reduction_factor": 0"#,
            "reduction_factor = 0",
        ),
        (
            r#""BOTTLENECK", "architecture": "tower""#,
            "architecture = \"tower\"",
        ),
        (
            r#""LORA", "trainable_token_indices": {"fc1": [1]}, "target_modules": ["fc2"]"#,
            "fc1 (Linear)",
        ),
    ] {
        let message = error(&format!(r#"{{"peft_type": {keys}}}"#));
        assert!(message.contains(named), "{keys}\n{message}\n{named}");
    }
    let unchecked = get_peft_model(net(), AdaLoraConfig::default());
    assert!(unchecked.unwrap_err().to_string().contains("total_step"));
}
