//! A base in 4 or 8 bits: its numbers are bitsandbytes' (`fixtures/quantized/make.py`), and
//! training, merging and the commands work with it.

use burn::module::Module;
use burn::tensor::{FloatDType, Tensor};
use burn_peft::{
    Adaptable, FrozenForm, LayerKind, Path, PeftModel, QuantType, Quantization, QuantizedWeight,
    quantize_frozen,
};
use burn_peft_models::GPT2LMHeadModel;
use safetensors::SafeTensors;

use crate::common::{Lab, adapted, anew, device, largest_difference, two_hundred_steps};
use crate::conformance::{base, cases, fixtures, has_encoder, logits};
use crate::steps::assert_step_of_values;

const TYPES: [QuantType; 3] = [QuantType::Nf4, QuantType::Fp4, QuantType::Int8];

fn in_f32(quant_type: QuantType) -> Quantization {
    Quantization {
        quant_type,
        compute_dtype: FloatDType::F32,
    }
}

/// Code books, codes, scales and dequantised values equal bitsandbytes'.
#[test]
fn numbers_are_bitsandbytes() {
    let bytes = std::fs::read(fixtures().join("quantized/weights.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str| -> Vec<f32> {
        let words = file.tensor(name).unwrap().data().as_chunks().0.iter();
        words.map(|word| f32::from_le_bytes(*word)).collect()
    };
    // `[d_out, d_in]`, as in PyTorch.
    let weight = Tensor::<1>::from_floats(&floats("small")[..], &device());
    let weight = weight.reshape([7, 40]).transpose();
    for (quant_type, name) in TYPES.into_iter().zip(["nf4", "fp4", "int8"]) {
        let quantized = QuantizedWeight::new(weight.clone(), in_f32(quant_type));
        let values = quantized.dequantize().transpose().into_data();
        let (values, expected) = (
            values.try_to_vec::<f32>().unwrap(),
            floats(&format!("{name}.small")),
        );
        if quant_type == QuantType::Int8 {
            // The fixture's values are rounded once, these after each of two products.
            let pairs = values.iter().zip(&expected);
            assert!(pairs.clone().all(|(a, b)| (a - b).abs() <= 2e-7 * b.abs()));
            continue;
        }
        assert_eq!(values, expected, "{name}");
        assert_eq!(
            quant_type.code_book().values,
            floats(&format!("{name}.code_book"))
        );
        let scales = quantized.absmax().into_data().try_to_vec::<f32>().unwrap();
        // For a block of zeros, bitsandbytes' scale is a tiny number instead of 0.
        for (a, b) in scales.iter().zip(floats(&format!("{name}.absmax"))) {
            assert!((a - b).abs() < 1e-30);
        }
        if quant_type == QuantType::Nf4 {
            let packed = file.tensor("nf4.packed").unwrap().data();
            assert_eq!(&quantized.packed_codes()[..packed.len()], packed);
        }
    }
}

/// The conformance suite's GPT-2, with weights that codes represent exactly.
fn rounded(quantization: Quantization) -> GPT2LMHeadModel {
    let mut model = base();
    model.visit_slots_mut(&mut Path::default(), &mut |_, slot| {
        if slot.kind() == LayerKind::Conv1D {
            let weight = QuantizedWeight::new(slot.weight(), quantization);
            slot.set_weight(weight.dequantize());
        }
    });
    model
}

/// Every method computes the same on codes as on the values that they stand for: logits and
/// gradients, with gradient checkpointing too.
#[test]
fn every_method_runs_on_a_quantised_base() {
    let quantization = in_f32(QuantType::Nf4);
    let mut compared = 0;
    for case in cases().into_iter().filter(|case| !has_encoder(case)) {
        let dense = PeftModel::from_pretrained(rounded(quantization), &case, true).unwrap();
        let mut quantized = dense.clone();
        quantized.quantize_frozen(quantization).unwrap();
        assert_step_of_values(quantized, dense, &case);
        compared += 1;
    }
    assert!(compared > 20);
}

/// Codes take less than 0.3 times the memory of bf16. Everything but linear weights stays as it is.
#[test]
fn codes_are_all_that_is_kept_of_a_linear_weight() {
    let mut model = base().no_grad();
    quantize_frozen(&mut model, in_f32(QuantType::Nf4)).unwrap();
    let (mut codes, mut values) = (0, 0);
    model.visit_slots(&mut Path::default(), &mut |path, slot| {
        assert_eq!(
            slot.quantized().is_some(),
            slot.kind() == LayerKind::Conv1D,
            "{path}"
        );
        if let Some(quantized) = slot.quantized() {
            // Without the table of the 16 values.
            codes += quantized.num_bytes() - 64;
            values += slot.dims().iter().product::<usize>();
        }
    });
    let share = codes as f64 / (2 * values) as f64;
    assert!(share < 0.3, "{share} of bf16");
}

/// Merging quantises again, as in PEFT. Unmerging is exact.
#[test]
fn merging_rounds_and_unmerging_is_exact() {
    assert_merging_rounds(in_f32(QuantType::Nf4).into(), "c_attn is quantised");
}

/// Checks that merging a LoRA adapter into a base in this form changes its weights, that unmerging
/// is exact, and that saving a record of the base is an error which names a layer.
pub fn assert_merging_rounds(form: FrozenForm, named: &str) {
    let case = fixtures().join("conformance/cases/gpt2_lora");
    let mut model = PeftModel::from_pretrained(base(), &case, false).unwrap();
    model.quantize_frozen(form).unwrap();
    let before = logits(&model, &case);
    model.merge_adapter(true).unwrap();
    let merged = logits(&model, &case);
    model.unmerge_adapter();
    assert_eq!(logits(&model, &case), before);
    let off = |other: &[f32]| largest_difference(&before, other);
    let without = model.disable_adapter(|model| logits(model, &case));
    assert!(off(&merged) > 0.0 && off(&merged) < off(&without));
    let record = std::env::temp_dir().join("no-record.bpk");
    let error = model.save_base_record(record).unwrap_err().to_string();
    assert!(error.contains(named), "{error}");
}

/// Two hundred steps of the quick start on its small GPT-2: the validation loss for each form of
/// the frozen base.
#[test]
fn two_hundred_steps_end_near_those_in_32_bits() {
    let lab = Lab::new();
    let expected = two_hundred_steps(&lab, &[]);
    let within = |share: f64, keys: &[&str]| {
        let found = two_hundred_steps(&lab, keys);
        let off = (found - expected).abs() / expected;
        assert!(off < share, "{found} is {off:.4} off {expected}: {keys:?}");
    };
    let quantized = |key| format!("quantization_config.{key}=true");
    within(0.02, &[&quantized("load_in_4bit")]);
    within(0.02, &[&quantized("load_in_8bit")]);
    within(0.01, &["training.bf16=true"]);
    within(0.01, &["training.fp16=true"]);
}

/// From training over resuming to use, the adapter is like any other.
#[test]
fn a_quantised_run_from_start_to_end() {
    let lab = Lab::new();
    let set = ["--set", "quantization_config.load_in_4bit=true"];
    let save = ["--set", "training.save_steps=2"];
    let args = [&["train", "train.toml"], &set[..], &save].concat();
    lab.ok(&args);
    let adapter = lab.weights("out");
    assert!(lab.text("out/config.toml").contains("load_in_4bit = true"));
    lab.ok(&[&args[..], &["--resume", "out/checkpoint-2"]].concat());
    assert_eq!(lab.weights("out"), adapter);
    let resumed = ["train", "train.toml", "--resume", "out/checkpoint-2"];
    lab.peft(&resumed).failed(&["quantization_config"]);

    let quantized = lab.json("out/adapter_config.json");
    lab.ok(&["train", "train.toml", "--force"]);
    assert_eq!(lab.json("out/adapter_config.json"), quantized);
    std::fs::write(lab.path("out/adapter_model.safetensors"), adapter).unwrap();
    let evaluate = adapted("eval", &["--data", "train.jsonl"]);
    let dense = lab.ok(&evaluate);
    for flags in [
        &["--load-in-4bit"][..],
        &["--load-in-8bit"],
        &["--load-in-4bit", "--dtype", "bfloat16"],
    ] {
        assert_ne!(lab.ok(&[&evaluate[..], flags].concat()), dense);
    }
    lab.ok(&[
        "generate",
        "--model",
        "model",
        "--load-in-4bit",
        "--prompt",
        "the cat",
    ]);
    lab.ok(&adapted("merge", &["--output", "merged"]));

    let failed = |keys: &[&str], named: &[&str]| {
        lab.fails(&anew("train.toml", keys), named);
    };
    let in_4 = "quantization_config.load_in_4bit=true";
    failed(
        &[in_4, "quantization_config.load_in_8bit=true"],
        &["load_in_8bit", "keep one"],
    );
    failed(&[in_4, "peft.peft_type=NONE"], &["none is frozen"]);
    failed(
        &["quantization_config.load_in_4bits=true"],
        &["did you mean load_in_4bit"],
    );
    failed(
        &[in_4, "quantization_config.bnb_4bit_quant_type=nf3"],
        &["nf3", "nf4"],
    );
    failed(
        &["quantization_config.llm_int8_threshold=6.0"],
        &["llm_int8_threshold", "support"],
    );
}
