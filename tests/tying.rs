//! A head tied to the embedding that an adapter names, against Python's peft
//! (`fixtures/tied/make.py`).

use std::path::PathBuf;

use burn::module::Module;
use burn_peft::{LoraConfig, PeftModel, Slot, get_peft_model, tensor_file};
use burn_peft_models::GPT2LMHeadModel;

use crate::common::Lab;
use crate::conformance::{
    adapted, assert_close, base, batch, expected, fixtures, logits, mean_loss, without_dropout,
};

const CASES: [&str; 4] = ["saved", "saved_tied", "targeted", "targeted_tied"];

fn case(name: &str) -> PathBuf {
    fixtures().join("tied").join(name)
}

/// Where the batch lies.
fn inputs() -> PathBuf {
    fixtures().join("conformance/cases/gpt2_lora")
}

#[test]
fn logits_and_gradients_are_pefts() {
    for name in CASES {
        let case = case(name);
        let model = adapted(&case);
        let found = logits(&model, &inputs());
        assert_close(&case, "logits", &found, &expected(&case, "logits"));
        let off = model.disable_adapter(|model| logits(model, &inputs()));
        assert_close(&case, "base", &off, &expected(&case, "base_logits"));
        assert_eq!(model.lm_head.is_some(), !name.ends_with("tied"), "{name}");

        let model = without_dropout(model.train());
        let gradients = mean_loss(&model, &batch(&inputs())).backward();
        let found = model.adapter_gradients("default", &gradients);
        assert!(found.len() > 4, "{name}");
        for (key, gradient) in found {
            let expected = expected(&case, &format!("grad.{key}"));
            let gradient = gradient.expect(&key).try_to_vec::<f32>().unwrap();
            assert_close(&case, &key, &gradient, &expected);
        }
    }
}

#[test]
fn files_hold_what_pefts_hold() {
    for name in CASES {
        let folder = tempfile::tempdir().unwrap();
        adapted(&case(name)).save_pretrained(folder.path()).unwrap();
        let read = |folder: PathBuf| {
            let path = folder.join(burn_peft::files::WEIGHTS_NAME);
            let mut tensors = tensor_file::read_tensors(&path).unwrap();
            tensors.sort_keys();
            tensors
        };
        let (found, expected) = (read(folder.path().into()), read(case(name)));
        assert!(found.keys().eq(expected.keys()), "{name}: {found:?}");
        for (key, found) in found {
            assert_eq!(found, expected[&key], "{name} {key}");
        }
    }
}

fn config(ensure: bool) -> LoraConfig {
    LoraConfig::new().with_ensure_weight_tying(ensure)
}

fn model(config: LoraConfig) -> PeftModel<GPT2LMHeadModel> {
    get_peft_model(base(), config).unwrap()
}

#[test]
fn the_embedding_stands_in_the_place_of_a_tied_head() {
    let targets = |model: &PeftModel<GPT2LMHeadModel>| model.config("default").unwrap().to_json();
    let tied = model(config(true).with_target_modules(["c_attn", "lm_head"]));
    let json = targets(&tied);
    assert_eq!(
        json["target_modules"],
        serde_json::json!(["c_attn", "transformer.wte"])
    );
    let tied = model(config(true).with_target_modules("lm_head"));
    assert_eq!(
        targets(&tied)["target_modules"],
        r"(?:lm_head|^transformer\.wte$)"
    );
    assert!(tied.transformer.wte.is_adapted());
    let config = config(true).with_target_modules(["c_attn"]);
    let saved = model(config.with_modules_to_save(["lm_head", "ln_f"]));
    assert_eq!(
        targets(&saved)["modules_to_save"],
        serde_json::json!(["ln_f", "transformer.wte"])
    );
    // Merged, it is the same model with one weight for both.
    let expected = logits(&saved, &inputs());
    let merged = saved.merge_and_unload(true).unwrap();
    assert!(merged.lm_head.is_none());
    assert_close(&inputs(), "merged", &logits(&merged, &inputs()), &expected);
}

/// The untied head is in the merged model's folder, which says so.
#[test]
fn an_untied_head_stays_untied_in_a_merged_model() {
    let case = case("targeted");
    let merged = adapted(&case).merge_and_unload(true).unwrap();
    let folder = tempfile::tempdir().unwrap();
    merged.save_pretrained(folder.path()).unwrap();
    let device = merged.transformer.wte.base_layer.weight.device();
    let again = GPT2LMHeadModel::from_pretrained(folder.path().to_str().unwrap(), &device);
    let again = again.unwrap();
    assert!(!again.config().tie_word_embeddings);
    assert_close(
        &case,
        "merged",
        &logits(&again, &inputs()),
        &expected(&case, "logits"),
    );
    assert_eq!(
        again.transformer.wte.weight().to_data(),
        base().transformer.wte.weight().to_data()
    );
}

#[test]
fn a_failed_adapter_leaves_the_head_tied() {
    let mut model = model(config(false).with_target_modules(["c_attn"]));
    let bad = config(false)
        .with_r(3)
        .with_target_modules(["lm_head"])
        .with_modules_to_save(["no"]);
    let error = model
        .add_adapter("b", std::sync::Arc::new(bad))
        .unwrap_err();
    assert!(error.to_string().contains("\"no\""), "{error}");
    assert!(model.lm_head.is_none());
    let dora = config(true)
        .with_use_dora(true)
        .with_target_modules(["lm_head"]);
    let error = model
        .add_adapter("b", std::sync::Arc::new(dora))
        .unwrap_err();
    assert!(error.to_string().contains("use_dora"), "{error}");
}

/// What is merged into a tied embedding acts on the head too, which is said.
#[test]
fn merging_into_a_tied_embedding_is_told() {
    let lab = Lab::new();
    for (tied, said) in [("false", true), ("true", false)] {
        let (adapter, merged) = (format!("adapter-{tied}"), format!("merged-{tied}"));
        let output = format!("training.output_dir={adapter}");
        let tied = format!("peft.ensure_weight_tying={tied}");
        let target = "peft.target_modules=[\"wte\"]";
        lab.ok(&[
            "train",
            "train.toml",
            "--set",
            &output,
            "--set",
            &tied,
            "--set",
            target,
        ]);
        let args = ["merge", "--model", "model", "--adapter", &adapter];
        let answer = lab.peft(&[&args[..], &["--output", &merged]].concat());
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert_eq!(answer.err.contains("the merged model is another one"), said);
    }
}
