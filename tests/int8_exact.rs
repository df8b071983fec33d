//! How exact products in eight bits are, measured on trained models: the table in
//! `docs/quantization.md`.
//!
//! ```text
//! cargo test --release --test suite -- int8_exact --nocapture
//! ```
//!
//! The small GPT-2 in `assets/tiny-gpt2` is always measured. SmolLM2-135M-Instruct is measured if
//! `BURN_PEFT_SMOLLM2` names the folder that `fixtures/smollm2/make.py` makes.
//! `BURN_PEFT_EXACT=all` adds the runs that take a quarter of an hour.

use std::fs;
use std::path::{Path as File, PathBuf};

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::{FloatDType, Int, Tensor};
use burn_peft::{
    FrozenForm, LoraConfig, QuantType, Quantization, get_peft_model, set_seed, take_block_counts,
};
use burn_peft_data::Tokenizer;
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{AutoModel, CausalLm, LanguageModel, LmBatch, ModelInput, Pretrained};
use serde_json::Value;

use crate::common::{Lab, device, evaluations, repository};
use crate::int8::{cosine, numbers};
use crate::steps::all;

/// A way to store a base.
#[derive(Clone, Copy)]
struct Way<'a> {
    name: &'a str,
    /// The keys of a training file that are true.
    keys: &'a [&'a str],
    /// The layers that are not quantised.
    skip: &'a [&'a str],
}

const WAYS: [Way; 5] = [
    way("32 bits", &[]),
    way("`bf16`", &[BF16]),
    way("`load_in_8bit`", &[IN_8]),
    way("`int8_compute`", &[IN_8, COMPUTE]),
    way("`int8_compute`, `int8_head`", &[IN_8, COMPUTE, HEAD]),
];
const BF16: &str = "training.bf16";
const IN_8: &str = "quantization_config.load_in_8bit";
const COMPUTE: &str = "quantization_config.int8_compute";
const HEAD: &str = "quantization_config.int8_head";
const SKIP: &str = "quantization_config.llm_int8_skip_modules";

const fn way<'a>(name: &'a str, keys: &'a [&'a str]) -> Way<'a> {
    let skip = &[];
    Way { name, keys, skip }
}

const POSITIONS: usize = 5_000;

/// The figures of one way.
#[derive(Clone, Debug)]
struct Exact {
    top1: Vec<i64>,
    gradient: Vec<f32>,
    share: f64,
    /// The loss after 200 steps, and that of the adapter on the base in 32 bits.
    losses: Option<[f64; 2]>,
}

fn kept(model: &mut LanguageModel, way: Way) {
    let keys = way.keys;
    if keys.contains(&COMPUTE) {
        let form = FrozenForm::Int8 {
            head: keys.contains(&HEAD),
        };
        let skip: Vec<String> = way.skip.iter().map(ToString::to_string).collect();
        model.quantize_frozen_except(form, &skip).unwrap();
    } else if keys.contains(&IN_8) {
        model
            .quantize_frozen(Quantization {
                quant_type: QuantType::Int8,
                compute_dtype: FloatDType::F32,
            })
            .unwrap();
    }
    if keys.contains(&BF16) {
        model.cast_frozen(FloatDType::BF16);
    }
}

/// Rows of tokens of real text.
fn rows(model: &File, length: usize) -> Vec<Vec<i64>> {
    let text = fs::read_to_string(repository("data/quickstart/train.jsonl")).unwrap();
    let texts = text.lines().map(|line| {
        let row: Value = serde_json::from_str(line).unwrap();
        row["text"].as_str().unwrap().to_string()
    });
    let texts: Vec<String> = texts.collect();
    let ids = Tokenizer::load(model)
        .unwrap()
        .encode(&texts.join("\n"))
        .unwrap();
    let ids: Vec<i64> = ids.into_iter().map(i64::from).collect();
    let rows = ids.chunks_exact(length).map(<[i64]>::to_vec);
    rows.take(POSITIONS.div_ceil(length)).collect()
}

/// The likeliest next token at every position, by the base alone.
fn top1(model: &LanguageModel, rows: &[Vec<i64>]) -> Vec<i64> {
    let of_row = |row: &Vec<i64>| {
        let ids = Tensor::<1, Int>::from_data(row.as_slice(), &device());
        let logits = model.forward(ModelInput::new(ids.unsqueeze_dim::<2>(0)));
        let likeliest = logits.argmax(2).into_data();
        likeliest.iter::<i64>().collect::<Vec<_>>()
    };
    let mut found: Vec<i64> = rows.iter().flat_map(of_row).collect();
    found.truncate(POSITIONS);
    found
}

/// The gradient of a new adapter in the first step.
fn gradient(model: AutoModel, way: Way, rows: &[Vec<i64>]) -> Vec<f32> {
    set_seed(7, &device());
    let config = LoraConfig::new()
        .with_r(16)
        .with_target_modules("all-linear");
    let mut model = LanguageModel::from(get_peft_model(model, config).unwrap());
    kept(&mut model, way);
    let ids: Vec<i64> = rows[..4].concat();
    let shape = [4, rows[0].len()];
    let batch = LmBatch::new(&ids, &vec![1; ids.len()], &ids, shape, &device()).unwrap();
    let model = crate::conformance::without_dropout(model.train());
    let gradients = model.loss(&batch).backward();
    numbers(&all(
        &model,
        &GradientsParams::from_grads(gradients, &model),
    ))
}

