//! A frozen base in the blocks of a GGUF file computes the same as one with the values of these
//! blocks.

use burn::module::Module;
use burn::tensor::{FloatDType, Tensor, Tolerance};
use burn_peft::config::InitLoraWeights;
use burn_peft::{
    Adaptable, BlockWeight, LayerKind, LoraConfig, Path, PeftModel, Slot, get_peft_model, set_seed,
};
use burn_peft_kernels::BlockType;
use burn_peft_models::{CausalLm, GPT2LMHeadModel};

use crate::common::{device, largest_difference};
use crate::conformance::{base, batch, cases, fixtures, has_encoder, logits};
use crate::steps::assert_step_of_values;

/// The weight of a layer in blocks: in 8 bits if its rows can be divided into such blocks.
fn in_blocks(slot: &dyn Slot) -> Option<BlockWeight> {
    let turned = slot.kind().is_linear();
    if !turned && slot.kind() != LayerKind::Embedding {
        return None;
    }
    let weight = slot.weight();
    let weight = if turned { weight.transpose() } else { weight };
    let dims @ [_, columns] = weight.dims();
    let of = if columns.is_multiple_of(BlockType::Q8_0.values()) {
        BlockType::Q8_0
    } else {
        BlockType::F32
    };
    let values = weight.into_data().try_to_vec::<f32>().unwrap();
    let mut bytes = vec![0; values.len() / of.values() * of.bytes()];
    of.quantize(&values, &mut bytes);
    let weight = BlockWeight::new(of, bytes.into(), dims);
    Some(if turned { weight.transposed() } else { weight })
}

/// The conformance suite's GPT-2, once with the values of blocks, and once with the blocks.
fn both() -> [GPT2LMHeadModel; 2] {
    let (mut dense, mut blocks) = (base(), base());
    let mut kept = Vec::new();
    dense.visit_slots_mut(&mut Path::default(), &mut |_, slot| {
        let weight = in_blocks(slot);
        if let Some(weight) = &weight {
            slot.set_weight(weight.dequantize(&device()));
        }
        kept.push(weight);
    });
    let mut kept = kept.into_iter();
    blocks.visit_slots_mut(&mut Path::default(), &mut |_, slot| {
        if let Some(weight) = kept.next().unwrap() {
            slot.set_blocks(weight);
        }
    });
    [dense, blocks]
}

/// Every method: logits and gradients, with gradient checkpointing too, and the counts of
/// parameters.
#[test]
fn every_method_runs_on_blocks() {
    let mut compared = 0;
    for case in cases().into_iter().filter(|case| !has_encoder(case)) {
        let of_case = |model| PeftModel::from_pretrained(model, &case, true).unwrap();
        let [dense, blocks] = both().map(of_case);
        assert_step_of_values(blocks, dense, &case);
        compared += 1;
    }
    assert!(compared > 20);
}

/// Merging makes the adapted weights dense. Unmerging restores the blocks.
#[test]
fn merging_is_exact_and_unmerging_gives_the_blocks_back() {
    for name in [
        "",
        "_dora",
        "_modules_to_save",
        "_embedding",
        "_trainable_tokens",
    ] {
        let case = fixtures().join(format!("conformance/cases/gpt2_lora{name}"));
        let of_case = |model| PeftModel::from_pretrained(model, &case, false).unwrap();
        let [mut dense, mut blocks] = both().map(of_case);
        let before = logits(&blocks, &case);
        dense.merge_adapter(true).unwrap();
        blocks.merge_adapter(true).unwrap();
        let merged = logits(&blocks, &case);
        assert!(largest_difference(&merged, &logits(&dense, &case)) < 1e-4);
        assert!(largest_difference(&merged, &before) < 1e-3, "{name}");
        blocks.unmerge_adapter();
        assert_eq!(logits(&blocks, &case), before);
        let alone = blocks.clone().merge_and_unload(true).unwrap();
        let input = batch(&case).as_matrix().input.clone();
        let logits_of = |model: &GPT2LMHeadModel| model.forward(input.clone()).into_data();
        let expected = dense.merge_and_unload(true).unwrap();
        let tolerance = Tolerance::<f32>::absolute(1e-4);
        logits_of(&alone).assert_approx_eq(&logits_of(&expected), tolerance);
    }
}

