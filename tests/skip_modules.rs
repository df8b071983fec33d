//! Layers that stay as they are while the others are quantised (`llm_int8_skip_modules`).

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::FloatDType;
use burn_peft::{
    Adaptable, FrozenForm, Path, PeftModel, QuantType, Quantization, quantize_frozen_except,
};
use burn_peft_models::{CausalLm, GPT2LMHeadModel};

use crate::common::Lab;
use crate::conformance::{base, batch, fixtures, logits, without_dropout};
use crate::steps::all;

const FORMS: [FrozenForm; 4] = [
    FrozenForm::Int8 { head: false },
    FrozenForm::Int8 { head: true },
    FrozenForm::Codes(Quantization {
        quant_type: QuantType::Int8,
        compute_dtype: FloatDType::F32,
    }),
    FrozenForm::Codes(Quantization {
        quant_type: QuantType::Nf4,
        compute_dtype: FloatDType::F32,
    }),
];

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

/// Named layers keep their weights. The others are quantised, and so is the head if this is
/// requested and the head is not named.
#[test]
fn named_layers_keep_their_weights() {
    let exact = base().no_grad();
    let mut weights = Vec::new();
    exact.visit_slots(&mut Path::default(), &mut |_, slot| {
        weights.push(slot.kind().is_linear().then(|| slot.weight().into_data()));
    });
    for form in FORMS {
        let skip = names(&["c_fc", "transformer.h.0.attn"]);
        let mut model = exact.clone();
        quantize_frozen_except(&mut model, form, &skip).unwrap();
        let (mut weights, mut skipped) = (weights.iter(), 0);
        model.visit_slots(&mut Path::default(), &mut |path, slot| {
            let weight = weights.next().unwrap();
            let is_named = path.ends_with("c_fc") || path.contains(".h.0.attn.");
            let with_head = matches!(form, FrozenForm::Int8 { head: true });
            let is_head = with_head && path == exact.input_embedding();
            let wanted = is_head || weight.is_some() && !is_named;
            assert_eq!(slot.is_quantized(), wanted, "{path}");
            if let (Some(weight), true) = (weight, is_named) {
                slot.weight().into_data().assert_eq(weight, true);
                skipped += 1;
            }
        });
        assert_eq!(skipped, 4);
    }
}

/// If all layers are named, outputs and gradients have the same bits as in 32 bits.
#[test]
fn a_model_of_named_layers_computes_as_in_32_bits() {
    let case = fixtures().join("conformance/cases/gpt2_lora");
    let model = PeftModel::from_pretrained(base(), &case, true).unwrap();
    let gradients = |model: &PeftModel<GPT2LMHeadModel>| {
        let model = without_dropout(model.clone().train());
        let gradients = model.loss(&batch(&case)).backward();
        all(&model, &GradientsParams::from_grads(gradients, &model))
    };
    for form in FORMS {
        let mut same = model.clone();
        // The output layer is tied, but still has its own name.
        let skip = names(&[r"transformer\.h\.\d+", "lm_head"]);
        same.quantize_frozen_except(form, &skip).unwrap();
        assert_eq!(logits(&same, &case), logits(&model, &case));
        assert_eq!(gradients(&same), gradients(&model));
        let mut other = model.clone();
        other.quantize_frozen(form).unwrap();
        assert_ne!(logits(&other, &case), logits(&model, &case));
    }
}

/// A run says which layers it leaves as they are, and resumes bit for bit. A run with other layers
/// cannot resume it.
#[test]
fn a_run_and_its_resumption() {
    for bits in [&["load_in_8bit", "int8_compute"][..], &["load_in_4bit"]] {
        let lab = Lab::new();
        let mut keys = vec!["training.save_steps=2".to_string()];
        keys.extend(
            bits.iter()
                .map(|key| format!("quantization_config.{key}=true")),
        );
        let skip = "quantization_config.llm_int8_skip_modules=['c_fc', 'h.0']";
        let set: Vec<&str> = keys.iter().flat_map(|key| ["--set", key]).collect();
        let without = [&["train", "train.toml"], &set[..]].concat();
        let with = [&without[..], &["--set", skip]].concat();
        let answer = lab.peft(&with);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert!(
            answer.out.contains(", except for c_fc, h.0\n"),
            "{answer:?}"
        );
        let warning = "\"h.0\" matches no linear layer of the model; they are: attn.c_attn";
        assert_eq!(answer.err.matches(warning).count(), 1, "{answer:?}");
        assert!(!answer.err.contains("\"c_fc\""), "{answer:?}");
        let config = String::from_utf8(lab.read("out/config.toml")).unwrap();
        assert!(config.contains("llm_int8_skip_modules = "), "{config}");
        let adapter = lab.weights("out");
        let resume = ["--resume", "out/checkpoint-2"];
        lab.ok(&[&with[..], &resume].concat());
        assert_eq!(lab.weights("out"), adapter);
        let other = lab.peft(&[&without[..], &resume].concat());
        other.failed(&["quantization_config.llm_int8_skip_modules"]);
        lab.ok(&[&with[..], &["--dry-run"]].concat());
    }
    let lab = Lab::new();
    let set = |key: &'static str| lab.peft(&["train", "train.toml", "--set", key]);
    let skip = "quantization_config.llm_int8_skip_modules=['c_fc']";
    set(skip).failed(&["llm_int8_skip_modules", "load_in_8bit = true"]);
    set("quantization_config.llm_int8_skip_modules='c_fc'").failed(&["llm_int8_skip_modules"]);
}

/// The flag of the commands that use a model.
#[test]
fn commands_take_the_names() {
    let lab = Lab::with_adapter();
    let args = ["eval", "--model", "model", "--data", "train.jsonl"];
    let loss = |flags: &[&str]| lab.ok(&[&args[..], flags].concat());
    let exact = loss(&[]);
    let skip = ["--llm-int8-skip-modules", "transformer,c_fc"];
    for bits in [
        &["--load-in-8bit"][..],
        &["--load-in-4bit"],
        &["--load-in-8bit", "--int8-compute"],
    ] {
        assert_ne!(loss(bits), exact, "{bits:?}");
        let answer = lab.peft(&[&args[..], bits, &skip].concat());
        assert_eq!(answer.out, exact, "{bits:?}");
        assert!(answer.err.contains("nothing is quantised"), "{answer:?}");
    }
    let alone = lab.peft(&[&args[..], &skip].concat());
    assert_eq!(alone.code, Some(2), "{alone:?}");
    let skip = ["--load-in-8bit", "--llm-int8-skip-modules", "("];
    let answer = lab.peft(&[&args[..], &skip].concat());
    answer.failed(&["llm_int8_skip_modules", "\"(\"", "regular expression"]);
    // A comma too many would skip every layer.
    let skip = ["--load-in-8bit", "--llm-int8-skip-modules", "c_fc,"];
    let answer = lab.peft(&[&args[..], &skip].concat());
    answer.failed(&[
        "llm_int8_skip_modules",
        "the empty name would skip every layer",
    ]);
}
