//! A widely used model for embeddings, all-MiniLM-L6-v2, compared with sentence-transformers.
//!
//! Skipped unless `BURN_PEFT_MINILM` names its folder (`fixtures/embed/minilm.py` says where to get
//! it).

use burn_peft::tensor_file::read_tensors;

use crate::common::{Lab, largest_difference};
use crate::conformance::fixtures;

#[test]
fn vectors_of_fifty_texts_are_those_of_sentence_transformers() {
    let Some(model) = std::env::var_os("BURN_PEFT_MINILM") else {
        eprintln!("skipped: BURN_PEFT_MINILM names no folder (tests/fixtures/embed/minilm.py)");
        return;
    };
    let (model, folder) = (model.into_string().unwrap(), fixtures().join("embed"));
    let texts = folder.join("minilm.jsonl").display().to_string();
    let lab = Lab::new();
    let predict = ["predict", "--model", &model, "--data", &texts, "--output"];
    lab.ok(&[&predict[..], &["out.safetensors"]].concat());
    let (shape, found) = lab.floats("out.safetensors", "embeddings");
    assert_eq!(shape, [50, 384]);
    let expected = read_tensors(&folder.join("minilm.safetensors")).unwrap();
    let expected: Vec<f32> = expected["embeddings"].iter::<f32>().collect();
    let off = largest_difference(&found, &expected);
    assert!(off < 1e-5, "{off}");
}