/// Adapters that are computed from the weight are the same on blocks as on their values, and the
/// blocks are restored when the adapter is removed.
#[test]
fn adapters_that_start_from_the_weight_start_alike() {
    let case = fixtures().join("conformance/cases/gpt2_lora");
    let inits = [
        InitLoraWeights::Pissa { niter: None },
        InitLoraWeights::Olora,
        InitLoraWeights::True,
    ];
    for init in inits {
        let config = LoraConfig::new()
            .with_r(4)
            .with_init_lora_weights(init)
            .with_use_dora(init == InitLoraWeights::True);
        let made = |model| {
            set_seed(3, &device());
            get_peft_model(model, config.clone()).unwrap()
        };
        let [dense, blocks] = both().map(made);
        let off = largest_difference(&logits(&blocks, &case), &logits(&dense, &case));
        assert!(off < 1e-3, "{init:?}: {off}");
        let input = batch(&case).as_matrix().input.clone();
        let [dense, blocks] = [dense, blocks].map(|model| {
            let logits: Tensor<3> = model.unload().forward(input.clone());
            logits.into_data()
        });
        blocks.assert_approx_eq(&dense, Tolerance::<f32>::absolute(1e-4));
    }
}

/// Products that may round to bf16 round no more than those with a weight in bf16.
#[test]
fn a_base_in_bf16_rounds_as_a_dense_one() {
    let case = fixtures().join("conformance/cases/gpt2_lora");
    let of_case = |model| PeftModel::from_pretrained(model, &case, false).unwrap();
    let [dense, blocks] = both().map(of_case);
    let expected = logits(&dense, &case);
    let [dense, blocks] = [dense, blocks].map(|mut model| {
        model.cast_frozen(FloatDType::BF16);
        largest_difference(&logits(&model, &case), &expected)
    });
    assert!(blocks <= 2.0 * dense && dense > 0.0, "{blocks} {dense}");
}

/// Operations that need the values get them: setting weights, resizing the vocabulary, untying the
/// head, writing a record.
#[test]
fn blocks_become_a_parameter_where_one_is_needed() {
    let [mut dense, mut blocks] = both().map(|model| model.no_grad());
    let has_blocks = |model: &GPT2LMHeadModel| {
        let mut has = Vec::new();
        model.visit_slots(&mut Path::default(), &mut |path, slot| {
            if slot.blocks().is_some() {
                has.push(path.to_string());
            }
        });
        has
    };
    assert!(has_blocks(&blocks).contains(&"transformer.wte".to_string()));
    let case = fixtures().join("conformance/cases/gpt2_lora");
    let input = batch(&case).as_matrix().input.clone();
    let same = |dense: &GPT2LMHeadModel, blocks: &GPT2LMHeadModel| {
        let [expected, found] = [dense, blocks].map(|model| {
            let logits: Tensor<3> = model.forward(input.clone());
            logits.into_data()
        });
        found.assert_approx_eq(&expected, Tolerance::<f32>::absolute(1e-4));
    };
    same(&dense, &blocks);
    assert!(dense.untie_output() && blocks.untie_output());
    assert!(has_blocks(&blocks).contains(&"lm_head".to_string()));
    same(&dense, &blocks);
    let [rows, _] = dense.transformer.wte.base_layer.weight.dims();
    assert!(dense.resize_vocabulary(rows + 3) && blocks.resize_vocabulary(rows + 3));
    assert!(!has_blocks(&blocks).contains(&"lm_head".to_string()));
    same(&dense, &blocks);

    let of_case = |model| PeftModel::from_pretrained(model, &case, false).unwrap();
    let [expected, blocks] = both().map(of_case);
    let record = tempfile::tempdir().unwrap();
    let record = record.path().join("base.bpk");
    blocks.save_base_record(&record).unwrap();
    let found = of_case(base()).load_record_part(&record).unwrap();
    assert!(largest_difference(&logits(&found, &case), &logits(&expected, &case)) < 1e-6);
}
