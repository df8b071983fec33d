//! Classifiers, compared with transformers and PEFT (`fixtures/classify`, made by `carry.py`
//! there). A case is a base with its head, an adapter with a trained copy of the head, and what
//! both compute.
//!
//! `BURN_PEFT_CLASSIFY` names another folder of the same form, whose cases may lack PEFT's printed
//! output.

mod asking;
mod embed_losses;
mod embed_minilm;
mod embed_runs;
mod embeddings;
mod output;
mod sentiment;
mod tagging;
mod training;
mod weights;

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::{Int, Tensor, TensorData};
use burn_peft::{PeftModel, files, tensor_file};
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{AutoConfig, AutoModel, CausalLm, ModelInput, Pretrained};
use serde_json::Value;

use crate::common::{Lab, case_names, device};
use crate::conformance::{fixtures, ints};
use crate::families::{close, numbers};

pub struct Case {
    pub name: String,
    pub base: PathBuf,
    pub folder: PathBuf,
}

impl Case {
    pub fn model(&self) -> AutoModel {
        let base = ModelFiles::folder(&self.base);
        AutoModel::from_files(&base, &device()).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn adapted(&self) -> PeftModel<AutoModel> {
        PeftModel::from_pretrained(self.model(), &self.folder, true).unwrap()
    }

    pub fn expected(&self, name: &str) -> Vec<f32> {
        let file = self.folder.join("expected.safetensors");
        let tensors = tensor_file::read_tensors(&file).unwrap();
        tensors.get(name).expect(name).try_to_vec().unwrap()
    }

    fn text(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.folder.join(name)).ok()
    }

    /// Compares the printed tree and the counts, if the case has them.
    fn is_shown_as_by_peft(&self, model: &PeftModel<AutoModel>) -> Result<(), String> {
        if let Some(printed) = self.text("printed.txt") {
            let tree = format!("{}\n", model.tree());
            if tree != printed {
                return Err(format!("printed as\n{tree}in place of\n{printed}"));
            }
        }
        if let Some(counts) = self.text("counts.json") {
            let counts: Value = serde_json::from_str(&counts).unwrap();
            let (trainable, total) = model.get_nb_trainable_parameters();
            let found = serde_json::json!({"trainable": trainable, "total": total});
            if found != counts {
                return Err(format!("{found} in place of {counts}"));
            }
        }
        Ok(())
    }

    /// Logits as transformers returns them: one row per text for a classifier of texts.
    fn logits(&self, model: &impl CausalLm) -> Vec<f32> {
        let (ids, shape) = ints(&self.folder, "input_ids");
        let (mask, _) = ints(&self.folder, "attention_mask");
        let tensor =
            |values| Tensor::<2, Int>::from_data(TensorData::new(values, shape), &device());
        let input = ModelInput {
            attention_mask: Some(tensor(mask)),
            ..ModelInput::new(tensor(ids.clone()))
        };
        let logits = numbers(model.forward(input));
        let head = model.head();
        if head.task == burn_peft::config::TaskType::TokenCls {
            return logits;
        }
        let row = shape[1] * head.num_labels();
        let rows = ids.chunks(shape[1]).zip(logits.chunks(row));
        let of_row = |(ids, logits): (&[i64], &[f32])| {
            let labels = head.num_labels();
            let at = head.judged_token(ids) * labels;
            logits[at..at + labels].to_vec()
        };
        rows.flat_map(of_row).collect()
    }
}

fn root() -> PathBuf {
    std::env::var_os("BURN_PEFT_CLASSIFY").map_or_else(|| fixtures().join("classify"), Into::into)
}

/// The cases of supported families, or those that `CASE` names: those with a head, or those without
/// one.
fn cases(has: bool) -> Vec<Case> {
    let names = case_names(&root().join("cases"), "CASE");
    let case = |name: String| Case {
        base: root().join("base").join(&name),
        folder: root().join("cases").join(&name),
        name,
    };
    let cases = names.into_iter().map(case);
    let is_known = |case: &Case| AutoConfig::from_file(case.base.join("config.json")).is_ok();
    let has_head = |case: &Case| !case.name.ends_with("_embed");
    let (with_head, without): (Vec<Case>, Vec<Case>) = cases.filter(is_known).partition(has_head);
    let cases = if has { with_head } else { without };
    let least = if has { 5 } else { 1 };
    assert!(cases.len() >= least || std::env::var("CASE").is_ok());
    cases
}

