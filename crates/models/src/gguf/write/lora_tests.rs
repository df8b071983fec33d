use std::path::{Path, PathBuf};

use burn::tensor::{Device, FloatDType};
use burn_peft::PeftModel;
use serde_json::{Value, json};

use super::{GgufAdapter, GgufModel, OutType};
use crate::gguf::Gguf;
use crate::hub::ModelFiles;
use crate::weights::{self, MergedWeights, NamedTensor, SaveOptions, save_model};
use crate::{AutoModel, Pretrained, Result};

fn fixtures() -> PathBuf {
    concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/conformance"
    )
    .into()
}

fn f32() -> OutType {
    OutType::of(FloatDType::F32)
}

/// A conformance case: its model's files, and the model with its adapter.
fn case(name: &str) -> (ModelFiles, PeftModel<AutoModel>, PathBuf) {
    let (family, _) = name.split_once('_').unwrap();
    let files = ModelFiles::folder(fixtures().join(format!("base-{family}")));
    let base = AutoModel::from_files_lazily(&files, &Device::flex(), None).unwrap();
    let folder = fixtures().join("cases").join(name);
    let model = PeftModel::from_pretrained(base, &folder, false).unwrap();
    (files, model, folder)
}

fn write_adapter(name: &str, path: &Path) -> Result<()> {
    let (files, model, folder) = case(name);
    write_of(&files, &model, &folder, path)
}

fn write_of(
    files: &ModelFiles,
    model: &PeftModel<AutoModel>,
    folder: &Path,
    path: &Path,
) -> Result<()> {
    let weights = weights::open(files)?;
    let adapter = GgufAdapter {
        model,
        weights: weights.as_ref(),
        folder,
        keys: Vec::new(),
    };
    adapter.write(path, path, f32()).map(drop)
}

fn write_model(weights: &MergedWeights, path: &Path) {
    let config = &weights.config();
    let model = GgufModel {
        config,
        weights,
        keys: Vec::new(),
    };
    model.write(path, path, f32(), &mut |_| ()).unwrap();
}

/// llama.cpp's sum of a base tensor and an adapter's tensors is the merged tensor.
#[test]
fn the_adapter_on_the_base_is_the_merged_model() {
    for name in [
        "gpt2_lora",
        "gpt2_lora_all_linear",
        "gpt2_lora_rslora",
        "llama_lora",
        "llama_lora_all_linear",
        "llama_lora_rslora",
    ] {
        let (files, model, folder) = case(name);
        assert_is_merged(name, &files, &model, &folder);
    }
}

