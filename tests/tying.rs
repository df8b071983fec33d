//! Adapters that name an embedding with a tied head, compared with Python's peft
//! (`fixtures/tied/make.py`).

use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::tensor::TensorData;
use burn_peft::config::{CommonConfig, TargetModules};
use burn_peft::files::write_adapter;
use burn_peft::methods::{HiraConfig, IA3Config, LNTuningConfig};
use burn_peft::{LoraConfig, Method, PeftModel, Slot, get_peft_model, tensor_file};
use burn_peft_models::{Decoder, GPT2LMHeadModel, Pretrained};

use crate::common::{Lab, device};
use crate::conformance::{
    assert_close, base, batch, expected, fixtures, logits, mean_loss, without_dropout,
};

const CASES: [&str; 4] = ["saved", "saved_tied", "targeted", "targeted_tied"];

fn case(name: &str) -> PathBuf {
    fixtures().join("tied").join(name)
}

/// The folder with the batch.
fn inputs() -> PathBuf {
    fixtures().join("conformance/cases/gpt2_lora")
}

fn adapted(case: &Path) -> PeftModel<GPT2LMHeadModel> {
    PeftModel::from_pretrained(base(), case, true).unwrap()
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
    // Merged, it is the same model, with one weight for both.
    let expected = logits(&saved, &inputs());
    let merged = saved.merge_and_unload(true).unwrap();
    assert!(merged.lm_head.is_none());
    assert_close(&inputs(), "merged", &logits(&merged, &inputs()), &expected);
}

/// The untied head is in the merged model's folder, and config.json says so.
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

/// An adapter of this configuration on the base, with values that change the output.
fn stirred(config: impl Method + 'static) -> PeftModel<GPT2LMHeadModel> {
    let mut model = get_peft_model(base(), config).unwrap();
    let tensors = model.adapter_state_dict("default").into_iter();
    let tensors = tensors.enumerate().map(|(number, (key, data))| {
        let values = data.iter::<f32>().enumerate();
        let values: Vec<f32> = values
            .map(|(at, value)| value + 0.2 * ((7 * number + at) as f32).sin())
            .collect();
        (key, TensorData::new(values, data.shape().to_vec()))
    });
    let folder = tempfile::tempdir().unwrap();
    let config = model.config("default").unwrap();
    write_adapter(folder.path(), config.as_ref(), tensors.collect()).unwrap();
    model.hotswap_adapter(folder.path(), "default").unwrap();
    model
}

fn wte(model: &GPT2LMHeadModel) -> TensorData {
    model.transformer.wte.weight().into_data()
}

/// An adapter on the embedding alone does not change a tied head, merged or not.
#[test]
fn a_merged_embedding_leaves_the_tied_head_as_it_was() {
    let lora = || LoraConfig::new().with_target_modules(["c_attn"]);
    let on_wte = || LoraConfig::new().with_target_modules(["c_attn", "wte"]);
    let tokens = on_wte().with_target_modules(["c_attn"]);
    let saved = |mut common: CommonConfig| {
        common.modules_to_save = Some(vec!["wte".into()]);
        common
    };
    let mut ia3 = IA3Config::default();
    ia3.common = saved(ia3.common);
    let mut norms = LNTuningConfig::default();
    norms.common = saved(norms.common);
    let mut hira = HiraConfig::default();
    hira.common.target_modules = Some(TargetModules::list(["wte", "c_attn"]));
    let cases: [(&str, PeftModel<GPT2LMHeadModel>, bool); 8] = [
        ("saved", stirred(lora().with_modules_to_save(["wte"])), true),
        ("LoRA", stirred(on_wte()), true),
        ("DoRA", stirred(on_wte().with_use_dora(true)), true),
        ("HiRA", stirred(hira), true),
        ("IA3 with a copy", stirred(ia3), true),
        ("LN tuning with a copy", stirred(norms), true),
        (
            "tied",
            stirred(on_wte().with_ensure_weight_tying(true)),
            false,
        ),
        (
            "tokens",
            stirred(tokens.with_trainable_token_indices([3, 5])),
            false,
        ),
    ];
    for (name, model, is_untied) in cases {
        let expected = logits(&model, &inputs());
        let close = |what: &str, found: &GPT2LMHeadModel| {
            let what = format!("{name}: {what}");
            assert_close(&inputs(), &what, &logits(found, &inputs()), &expected);
        };
        let before = wte(&model);
        let mut merging = model.clone();
        merging.merge_adapter(true).unwrap();
        close("in place", &merging);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        // A copy is not merged, so the base's own weights are written.
        if !model.transformer.wte.adapters().is_empty() {
            let written = merging.get_base_model();
            written.save_pretrained(path).unwrap();
            close(
                "written in place",
                &GPT2LMHeadModel::from_pretrained(path, &device()).unwrap(),
            );
        }
        merging.unmerge_adapter();
        assert_eq!(wte(&merging), before, "{name}");
        assert!(merging.lm_head.is_none(), "{name}");
        close("unmerged", &merging);

        let merged = model.merge_and_unload(true).unwrap();
        close("merged", &merged);
        assert_eq!(merged.lm_head.is_some(), is_untied, "{name}");
        assert_eq!(merged.config().tie_word_embeddings, !is_untied, "{name}");
        assert_ne!(wte(&merged), before, "{name}");
        merged.save_pretrained(path).unwrap();
        close(
            "loaded",
            &GPT2LMHeadModel::from_pretrained(path, &device()).unwrap(),
        );
    }
}

/// The command says so, and the merged model has the adapter's loss.
#[test]
fn an_embedding_that_is_merged_alone_unties_the_head() {
    let lab = Lab::new();
    let cases = [
        ("peft.modules_to_save=[\"wte\"]", true),
        ("peft.target_modules=[\"wte\"]", true),
        ("peft.target_modules=[\"c_attn\"]", false),
    ];
    for (number, (set, said)) in cases.into_iter().enumerate() {
        let (adapter, merged) = (format!("adapter-{number}"), format!("merged-{number}"));
        let output = format!("training.output_dir={adapter}");
        lab.ok(&["train", "train.toml", "--set", &output, "--set", set]);
        let args = ["merge", "--model", "model", "--adapter", &adapter];
        let answer = lab.peft(&[&args[..], &["--output", &merged]].concat());
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert_eq!(answer.err.contains("lm_head has a weight of its own"), said);
        let loss = |args: &[&str]| lab.loss("train.jsonl", args);
        let expected = loss(&["--model", "model", "--adapter", &adapter]);
        let found = loss(&["--model", &merged]);
        assert!((found - expected).abs() < 1e-4, "{set}: {found} {expected}");
        let config = lab.json(&format!("{merged}/config.json"));
        assert_eq!(config["tie_word_embeddings"], !said, "{set}");
    }
}
