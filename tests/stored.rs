//! Adapters whose files hold more than the method's tensors: embeddings of the base (resized or
//! adapted), and biases beside copies of layers. They are compared with Python's peft
//! (`fixtures/stored/make.py`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::TensorData;
use burn_peft::files::{WEIGHTS_NAME, write_adapter};
use burn_peft::tensor_file::read_tensors;
use burn_peft::{LoraConfig, PeftError, PeftModel, get_peft_model};
use burn_peft_models::{CausalLm, GPT2LMHeadModel, Pretrained};

use crate::common::{Lab, device};
use crate::conformance::{assert_close, expected, fixtures, logits};

type Adapted = PeftModel<GPT2LMHeadModel>;

const EMBEDDINGS: [&str; 13] = [
    "targeted",
    "grown",
    "shrunk",
    "grown_head",
    "grown_saved",
    "grown_saved_both",
    "grown_targeted",
    "grown_targeted_both",
    "grown_dora",
    "grown_tokens",
    "grown_trainable_tokens",
    "grown_ia3",
    "grown_prompt",
];
const BIASES: [&str; 4] = ["bias_all", "bias_lora_only", "bias_vera", "bias_tokens"];

fn case(name: &str) -> PathBuf {
    fixtures().join("stored").join(name)
}

fn model(folder: &Path) -> GPT2LMHeadModel {
    GPT2LMHeadModel::from_pretrained(folder.to_str().unwrap(), &device()).unwrap()
}

fn load(folder: &Path) -> Result<Adapted, PeftError> {
    PeftModel::from_pretrained(model(&case("base")), folder, false)
}

fn tensors(folder: &Path) -> BTreeMap<String, TensorData> {
    let all = read_tensors(&folder.join(WEIGHTS_NAME)).unwrap();
    all.into_iter().collect()
}

/// A copy of a case whose tensors are changed.
fn changed(
    name: &str,
    change: impl FnOnce(&mut BTreeMap<String, TensorData>),
) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut all = tensors(&case(name));
    change(&mut all);
    let config = burn_peft::files::read_config(&case(name)).unwrap();
    write_adapter(folder.path(), config.as_ref(), all.into_iter().collect()).unwrap();
    folder
}

#[test]
fn logits_are_pefts_loaded_saved_and_merged() {
    for name in EMBEDDINGS.into_iter().chain(BIASES) {
        let case = case(name);
        let close = |what: &str, found: Vec<f32>| {
            assert_close(&case, what, &found, &expected(&case, "logits"));
        };
        let adapted = load(&case).unwrap_or_else(|error| panic!("{name}: {error}"));
        close("logits", logits(&adapted, &case));
        let folder = tempfile::tempdir().unwrap();
        adapted.save_pretrained(folder.path()).unwrap();
        close("saved", logits(&load(folder.path()).unwrap(), &case));
        // Loaded into the place of another adapter.
        let mut again = adapted.clone();
        again.load_adapter(&case, "default", false).unwrap();
        close("replaced", logits(&again, &case));
        if name != "grown_prompt" {
            let merged = adapted.merge_and_unload(true).unwrap();
            close("merged", logits(&merged, &case));
            let folder = tempfile::tempdir().unwrap();
            merged.save_pretrained(folder.path()).unwrap();
            close("merged and loaded", logits(&model(folder.path()), &case));
        }
    }
}

#[test]
fn what_is_written_is_what_peft_wrote() {
    for name in EMBEDDINGS.into_iter().chain(BIASES) {
        let folder = tempfile::tempdir().unwrap();
        load(&case(name))
            .unwrap()
            .save_pretrained(folder.path())
            .unwrap();
        let (found, mut expected) = (tensors(folder.path()), tensors(&case(name)));
        if EMBEDDINGS.contains(&name) {
            // PEFT writes these tensors a second time beside the embeddings, where nothing reads
            // them.
            expected.retain(|key, _| {
                let ends = [
                    "modules_to_save.weight",
                    "trainable_tokens_delta",
                    "lora_magnitude_vector.weight",
                ];
                found.contains_key(key) || !ends.iter().any(|end| key.ends_with(end))
            });
        }
        let keys = |all: &BTreeMap<String, TensorData>| all.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&found), keys(&expected), "{name}");
        for (key, found) in found {
            assert_eq!(found, expected[&key], "{name} {key}");
        }
    }
}

/// Rows that the adapter's file does not have are the mean of the others.
#[test]
fn the_vocabulary_is_resized_to_that_of_the_file() {
    for (name, rows) in [("targeted", 24), ("grown", 27), ("shrunk", 21)] {
        let adapted = load(&case(name)).unwrap();
        assert_eq!(adapted.vocab_size(), rows, "{name}");
        assert_eq!(adapted.config("default").unwrap().peft_type(), "LORA");
    }
    let copies = changed("grown_saved_both", |all| {
        all.retain(|key, _| !key.contains("original_module"));
    });
    let adapted = load(copies.path()).unwrap();
    let case = case("grown_saved_both");
    assert_close(
        &case,
        "logits",
        &logits(&adapted, &case),
        &expected(&case, "logits"),
    );
    let of_base = adapted.disable_adapter(|model| logits(model, &case));
    assert!(of_base.iter().all(|logit| logit.is_finite()));
}

