//! A trained model, compared activation by activation (`fixtures/nano-sort`).
//!
//! The model is minGPT's gpt-nano (3 layers, 85,296 parameters without the head) from
//! bbycroft/llm-viz (MIT), which sorts letters. The activations are PyTorch's, on one batch. The
//! fixture has its linear weights transposed, as Conv1D stores them.

use burn::tensor::activation::softmax;
use burn::tensor::{Bool, Int, Tensor, TensorData};
use burn_peft::tensor_file::read_tensors;
use burn_peft_kernels::{HiddenKeys, Qkv, attention_scores};
use burn_peft_models::{CausalLm, Decoder, DecoderBlock, GPT2LMHeadModel, ModelInput, Pretrained};

use crate::common::device;
use crate::conformance::fixtures;

#[test]
fn every_activation() {
    let folder = fixtures().join("nano-sort");
    let device = device();
    let model = GPT2LMHeadModel::from_pretrained(folder.to_str().unwrap(), &device).unwrap();
    let activations = read_tensors(&folder.join("activations.safetensors")).unwrap();
    let check = |name: &str, found: TensorData| {
        let expected = &activations[name];
        assert_eq!(found.num_elements(), expected.num_elements(), "{name}");
        let pairs = found.iter::<f32>().zip(expected.iter::<f32>());
        for (index, (a, b)) in pairs.enumerate() {
            let close = a == b || (a - b).abs() <= 1e-4;
            assert!(close, "{name}[{index}] is {a}, PyTorch has {b}");
        }
    };

    let ids: Vec<i64> = activations["idx"]
        .iter::<f32>()
        .map(|id| id as i64)
        .collect();
    let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [3, 11]), &device);
    let input = ModelInput::new(ids.clone());
    let transformer = &model.transformer;
    check("tok_emb", transformer.wte.forward_2d(ids).into_data());
    let positions = Tensor::arange(0..11, &device);
    check("pos_emb", transformer.wpe.forward(positions).into_data());
    let x = model.embed(&input, 0);
    check("x", x.to_data());

    // The fixture has the activations of the first block one by one.
    let block = &transformer.h[0];
    let pass = model.pass(&input, 0, true);
    let heads = block.attn.heads;
    let normed = block.ln_1.forward(x.clone());
    check("ln1", normed.to_data());
    let qkv = block.attn.c_attn.forward(normed);
    check("qkv", qkv.to_data());
    let [query, key, value] = Qkv::from(qkv).heads(&heads, 3);
    check("q", query.to_data());
    check("k", key.to_data());
    check("v", value.to_data());
    let later = Tensor::<2, Bool>::tril_mask([11, 11], 0, &device).unsqueeze();
    let hidden = HiddenKeys {
        mask: Some(later),
        only_later: true,
    };
    let scores = attention_scores(query, key, &hidden, &heads);
    check("att", scores.to_data());
    let weights = softmax(scores, 3);
    check("attSm", weights.to_data());
    let mixed = weights.matmul(value).swap_dims(1, 2).reshape([33, 48]);
    check("y", mixed.to_data());
    let projected = block.attn.c_proj.forward(mixed);
    check("yProj", projected.to_data());
    let residual = x.clone() + projected;
    check("attnResid", residual.to_data());
    let normed = block.ln_2.forward(residual.clone());
    check("ln2", normed.to_data());
    let hidden = block.mlp.c_fc.forward(normed);
    check("fc", hidden.to_data());
    let hidden = block.mlp.act.forward(hidden, burn::tensor::DType::F32);
    check("gelu", hidden.to_data());
    let hidden = block.mlp.c_proj.forward(hidden);
    check("mlp", hidden.to_data());
    check("mlpResid", (residual + hidden).to_data());

    let mut hidden = x;
    for (layer, block) in transformer.h.iter().enumerate() {
        hidden = block.forward(hidden, &pass, None);
        check(&format!("block{layer}"), hidden.to_data());
    }
    let hidden = transformer.ln_f.forward(hidden);
    check("ln_f", hidden.to_data());
    let logits = model.forward(input);
    check("lm_head", logits.to_data());
    check("probs", softmax(logits, 2).into_data());
}
