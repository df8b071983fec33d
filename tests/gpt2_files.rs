//! GPT-2 is read from Hugging Face folders and written to them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use burn::tensor::TensorData;
use burn_peft::tensor_file::{read_tensors, write_tensors};
use burn_peft_models::{Decoder, GPT2LMHeadModel, ModelError, Pretrained};
use tempfile::TempDir;

use crate::common::{assert_has, device};
use crate::conformance::{assert_close, fixtures, logits};

type Weights = BTreeMap<String, TensorData>;

fn load(folder: &Path) -> Result<GPT2LMHeadModel, ModelError> {
    GPT2LMHeadModel::from_pretrained(folder.to_str().unwrap(), &device())
}

/// A copy of the conformance base with other weights.
fn folder(change: impl FnOnce(&mut Weights)) -> TempDir {
    let base = fixtures().join("conformance/base-gpt2");
    let folder = tempfile::tempdir().unwrap();
    fs::copy(base.join("config.json"), folder.path().join("config.json")).unwrap();
    let weights = read_tensors(&base.join("model.safetensors")).unwrap();
    let mut weights: Weights = weights.into_iter().collect();
    change(&mut weights);
    let path = folder.path().join("model.safetensors");
    write_tensors(&path, weights.into_iter().collect()).unwrap();
    folder
}

fn saved(model: &GPT2LMHeadModel) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    model.save_pretrained(folder.path()).unwrap();
    fs::read(folder.path().join("model.safetensors")).unwrap()
}

#[test]
fn a_checkpoint_is_written_back_byte_for_byte() {
    let base = fixtures().join("conformance/base-gpt2");
    let model = load(&base).unwrap();
    let original = fs::read(base.join("model.safetensors")).unwrap();
    assert!(saved(&model) == original);
}

/// GPT-2 on the Hub has no `transformer.` prefix, and has the causal mask as buffers.
#[test]
fn names_of_the_bare_model_and_buffers() {
    let bare = folder(|weights| {
        *weights = std::mem::take(weights)
            .into_iter()
            .map(|(name, data)| (name.replace("transformer.", ""), data))
            .collect();
        let mask = TensorData::new(vec![1.0f32; 4], [1, 1, 2, 2]);
        weights.insert("h.0.attn.bias".into(), mask.clone());
        weights.insert("h.0.attn.masked_bias".into(), mask);
    });
    let base = load(&fixtures().join("conformance/base-gpt2")).unwrap();
    assert!(saved(&load(bare.path()).unwrap()) == saved(&base));
}

/// An untied head is stored as by torch's Linear: `[vocab, d]`.
#[test]
fn an_untied_head_comes_back_as_it_was() {
    let nano = fixtures().join("nano-sort");
    let written = tempfile::tempdir().unwrap();
    load(&nano)
        .unwrap()
        .save_pretrained(written.path())
        .unwrap();
    let read = |folder: &Path| read_tensors(&folder.join("model.safetensors")).unwrap();
    assert_eq!(read(written.path()), read(&nano));
}

/// A head in the file is used as in transformers 5, whatever config.json says: if it is twice the
/// embedding, the logits are twice those of the tied model. If only one of the two is in the file,
/// it is used for both.
#[test]
fn a_head_beside_a_tied_embedding_is_kept_where_it_differs() {
    let inputs = fixtures().join("conformance/cases/gpt2_lora");
    let (wte, head) = ("transformer.wte.weight", "lm_head.weight");
    let expected = logits(
        &load(&fixtures().join("conformance/base-gpt2")).unwrap(),
        &inputs,
    );
    let read = |change: &dyn Fn(&mut Weights)| load(folder(change).path()).unwrap();
    let equal = read(&|weights| drop(weights.insert(head.into(), weights[wte].clone())));
    let alone = read(&|weights| {
        let embedding = weights.remove(wte).unwrap();
        weights.insert(head.into(), embedding);
    });
    for model in [equal, alone] {
        assert!(model.lm_head.is_none());
        assert_eq!(logits(&model, &inputs), expected);
    }
    let differs = read(&|weights| {
        let twice: Vec<f32> = weights[wte]
            .iter::<f32>()
            .map(|value| 2.0 * value)
            .collect();
        let twice = TensorData::new(twice, weights[wte].shape().to_vec());
        weights.insert(head.into(), twice);
    });
    assert!(!differs.config().tie_word_embeddings);
    let twice: Vec<f32> = expected.iter().map(|logit| 2.0 * logit).collect();
    assert_close(&inputs, "logits", &logits(&differs, &inputs), &twice);
}

#[test]
fn what_does_not_fit_is_named() {
    let name = "transformer.h.1.mlp.c_fc.weight";
    let refused = |change: &dyn Fn(&mut Weights), parts: &[&str]| {
        let folder = folder(|weights| change(weights));
        let error = load(folder.path()).unwrap_err().to_string();
        assert_has(&error, parts);
    };
    refused(&|weights| drop(weights.remove(name)), &[name]);
    let other = |shape: [usize; 2]| TensorData::new(vec![0f32; shape[0] * shape[1]], shape);
    refused(
        &|weights| drop(weights.insert(name.into(), other([64, 255]))),
        &[name, "[64, 255]", "[64, 256]"],
    );
    refused(
        &|weights| drop(weights.insert("transformer.h.2.ln_1.weight".into(), other([8, 8]))),
        &["transformer.h.2.ln_1.weight"],
    );
}
