//! A tiny model of each family, compared with transformers and PEFT (`fixtures/families`), as in
//! `conformance.rs` for GPT-2: a base, an adapter on all linear layers, and what both compute.
//!
//! `BURN_PEFT_FAMILIES` names another folder of the same form.

mod decoding;
mod folders;
mod sharing;
mod training;

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{Int, Tensor, TensorData};
use burn_peft::{Adaptable, PeftModel, PrefixTuningConfig, files, tensor_file};
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{
    AutoConfig, AutoModel, CausalLm, GenerationConfig, LmBatch, ModelInput, Pretrained, generate,
    generate_rows, position_ids,
};
use serde_json::Value;

use crate::common::{case_names, device};
use crate::conformance::{batch, fixtures, ints, without_dropout};

pub const TOLERANCE: f32 = 1e-4;

/// Families that are not supported yet. The error names them.
pub const LATER: [&str; 4] = ["lfm2", "qwen3_5_text", "qwen3_moe", "gemma4_text"];

pub struct Case {
    pub name: String,
    pub base: PathBuf,
    pub folder: PathBuf,
}

impl Case {
    pub fn expected(&self, name: &str) -> Vec<f32> {
        self.expected_if(name).expect(name)
    }

    /// Values that another folder of the same form may lack.
    pub fn expected_if(&self, name: &str) -> Option<Vec<f32>> {
        let file = self.folder.join("expected.safetensors");
        let tensors = tensor_file::read_tensors(&file).unwrap();
        tensors.get(name).map(|data| data.try_to_vec().unwrap())
    }

    pub fn config(&self) -> Value {
        let text = fs::read_to_string(self.base.join("config.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    pub fn rope_type(&self) -> String {
        let name = &self.config()["rope_parameters"]["rope_type"];
        name.as_str().unwrap_or_default().to_string()
    }

    pub fn model(&self) -> AutoModel {
        let base = ModelFiles::folder(&self.base);
        AutoModel::from_files(&base, &device()).unwrap_or_else(|error| panic!("{error}"))
    }

    pub fn adapted(&self) -> PeftModel<AutoModel> {
        PeftModel::from_pretrained(self.model(), &self.folder, true).unwrap()
    }

    pub fn left(&self) -> ModelInput {
        let tensor = |name: &str| {
            let (values, shape) = ints(&self.folder, name);
            Tensor::<2, Int>::from_data(TensorData::new(values, shape), &device())
        };
        let mask = tensor("left_attention_mask");
        ModelInput {
            position_ids: Some(position_ids(mask.clone())),
            attention_mask: Some(mask),
            ..ModelInput::new(tensor("left_input_ids"))
        }
    }

    /// The rows that are padded on the left, without their padding.
    pub fn prompts(&self) -> Vec<Vec<u32>> {
        let (ids, [_, seq]) = ints(&self.folder, "left_input_ids");
        let (mask, _) = ints(&self.folder, "left_attention_mask");
        let rows = ids.chunks(seq).zip(mask.chunks(seq));
        let tokens = |(ids, mask): (&[i64], &[i64])| {
            let tokens = ids.iter().zip(mask).filter(|(_, mask)| **mask == 1);
            tokens.map(|(&id, _)| id as u32).collect()
        };
        rows.map(tokens).collect()
    }
}

pub fn root() -> PathBuf {
    std::env::var_os("BURN_PEFT_FAMILIES").map_or_else(|| fixtures().join("families"), Into::into)
}

/// The cases, or those that `FAMILY` names.
pub fn all_cases() -> Vec<Case> {
    let names = case_names(&root().join("cases"), "FAMILY");
    let case = |name: String| Case {
        base: root().join("base").join(&name),
        folder: root().join("cases").join(&name),
        name,
    };
    names.into_iter().map(case).collect()
}

/// Runs a check on every case of a supported family, and reports all that fail.
pub fn each(check: impl Fn(&Case) -> Result<(), String>) {
    let mut failed = Vec::new();
    for case in all_cases() {
        let family = case.config()["model_type"].as_str().unwrap().to_string();
        if LATER.contains(&family.as_str()) {
            continue;
        }
        if let Err(reason) = AutoConfig::from_file(case.base.join("config.json")) {
            failed.push(format!("{}: {reason}", case.name));
            continue;
        }
        if let Err(reason) = check(&case) {
            failed.push(format!("{}: {reason}", case.name));
        }
    }
    assert!(failed.is_empty(), "\n{}", failed.join("\n"));
}

pub fn close(what: &str, found: &[f32], expected: &[f32]) -> Result<(), String> {
    // The fixtures have only some of the columns.
    let step = found.len().div_ceil(expected.len());
    let found: Vec<f32> = found.iter().copied().step_by(step).collect();
    if found.len() != expected.len() {
        let (found, expected) = (found.len(), expected.len());
        return Err(format!("{what}: {found} numbers in place of {expected}"));
    }
    let far = |(a, b): &(&f32, &f32)| {
        let near = (*a - *b).abs() <= TOLERANCE * b.abs().max(1.0);
        !near
    };
    let pairs = || found.iter().zip(expected);
    match pairs().enumerate().find(|(_, pair)| far(pair)) {
        None => Ok(()),
        Some((at, (a, b))) => {
            let off = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            Err(format!(
                "{what}[{at}] is {a} in place of {b}; at most {off} off"
            ))
        }
    }
}

/// Compares the logits of tokens only. Those of padding may differ.
pub fn close_at_tokens(
    what: &str,
    mask: (Vec<i64>, [usize; 2]),
    found: &[f32],
    expected: &[f32],
) -> Result<(), String> {
    let (there, here) = (expected.len() / mask.0.len(), found.len() / mask.0.len());
    for at in (0..mask.0.len()).filter(|&at| mask.0[at] != 0) {
        let expected = &expected[at * there..(at + 1) * there];
        let found = &found[at * here..(at + 1) * here];
        close(&format!("{what} of token {at}"), found, expected)?;
    }
    Ok(())
}

pub fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.without_autodiff().into_data().try_to_vec().unwrap()
}

pub fn logits(model: &impl CausalLm, case: &Case) -> Vec<f32> {
    numbers(model.forward(batch(&case.folder).input))
}

#[test]
fn logits_with_without_and_merged() {
    each(|case| {
        let check = |what: &str, name: &str, found: Vec<f32>| {
            let mask = ints(&case.folder, "attention_mask");
            close_at_tokens(what, mask, &found, &case.expected(name))
        };
        let mut model = case.adapted();
        check("logits", "logits", logits(&model, case))?;
        let training = without_dropout(model.clone().train());
        check("logits in training", "logits", logits(&training, case))?;
        let base = model.disable_adapter(|model| logits(model, case));
        check("base_logits", "base_logits", base)?;
        model.merge_adapter(true).unwrap();
        check("merged_logits", "merged_logits", logits(&model, case))
    });
}

#[test]
fn rows_padded_on_the_left() {
    each(|case| {
        let mask = ints(&case.folder, "left_attention_mask");
        let found = numbers(case.adapted().forward(case.left()));
        close_at_tokens("left_logits", mask, &found, &case.expected("left_logits"))
    });
}
