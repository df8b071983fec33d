//! Preference learning, compared with TRL (`fixtures/preference`): what TRL logs at each of eight
//! steps of `peft train`, its gradients, and losses with keys that the cases do not have (`more.py`
//! there).
//!
//! The fixtures were made with TRL 1.16, peft 0.21.2, transformers 5.23.0 and torch 2.15.0, on the
//! CPU in float32. They have batches of three rows in the file's order, and start from a saved
//! adapter, whose frozen copy is the reference.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use burn::module::Module;
use burn::optim::GradientsParams;
use burn::tensor::Tensor;
use burn_peft::{PeftModel, tensor_file};
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{
    AutoModel, CausalLm, IGNORE_INDEX, LmBatch, Pretrained, Ragged, TokenLogProbs,
};
use burn_peft_train::{
    CpoConfig, DpoConfig, KtoConfig, Mismatched, OrpoConfig, PreferenceLoss, cpo_loss, dpo_loss,
    kto_loss, orpo_loss,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::common::{Lab, device};
use crate::conformance::{fixtures, without_dropout};

const ROWS: usize = 3;

/// The settings of a case: `expected.json` without the log.
struct Case {
    folder: PathBuf,
    base: String,
    objective: Objective,
}

enum Objective {
    Dpo(DpoConfig),
    Kto(KtoConfig),
    Orpo(OrpoConfig),
    Cpo(CpoConfig),
}

impl Objective {
    fn new(name: &str, keys: Value) -> Self {
        fn read<T: DeserializeOwned>(keys: Value) -> T {
            serde_json::from_value(keys).unwrap()
        }
        let found = match name {
            "dpo" => Self::Dpo(read(keys)),
            "kto" => Self::Kto(read(keys)),
            "orpo" => Self::Orpo(read(keys)),
            "cpo" => Self::Cpo(read(keys)),
            other => panic!("no objective is called {other}"),
        };
        let valid = match &found {
            Self::Dpo(config) => config.validate(),
            Self::Kto(config) => config.validate(),
            Self::Orpo(config) => config.validate(),
            Self::Cpo(config) => config.validate(),
        };
        valid.unwrap();
        found
    }
}

impl Case {
    fn load(folder: &Path) -> Self {
        let expected = json_of(&folder.join("expected.json"));
        Self {
            folder: folder.into(),
            base: expected["base"].as_str().unwrap().into(),
            objective: Objective::new(
                expected["objective"].as_str().unwrap(),
                expected["keys"].clone(),
            ),
        }
    }

    fn named(name: &str) -> Self {
        Self::load(&fixtures().join("preference/cases").join(name))
    }

    fn rows(&self) -> Vec<Value> {
        let rows = fs::read_to_string(self.folder.join("rows.jsonl")).unwrap();
        let rows = rows.lines().map(serde_json::from_str);
        rows.collect::<Result<_, _>>().unwrap()
    }

    /// The model with its adapter as saved, or with another `lora_alpha`.
    fn model(&self, alpha: Option<f64>) -> PeftModel<AutoModel> {
        let base = fixtures().join(format!("conformance/base-{}", self.base));
        let base = AutoModel::from_files(&ModelFiles::folder(base), &device()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut config = json_of(&self.folder.join("adapter_config.json"));
        if let Some(alpha) = alpha {
            config["lora_alpha"] = json!(alpha);
        }
        let to = |name: &str| folder.path().join(name);
        fs::write(to("adapter_config.json"), config.to_string()).unwrap();
        let tensors = "adapter_model.safetensors";
        fs::copy(self.folder.join(tensors), to(tensors)).unwrap();
        without_dropout(PeftModel::from_pretrained(base, folder.path(), true).unwrap())
    }
}

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The texts of a batch, with the number of tokens of each that belong to the prompt.
#[derive(Default)]
struct Texts {
    ids: Vec<i64>,
    labels: Vec<i64>,
    spans: Vec<Range<usize>>,
    prompts: Vec<usize>,
}

/// Token ids: the word `w7` is token 7.
fn ids(words: &Value) -> Vec<i64> {
    let words = words.as_str().unwrap().split_whitespace();
    words.map(|word| word[1..].parse().unwrap()).collect()
}

/// The token ids of a completion, which ends with token 0.
fn completion(words: &Value) -> Vec<i64> {
    let mut ids = ids(words);
    ids.push(0);
    ids
}

impl Texts {
    fn push(&mut self, prompt: &[i64], completion: &[i64], labels_prompt: bool) {
        let start = self.ids.len();
        self.ids.extend(prompt.iter().chain(completion));
        let label = |&id: &i64| if labels_prompt { id } else { IGNORE_INDEX };
        self.labels.extend(prompt.iter().map(label));
        self.labels.extend(completion);
        self.spans.push(start..self.ids.len());
        // The first token is not predicted.
        let labelled = if labels_prompt { prompt.len() - 1 } else { 0 };
        self.prompts.push(labelled);
    }

    /// The chosen and the rejected answer of each row, one after the other.
    fn pairs(rows: &[Value], labels_prompt: bool) -> Self {
        let mut texts = Self::default();
        for row in rows {
            let prompt = ids(&row["prompt"]);
            texts.push(&prompt, &completion(&row["chosen"]), labels_prompt);
            texts.push(&prompt, &completion(&row["rejected"]), false);
        }
        texts
    }

    /// Each prompt with the completion of the row `back` places before it in the batch.
    fn single(rows: &[Value], back: usize) -> Self {
        let mut texts = Self::default();
        for (at, row) in rows.iter().enumerate() {
            let of = &rows[(at + rows.len() - back) % rows.len()];
            texts.push(&ids(&row["prompt"]), &completion(&of["completion"]), false);
        }
        texts
    }

    fn lengths(&self) -> Vec<usize> {
        let of = |span: &Range<usize>| {
            let labels = self.labels[span.start + 1..span.end].iter();
            labels.filter(|&&label| label != IGNORE_INDEX).count()
        };
        self.spans.iter().map(of).collect()
    }

    fn log_probs(&self, model: &PeftModel<AutoModel>, statistics: bool) -> TokenLogProbs {
        let ragged = Ragged {
            input_ids: &self.ids,
            labels: &self.labels,
            texts: &self.spans,
            packed: None,
            width: self.spans.iter().map(|span| span.len()).max().unwrap(),
            pad_id: 2,
        };
        model.token_log_probs(&LmBatch::ragged(&ragged, &model.device()), statistics)
    }
}

/// The loss of some rows.
fn loss_of(
    objective: &Objective,
    policy: &PeftModel<AutoModel>,
    reference: &PeftModel<AutoModel>,
    rows: &[Value],
) -> PreferenceLoss {
    match objective {
        Objective::Dpo(config) => {
            let texts = Texts::pairs(rows, false);
            let of_policy = texts.log_probs(policy, config.needs_statistics());
            let reference = texts.log_probs(reference, false).log_probs;
            // Every row has a prompt, so all tokens of the answers are predicted.
            let lengths = texts.lengths();
            dpo_loss(config, &of_policy, reference, &lengths, &lengths)
        }
        Objective::Kto(config) => {
            let (texts, others) = (Texts::single(rows, 0), Texts::single(rows, 1));
            let liked: Vec<_> = rows.iter().map(|r| r["label"].as_bool().unwrap()).collect();
            let mismatched = config.calculates_kl().then(|| others.lengths());
            let mismatched = mismatched.as_deref().map(|lengths| Mismatched {
                policy: others.log_probs(policy, false).log_probs,
                reference: others.log_probs(reference, false).log_probs,
                lengths,
            });
            let of_reference = texts.log_probs(reference, false).log_probs;
            let of_policy = texts.log_probs(policy, false);
            let lengths = texts.lengths();
            kto_loss(
                config,
                &of_policy,
                of_reference,
                &lengths,
                &liked,
                mismatched,
            )
        }
        Objective::Orpo(config) => {
            let texts = Texts::pairs(rows, true);
            let policy = texts.log_probs(policy, false);
            orpo_loss(config, &policy, &texts.lengths(), &texts.prompts)
        }
        Objective::Cpo(config) => {
            let texts = Texts::pairs(rows, false);
            cpo_loss(config, &texts.log_probs(policy, false), &texts.lengths())
        }
    }
}

/// The mean loss of a batch and its metrics, by TRL's names.
fn metrics(objective: &Objective, found: &PreferenceLoss, rows: usize) -> Vec<(&'static str, f64)> {
    let sums: Vec<f32> = found.sums.clone().into_data().try_to_vec().unwrap();
    let mean = |at: usize| f64::from(sums[at]) / rows as f64;
    let loss = found.loss.clone().without_autodiff().into_scalar::<f32>();
    let mut metrics = vec![("loss", f64::from(loss) / rows as f64)];
    if let Objective::Kto(_) = objective {
        let of = |sum: usize, count: usize| f64::from(sums[sum]) / f64::from(sums[count].max(1.0));
        metrics.extend([
            ("rewards/chosen", of(2, 0)),
            ("rewards/rejected", of(3, 1)),
            ("rewards/margins", of(2, 0) - of(3, 1)),
            ("logps/chosen", of(4, 0)),
            ("logps/rejected", of(5, 1)),
            ("kl", mean(6)),
        ]);
    } else {
        let names = [
            "rewards/chosen",
            "rewards/rejected",
            "rewards/margins",
            "rewards/accuracies",
            "logps/chosen",
            "logps/rejected",
        ];
        let names = names.into_iter().enumerate();
        metrics.extend(names.map(|(at, name)| (name, mean(at))));
    }
    metrics
}

/// Losses have to agree within 1e-4 relative, everything else within 1e-3.
fn assert_logged(place: &str, found: &[(&str, f64)], expected: &Value) {
    for (name, value) in found {
        // If a batch has no answers of one kind, TRL logs nothing for this kind.
        let Some(expected) = expected[*name].as_f64() else {
            continue;
        };
        let tolerance = match *name {
            "loss" => 1e-4 * expected.abs(),
            "grad_norm" => 1e-3 * expected.abs().max(1.0),
            _ => 1e-3,
        };
        let difference = (value - expected).abs();
        assert!(
            difference <= tolerance,
            "{place}: {name} is {value}, not {expected}"
        );
    }
}

fn norm(model: &PeftModel<AutoModel>, gradients: &GradientsParams) -> f64 {
    let parameters = model.named_parameters();
    let trained = parameters
        .iter()
        .filter(|parameter| parameter.requires_grad);
    let squares = trained.filter_map(|parameter| {
        let gradient: Tensor<2> = gradients.get::<2>(parameter.id)?;
        Some(f64::from(gradient.square().sum().into_scalar::<f32>()))
    });
    squares.sum::<f64>().sqrt()
}

/// A training file for the case, beside its base with the tokenizer of words.
fn write_run(case: &Path, expected: &Value, folder: &Path) {
    let fixtures = fixtures();
    let base = expected["base"].as_str().unwrap();
    let from = fixtures.join(format!("conformance/base-{base}"));
    let to = folder.join("base");
    fs::create_dir_all(&to).unwrap();
    let weights = "model.safetensors";
    fs::copy(from.join(weights), to.join(weights)).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(fixtures.join("preference").join(name), to.join(name)).unwrap();
    }
    let mut config = json_of(&from.join("config.json"));
    let others = [
        ("bos_token_id", Value::Null),
        ("eos_token_id", 0.into()),
        ("pad_token_id", 2.into()),
    ];
    for (key, value) in others {
        config[key] = value;
    }
    fs::write(to.join("config.json"), config.to_string()).unwrap();

    let objective = expected["objective"].as_str().unwrap();
    let training = expected["training"].as_object().unwrap();
    let mut text = format!("model = \"base\"\nadapter = {case:?}\n[data]\n");
    text += &format!(
        "train = {:?}\n[training]\nobjective = {objective:?}\n",
        case.join("rows.jsonl")
    );
    text += "output_dir = \"out\"\nlr_scheduler_type = \"constant\"\nlogging_steps = 1\n";
    text +=
        "train_sampling_strategy = \"sequential\"\nsave_strategy = \"no\"\neval_on_start = false\n";
    // Gradients are not clipped.
    text += "max_grad_norm = 0.0\n";
    let keys = training.iter().filter(|(key, _)| *key != "max_length");
    keys.for_each(|(key, value)| text += &format!("{key} = {value}\n"));
    text += &format!("[{objective}]\nmax_length = {}\n", training["max_length"]);
    let keys = expected["keys"].as_object().unwrap();
    keys.iter()
        .for_each(|(key, value)| text += &format!("{key} = {value}\n"));
    fs::write(folder.join("run.toml"), text).unwrap();
}

/// `peft train` logs the same as TRL at each of eight steps.
#[test]
fn eight_steps_are_those_of_trl() {
    let cases = fs::read_dir(fixtures().join("preference/cases")).unwrap();
    let mut cases: Vec<_> = cases.map(|case| case.unwrap().path()).collect();
    cases.sort();
    assert_eq!(cases.len(), 24);
    for case in cases {
        let lab = Lab::new();
        let expected = json_of(&case.join("expected.json"));
        write_run(&case, &expected, &lab.path(""));
        lab.ok(&["train", "run.toml"]);
        let log = lab.metrics("out").into_iter();
        let log: Vec<_> = log.filter(|entry| entry["loss"].is_f64()).collect();
        let wanted = expected["log"].as_array().unwrap();
        assert_eq!(log.len(), wanted.len(), "{case:?}");
        for (step, (found, wanted)) in log.iter().zip(wanted).enumerate() {
            // If two rewards are equal, rounding decides which one is higher.
            let is_told =
                |name: &&String| *name != "rewards/accuracies" || wanted["rewards/margins"] != 0.0;
            let found: Vec<_> = wanted
                .as_object()
                .unwrap()
                .keys()
                .filter(is_told)
                .map(|name| {
                    let value = found[name].as_f64();
                    (
                        name.as_str(),
                        value.unwrap_or_else(|| panic!("{case:?}: no {name}: {found}")),
                    )
                })
                .collect();
            assert_logged(&format!("{case:?}, step {step}"), &found, wanted);
        }
    }
}

/// `fixtures/preference/more.py`: the gradients of the first step, for one case of each objective.
#[test]
fn gradients_are_those_of_trl() {
    for name in ["dpo_mpo", "dpo_wpo", "kto", "orpo", "cpo", "simpo"] {
        let case = Case::named(name);
        let (policy, reference) = (case.model(None).train(), case.model(None));
        let rows = &case.rows()[..ROWS];
        let loss = loss_of(&case.objective, &policy, &reference, rows).loss / ROWS as f64;
        let expected = fixtures().join(format!("preference/gradients/{name}.safetensors"));
        let expected = tensor_file::read_tensors(&expected).unwrap();
        let found = policy.adapter_gradients("default", &loss.backward());
        assert_eq!(found.len(), expected.len());
        for (key, found) in found {
            let found: Vec<f32> = found.expect(&key).try_to_vec().unwrap();
            let expected: Vec<f32> = expected[&key].try_to_vec().unwrap();
            let largest = expected.iter().fold(0.0, |a: f32, b| a.max(b.abs()));
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(&expected) {
                let difference = (found - expected).abs();
                assert!(
                    difference <= 1e-4 * largest + 1e-7,
                    "{name}, {key}: {found} {expected}"
                );
            }
        }
    }
}

/// `fixtures/preference/more.py`: further keys, for a policy whose `lora_alpha` differs from that
/// of its reference.
#[test]
fn further_losses_are_those_of_trl() {
    for (at, expected) in json_of(&fixtures().join("preference/more.json"))
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let mut case = Case::named(expected["case"].as_str().unwrap());
        let objective = expected["objective"].as_str().unwrap();
        case.objective = Objective::new(objective, expected["keys"].clone());
        let (policy, reference) = (case.model(Some(12.0)).train(), case.model(None));
        let rows = &case.rows()[..ROWS];
        let found = loss_of(&case.objective, &policy, &reference, rows);
        let mut logged = metrics(&case.objective, &found, ROWS);
        let loss = found.loss / ROWS as f64;
        let gradients = GradientsParams::from_grads(loss.backward(), &policy);
        logged.push(("grad_norm", norm(&policy, &gradients)));
        let place = format!("more.json, {at}: {}", expected["keys"]);
        assert_logged(&place, &logged, &expected["log"]);
    }
}
