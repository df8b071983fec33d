//! A base whose products are computed in eight bits (`int8_compute`).

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::TensorData;
use burn_peft::{Adaptable, FrozenForm, LayerKind, Path, PeftModel, quantize_frozen};
use burn_peft_kernels::{BlockType, Int8Weight};
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{AutoModel, CausalLm, Pretrained};

use crate::common::{
    Lab, adapted, anew, device, largest_difference, repository, two_hundred_steps,
};
use crate::conformance::{
    all_cases, base, base_files, batch, fixtures, has_encoder, logits, without_dropout,
};
use crate::quantized::assert_merging_rounds;
use crate::steps::all;

const INT8: FrozenForm = FrozenForm::Int8 { head: false };
const WITH_HEAD: FrozenForm = FrozenForm::Int8 { head: true };

/// The base of a case, with the values that its rounded weights stand for.
fn rounded_base(case: &std::path::Path) -> AutoModel {
    let mut model = AutoModel::from_files(&base_files(case), &device()).unwrap();
    quantize_frozen(&mut model, WITH_HEAD).unwrap();
    model.visit_slots_mut(&mut Path::default(), &mut |_, slot| slot.make_dense());
    model
}

pub fn numbers(data: &[Option<TensorData>]) -> Vec<f32> {
    let data = data.iter().flatten();
    data.flat_map(|data| data.iter::<f32>().collect::<Vec<_>>())
        .collect()
}

