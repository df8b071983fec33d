//! Methods that act at the model: with PEFT's numbers (`fixtures/prompt`), with a cache, in packed
//! rows, and in a training that is resumed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{Int, Tensor};
use burn_peft::config::Fields;
use burn_peft::methods::{
    PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, config_from_fields,
};
use burn_peft::{LoraConfig, Method, PeftModel, files, get_peft_model, tensor_file};
use burn_peft_models::{
    CausalLm, GPT2LMHeadModel, GenerationConfig, KvCache, LmBatch, ModelInput, generate,
};
use serde_json::Value;

use crate::common::Lab;
use crate::common::device;
use crate::conformance::{
    adapted, assert_close, assert_gradients, assert_losses, base, expected, fixtures, ints, logits,
};

/// Adapters with an encoder, which is not in PEFT's files.
fn cases() -> [PathBuf; 3] {
    ["p_tuning_mlp", "p_tuning_lstm", "prefix_projection"]
        .map(|name| fixtures().join("prompt").join(name))
}

fn manifest(case: &Path) -> Value {
    serde_json::from_slice(&fs::read(case.join("manifest.json")).unwrap()).unwrap()
}

#[test]
fn encoders_train_as_in_peft() {
    for case in cases() {
        let found = logits(&adapted(&case), &case);
        assert_close(&case, "logits", &found, &expected(&case, "logits"));
        assert_gradients(&case);
        assert_losses(&case);
    }
}

#[test]
fn encoders_have_pefts_names_counts_and_tree() {
    for case in cases() {
        let (model, manifest) = (adapted(&case), manifest(&case));
        let parameters = model.named_parameters();
        let trained = parameters.iter().filter(|p| p.requires_grad);
        let names: Vec<_> = trained.map(|p| p.name.as_str()).collect();
        assert_eq!(serde_json::json!(names), manifest["names"]);
        assert_eq!(parameters[0].name, "base_model.transformer.wte.weight");
        let counts = model.get_nb_trainable_parameters();
        let counts = serde_json::json!([counts.0, counts.1]);
        assert_eq!(counts[0], manifest["trainable"]);
        assert_eq!(counts[1], manifest["total"]);
        let tree = model.tree().to_string();
        let part = manifest["tree"].as_str().unwrap();
        assert!(tree.contains(part), "{part} is not in {tree}");
    }
}

/// The folder has the file that PEFT reads, and beside it a file to continue training from.
#[test]
fn encoders_are_saved_whole_and_as_what_they_make() {
    for case in cases() {
        let folder = tempfile::tempdir().unwrap();
        adapted(&case).save_pretrained(folder.path()).unwrap();
        let same = |name: &str| {
            let read = |folder: &Path| fs::read(folder.join(name)).unwrap();
            read(folder.path()) == read(&case)
        };
        assert!(same(files::CONFIG_NAME) && same(files::TRAINING_NAME));
        let prompt = |folder: &Path| -> Vec<f32> {
            let tensors = tensor_file::read_tensors(&folder.join(files::WEIGHTS_NAME)).unwrap();
            assert_eq!(tensors.len(), 1);
            tensors["prompt_embeddings"].try_to_vec().unwrap()
        };
        assert_close(&case, "saved", &prompt(folder.path()), &prompt(&case));

        // Without the encoder, as PEFT saves it, the encoder's output is trained.
        fs::remove_file(folder.path().join(files::TRAINING_NAME)).unwrap();
        let model = PeftModel::from_pretrained(base(), folder.path(), true).unwrap();
        let found = logits(&model, &case);
        assert_close(&case, "logits", &found, &expected(&case, "logits"));
        let all = model.named_parameters().into_iter();
        let trained: Vec<_> = all.filter(|p| p.requires_grad).map(|p| p.name).collect();
        assert_eq!(trained, ["prompt_encoder.default.embedding.weight"]);
        // No file of another adapter stays beside a saved one.
        fs::write(folder.path().join(files::TRAINING_NAME), "another's").unwrap();
        model.save_pretrained(folder.path()).unwrap();
        assert!(!folder.path().join(files::TRAINING_NAME).exists());
    }
}

