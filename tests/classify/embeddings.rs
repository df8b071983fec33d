//! Models without a head: hidden states and embeddings, compared with transformers and PEFT.

use std::fs;
use std::path::Path;

use burn_peft::{PeftModel, files};
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{AutoModel, Pretrained, WantedHead, weights::Reading};
use serde_json::Value;

use super::{Case, cases, each_of};
use crate::common::{Lab, device};
use crate::families::close;

fn each(check: impl Fn(&Case) -> Result<(), String>) {
    each_of(cases(false), check);
}

/// The model without its head, also if the head is tied to the embedding.
fn headless(folder: &Path) -> AutoModel {
    let files = ModelFiles::folder(folder);
    AutoModel::with_head(&files, &device(), Reading::Now, &WantedHead::none()).unwrap()
}

#[test]
fn hidden_states_and_embeddings_are_transformers() {
    each(|case| {
        let (base, adapter) = (
            case.base.display().to_string(),
            case.folder.display().to_string(),
        );
        let inputs = case.folder.join("inputs.safetensors").display().to_string();
        let lab = Lab::new();
        let forward = |more: &[&str]| {
            let args = [
                "forward",
                "--model",
                &base,
                "--adapter",
                &adapter,
                "--input",
                &inputs,
            ];
            lab.ok(&[&args[..], &["--output", "out.safetensors"], more].concat());
        };
        let hidden = |name: &str| {
            let (_, found) = lab.floats("out.safetensors", "last_hidden_state");
            close(name, &found, &case.expected("last_hidden_state"))
        };
        forward(&[]);
        hidden("last_hidden_state")?;
        for more in [
            &["--pooling", "mean", "--normalize"][..],
            &["--pooling", "mean", "--normalize", "--merge"],
        ] {
            forward(more);
            hidden("last_hidden_state")?;
            let (shape, found) = lab.floats("out.safetensors", "embeddings");
            assert_eq!(shape.len(), 2);
            close("embeddings", &found, &case.expected("mean_embeddings"))?;
        }
        Ok(())
    });
}

#[test]
fn files_of_an_embedder_are_written_back_as_they_were() {
    each(|case| {
        let model = PeftModel::from_pretrained(headless(&case.base), &case.folder, true).unwrap();
        case.is_shown_as_by_peft(&model)?;
        let folder = tempfile::tempdir().unwrap();
        let bytes = |path: &Path, name: &str| fs::read(path.join(name)).unwrap();
        model.save_pretrained(folder.path()).unwrap();
        for name in [files::WEIGHTS_NAME, files::CONFIG_NAME] {
            if bytes(folder.path(), name) != bytes(&case.folder, name) {
                return Err(format!("{name} differs"));
            }
        }
        headless(&case.base).save_pretrained(folder.path()).unwrap();
        for name in ["config.json", "model.safetensors"] {
            let json =
                |path: &Path| -> Value { serde_json::from_slice(&bytes(path, name)).unwrap() };
            let same = match name {
                "config.json" => json(folder.path()) == json(&case.base),
                _ => tensors(folder.path()) == tensors(&case.base),
            };
            if !same {
                return Err(format!("{name} differs"));
            }
        }
        Ok(())
    });
}

/// The names and values of a model's weights.
fn tensors(folder: &Path) -> Vec<(String, Vec<f32>)> {
    let tensors = burn_peft::tensor_file::read_tensors(&folder.join("model.safetensors")).unwrap();
    let mut all: Vec<_> = tensors
        .into_iter()
        .map(|(name, data)| (name, data.iter::<f32>().collect()))
        .collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}
