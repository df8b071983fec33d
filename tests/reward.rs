//! Reward models, compared with TRL (`fixtures/preference/reward`, made by `make.py` there).

use std::fs;
use std::path::PathBuf;

use burn::module::Module;
use burn_peft::config::TaskType;
use burn_peft::{PeftModel, tensor_file};
use burn_peft_data::{DataConfig, DataSet, Tokenizer};
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::weights::Reading;
use burn_peft_models::{AutoModel, LanguageModel, WantedHead};
use burn_peft_train::{Objective, Reward, RewardConfig, limits};
use serde_json::Value;

use crate::common::{Lab, device};
use crate::conformance::{fixtures, without_dropout};
use crate::families::close;

const CASES: [&str; 2] = ["gpt2_centred", "llama_margins"];

struct Case {
    folder: PathBuf,
    expected: Value,
}

impl Case {
    fn new(name: &str) -> Self {
        let folder = fixtures().join("preference/reward").join(name);
        let expected = fs::read(folder.join("expected.json")).unwrap();
        let expected = serde_json::from_slice(&expected).unwrap();
        Self { folder, expected }
    }

    fn base(&self) -> PathBuf {
        let base = self.expected["base"].as_str().unwrap();
        fixtures().join(format!("conformance/base-{base}"))
    }

    /// The rows, without margins if TRL had none.
    fn rows(&self) -> String {
        let rows = fs::read_to_string(fixtures().join("preference/reward/rows.jsonl")).unwrap();
        let row = |line: &str| {
            let mut row: Value = serde_json::from_str(line).unwrap();
            if self.expected["margins"] == false {
                row.as_object_mut().unwrap().remove("margin");
            }
            format!("{row}\n")
        };
        rows.lines().map(row).collect()
    }

    fn keys(&self) -> String {
        let keys = self.expected["keys"].as_object().unwrap();
        keys.iter()
            .map(|(key, value)| format!("{key} = {value}\n"))
            .collect()
    }

    fn train(&self, lab: &Lab) -> Vec<Value> {
        lab.write("rows.jsonl", self.rows());
        let toml = format!(
            "model = {:?}\ntokenizer = {:?}\nadapter = {:?}\n[data]\ntrain = \"rows.jsonl\"\n\
             max_length = 64\n[training]\nobjective = \"reward\"\noutput_dir = \"out\"\n\
             learning_rate = 1e-3\nweight_decay = 0.01\nper_device_train_batch_size = 3\n\
             max_steps = 8\nlr_scheduler_type = \"constant\"\nlogging_steps = 1\n\
             train_sampling_strategy = \"sequential\"\n[reward]\n{}",
            self.base(),
            fixtures().join("preference/tokenizer.json"),
            self.folder,
            self.keys()
        );
        lab.write("train.toml", toml);
        lab.ok(&["train", "train.toml"]);
        let entries = lab.metrics("out").into_iter();
        entries
            .filter(|entry| entry.get("loss").is_some())
            .collect()
    }
}

#[test]
fn eight_steps_of_a_reward_model_are_trl_s() {
    for name in CASES {
        let (case, lab) = (Case::new(name), Lab::new());
        let found = case.train(&lab);
        let expected = case.expected["log"].as_array().unwrap();
        assert_eq!(found.len(), expected.len(), "{name}");
        for (step, (found, expected)) in found.iter().zip(expected).enumerate() {
            for (key, value) in expected.as_object().unwrap() {
                let value = value.as_f64().unwrap();
                let Some(found) = found[key].as_f64() else {
                    panic!("{name}: no {key} in {found}");
                };
                let tolerance = if key == "loss" { 1e-4 } else { 1e-3 };
                assert!(
                    (found - value).abs() <= tolerance * value.abs().max(1.0),
                    "{name}: {key} of step {} is {found}, TRL has {value}",
                    step + 1
                );
            }
        }
        let config = lab.json("out/adapter_config.json");
        assert_eq!(config["task_type"], "SEQ_CLS");
        // The trained adapter is evaluated, and its metrics are compared.
        let weights =
            tensor_file::read_tensors(&lab.path("out/adapter_model.safetensors")).unwrap();
        let head = &weights["base_model.model.score.weight"];
        assert_eq!(head.shape().to_vec(), [1, 64]);
    }
}

#[test]
fn gradients_of_a_reward_model_are_trl_s() {
    for name in CASES {
        let (case, lab) = (Case::new(name), Lab::new());
        lab.write("rows.jsonl", case.rows());
        let head = WantedHead {
            task: TaskType::SeqCls,
            num_labels: Some(1),
            pad_token_id: Some(2),
            ..WantedHead::default()
        };
        let files = ModelFiles::folder(case.base());
        let model = AutoModel::with_head(&files, &device(), Reading::Now, &head).unwrap();
        let model = PeftModel::from_pretrained(model, &case.folder, true).unwrap();
        let model = LanguageModel::from(without_dropout(model.train()));
        let config: RewardConfig = toml::from_str(&case.keys()).unwrap();
        let objective = Reward::new(config);
        let mut data = DataConfig::new(lab.path("rows.jsonl").to_str().unwrap());
        data.cache_dir = Some(lab.path("cache"));
        let tokenizer = Tokenizer::load(fixtures().join("preference/tokenizer.json")).unwrap();
        let find = &|_: &str| Ok(None);
        let data = DataSet::load_with(&data, Some(&tokenizer), limits(&model), 0, find, &objective)
            .unwrap();
        let batch = data.train.batch(&[0, 1, 2]);
        let gradients = (objective.loss(&model, &batch) / 3.0).backward();
        let peft = model.as_peft().unwrap();
        let expected = tensor_file::read_tensors(&case.folder.join("gradients.safetensors"));
        let expected = expected.unwrap();
        let found = peft.adapter_gradients("default", &gradients);
        assert_eq!(found.len(), expected.len(), "{name}");
        for (key, gradient) in found {
            let key = key.replace("score.", "score.modules_to_save.");
            let gradient = gradient.expect(&key).try_to_vec::<f32>().unwrap();
            let expected = expected[&key].try_to_vec::<f32>().unwrap();
            close(&format!("{name}: {key}"), &gradient, &expected).unwrap();
        }
    }
}
