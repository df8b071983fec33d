//! What transformers and PEFT compute for a tiny model of each family (`fixtures/families`), as
//! `conformance.rs` has it for GPT-2: a base, an adapter on all linear layers, and what comes of them.
//!
//! `BURN_PEFT_FAMILIES` names another folder of the same form.

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
use burn_peft_train::{TrainingArguments, adamw};
use serde_json::Value;

use crate::common::device;
use crate::conformance::{batch, fixtures, ints, without_dropout};

const TOLERANCE: f32 = 1e-4;

/// What comes later: the error names the family.
const LATER: [&str; 4] = ["lfm2", "qwen3_5_text", "qwen3_moe", "gemma4_text"];

struct Case {
    name: String,
    base: PathBuf,
    folder: PathBuf,
}

impl Case {
    fn expected(&self, name: &str) -> Vec<f32> {
        self.expected_if(name).expect(name)
    }

    /// Numbers that other fixtures of this form may lack.
    fn expected_if(&self, name: &str) -> Option<Vec<f32>> {
        let file = self.folder.join("expected.safetensors");
        let tensors = tensor_file::read_tensors(&file).unwrap();
        tensors.get(name).map(|data| data.try_to_vec().unwrap())
    }

    fn config(&self) -> Value {
        let text = fs::read_to_string(self.base.join("config.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    fn rope_type(&self) -> String {
        let name = &self.config()["rope_parameters"]["rope_type"];
        name.as_str().unwrap_or_default().to_string()
    }

    fn model(&self) -> AutoModel {
        let base = ModelFiles::folder(&self.base);
        AutoModel::from_files(&base, &device()).unwrap_or_else(|error| panic!("{error}"))
    }

    fn adapted(&self) -> PeftModel<AutoModel> {
        PeftModel::from_pretrained(self.model(), &self.folder, true).unwrap()
    }

    fn left(&self) -> ModelInput {
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
    fn prompts(&self) -> Vec<Vec<u32>> {
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

fn root() -> PathBuf {
    std::env::var_os("BURN_PEFT_FAMILIES").map_or_else(|| fixtures().join("families"), Into::into)
}

/// The cases, or those that `FAMILY` names.
fn all_cases() -> Vec<Case> {
    let mut names: Vec<_> = fs::read_dir(root().join("cases"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    if let Ok(only) = std::env::var("FAMILY") {
        names.retain(|name| only.split(',').any(|part| part == name));
    }
    let case = |name: String| Case {
        base: root().join("base").join(&name),
        folder: root().join("cases").join(&name),
        name,
    };
    names.into_iter().map(case).collect()
}

/// Runs a check on every case of a family that is supported, and tells of all that fail.
fn each(check: impl Fn(&Case) -> Result<(), String>) {
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

fn close(what: &str, found: &[f32], expected: &[f32]) -> Result<(), String> {
    // The fixtures hold some of the columns only.
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

/// Compares the logits of tokens; padding sees what it may, where windows are.
fn close_at_tokens(
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

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.without_autodiff().into_data().try_to_vec().unwrap()
}

fn logits(model: &impl CausalLm, case: &Case) -> Vec<f32> {
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

#[test]
fn gradients_and_eight_training_losses() {
    each(|case| {
        let mut model = without_dropout(case.adapted().train());
        let batch = batch(&case.folder);
        let arguments = TrainingArguments {
            weight_decay: 0.01,
            ..Default::default()
        };
        let mut optimizer = adamw(&arguments);
        let mut losses = Vec::new();
        for step in 0..8 {
            let loss = model.loss(&batch) / batch.count as f32;
            losses.push(loss.clone().inner().into_scalar::<f32>());
            let gradients = loss.backward();
            if step == 0 {
                let found = model.adapter_gradients("default", &gradients);
                assert!(!found.is_empty());
                for (key, gradient) in found {
                    let expected = case.expected(&format!("grad.{key}"));
                    let found: Vec<f32> = gradient.expect(&key).try_to_vec().unwrap();
                    close(&key, &found, &expected)?;
                }
            }
            let gradients = GradientsParams::from_grads(gradients, &model);
            model = optimizer.step(1e-3, model, gradients);
        }
        close("train_losses", &losses, &case.expected("train_losses"))
    });
}

#[test]
fn gradients_with_checkpoints_and_of_packed_rows() {
    each(|case| {
        let model = without_dropout(case.adapted().train());
        let batch = batch(&case.folder);
        let of = |gradients: GradientsParams| {
            let mut found = Vec::new();
            for parameter in model.named_parameters().iter().filter(|p| p.requires_grad) {
                let gradient = gradients.get::<2>(parameter.id);
                found.extend(gradient.into_iter().flat_map(numbers));
            }
            found
        };
        let loss = model.loss(&batch);
        let expected = of(GradientsParams::from_grads(loss.clone().backward(), &model));
        let checkpointed = model.checkpointed_backward(&batch, 1.0).unwrap();
        close("loss", &numbers(checkpointed.loss), &numbers(loss.clone()))?;
        close("gradients", &of(checkpointed.gradients), &expected)?;

        // The rows one after the other in a single one.
        let (ids, [_, seq]) = ints(&case.folder, "input_ids");
        let (mask, _) = ints(&case.folder, "attention_mask");
        let (labels, _) = ints(&case.folder, "labels");
        let kept: Vec<usize> = (0..ids.len()).filter(|&at| mask[at] != 0).collect();
        let pick = |values: &[i64]| kept.iter().map(|&at| values[at]).collect::<Vec<_>>();
        let texts: Vec<i64> = kept.iter().map(|at| (at / seq + 1) as i64).collect();
        let shape = [1, kept.len()];
        let packed = LmBatch::packed(&pick(&ids), &texts, &pick(&labels), shape, &device());
        let packed = model.loss(&packed.unwrap());
        close("packed", &numbers(packed), &numbers(loss))
    });
}

/// Keys that stand before all texts are seen by them as positions before their first, padded or
/// alone.
#[test]
fn a_prefix_before_padded_rows() {
    each(|case| {
        let config = PrefixTuningConfig::new(2);
        let model = PeftModel::new(case.model(), "default", Arc::new(config)).unwrap();
        let model = without_dropout(model.train());
        let [(ids, [rows, seq]), (mask, _), (labels, _)] =
            ["input_ids", "attention_mask", "labels"].map(|name| ints(&case.folder, name));
        let batch = |rows: std::ops::Range<usize>, seq_kept: usize| {
            let cut = |values: &[i64]| {
                let rows = values.chunks(seq).skip(rows.start).take(rows.len());
                rows.flat_map(|row| row[..seq_kept].to_vec())
                    .collect::<Vec<_>>()
            };
            let shape = [rows.len(), seq_kept];
            LmBatch::new(&cut(&ids), &cut(&mask), &cut(&labels), shape, &device()).unwrap()
        };
        let together = model.loss(&batch(0..rows, seq));
        let gradients = model.adapter_gradients("default", &together.clone().backward());
        for (key, gradient) in gradients {
            let gradient: Vec<f32> = gradient.expect(&key).try_to_vec().unwrap();
            if let Some(value) = gradient.iter().find(|value| !value.is_finite()) {
                return Err(format!("the gradient of {key} has {value}"));
            }
        }
        let alone = (0..rows).map(|row| {
            let length = mask[row * seq..(row + 1) * seq].iter().sum::<i64>();
            numbers(model.loss(&batch(row..row + 1, length as usize)))[0]
        });
        // Their frequencies are those of the longest row.
        if ["dynamic", "longrope"].contains(&case.rope_type().as_str()) {
            return Ok(());
        }
        close("loss", &numbers(together), &[alone.sum()])
    });
}

#[test]
fn greedy_decoding_with_a_cache() {
    each(|case| {
        let expected = case.expected("greedy");
        let prompts = case.prompts();
        let prompts: Vec<&[u32]> = prompts.iter().map(Vec::as_slice).collect();
        let settings = GenerationConfig {
            max_new_tokens: expected.len() / prompts.len(),
            ..GenerationConfig::default()
        };
        let go_on = &mut |_, _| ControlFlow::Continue(());
        let rows = generate_rows(&case.adapted(), &prompts, &settings, go_on);
        let rows = rows.unwrap().into_iter();
        let found: Vec<_> = rows.flat_map(|row| row.token_ids).collect();
        let found: Vec<_> = found.into_iter().map(|id| id as f32).collect();
        close("greedy", &found, &expected)
    });
}

#[test]
fn a_text_that_begins_short() {
    each(|case| {
        let (ids, _) = ints(&case.folder, "input_ids");
        let prompt: Vec<u32> = ids[..5].iter().map(|&id| id as u32).collect();
        let Some(expected) = case.expected_if("greedy_alone") else {
            return Ok(());
        };
        let config = GenerationConfig {
            max_new_tokens: expected.len(),
            ..Default::default()
        };
        let mut go_on = |_| ControlFlow::Continue(());
        let found = generate(&case.adapted(), &prompt, &config, &mut go_on).unwrap();
        let found: Vec<f32> = found.into_iter().map(|id| id as f32).collect();
        close("greedy_alone", &found, &expected)
    });
}

/// Every tensor of a folder, with its shape.
fn weights(folder: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut weights = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "safetensors") {
            for (name, data) in tensor_file::read_tensors(&path).unwrap() {
                let shape = data.shape().to_vec();
                weights.insert(name, (shape, data.try_into_vec().unwrap()));
            }
        }
    }
    weights
}

#[test]
fn files_are_written_back_as_they_were() {
    each(|case| {
        let folder = tempfile::tempdir().unwrap();
        case.adapted().save_pretrained(folder.path()).unwrap();
        for name in [files::WEIGHTS_NAME, files::CONFIG_NAME] {
            let bytes = |folder: &Path| fs::read(folder.join(name)).unwrap();
            if bytes(folder.path()) != bytes(&case.folder) {
                return Err(format!("{name} differs"));
            }
        }
        let folder = tempfile::tempdir().unwrap();
        case.model().save_pretrained(folder.path()).unwrap();
        let (written, original) = (weights(folder.path()), weights(&case.base));
        let names = |weights: &BTreeMap<_, _>| weights.keys().cloned().collect::<Vec<String>>();
        if names(&written) != names(&original) {
            return Err(format!("tensors {:?}", names(&written)));
        }
        if let Some((name, _)) = written
            .iter()
            .find(|(name, data)| original[*name] != **data)
        {
            return Err(format!("{name} differs"));
        }
        let text = fs::read_to_string(folder.path().join("config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["dtype"] = case.config()["dtype"].clone();
        match config == case.config() {
            true => Ok(()),
            false => Err(format!("config.json is {config}")),
        }
    });
}

#[test]
fn counts_and_the_printed_tree() {
    each(|case| {
        let text = fs::read_to_string(case.folder.join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_str(&text).unwrap();
        let count = |key: &str| manifest[key].as_u64().unwrap() as usize;
        let counts = case.adapted().get_nb_trainable_parameters();
        if counts != (count("trainable"), count("total")) {
            return Err(format!("{counts:?} parameters"));
        }
        let Ok(expected) = fs::read_to_string(case.folder.join("tree.txt")) else {
            return Ok(());
        };
        // PyTorch 2.15 says of a LayerNorm that it has a bias.
        let expected = expected.replace("_affine=True, bias=True)", "_affine=True)");
        let found = format!("{}\n", case.model().tree());
        let differs = found.lines().zip(expected.lines()).find(|(a, b)| a != b);
        match differs {
            None if found == expected => Ok(()),
            Some((found, expected)) => Err(format!("{found} in place of {expected}")),
            None => Err(format!("the tree is {found}")),
        }
    });
}

/// Gemma 3's larger models see images too: their text part lies deeper, and is saved as a model of
/// its own.
#[test]
fn a_text_part_is_a_model() {
    let base = root().join("base/gemma3");
    let whole = tempfile::tempdir().unwrap();
    let config = fs::read_to_string(base.join("config.json")).unwrap();
    let text: Value = serde_json::from_str(&config).unwrap();
    let config = serde_json::json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "eos_token_id": [1, 7], "vision_config": { "hidden_size": 8 }, "text_config": text,
    });
    fs::write(whole.path().join("config.json"), config.to_string()).unwrap();
    let tensors = tensor_file::read_tensors(&base.join("model.safetensors")).unwrap();
    let vision = TensorData::new(vec![1.0f32; 2], [2]);
    let deeper = |(name, data): (String, TensorData)| {
        (name.replacen("model.", "language_model.model.", 1), data)
    };
    let tensors = tensors.into_iter().map(deeper);
    let tensors = tensors.chain([("vision_tower.norm.weight".to_string(), vision)]);
    let file = whole.path().join("model.safetensors");
    tensor_file::write_tensors(&file, tensors.collect()).unwrap();

    let load = |folder: &Path| AutoModel::from_files(&ModelFiles::folder(folder), &device());
    let model = load(whole.path()).unwrap();
    let input = || {
        let ids = Tensor::<2, Int>::from_data([[3, 14, 15, 9, 2, 6, 5]], &device());
        ModelInput::new(ids)
    };
    let expected = numbers(load(&base).unwrap().forward(input()));
    assert_eq!(numbers(model.forward(input())), expected);
    assert_eq!(model.common().eos_token_ids(), [1, 7]);
    let tree = model.tree().to_string();
    assert!(
        tree.contains("(language_model): Gemma3TextModel("),
        "{tree}"
    );
    let mut paths = Vec::new();
    model.visit_slots(&mut Default::default(), &mut |path, _| {
        paths.push(path.to_string())
    });
    let attention = "model.language_model.layers.0.self_attn.q_proj".to_string();
    assert!(paths.contains(&attention), "{paths:?}");

    let saved = tempfile::tempdir().unwrap();
    model.save_pretrained(saved.path()).unwrap();
    assert_eq!(weights(saved.path()), weights(&base));
    assert_eq!(
        numbers(load(saved.path()).unwrap().forward(input())),
        expected
    );
}

#[test]
fn families_that_come_later_are_named() {
    for (folder, family) in ["lfm2", "qwen3_5", "qwen3_moe", "gemma4"].iter().zip(LATER) {
        let config = root().join("base").join(folder).join("config.json");
        let error = AutoConfig::from_file(config).unwrap_err().to_string();
        for part in [family, "not supported", "\"llama\"", "\"gpt2\""] {
            assert!(error.contains(part), "{error}");
        }
    }
}
