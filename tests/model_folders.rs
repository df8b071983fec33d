//! Model folders with shards and in types of 16 bits, read and written as transformers does.

use std::fs;
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::{FloatDType, TensorData};
use burn_peft::tensor_file::write_tensors;
use burn_peft_models::weights::{SaveOptions, WeightsError};
use burn_peft_models::{AutoModel, ConfigError, Decoder, GPT2LMHeadModel, ModelError, Pretrained};
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::common::{Lab, MERGE, device};
use crate::conformance::fixtures;

/// The fixtures were written by transformers with `max_shard_size="1KB"`.
fn shards_of_1_kb(dtype: FloatDType) -> SaveOptions {
    SaveOptions {
        dtype,
        max_shard_size: 1000,
        ..SaveOptions::default()
    }
}

fn folder(dtype: &str) -> PathBuf {
    fixtures().join("shards").join(dtype)
}

fn load(folder: &Path) -> GPT2LMHeadModel {
    GPT2LMHeadModel::from_pretrained(folder.to_str().unwrap(), &device()).unwrap()
}

/// The files of a folder, sorted by name, with their bytes.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let paths = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = paths
        .map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_string();
            (name, fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn assert_same_files(found: &Path, expected: &Path) {
    let (found, expected) = (files(found), files(expected));
    let names = |files: &[(String, Vec<u8>)]| -> Vec<String> {
        files.iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(names(&found), names(&expected));
    for ((name, found), (_, expected)) in found.iter().zip(&expected) {
        // Python writes 1e-05 where others write 0.00001.
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        if name == "config.json" {
            assert_eq!(json(found), json(expected));
        } else {
            assert!(found == expected, "{name} differs");
        }
    }
}

/// Shards, index and config.json, from the same type and from 32 bits.
#[test]
fn shards_are_those_of_transformers_byte_for_byte() {
    let types = [
        ("float32", FloatDType::F32),
        ("bfloat16", FloatDType::BF16),
        ("float16", FloatDType::F16),
    ];
    for (name, dtype) in types {
        for from in [name, "float32"] {
            let written = tempfile::tempdir().unwrap();
            let model = load(&folder(from));
            model
                .save_with(written.path(), &shards_of_1_kb(dtype))
                .unwrap();
            assert_same_files(written.path(), &folder(name));
        }
    }
}

#[test]
fn a_model_is_saved_in_the_type_it_was_read_from() {
    for name in ["float32", "bfloat16", "float16"] {
        let written = tempfile::tempdir().unwrap();
        let model = AutoModel::from_pretrained(folder(name).to_str().unwrap(), &device()).unwrap();
        model.save_pretrained(written.path()).unwrap();
        assert_eq!(
            types(&written.path().join("model.safetensors")),
            [type_of(name)]
        );
        let read = |folder: &Path| -> Value {
            serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap()
        };
        assert_eq!(read(written.path()), read(&folder(name)));
    }
}

fn type_of(name: &str) -> Dtype {
    match name {
        "float32" => Dtype::F32,
        "bfloat16" => Dtype::BF16,
        _ => Dtype::F16,
    }
}

/// The types of a file's tensors, each once.
fn types(file: &Path) -> Vec<Dtype> {
    let bytes = fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut types: Vec<_> = tensors.iter().map(|(_, view)| view.dtype()).collect();
    types.dedup();
    types
}

/// Old files have to go, since transformers and this crate prefer a single file to an index.
#[test]
fn weights_that_were_there_before_are_replaced() {
    let (one, other) = (
        load(&folder("float32")),
        load(&fixtures().join("parity/model")),
    );
    let written = tempfile::tempdir().unwrap();
    let names = || -> Vec<String> {
        files(written.path())
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    };
    other.save_pretrained(written.path()).unwrap();
    fs::write(written.path().join("model-notes.safetensors"), "mine").unwrap();
    one.save_with(written.path(), &shards_of_1_kb(FloatDType::F32))
        .unwrap();
    assert!(!names().contains(&"model.safetensors".to_string()));
    assert_eq!(load(written.path()).config(), one.config());
    other.save_pretrained(written.path()).unwrap();
    assert_eq!(
        names(),
        [
            "config.json",
            "model-notes.safetensors",
            "model.safetensors"
        ]
    );
}

/// The largest float16 is 65504.
#[test]
fn what_has_left_the_range_of_float16_is_saved_in_32_bits() {
    let mut model = load(&folder("float16"));
    let weight = &mut model.transformer.wte.base_layer.weight;
    *weight = Param::from_tensor(weight.val() * 1e6);
    let written = tempfile::tempdir().unwrap();
    let error = model.save_with(written.path(), &shards_of_1_kb(FloatDType::F16));
    let error = error.unwrap_err().to_string();
    assert!(
        error.contains("`transformer.wte.weight` holds") && error.contains("65504"),
        "{error}"
    );
    assert!(files(written.path()).is_empty());
    model.save_pretrained(written.path()).unwrap();
    assert_eq!(
        types(&written.path().join("model.safetensors")),
        [Dtype::F32]
    );
    let config = fs::read_to_string(written.path().join("config.json")).unwrap();
    assert!(config.contains(r#""dtype": "float32""#), "{config}");
}

/// A lab whose model is stored in shards of bfloat16.
fn lab_in_bfloat16() -> Lab {
    let lab = Lab::new();
    let model = AutoModel::from_pretrained(lab.path("model").to_str().unwrap(), &device()).unwrap();
    model
        .save_with(lab.path("model"), &shards_of_1_kb(FloatDType::BF16))
        .unwrap();
    assert!(
        !lab.names("model")
            .contains(&"model.safetensors".to_string())
    );
    lab
}

/// A checkpoint has the trained weights exactly, in 32 bits. The result has the type of the base.
#[test]
fn training_all_weights_of_a_bfloat16_model_gives_one() {
    let lab = lab_in_bfloat16();
    let full = [
        "--set",
        "peft.peft_type=NONE",
        "--set",
        "training.save_steps=2",
    ];
    let run = |output: &str, more: &[&str]| {
        let output = format!("training.output_dir={output}");
        lab.ok(&[&["train", "train.toml", "--set", &output][..], &full, more].concat())
    };
    let out = run("whole", &[]);
    assert!(out.contains("whole/model.safetensors ("), "{out}");
    assert_eq!(types(&lab.path("whole/model.safetensors")), [Dtype::BF16]);
    assert_eq!(lab.json("whole/config.json")["dtype"], json!("bfloat16"));
    let checkpoint = "whole/checkpoint-2";
    assert_eq!(
        types(&lab.path(&format!("{checkpoint}/model.safetensors"))),
        [Dtype::F32]
    );
    run("more", &["--resume", checkpoint]);
    for file in [
        "model.safetensors",
        "config.json",
        "checkpoint-3/model.safetensors",
    ] {
        let read = |folder: &str| lab.read(&format!("{folder}/{file}"));
        assert!(read("more") == read("whole"), "{file} differs");
    }
}

#[test]
fn a_bfloat16_model_is_merged_into_one() {
    let lab = lab_in_bfloat16();
    lab.ok(&["train", "train.toml"]);
    lab.ok(&MERGE);
    assert_eq!(types(&lab.path("merged/model.safetensors")), [Dtype::BF16]);
    assert_eq!(lab.json("merged/config.json")["dtype"], json!("bfloat16"));
    // Shards of an earlier model would never be read, but do not belong to this one.
    let index = lab.read("model/model.safetensors.index.json");
    lab.write("merged/model.safetensors.index.json", index);
    lab.ok(&[&MERGE[..], &["--force"]].concat());
    let names = lab.names("merged");
    assert_eq!(
        names,
        ["config.json", "model.safetensors", "tokenizer.json"]
    );
}

/// A program can decide what to do about an error by its variant, without looking at its text.
#[test]
fn errors_are_variants_that_a_caller_can_match() {
    let dir = tempfile::tempdir().unwrap();
    let error = || {
        let loaded = AutoModel::from_pretrained(dir.path().to_str().unwrap(), &device());
        loaded.unwrap_err()
    };
    let missing = error();
    assert!(
        matches!(&missing, ModelError::MissingFile { file, .. } if file == "config.json"),
        "{missing:?}"
    );
    let config = dir.path().join("config.json");
    fs::write(&config, r#"{"model_type": "mammoth"}"#).unwrap();
    let ModelError::Config { path, problem } = error() else {
        panic!("{:?}", error());
    };
    assert_eq!(path.as_deref(), Some(config.as_path()));
    assert!(
        matches!(&problem, ConfigError::Unsupported { model_type, .. } if model_type == "\"mammoth\""),
        "{problem:?}"
    );
    fs::copy(folder("float32").join("config.json"), &config).unwrap();
    let mut tensors = vec![("transformer.h.1.ln_1.weight".to_string(), data(&[1.0; 8]))];
    let save = |tensors: &Vec<(String, TensorData)>| {
        let tensors = tensors.iter().cloned();
        write_tensors(&dir.path().join("model.safetensors"), tensors.collect()).unwrap();
    };
    save(&tensors);
    let ModelError::Weights(WeightsError::Missing { name }) = error() else {
        panic!("{:?}", error());
    };
    assert_eq!(name, "transformer.wte.weight");
    tensors.push((name, data(&[0.0; 3])));
    save(&tensors);
    let ModelError::Weights(WeightsError::Shape {
        found, expected, ..
    }) = error()
    else {
        panic!("{:?}", error());
    };
    assert_eq!((found, expected), (vec![3], vec![24, 8]));
}

fn data(values: &[f32]) -> TensorData {
    TensorData::new(values.to_vec(), [values.len()])
}