#[test]
fn generation_goes_on_as_in_peft() {
    for case in cases() {
        let model = PeftModel::from_pretrained(base(), &case, false).unwrap();
        let (ids, [_, seq]) = ints(&case, "input_ids");
        let prompt: Vec<u32> = ids[..seq].iter().map(|&id| id as u32).collect();
        let settings = GenerationConfig {
            max_new_tokens: 6,
            repetition_penalty: 4.0,
            ..GenerationConfig::default()
        };
        let go_on = &mut |_| std::ops::ControlFlow::Continue(());
        let generated = generate(&model, &prompt, &settings, go_on).unwrap();
        assert_eq!(
            serde_json::json!(generated),
            manifest(&case)["generated"],
            "{case:?}"
        );
    }
}

/// An adapter of each kind that changes the output.
fn models() -> [PeftModel<GPT2LMHeadModel>; 2] {
    device().seed(3);
    let prompt = get_peft_model(base(), PromptTuningConfig::new(3)).unwrap();
    let prefix = get_peft_model(base(), PrefixTuningConfig::new(2)).unwrap();
    [prompt, prefix]
}

fn row(ids: &[i64]) -> Tensor<2, Int> {
    Tensor::<1, Int>::from_data(ids, &device()).unsqueeze()
}

const IDS: [i64; 7] = [5, 9, 1, 7, 44, 3, 8];

fn largest(a: Tensor<2>, b: Tensor<2>) -> f32 {
    (a - b).abs().max().into_scalar()
}

#[test]
fn the_cache_gives_the_logits_of_the_whole_row() {
    for model in models() {
        let whole = model.forward(ModelInput::new(row(&IDS)));
        let extra = whole.dims()[1] - IDS.len();
        let mut cache = KvCache::default();
        for (start, end) in [(0, 3), (3, 4), (4, 7)] {
            let input = ModelInput {
                // Whether positions are given or not, they count from the start of the text.
                position_ids: (start == 3).then(|| row(&[3])),
                attention_mask: (start == 4).then(|| row(&[1; 7])),
                ..ModelInput::new(row(&IDS[start..end]))
            };
            let logits = model.forward_cached(input, &mut cache);
            let at = extra + end - 1;
            let expected = whole.clone().slice([0..1, at..at + 1, 0..199]);
            assert!(largest(logits, expected.squeeze_dim(1)) < 1e-4);
        }
        assert_eq!(cache.len(), model.extra_positions() + IDS.len());
        assert_eq!(
            model.max_positions() + model.extra_positions(),
            base().max_positions()
        );
    }
}

#[test]
fn every_text_of_a_packed_row_sees_what_stands_before() {
    let device = device();
    for model in models() {
        let loss = |batch: LmBatch| model.loss(&batch).into_scalar::<f32>();
        let alone = |ids: &[i64]| {
            let ones = vec![1; ids.len()];
            LmBatch::new(ids, &ones, ids, [1, ids.len()], &device).unwrap()
        };
        let apart = loss(alone(&IDS[..4])) + loss(alone(&IDS[4..]));
        let mut ids = IDS.to_vec();
        ids.push(0);
        let mut labels = ids.clone();
        labels[7] = -100;
        let segments = [1, 1, 1, 1, 2, 2, 2, 0];
        let packed = LmBatch::packed(&ids, &segments, &labels, [1, 8], &device).unwrap();
        let together = loss(packed);
        assert!((together - apart).abs() < 1e-3, "{together} and {apart}");
        let left = LmBatch::new(&ids, &[1, 1, 1, 1, 1, 1, 1, 0], &labels, [1, 8], &device);
        let whole = loss(alone(&IDS));
        assert!((loss(left.unwrap()) - whole).abs() < 1e-3);
        // If the adapter is disabled, the output is the base's.
        let plain = model.disable_adapter(|model| model.forward(ModelInput::new(row(&IDS))));
        assert_eq!(
            plain.to_data(),
            base().forward(ModelInput::new(row(&IDS))).to_data()
        );
    }
}

#[test]
fn a_prompt_starts_from_the_vocabulary_or_a_text() {
    let table: Tensor<2> = base().transformer.wte.active_weight();
    let of_table: Vec<f32> = table.into_data().try_to_vec().unwrap();
    let prompt = |config: PromptTuningConfig| -> Vec<Vec<f32>> {
        let model = get_peft_model(base(), config).unwrap();
        let (_, data) = model.adapter_state_dict("default").remove(0);
        let values: Vec<f32> = data.try_to_vec().unwrap();
        values.chunks(64).map(<[f32]>::to_vec).collect()
    };
    device().seed(5);
    let sampled = prompt(PromptTuningConfig::new(6).with_sampled_vocabulary());
    let is_token = |row: &Vec<f32>| of_table.chunks(64).any(|token| token == row);
    assert!(sampled.iter().all(is_token) && sampled[0] != sampled[1]);
    assert!(!prompt(PromptTuningConfig::new(2)).iter().any(is_token));
    // The text has two tokens, which are repeated.
    let text = prompt(PromptTuningConfig::new(5).with_text("ab", "tokenizer", vec![7, 12]));
    let token = |id: usize| of_table[id * 64..(id + 1) * 64].to_vec();
    assert_eq!(text, [7, 12, 7, 12, 7].map(token));
}