pub fn cosine(a: &[f32], b: &[f32]) -> f64 {
    // Also if both are zero, as for tokens that are not in the batch.
    if a == b {
        return 1.0;
    }
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let pairs = a.iter().zip(b);
        pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// With such a base, every method has nearly the gradients that it has with the dequantised values.
/// With gradient checkpointing they are the same.
#[test]
fn every_method_runs_in_eight_bits() {
    let mut compared = 0;
    for case in all_cases().into_iter().filter(|case| !has_encoder(case)) {
        let values = PeftModel::from_pretrained(rounded_base(&case), &case, true).unwrap();
        let mut rounded = values.clone();
        rounded.quantize_frozen(WITH_HEAD).unwrap();
        let counts = |model: &PeftModel<AutoModel>| model.get_nb_trainable_parameters();
        assert_eq!(counts(&rounded), counts(&values));
        let batch = batch(&case);
        let [rounded, values] = [rounded, values].map(|model| without_dropout(model.train()));
        let step = |model: &PeftModel<AutoModel>| {
            let loss = model.loss(&batch);
            let value = loss.clone().inner().into_scalar::<f32>();
            (value, GradientsParams::from_grads(loss.backward(), model))
        };
        let ((expected, by_values), (loss, by_bytes)) = (step(&values), step(&rounded));
        let (wanted, found) = (all(&values, &by_values), all(&rounded, &by_bytes));
        let near = cosine(&numbers(&found), &numbers(&wanted));
        println!("{}: {expected} {loss} {near}", case.display());
        let off = (loss - expected).abs() / expected;
        assert!(
            off < LOSS_BOUND,
            "{}: {loss}, not {expected}",
            case.display()
        );
        // RandLoRA's sums of 64 bases cancel, and the exact part of its gradient with them.
        let is_exact = !case.ends_with("gpt2_randlora");
        assert!(
            !is_exact || near > COSINE_BOUND,
            "{}: cosine {near}",
            case.display()
        );
        // The gradients of virtual tokens are returned separately.
        let checkpointed = rounded.checkpointed_backward(&batch, 1.0);
        if let Some(done) = checkpointed.filter(|done| done.extra.is_empty()) {
            let again = numbers(&all(&rounded, &done.gradients));
            let off = largest_difference(&again, &numbers(&found));
            assert!(off < 1e-4, "{}: {off}", case.display());
        }
        compared += 1;
    }
    assert!(compared > 40);
}

const LOSS_BOUND: f32 = 5e-3;
const COSINE_BOUND: f64 = 0.998;

/// Which weights are stored in which form.
#[test]
fn linear_weights_are_bytes_and_the_head_where_it_is_asked() {
    for (form, head) in [(INT8, false), (WITH_HEAD, true)] {
        let mut model = base().no_grad();
        quantize_frozen(&mut model, form).unwrap();
        model.visit_slots(&mut Path::default(), &mut |path, slot| {
            let is_tied_head = path == model.input_embedding();
            let wanted = slot.kind() == LayerKind::Conv1D || head && is_tied_head;
            assert_eq!(slot.int8().is_some(), wanted, "{path}");
        });
    }
}

/// Merging rounds again, as in PEFT. Unmerging is exact.
#[test]
fn merging_rounds_and_unmerging_is_exact() {
    assert_merging_rounds(WITH_HEAD, "wte is quantised");
}

/// Nothing is rounded again if the output layer gets its own weight.
#[test]
fn an_untied_head_keeps_its_bytes() {
    let case = fixtures().join("conformance/cases/gpt2_lora");
    let mut model = base();
    quantize_frozen(&mut model, WITH_HEAD).unwrap();
    let before = logits(&model, &case);
    assert!(model.untie_output());
    assert_eq!(logits(&model, &case), before);
}

/// Two hundred steps of the quick start on its small GPT-2, whose weights are trained. The loss on
/// the validation data is close to that in 32 bits, both in this mode and with the adapter on the
/// base in 32 bits.
#[test]
fn two_hundred_steps_end_near_those_in_32_bits() {
    let lab = Lab::new();
    let text = |name: &str| repository(name).display().to_string();
    let (model, data) = (
        text("assets/tiny-gpt2"),
        text("data/quickstart/validation.jsonl"),
    );
    let run = |keys: &[&str]| -> [f64; 2] {
        let loss = two_hundred_steps(&lab, keys);
        let on_base = lab.loss(&data, &["--model", &model, "--adapter", "out"]);
        [loss, on_base]
    };
    let expected = run(&[]);
    let found = run(&[
        "quantization_config.load_in_8bit=true",
        "quantization_config.int8_compute=true",
        "quantization_config.int8_head=true",
    ]);
    println!("{expected:?} {found:?}");
    for (found, expected) in found.iter().zip(&expected) {
        let off = (found - expected).abs() / expected;
        // Any two such runs of 200 steps differ by as much: in bf16 the loss is 0.6 % off.
        assert!(off < 0.015, "{found} is {off:.4} off {expected}");
    }
}

/// From training over resuming to use, the adapter is like any other.
#[test]
fn a_run_from_start_to_end() {
    let lab = Lab::new();
    let keys = ["load_in_8bit", "int8_compute", "int8_head"];
    let keys = keys.map(|key| format!("quantization_config.{key}=true"));
    let set: Vec<&str> = keys.iter().flat_map(|key| ["--set", key]).collect();
    let save = ["--set", "training.save_steps=2"];
    let args = [&["train", "train.toml"], &set[..], &save].concat();
    let out = lab.ok(&args);
    assert!(
        out.contains("of the blocks of 32 inputs are far above"),
        "{out}"
    );
    let said = "base in 8 bits, products in 8 bits, the output layer too";
    assert!(out.contains(said), "{out}");
    // An output layer that is skipped is not counted among them.
    let skip = "quantization_config.llm_int8_skip_modules=['lm_head']";
    let skipped = lab.ok(&[&args[..], &["--dry-run", "--set", skip]].concat());
    let said = "base in 8 bits, products in 8 bits, except for lm_head";
    assert!(skipped.contains(said), "{skipped}");
    let adapter = lab.weights("out");
    let config = lab.text("out/config.toml");
    assert!(config.contains("int8_compute = true"), "{config}");
    assert!(!config.contains("quant_type"), "{config}");
    lab.ok(&[&args[..], &["--resume", "out/checkpoint-2"]].concat());
    assert_eq!(lab.weights("out"), adapter);
    // With checkpointing, the same products are computed again.
    let forgetful = ["--force", "--set", "training.gradient_checkpointing=true"];
    lab.ok(&[&args[..], &forgetful].concat());

    // Without `int8_compute` the base is another one, and so are its bytes.
    let resumed = ["train", "train.toml", "--resume", "out/checkpoint-2"];
    lab.peft(&resumed).failed(&["quantization_config"]);
    let in_4 = ["--set", "quantization_config.load_in_4bit=true"];
    let said = lab.peft(&[&resumed[..], &in_4].concat());
    assert!(!said.failed(&["quantization_config"]).contains("quant_type"));

    let evaluate = adapted("eval", &["--data", "train.jsonl"]);
    let in_32_bits = lab.ok(&evaluate);
    let flags = ["--load-in-8bit", "--int8-compute", "--int8-head"];
    assert_ne!(lab.ok(&[&evaluate[..], &flags].concat()), in_32_bits);
    let generate = adapted("generate", &["--prompt", "the cat"]);
    lab.ok(&[&generate[..], &flags].concat());
    lab.ok(&adapted("merge", &["--output", "merged"]));

    let failed = |keys: &[&str], named: &[&str]| {
        lab.fails(&anew("train.toml", keys), named);
    };
    let [in_8, compute, head] = keys.each_ref().map(String::as_str);
    failed(&[compute], &["int8_compute", "load_in_8bit = true"]);
    failed(&[in_8, head], &["int8_head", "int8_compute = true"]);
    let dtype = "quantization_config.bnb_4bit_compute_dtype=bfloat16";
    failed(&[in_8, compute, dtype], &["keep one of the two"]);
    let fp4 = "quantization_config.bnb_4bit_quant_type=fp4";
    failed(&[in_8, fp4], &["fp4", "keep one of the two"]);
}

/// The bits of all scales of a weight in eight bits that are not zero, sorted; and the factors of
/// its columns.
fn scales_and_factors(weight: &Int8Weight) -> (Vec<u16>, Vec<f32>) {
    let mut pieces: Vec<Vec<u8>> = Vec::new();
    weight.visit_bytes(&mut |piece| pieces.push(piece.to_vec()));
    let factors = pieces.pop().unwrap();
    let factors = factors.as_chunks::<4>().0;
    let factors = factors.iter().map(|bytes| f32::from_ne_bytes(*bytes));
    // There are as many pieces of codes as of scales.
    let scales = pieces.split_off(pieces.len() / 2).concat();
    let scales = scales.as_chunks::<2>().0;
    let scales = scales.iter().map(|bytes| u16::from_ne_bytes(*bytes));
    let mut scales: Vec<u16> = scales.filter(|bits| *bits != 0).collect();
    scales.sort();
    (scales, factors.collect())
}

/// The base keeps the codes and scales of a GGUF file's `Q8_0` blocks and does not round them
/// again. All commands run on it.
#[test]
fn a_base_in_q8_0_keeps_the_codes_of_its_file() {
    let lab = Lab::new();
    let mut config = lab.config();
    config["n_embd"] = 64.into();
    lab.write("wide.json", config.to_string());
    lab.ok(&["init", "wide.json", "--output", "wide", "--seed", "1"]);
    lab.write("wide/tokenizer.json", lab.read("model/tokenizer.json"));
    let export = ["export", "--model", "wide", "--output", "wide.gguf"];
    lab.ok(&[&export[..], &["--outtype", "q8_0"]].concat());
    let file = lab.read("wide.gguf");
    let files = ModelFiles::gguf(lab.path("wide.gguf")).unwrap();
    let load = || AutoModel::from_files_in_blocks(&files, &device()).unwrap();
    let (blocks, mut int8) = (load(), load());
    quantize_frozen(&mut int8, INT8).unwrap();
    let mut weights = Vec::new();
    int8.visit_slots(&mut Path::default(), &mut |_, slot| {
        weights.push(slot.int8().cloned());
    });
    let (mut weights, mut compared) = (weights.into_iter(), 0);
    blocks.visit_slots(&mut Path::default(), &mut |path, slot| {
        let Some(weight) = weights.next().unwrap() else {
            return;
        };
        let blocks = slot.blocks().unwrap();
        assert_eq!(blocks.block_type(), BlockType::Q8_0, "{path}");
        // The bytes of the file: for each block a scale and 32 codes.
        let bytes = blocks.bytes();
        assert!(
            file.windows(bytes.len()).any(|part| part == bytes),
            "{path}"
        );
        let (mut scales, mut values) = (Vec::new(), Vec::new());
        for block in bytes.as_chunks::<34>().0 {
            let bits = u16::from_le_bytes([block[0], block[1]]);
            scales.push(bits);
            let scale = half::f16::from_bits(bits).to_f32();
            values.extend(block[2..].iter().map(|code| scale * f32::from(*code as i8)));
        }
        scales.retain(|bits| *bits != 0);
        scales.sort();
        let (found, factors) = scales_and_factors(&weight);
        assert!(
            found == scales && factors.iter().all(|x| *x == 1.0),
            "{path}"
        );
        let found = weight.transposed().dequantize(&device()).into_data();
        assert_eq!(found.try_to_vec::<f32>().unwrap(), values, "{path}");
        compared += 1;
    });
    assert_eq!(compared, 8);

    let flags = ["--load-in-8bit", "--int8-compute", "--int8-head"];
    let keys = ["load_in_8bit", "int8_compute", "int8_head"];
    let keys = keys.map(|key| format!("quantization_config.{key}=true"));
    let set = keys.iter().flat_map(|key| ["--set", key]);
    let set: Vec<&str> = set.chain(["--set", "model=wide.gguf"]).collect();
    lab.ok(&[&["train", "train.toml"], &set[..]].concat());
    let on_it = ["--model", "wide.gguf", "--adapter", "out"];
    let loss = |flags: &[&str]| lab.loss("train.jsonl", &[&on_it[..], flags].concat());
    let (found, expected) = (loss(&flags), loss(&[]));
    let off = (found - expected).abs() / expected;
    assert!(
        off > 0.0 && off < f64::from(LOSS_BOUND),
        "{found}, {expected}"
    );
    lab.ok(&[&["generate"], &on_it[..], &["--prompt", "the cat"], &flags].concat());
}

/// How the flags change logits, for rows of one adapter and of several.
#[test]
fn forward_rounds_as_it_is_told() {
    let lab = Lab::with_adapter();
    lab.write_integers(
        "in.safetensors",
        &[("input_ids", &[2, 3], &[1, 2, 3, 4, 5, 6])],
    );
    let files = ["--input", "in.safetensors", "--output", "out.safetensors"];
    let logits = |flags: &[&str]| {
        let model = adapted("forward", &[]);
        lab.ok(&[&model[..], &files, flags].concat());
        lab.floats("out.safetensors", "logits").1
    };
    let exact = logits(&[]);
    let by_rows = ["--adapter-names", "out,out"];
    let int8 = ["--load-in-8bit", "--int8-compute"];
    let ways: [&[&str]; 5] = [
        &["--load-in-4bit"],
        &["--load-in-8bit"],
        &int8,
        &["--load-in-8bit", "--int8-compute", "--int8-head"],
        &["--dtype", "bfloat16"],
    ];
    let mut before = exact.clone();
    for flags in ways {
        let found = logits(flags);
        assert_ne!(found, before, "{flags:?}");
        assert!(cosine(&found, &exact) > 0.95, "{flags:?}");
        let rows = logits(&[flags, &by_rows].concat());
        assert!(cosine(&rows, &found) > 0.999, "{flags:?}");
        before = found;
    }
    let both = [
        &["forward", "--model", "model", "--load-in-4bit"],
        &files[..],
    ]
    .concat();
    let refused = lab.peft(&[&both[..], &["--int8-compute"]].concat());
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.err.contains("cannot be used with"), "{refused:?}");
}