/// If a layer's alpha differs by a power of two, B contains the factor.
#[test]
fn powers_of_two_of_alpha_are_in_b() {
    let (files, _, folder) = case("gpt2_lora");
    let changed = tempfile::tempdir().unwrap();
    for file in ["adapter_config.json", "adapter_model.safetensors"] {
        std::fs::copy(folder.join(file), changed.path().join(file)).unwrap();
    }
    let path = changed.path().join("adapter_config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let alpha = config["lora_alpha"].as_f64().unwrap();
    config["alpha_pattern"] = json!({"h.1.attn.c_attn": alpha / 4.0});
    std::fs::write(&path, config.to_string()).unwrap();
    let base = AutoModel::from_files_lazily(&files, &Device::flex(), None).unwrap();
    let model = PeftModel::from_pretrained(base, changed.path(), false).unwrap();
    assert_is_merged("alpha_pattern", &files, &model, changed.path());
}

fn assert_is_merged(name: &str, files: &ModelFiles, model: &PeftModel<AutoModel>, from: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    write_of(files, model, from, &path("adapter.gguf")).unwrap();
    let open = || weights::open(files).unwrap();
    write_model(
        &MergedWeights::new(open(), model).unwrap(),
        &path("merged.gguf"),
    );
    let plain = AutoModel::from_files_lazily(files, &Device::flex(), None).unwrap();
    write_model(
        &MergedWeights::plain(open(), plain).unwrap(),
        &path("base.gguf"),
    );
    let open = |name: &str| Gguf::open(path(name)).unwrap();
    let (base, adapter, merged) = (open("base.gguf"), open("adapter.gguf"), open("merged.gguf"));
    assert_eq!(adapter.text("adapter.type").unwrap(), Some("lora"));
    assert_eq!(adapter.text("general.type").unwrap(), Some("adapter"));
    let alpha = adapter.number("adapter.lora.alpha").unwrap().unwrap();
    let (mut pairs, mut changed) = (0, 0);
    for (tensor, info) in &merged.tensors {
        let mut expected = base.values(tensor).unwrap();
        let found = merged.values(tensor).unwrap();
        changed += usize::from(expected != found);
        let (a, b) = (format!("{tensor}.lora_a"), format!("{tensor}.lora_b"));
        if let (Some(of_a), Some(of_b)) = (adapter.tensors.get(&a), adapter.tensors.get(&b)) {
            let ([rank, width], [rows, of_b]) = (&of_a.shape[..], &of_b.shape[..]) else {
                panic!("{name}: {tensor}");
            };
            assert_eq!((rank, &info.shape[..]), (of_b, &[*rows, *width][..]));
            let (a, b) = (adapter.values(&a).unwrap(), adapter.values(&b).unwrap());
            for (place, value) in expected.iter_mut().enumerate() {
                let (row, column) = (place / width, place % width);
                let product = (0..*rank).map(|at| b[row * rank + at] * a[at * width + column]);
                *value += (alpha / *rank as f64) as f32 * product.sum::<f32>();
            }
            pairs += 1;
        }
        let off = expected.iter().zip(&found).map(|(a, b)| (a - b).abs());
        let off = off.fold(0.0, f32::max);
        assert!(off < 1e-6, "{name}: {tensor}: {off}");
    }
    assert_eq!(2 * pairs, adapter.tensors.len(), "{name}");
    assert_eq!(pairs, changed, "{name}");
}

/// GPT-2's published files lack the first part of all names.
#[test]
fn names_in_the_files_are_no_matter() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (files, _, adapter) = case("gpt2_lora_all_linear");
    let named = weights::open(&files).unwrap();
    let bare = named.names().map(|name| {
        let bare = name.strip_prefix("transformer.").unwrap();
        NamedTensor::new(bare, named.shape(name).unwrap(), || named.tensor(name))
    });
    let config = std::fs::read_to_string(files.get("config.json").unwrap()).unwrap();
    save_model(&path("bare"), &config, bare, &SaveOptions::default()).unwrap();
    write_adapter("gpt2_lora_all_linear", &path("named.gguf")).unwrap();
    let files = ModelFiles::folder(path("bare"));
    let base = AutoModel::from_files_lazily(&files, &Device::flex(), None).unwrap();
    let model = PeftModel::from_pretrained(base, &adapter, false).unwrap();
    write_of(&files, &model, &adapter, &path("bare.gguf")).unwrap();
    let bytes = |name: &str| std::fs::read(path(name)).unwrap();
    assert!(bytes("bare.gguf") == bytes("named.gguf"));
}

#[test]
fn what_such_a_file_cannot_hold_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    for (name, named) in [
        ("gpt2_lora_dora", "use_dora = true"),
        ("gpt2_lora_bias_all", "bias = \"all\""),
        ("gpt2_lora_bias_lora", "lora_bias = true"),
        ("gpt2_lora_embedding", "embedding"),
        ("gpt2_lora_modules_to_save", "modules_to_save"),
        ("gpt2_lora_trainable_tokens", "transformer.wte"),
        ("gpt2_lora_patterns", "_pattern"),
        ("gpt2_ia3", "peft_type = \"IA3\""),
        ("gpt2_prefix_tuning", "peft_type = \"PREFIX_TUNING\""),
        ("llama_oft", "peft_type = \"OFT\""),
    ] {
        let error = write_adapter(name, &folder.path().join("a.gguf"));
        let error = error.expect_err(name).to_string();
        assert!(error.contains(named), "{name}: {error}");
        let way_out = match name {
            // It acts at the model, and merging needs a weight.
            "gpt2_prefix_tuning" => "neither alone nor merged",
            _ => "without --lora",
        };
        assert!(error.contains(way_out), "{name}: {error}");
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            0,
            "{name}"
        );
    }
}