#[test]
fn several_adapters_and_what_cannot_be() {
    let [mut model, _] = models();
    let first = model.extra_positions();
    model
        .add_adapter("prefix", Arc::new(PrefixTuningConfig::new(2)))
        .unwrap();
    model
        .add_adapter("lora", Arc::new(LoraConfig::new()))
        .unwrap();
    assert_eq!(model.extra_positions(), first);
    // A method at the model and one at the layers can be active together.
    model.set_adapter(&["prefix", "lora"]).unwrap();
    assert_eq!(model.extra_positions(), 2);
    let error = model.set_adapter(&["default", "prefix"]).unwrap_err();
    assert!(error.to_string().contains("only one"), "{error}");
    let error = model.merge_adapter(false).unwrap_err().to_string();
    assert!(error.contains("PREFIX_TUNING"), "{error}");
    model.delete_adapter("prefix").unwrap();
    assert_eq!(model.extra_positions(), 0);

    // A model that cannot take anything before its texts.
    let net = crate::adapters::Net::new();
    let error = get_peft_model(net, PromptTuningConfig::new(2)).unwrap_err();
    let error = error.to_string();
    assert!(
        error.contains("PROMPT_TUNING") && error.contains("LORA"),
        "{error}"
    );
}

#[test]
fn bad_configurations_name_the_key() {
    let error = |text: &str| {
        let read = Fields::parse(text, "a.json").and_then(config_from_fields);
        let attached = read.and_then(|config| PeftModel::new(base(), "default", config));
        attached.unwrap_err().to_string()
    };
    for (keys, parts) in [
        (
            r#""peft_type": "PROMPT_TUNING""#,
            ["num_virtual_tokens", "missing"],
        ),
        (
            r#""peft_type": "PROMPT_TUNING", "num_virtual_tokens": 0"#,
            ["num_virtual_tokens = 0", "positive"],
        ),
        (
            r#""peft_type": "PREFIX_TUNING", "num_virtual_tokens": -1"#,
            ["num_virtual_tokens = -1", "not negative"],
        ),
        (
            r#""peft_type": "P_TUNING", "num_virtual_tokens": 64"#,
            ["num_virtual_tokens = 64", "positions"],
        ),
        (
            r#""peft_type": "P_TUNING", "num_virtual_tokens": 2, "target_modules": ["c_attn"]"#,
            ["target_modules = [\"c_attn\"]", "adapts no layers"],
        ),
        (
            r#""peft_type": "P_TUNING", "num_virtual_tokens": 2, "token_dim": 65"#,
            ["token_dim = 65", "64"],
        ),
        (
            r#""peft_type": "PREFIX_TUNING", "num_virtual_tokens": 2, "num_attention_heads": 3"#,
            ["num_attention_heads = 3", "4"],
        ),
        (
            r#""peft_type": "P_TUNING", "num_virtual_tokens": 2, "encoder_hidden_size": 0"#,
            ["encoder_hidden_size = 0", "at least 1"],
        ),
        (
            r#""peft_type": "P_TUNING", "num_virtual_tokens": 2, "encoder_dropout": 1.5"#,
            ["encoder_dropout = 1.5", "below 1"],
        ),
        (
            r#""peft_type": "P_TUNING", "num_virtual_tokens": 2, "encoder_reparameterization_type": "GRU""#,
            ["encoder_reparameterization_type = \"GRU\"", "LSTM"],
        ),
        (
            r#""peft_type": "PREFIX_TUNING", "num_virtual_tokens": 2, "init_weights": "one""#,
            ["init_weights = \"one\"", "zero"],
        ),
        (
            r#""peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2, "prompt_tuning_init": "TEXT""#,
            ["prompt_tuning_init", "prompt_tuning_init_text"],
        ),
        (
            r#""peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2, "prompt_tuning_init": "TEXT",
               "prompt_tuning_init_text": "ab""#,
            ["prompt_tuning_init", "tokenizer_name_or_path"],
        ),
        (
            r#""peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2, "tokenizer_kwargs": {"a": 1}"#,
            ["tokenizer_kwargs", "TEXT"],
        ),
        (
            r#""peft_type": "PROMPT_TUNING", "num_virtual_tokens": 2,
               "num_transformer_submodules": 2"#,
            ["num_transformer_submodules = 2", "1"],
        ),
    ] {
        let error = error(&format!("{{{keys}}}"));
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    }
}