fn each(check: impl Fn(&Case) -> Result<(), String>) {
    each_of(cases(true), check);
}

fn each_of(cases: Vec<Case>, check: impl Fn(&Case) -> Result<(), String>) {
    let failed = cases.into_iter().filter_map(|case| {
        let reason = check(&case).err()?;
        Some(format!("{}: {reason}", case.name))
    });
    let failed: Vec<_> = failed.collect();
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

#[test]
fn logits_of_a_classifier_and_merged() {
    each(|case| {
        let model = case.adapted();
        close("logits", &case.logits(&model), &case.expected("logits"))?;
        let merged = model.merge_and_unload(true).unwrap();
        let found = case.logits(&merged);
        close("merged_logits", &found, &case.expected("merged_logits"))?;
        // A merged model is saved as a classifier, which can be read again.
        let folder = tempfile::tempdir().unwrap();
        merged.save_pretrained(folder.path()).unwrap();
        let read = AutoModel::from_files(&ModelFiles::folder(folder.path()), &device()).unwrap();
        close(
            "saved",
            &case.logits(&read),
            &case.expected("merged_logits"),
        )
    });
}

#[test]
fn a_classifier_is_exported_as_a_folder_and_not_as_gguf() {
    each(|case| {
        if case.name.starts_with("gpt2") {
            return Ok(());
        }
        // The base is opened as a language model, which then gets the adapter's head.
        let lab = Lab::new();
        fs::create_dir(lab.path("base")).unwrap();
        for entry in fs::read_dir(&case.base).unwrap() {
            let entry = entry.unwrap();
            let name = format!("base/{}", entry.file_name().to_str().unwrap());
            lab.write(&name, fs::read(entry.path()).unwrap());
        }
        let config = lab.text("base/config.json");
        let config = config
            .replace("ForSequenceClassification", "ForCausalLM")
            .replace("ForTokenClassification", "ForCausalLM");
        lab.write("base/config.json", config);
        let adapter = case.folder.to_str().unwrap();
        let export = [
            "export",
            "--model",
            "base",
            "--adapter",
            adapter,
            "--output",
        ];
        let named = ["classifier", "--to safetensors"];
        lab.fails(&[&export[..], &["a.gguf"]].concat(), &named);
        lab.fails(&[&export[..], &["a.gguf", "--lora"]].concat(), &named);
        lab.ok(&[&export[..], &["out", "--to", "safetensors"]].concat());
        let folder = ModelFiles::folder(lab.path("out"));
        let read = AutoModel::from_files(&folder, &device()).unwrap();
        close(
            "exported",
            &case.logits(&read),
            &case.expected("merged_logits"),
        )
    });
}

#[test]
fn files_of_a_classifier_are_written_back_as_they_were() {
    each(|case| {
        let folder = tempfile::tempdir().unwrap();
        case.adapted().save_pretrained(folder.path()).unwrap();
        let bytes = |path: &Path, name: &str| fs::read(path.join(name)).unwrap();
        for name in [files::WEIGHTS_NAME, files::CONFIG_NAME] {
            if bytes(folder.path(), name) != bytes(&case.folder, name) {
                return Err(format!("{name} differs"));
            }
        }
        case.model().save_pretrained(folder.path()).unwrap();
        let config =
            |path: &Path| -> Value { serde_json::from_slice(&bytes(path, "config.json")).unwrap() };
        if config(folder.path()) != config(&case.base) {
            return Err("config.json differs".into());
        }
        Ok(())
    });
}

#[test]
fn a_classifier_is_printed_and_counted_as_by_peft() {
    each(|case| {
        let model = case.adapted();
        case.is_shown_as_by_peft(&model)
    });
}