/// A model without an output layer has nothing to round, and its embedding is not rounded instead.
#[test]
fn int8_head_leaves_an_embedder_as_it_is() {
    let lab = Lab::new();
    lab.write_integers("in.safetensors", &[("input_ids", &[1, 3], &[1, 2, 3])]);
    let files = ["--input", "in.safetensors", "--output", "out.safetensors"];
    let states = |flags: &[&str]| {
        let model = ["forward", "--model", "model", "--pooling", "mean"];
        let int8 = ["--load-in-8bit", "--int8-compute"];
        let answer = lab.peft(&[&model[..], &files, &int8, flags].concat());
        assert_eq!(answer.code, Some(0), "{answer:?}");
        (lab.floats("out.safetensors", "embeddings").1, answer.err)
    };
    let (with_head, said) = states(&["--int8-head"]);
    assert_eq!(with_head, states(&[]).0);
    assert_eq!(said.matches("no output layer").count(), 1, "{said}");
}

/// Rounding does not hide a broken weight.
#[test]
fn a_broken_base_is_named() {
    let lab = Lab::with_adapter();
    let (file, name) = ("model/model.safetensors", "h.0.attn.c_attn.weight");
    let whole = lab.read(file);
    let tensors = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let name = tensors.names().into_iter().find(|key| key.ends_with(name));
    let at = tensors.tensor(name.unwrap()).unwrap().data().as_ptr() as usize;
    let at = at - whole.as_ptr() as usize;
    for value in [f32::NAN, f32::INFINITY] {
        let mut broken = whole.clone();
        broken[at..at + 4].copy_from_slice(&value.to_le_bytes());
        lab.write(file, broken);
        let ways: [&[&str]; 3] = [
            &["--load-in-4bit"],
            &["--load-in-8bit"],
            &["--load-in-8bit", "--int8-compute"],
        ];
        for flags in ways {
            let args = ["eval", "--model", "model", "--data", "train.jsonl"];
            let answer = lab.peft(&[&args[..], flags].concat());
            answer.failed(&["h.0.attn.c_attn.weight has NaN or infinite values"]);
        }
        let in_8 = ["--force", "--set", "quantization_config.load_in_8bit=true"];
        let answer = lab.peft(&[&["train", "train.toml"], &in_8[..]].concat());
        answer.failed(&["h.0.attn.c_attn.weight has NaN or infinite values"]);
        let merge = adapted("merge", &["--output", "m"]);
        lab.peft(&merge)
            .failed(&["model, which has them already, is broken"]);
    }
}
