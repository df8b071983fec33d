//! Every optimizer's state is part of a checkpoint.

use crate::common::{Lab, with_keys};

#[test]
fn every_optimizer_goes_on_bit_for_bit() {
    let lab = Lab::new();
    for settings in [
        ["training.optim=sgd", "training.weight_decay=0.1"],
        ["training.optim=lion", "training.adam_beta2=0.99"],
        ["training.optim=adafactor", "training.learning_rate=0.01"],
        ["training.optim=muon", "training.weight_decay=0.1"],
        ["training.optim=lorafa", "training.weight_decay=0.1"],
        ["training.loraplus_lr_ratio=4", "training.weight_decay=0.1"],
    ] {
        let more = ["training.max_steps=4", "training.save_steps=2"];
        let mut args = with_keys("train.toml", &[settings, more].concat());
        lab.ok(&args);
        let weights = || lab.weights("out");
        let (whole, half) = (weights(), lab.weights("out/checkpoint-2"));
        assert_ne!(whole, half, "{settings:?}");
        std::fs::remove_file(lab.path("out/adapter_model.safetensors")).unwrap();
        args.extend(["--resume", "out/checkpoint-2"]);
        let out = lab.ok(&args);
        assert!(out.contains("checkpoint-2, step 2 of 4"), "{out}");
        assert_eq!(weights(), whole, "{settings:?}");
        std::fs::remove_dir_all(lab.path("out")).unwrap();
    }
}
