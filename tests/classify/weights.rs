//! Labels with weights.

use super::cases;
use super::training::{logged_losses, write_training};
use crate::common::{Lab, anew, device_name};
use crate::families::close;

/// From torch 2.15: `CrossEntropyLoss(weight = …)` of the case's logits in transformers.
#[test]
fn class_weights_are_a_weighted_mean_over_the_whole_step() {
    if device_name().is_some() {
        return;
    }
    let Some(case) = cases(true)
        .into_iter()
        .find(|case| case.name == "qwen3_seq")
    else {
        return;
    };
    let lab = Lab::new();
    write_training(&case, &lab);
    let run = |keys: &[&str]| {
        let said = lab.ok(&anew("train.toml", keys));
        // Evaluations use the weights too.
        let losses = logged_losses(&lab);
        let before = format!("evaluation: loss {:.4}", losses[0]);
        assert!(said.contains(&before), "{before} is not in {said}");
        losses
    };
    let by_name = "classify.class_weights={class-0=0.5,class-1=2,class-2=3}";
    let one_step = run(&["classify.class_weights=[0.5, 2, 3]"]);
    close("loss", &one_step[..1], &[1.002_474_3]).unwrap();
    let accumulated = run(&[
        by_name,
        "training.per_device_train_batch_size=1",
        "training.gradient_accumulation_steps=3",
    ]);
    close("accumulated", &accumulated, &one_step).unwrap();
    // Of three rows, one has class-1 and two have class-2, so their weights are 1 and 1/2.
    let balanced = run(&["classify.class_weights=\"balanced\""]);
    close("balanced", &balanced[..1], &[1.303_084]).unwrap();
    let saved = lab.text("out/config.toml");
    assert!(saved.contains("class_weights = [1.0, 1.0, 0.5]"), "{saved}");
    for (keys, said) in [
        (
            "class_weights=[1, 2]",
            "classify.class_weights has 2 weights, and there are 3 labels",
        ),
        (
            "class_weights={class-9=2}",
            "classify.class_weights names \"class-9\"",
        ),
        ("class_weights=\"fair\"", "\"balanced\""),
        ("pos_weight=\"balanced\"", "use classify.class_weights"),
    ] {
        let set = format!("classify.{keys}");
        lab.fails(&anew("train.toml", &[&set]), &[said]);
    }
}
