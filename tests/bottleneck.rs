//! Bottleneck adapters, compared with plain PyTorch (`fixtures/bottleneck/make.py`).

use std::sync::Arc;

use burn::module::Module;
use burn::tensor::{Int, Tensor};
use burn_peft::config::{InitLoraWeights, TargetModules};
use burn_peft::methods::{Architecture, BottleneckConfig};
use burn_peft::{BASE_ROW, LoraConfig, PeftModel, get_peft_model};
use burn_peft_models::{CausalLm, KvCache, ModelInput, forward_rows};

use crate::common::device;
use crate::conformance::{
    assert_close, base, batch, expected, fixtures, logits, mean_loss, without_dropout,
};
use crate::steps::eight_steps;

#[test]
fn logits_gradients_losses_and_files() {
    for kind in ["houlsby", "pfeiffer", "parallel", "parallel_parts"] {
        let case = fixtures().join("bottleneck").join(kind);
        let mut model = PeftModel::from_pretrained(base(), &case, true).unwrap();
        assert_close(
            &case,
            "logits",
            &logits(&model, &case),
            &expected(&case, "logits"),
        );
        let without = model.disable_adapter(|model| logits(model, &case));
        assert_close(
            &case,
            "base_logits",
            &without,
            &expected(&case, "base_logits"),
        );
        let error = model.merge_adapter(false).unwrap_err().to_string();
        assert!(error.contains("cannot be merged into"), "{error}");

        let folder = tempfile::tempdir().unwrap();
        model.save_pretrained(folder.path()).unwrap();
        for name in ["adapter_config.json", "adapter_model.safetensors"] {
            let bytes = |folder: &std::path::Path| std::fs::read(folder.join(name)).unwrap();
            assert!(
                bytes(folder.path()) == bytes(&case),
                "{kind}/{name} differs"
            );
        }

        let model = without_dropout(model.train());
        let batch = batch(&case);
        let (losses, found) = eight_steps(
            model,
            |model| mean_loss(model, &batch),
            |model, gradients| model.adapter_gradients("default", gradients),
        );
        for (key, gradient) in found {
            let gradient = gradient.expect(&key).try_to_vec::<f32>().unwrap();
            let wanted = expected(&case, &format!("grad.{key}"));
            assert_close(&case, &key, &gradient, &wanted);
        }
        assert_close(
            &case,
            "train_losses",
            &losses,
            &expected(&case, "train_losses"),
        );
    }
}

fn input(rows: usize, seq: usize) -> ModelInput {
    let ids: Vec<i64> = (0..(rows * seq) as i64).map(|i| (i * 37) % 199).collect();
    let ids = Tensor::<1, Int>::from_data(ids.as_slice(), &device());
    ModelInput::new(ids.reshape([rows, seq]))
}

/// An adapter around a whole part works like one around a layer: with a cache, for single rows of a
/// batch, and with LoRA inside the part.
#[test]
fn what_stands_around_parts_is_an_adapter_like_any_other() {
    let case = fixtures().join("bottleneck/parallel_parts");
    let mut model = PeftModel::from_pretrained(base(), &case, false).unwrap();
    let whole = model.forward(input(1, 6));
    let mut cache = KvCache::default();
    for (start, end) in [(0, 4), (4, 5), (5, 6)] {
        let ids = input(1, 6).input_ids.slice([0..1, start..end]);
        let logits = model.forward_cached(ModelInput::new(ids), &mut cache);
        let expected = whole.clone().slice([0..1, end - 1..end, 0..199]);
        let largest: f32 = (logits - expected.squeeze_dim(1)).abs().max().into_scalar();
        assert!(largest < 1e-4, "{start}: {largest}");
    }

    let inside = LoraConfig::new()
        .with_init_lora_weights(InitLoraWeights::False)
        .with_target_modules(["c_fc", "c_attn"]);
    model.add_adapter("inside", Arc::new(inside)).unwrap();
    let names = [BASE_ROW, "default", "inside"];
    let together = forward_rows(&model, input(3, 5), &names).unwrap();
    for (row, name) in names.into_iter().enumerate() {
        let active: &[&str] = if name == BASE_ROW { &[] } else { &[name] };
        model.set_adapter(active).unwrap();
        let alone = model.forward(input(3, 5)).narrow(0, row, 1);
        let largest: f32 = (together.clone().narrow(0, row, 1) - alone)
            .abs()
            .max()
            .into_scalar();
        assert!(largest < 1e-4, "row {row} through {name}: {largest}");
    }
}

#[test]
fn a_part_is_printed_and_refused_as_a_module() {
    let config = |target: &str| {
        let mut config = BottleneckConfig {
            architecture: Architecture::Parallel,
            ..Default::default()
        };
        config.common.target_modules = Some(TargetModules::list([target]));
        config
    };
    let model = get_peft_model(base(), config("mlp")).unwrap();
    let tree = model.tree().to_string();
    for line in [
        "(mlp): bottleneck.Module(",
        "(base_layer): GPT2MLP(",
        "(default): Linear(in_features=64, out_features=4, bias=True)",
    ] {
        assert!(tree.contains(line), "{tree}");
    }
    let mut by_default = config("mlp");
    by_default.common.target_modules = None;
    let by_default = get_peft_model(base(), by_default).unwrap();
    assert_eq!(
        by_default.get_nb_trainable_parameters(),
        model.get_nb_trainable_parameters()
    );
    let error = |config: LoraConfig| get_peft_model(base(), config).unwrap_err().to_string();
    let message = error(LoraConfig::new().with_target_modules(["mlp"]));
    assert!(message.contains("mlp.c_fc, mlp.c_proj"), "{message}");
    // The part's layers are copied one by one, and nothing else is.
    let saved = LoraConfig::new()
        .with_target_modules(["c_attn"])
        .with_modules_to_save(["mlp"]);
    let saved = get_peft_model(base(), saved).unwrap();
    let saved = saved.adapter_state_dict("default");
    let of_mlp = saved.iter().filter(|(key, _)| key.contains(".mlp."));
    assert_eq!(of_mlp.count(), 8);
}