#[test]
fn what_is_too_many_is_named() {
    let extra = changed("grown", |all| {
        let key = "base_model.model.transformer.wpe.weight";
        all.insert(key.into(), TensorData::new(vec![0_f32; 8], [1, 8]));
    });
    let error = load(extra.path()).unwrap_err().to_string();
    let named =
        "1 is more than the configuration asks for (base_model.model.transformer.wpe.weight)";
    assert!(
        error.contains(named) && !error.contains("missing"),
        "{error}"
    );

    let wide = changed("grown", |all| {
        let key = "base_model.model.transformer.wte.weight";
        all.insert(key.into(), TensorData::new(vec![0_f32; 27 * 9], [27, 9]));
    });
    let error = load(wide.path()).unwrap_err().to_string();
    assert!(
        error.contains("wte.weight is [27, 9], the model needs [27, 8]"),
        "{error}"
    );

    let config = LoraConfig::new().with_target_modules(["c_attn"]);
    let mut two = get_peft_model(model(&case("base")), config).unwrap();
    let error = two
        .load_adapter(case("grown"), "b", false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("27 rows, the model has 24"), "{error}");
    assert_eq!(two.vocab_size(), 24);
}

/// If the output layer in the file is another matrix, it is untied.
#[test]
fn a_stored_head_that_differs_is_kept() {
    let folder = changed("grown", |all| {
        let head = all.get_mut("base_model.model.lm_head.weight").unwrap();
        let twice: Vec<f32> = head.iter::<f32>().map(|value| 2.0 * value).collect();
        *head = TensorData::new(twice, [27, 8]);
    });
    let adapted = load(folder.path()).unwrap();
    let case = case("grown");
    let twice: Vec<f32> = expected(&case, "logits")
        .iter()
        .map(|logit| 2.0 * logit)
        .collect();
    assert_close(&case, "logits", &logits(&adapted, &case), &twice);
}

/// PEFT before 0.18 left the biases of `lora_only` out. Python then keeps the base's.
#[test]
fn biases_that_are_not_in_the_file_stay_the_bases_and_nothing_else_does() {
    let without = changed("bias_lora_only", |all| {
        all.retain(|key, _| !key.ends_with("base_layer.bias"));
    });
    let adapted = load(without.path()).unwrap();
    let bias = |model: &GPT2LMHeadModel| {
        let slot: &dyn burn_peft::Slot = &model.transformer.h[1].attn.c_attn;
        slot.bias().unwrap().into_data()
    };
    assert_eq!(bias(&adapted), bias(&model(&case("base"))));
    // Before PEFT 0.6, layers had no base_layer.
    let old = changed("bias_lora_only", |all| {
        *all = std::mem::take(all)
            .into_iter()
            .map(|(key, data)| (key.replace("base_layer.bias", "bias"), data))
            .collect();
    });
    assert_eq!(
        bias(&load(old.path()).unwrap()),
        bias(&load(&case("bias_lora_only")).unwrap())
    );
    for lost in [
        "h.1.attn.c_attn.base_layer.bias",
        "h.1.attn.c_attn.lora_A.weight",
    ] {
        let broken = changed("bias_lora_only", |all| {
            all.remove(&format!("base_model.model.transformer.{lost}"));
        });
        let error = load(broken.path()).unwrap_err().to_string();
        assert!(
            error.contains("1 is missing") && error.contains(lost),
            "{error}"
        );
    }
}

/// The commands take such an adapter, and its loss is right.
#[test]
fn a_grown_vocabulary_works_in_the_commands() {
    let lab = Lab::with_adapter();
    let file = "out/adapter_model.safetensors";
    let mut all = read_tensors(&lab.path(file)).unwrap();
    let (shape, mut values) = lab.floats("model/model.safetensors", "transformer.wte.weight");
    values.extend_from_within(..2 * shape[1]);
    let grown = TensorData::new(values, [shape[0] + 2, shape[1]]);
    for path in ["transformer.wte", "lm_head"] {
        all.insert(format!("base_model.model.{path}.weight"), grown.clone());
    }
    burn_peft::tensor_file::write_tensors(&lab.path(file), all.into_iter().collect()).unwrap();
    let adapter = ["--model", "model", "--adapter", "out"];
    let expected = lab.loss("train.jsonl", &adapter);
    lab.ok(&[&["generate"][..], &adapter, &["--prompt", "the cat"]].concat());
    lab.ok(&[&["merge"][..], &adapter, &["--output", "merged"]].concat());
    let merged = lab.loss("train.jsonl", &["--model", "merged"]);
    assert!((merged - expected).abs() < 1e-4);
    let rows = lab.json("merged/config.json")["vocab_size"].clone();
    assert_eq!(rows, lab.vocab_size + 2);
    assert!(fs::exists(lab.path("merged/tokenizer.json")).unwrap());
}

#[test]
fn a_converted_adapter_has_the_embeddings_that_the_adapter_has() {
    // The exact change has no more than these ranks.
    for name in ["targeted", "grown", "shrunk", "grown_head", "grown_dora"] {
        let case = case(name);
        let converted = load(&case).unwrap().convert_to_lora("default", 8);
        let converted = converted.unwrap_or_else(|error| panic!("{name}: {error}"));
        let folder = tempfile::tempdir().unwrap();
        write_adapter(folder.path(), &converted.config, converted.tensors).unwrap();
        let found = logits(&load(folder.path()).unwrap(), &case);
        assert_close(&case, "converted", &found, &expected(&case, "logits"));
    }
}