/// From a training file and a checkpoint to the commands that use the result.
#[test]
fn the_commands_take_them_like_any_adapter() {
    let lab = Lab::new();
    let run = |name: &str, keys: &str| {
        let text = lab.text("train.toml");
        let (head, _) = text.split_once("[peft]").unwrap();
        let training = "[training]\nmax_steps = 4\nsave_steps = 2\nlearning_rate = 0.05\n\
             per_device_train_batch_size = 2\nlogging_steps = 1\n";
        let file = format!("{name}.toml");
        let text = format!("{head}[peft]\n{keys}\n{training}output_dir = \"{name}\"\n");
        lab.write(&file, text);
        lab.ok(&["train", &file])
    };
    for (name, keys) in [
        (
            "prompt",
            "peft_type = 'PROMPT_TUNING'\nnum_virtual_tokens = 4\nprompt_tuning_init = 'TEXT'\n\
             prompt_tuning_init_text = 'a dog'\ntokenizer_name_or_path = 'model'",
        ),
        (
            "lstm",
            "peft_type = 'P_TUNING'\nnum_virtual_tokens = 4\n\
             encoder_reparameterization_type = 'LSTM'\nencoder_hidden_size = 8\n\
             encoder_dropout = 0.1",
        ),
        (
            "prefix",
            "peft_type = 'PREFIX_TUNING'\nnum_virtual_tokens = 4\nprefix_projection = true\n\
             encoder_hidden_size = 8\ninit_weights = 'zero'",
        ),
    ] {
        let out = run(name, keys);
        assert!(out.contains(": num_virtual_tokens = 4"), "{out}");
        assert!(out.contains("\n  prompt_encoder.default."), "{out}");
        let weights = format!("{name}/adapter_model.safetensors");
        let whole = lab.read(&weights);
        let file = format!("{name}.toml");
        let checkpoint = format!("{name}/checkpoint-2");
        lab.ok(&["train", &file, "--resume", &checkpoint]);
        assert!(
            lab.read(&weights) == whole,
            "{name} was not resumed exactly"
        );

        let adapter = ["--model", "model", "--adapter", name];
        let with = |command: &'static str, more: &[&'static str]| {
            let mut args = vec![command];
            args.extend(adapter);
            args.extend(more);
            args.into_iter().map(String::from).collect::<Vec<_>>()
        };
        let call = |args: Vec<String>| {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            lab.peft(&args)
        };
        let eval = call(with("eval", &["--data", "train.jsonl", "--json"]));
        let eval: Value = serde_json::from_str(&eval.out).unwrap();
        assert!(eval["loss"].as_f64().unwrap().is_finite());
        let text = call(with(
            "generate",
            &["--prompt", "the cat", "--max-new-tokens", "5"],
        ));
        assert_eq!(text.code, Some(0), "{text:?}");
        let inspect = call(with("inspect", &[]));
        assert!(
            inspect
                .out
                .contains("prompt_encoder.default.embedding.weight")
        );
        call(with("merge", &["--output", "merged"])).failed(&["cannot be merged"]);
        let more = call(with(
            "generate",
            &["--prompt", "a", "--max-new-tokens", "28"],
        ));
        more.failed(&["28", "max_new_tokens"]);
        assert_eq!(lab.names("merged"), Vec::<String>::new());
    }
}

/// Only the tensors of the method are trained, the encoder's included.
#[test]
fn the_base_stays_frozen() {
    struct Trained(usize);
    impl ModuleMapper for Trained {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            self.0 += usize::from(param.is_require_grad());
            param
        }
    }
    for (config, tensors) in [
        (Arc::new(PromptTuningConfig::new(2)) as Arc<dyn Method>, 1),
        (Arc::new(PromptEncoderConfig::new(2)), 7),
        (Arc::new(PrefixTuningConfig::new(2).with_projection(4)), 5),
    ] {
        let model = PeftModel::new(base(), "default", config).unwrap().train();
        let mut trained = Trained(0);
        model.map(&mut trained);
        assert_eq!(trained.0, tensors);
    }
}