/// Two hundred steps on the sailor's stories.
fn losses(model: &File, way: Way, more: &[&str]) -> [f64; 2] {
    let lab = Lab::new();
    let path = |name: &str| repository(name).display().to_string();
    let [train, validation] =
        ["train", "validation"].map(|part| path(&format!("data/quickstart/{part}.jsonl")));
    let model = model.display().to_string();
    let mut args = vec![
        "train".to_string(),
        path("configs/quickstart.toml"),
        "--force".into(),
    ];
    let fixed = [
        format!("model={model}"),
        format!("data.train={train}"),
        format!("data.validation={validation}"),
        "training.output_dir=out".into(),
        "training.max_steps=200".into(),
        "training.per_device_train_batch_size=2".into(),
        "training.eval_strategy=no".into(),
        "training.save_strategy=no".into(),
    ];
    let keys = way.keys.iter().map(|key| format!("{key}=true"));
    let skip = (!way.skip.is_empty()).then(|| format!("{SKIP}={:?}", way.skip));
    let more = more.iter().map(ToString::to_string);
    for key in fixed.into_iter().chain(keys).chain(skip).chain(more) {
        args.extend(["--set".into(), key]);
    }
    let out = lab.ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let on_base = ["--model", &model, "--adapter", "out"];
    let losses = evaluations(&out);
    [*losses.last().unwrap(), lab.loss(&validation, &on_base)]
}

fn measure(model: &File, way: Way, length: usize, train: Option<&[&str]>) -> Exact {
    let rows = rows(model, length);
    let base = AutoModel::from_files(&ModelFiles::folder(model), &device()).unwrap();
    take_block_counts();
    let mut alone = LanguageModel::from(base.clone().no_grad());
    kept(&mut alone, way);
    let top1 = top1(&alone, &rows);
    let gradient = gradient(base, way, &rows);
    let counts = take_block_counts();
    Exact {
        top1,
        gradient,
        share: counts.outliers as f64 / counts.all.max(1) as f64,
        losses: train.map(|more| losses(model, way, more)),
    }
}

/// Prints the table, and checks it against the promised smallest cosine and share of equal tokens.
/// Each of the `further` ways has its own.
fn table(
    name: &str,
    model: &File,
    length: usize,
    train: Option<&[&str]>,
    bounds: [f64; 2],
    more: &[(Way, [f64; 2])],
) {
    println!("\n{name}\n");
    println!(
        "| the base in | loss after 200 steps | the adapter on the base in 32 bits | cosine of the first gradient | same likeliest token | blocks with outliers |"
    );
    println!("| --- | --- | --- | --- | --- | --- |");
    let mut exact = None;
    let ways = WAYS.map(|way| (way, bounds));
    for (way, bounds) in ways.iter().chain(more) {
        let found = measure(model, *way, length, train);
        let Way {
            name: way, keys, ..
        } = way;
        let exact = exact.get_or_insert_with(|| found.clone());
        let near = cosine(&found.gradient, &exact.gradient);
        let pairs = found.top1.iter().zip(&exact.top1);
        let same = pairs.filter(|(a, b)| a == b).count() as f64 / found.top1.len() as f64;
        let losses = found.losses.map_or(["", ""].map(String::from), |losses| {
            losses.map(|loss| format!("{loss:.4}"))
        });
        let share = 100.0 * found.share;
        println!(
            "| {way} | {} | {} | {near:.5} | {:.2} % | {share:.2} % |",
            losses[0],
            losses[1],
            100.0 * same
        );
        if keys.contains(&COMPUTE) {
            let [least_near, least_same] = *bounds;
            assert!(near >= least_near, "{way}: cosine {near}");
            assert!(same >= least_same, "{way}: {same} of the likeliest tokens");
            let pairs = found
                .losses
                .iter()
                .flatten()
                .zip(exact.losses.iter().flatten());
            for (found, exact) in pairs {
                let off = (found - exact).abs() / exact;
                assert!(
                    off < 0.005,
                    "{way}: a loss of {found} is {off:.4} off {exact}"
                );
            }
        }
    }
}

#[test]
fn the_small_gpt2() {
    table(
        "The small GPT-2 of `assets/tiny-gpt2`",
        &repository("assets/tiny-gpt2"),
        64,
        // At the quick start's own rate, any two runs differ by as much: in bf16 the loss is 0.6 %
        // off.
        Some(&["training.learning_rate=2e-3"]),
        [0.999, 0.98],
        &[],
    );
}

#[test]
fn smollm2() {
    let Some(made) = std::env::var_os("BURN_PEFT_SMOLLM2").map(PathBuf::from) else {
        eprintln!("skipped: BURN_PEFT_SMOLLM2 names no folder (tests/fixtures/smollm2/make.py)");
        return;
    };
    let trains = std::env::var("BURN_PEFT_EXACT").is_ok_and(|what| what == "all");
    let settings = ["training.learning_rate=2e-4", "data.max_length=128"];
    let train = trains.then_some(&settings[..]);
    let skip: &[&str] = &["v_proj", "down_proj"];
    let [in_32, in_16] = [
        way(
            "`int8_compute`, `v_proj` and `down_proj` skipped",
            &[IN_8, COMPUTE],
        ),
        way("the same with `bf16`", &[BF16, IN_8, COMPUTE]),
    ];
    let bounds = [0.999, 0.98];
    let skipping = [in_32, in_16].map(|way| (Way { skip, ..way }, bounds));
    table(
        "SmolLM2-135M-Instruct",
        &made.join("model"),
        250,
        train,
        [0.998, 0.965],
        &skipping,
    );
}
