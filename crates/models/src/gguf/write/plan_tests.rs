use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::check::small;
use super::plan::Plan;
use super::value::KeyValue;
use crate::Result;
use crate::gguf::Gguf;
use crate::gguf::architecture::Architecture;
use crate::gguf::config::config;
use crate::hub::ModelFiles;
use crate::weights::{self, Weights};

fn fixtures() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures").into()
}

/// The contents of a model folder, with settings that files cannot express replaced by llama.cpp's.
fn folder(name: &str) -> (Map<String, Value>, Box<dyn Weights>) {
    let folder = fixtures().join("families/base").join(name);
    let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let mut config: Map<String, Value> = serde_json::from_str(&text).unwrap();
    if name.starts_with("gemma") {
        config.insert("query_pre_attn_scalar".into(), config["head_dim"].clone());
    }
    if name == "exaone4" {
        config.insert("sliding_window".into(), Value::Null);
        config.remove("layer_types");
    }
    if name == "smollm3" {
        config.insert("no_rope_layers".into(), Value::Null);
        config.insert("no_rope_layer_interval".into(), json!(4));
    }
    (config, weights::open(&ModelFiles::folder(folder)).unwrap())
}

fn shapes(weights: &dyn Weights) -> BTreeMap<String, Vec<usize>> {
    let shape = |name: &str| (name.to_string(), weights.shape(name).unwrap().to_vec());
    weights.names().map(shape).collect()
}

fn values(weights: &dyn Weights, name: &str) -> Vec<f32> {
    weights.tensor(name).unwrap().try_to_vec().unwrap()
}

fn plan(config: &Map<String, Value>, weights: &dyn Weights) -> Result<Plan> {
    let read = |name: &str| Ok(values(weights, name));
    Plan::new(config, &shapes(weights), &read)
}

/// The values of a tensor in the file's arrangement.
fn planned(plan: &Plan, at: usize, weights: &dyn Weights) -> Vec<f32> {
    let tensor = &plan.tensors[at];
    let mut whole: Vec<f32> = Vec::new();
    for from in &tensor.from {
        if tensor.turned() {
            let turned = burn_peft::tensor_file::transpose(weights.tensor(from).unwrap());
            whole.extend(turned.try_to_vec::<f32>().unwrap());
        } else {
            whole.extend(values(weights, from));
        }
    }
    tensor.adjust(&mut whole);
    let width = whole.len() / tensor.shape[0];
    let rows = (0..tensor.shape[0]).map(|place| tensor.row(place));
    rows.flat_map(|row| whole[row * width..][..width].to_vec())
        .collect()
}

fn models() -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(fixtures().join("gguf/models")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    let mut models: Vec<_> = paths.map(|path| (name(&path), path)).collect();
    models.sort();
    // This one is from another folder, and rounded.
    models.retain(|(name, _)| name != "gpt2");
    models
}

#[test]
fn plans_are_the_files_that_the_reference_wrote() {
    for (name, path) in models() {
        let file = Gguf::open(path).unwrap();
        let (config, weights) = folder(&name);
        let plan =
            plan(&config, weights.as_ref()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let dir = tempfile::tempdir().unwrap();
        let small_file = dir.path().join("small.gguf");
        std::fs::write(&small_file, small(&plan, 3)).unwrap();
        let written = Gguf::open(small_file).unwrap();
        let own = format!("{}.", plan.architecture.name);
        let is_own = |key: &str| key.starts_with(&own) || key.starts_with("xielu.");
        let keys = |file: &Gguf| -> Vec<String> {
            let names = file.key_names().filter(|key| is_own(key));
            names.map(str::to_string).collect()
        };
        assert_eq!(keys(&written), keys(&file), "{name}");
        for key in keys(&file) {
            assert_eq!(written.value(&key), file.value(&key), "{name}: {key}");
        }
        let mut tensors: Vec<&str> = plan.tensors.iter().map(|tensor| &*tensor.name).collect();
        tensors.extend(plan.constants.iter().map(|(name, _)| &**name));
        tensors.sort();
        let there: Vec<&str> = file.tensors.keys().map(String::as_str).collect();
        assert_eq!(tensors, there, "{name}");
        for at in 0..plan.tensors.len() {
            let tensor = &plan.tensors[at];
            assert_eq!(
                tensor.shape, file.tensors[&tensor.name].shape,
                "{name}: {}",
                tensor.name
            );
            let found = planned(&plan, at, weights.as_ref());
            assert_eq!(
                found,
                file.values(&tensor.name).unwrap(),
                "{name}: {}",
                tensor.name
            );
        }
        for (constant, found) in &plan.constants {
            let expected = file.values(constant).unwrap();
            let mut both = found.iter().zip(&expected);
            assert!(
                both.all(|(a, b)| (a - b).abs() <= 1e-6 * b),
                "{name}: {found:?} {expected:?}"
            );
        }
    }
}

#[test]
fn gpt2_is_planned_with_its_matrices_turned() {
    let folder = fixtures().join("conformance/base-gpt2");
    let text = std::fs::read_to_string(folder.join("config.json")).unwrap();
    let config: Map<String, Value> = serde_json::from_str(&text).unwrap();
    let weights = weights::open(&ModelFiles::folder(folder)).unwrap();
    let plan = plan(&config, weights.as_ref()).unwrap();
    let file = Gguf::open(fixtures().join("gguf/models/gpt2.gguf")).unwrap();
    let round = |value: f32| half::bf16::from_f32(value).to_f32();
    for at in 0..plan.tensors.len() {
        let tensor = &plan.tensors[at];
        if tensor.name.starts_with("blk.1.") {
            continue;
        }
        let found = planned(&plan, at, weights.as_ref()).into_iter().map(round);
        let expected = file.values(&tensor.name).unwrap();
        assert_eq!(found.collect::<Vec<_>>(), expected, "{}", tensor.name);
    }
}

#[test]
fn what_a_file_cannot_say_is_named() {
    let with = |name: &str, key: &str, value: Value| {
        let (mut config, weights) = folder(name);
        config.insert(key.into(), value);
        plan(&config, weights.as_ref()).unwrap_err().to_string()
    };
    let rope = |rope: Value| with("llama_tied", "rope_parameters", rope);
    for (error, message) in [
        (
            with("gemma2", "query_pre_attn_scalar", json!(24)),
            "query_pre_attn_scalar = 24 cannot be expressed",
        ),
        (
            with("smollm3", "no_rope_layers", json!([1, 0])),
            "no_rope_layers",
        ),
        (
            with("llama_tied", "hidden_act", json!("gelu")),
            "hidden_act = \"gelu\" cannot be expressed in a GGUF file of architecture \"llama\"",
        ),
        (
            with("starcoder2", "hidden_act", json!("gelu")),
            "hidden_act = \"gelu\"",
        ),
        (
            rope(json!({"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4})),
            "rope_type = \"dynamic\"",
        ),
        (
            rope(json!({"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5})),
            "partly rotated heads are not supported",
        ),
        (with("llama_tied", "model_type", json!("lfm2")), "lfm2"),
    ] {
        assert!(error.contains(message), "{message}: {error}");
    }
}

/// A plan of a model that repeats the blocks of a folder.
fn deeper(config: &Map<String, Value>, weights: &dyn Weights, blocks: usize) -> Result<Plan> {
    let mut all = shapes(weights);
    for (name, shape) in shapes(weights) {
        if let Some(rest) = name.strip_prefix("model.layers.0.") {
            let name = |block: usize| format!("model.layers.{block}.{rest}");
            all.extend((0..blocks).map(|block| (name(block), shape.clone())));
        }
    }
    Plan::new(config, &all, &|name| Ok(values(weights, name)))
}

fn value(plan: &Plan, key: &str) -> Option<KeyValue> {
    let found = plan.keys.iter().find(|(name, _)| name == key);
    found.map(|(_, value)| value.clone())
}

#[test]
fn windows_are_said_where_llama_cpp_has_them() {
    // EXAONE 4's windows only in its model of 64 layers.
    let (mut config, weights) = folder("exaone4");
    let kinds = (0..64).map(|layer| match layer % 4 {
        3 => "full_attention",
        _ => "sliding_attention",
    });
    let mut kinds: Vec<&str> = kinds.collect();
    config.insert("num_hidden_layers".into(), json!(64));
    config.insert("sliding_window".into(), json!(6));
    config.insert("layer_types".into(), json!(kinds));
    let plan = deeper(&config, weights.as_ref(), 64).unwrap();
    let window = value(&plan, "exaone4.attention.sliding_window");
    assert_eq!(window, Some(KeyValue::U32(6)));
    assert_eq!(
        value(&plan, "exaone4.attention.sliding_window_pattern"),
        None
    );
    assert!(plan.notes.is_empty());
    kinds[3] = "sliding_attention";
    config.insert("layer_types".into(), json!(kinds));
    let error = deeper(&config, weights.as_ref(), 64)
        .unwrap_err()
        .to_string();
    assert!(error.contains("all layers except every n-th"), "{error}");
    // For Mistral it ignores them: the file is written, with a remark.
    let (config, weights) = folder("mistral");
    let notes = self::plan(&config, weights.as_ref()).unwrap().notes;
    assert_eq!(notes.len(), 1);
    assert!(
        notes[0].contains("texts of more than 6 tokens"),
        "{notes:?}"
    );
    // It also ignores Phi 3's, which files have.
    let (mut config, weights) = folder("phi3");
    config.insert("sliding_window".into(), json!(6));
    let plan = self::plan(&config, weights.as_ref()).unwrap();
    let window = value(&plan, "phi3.attention.sliding_window");
    assert_eq!(window, Some(KeyValue::U32(6)));
    assert_eq!(plan.notes.len(), 1);
}

#[test]
fn a_bias_that_llama_cpp_does_not_read_is_refused() {
    let (mut config, weights) = folder("qwen3");
    config.insert("attention_bias".into(), json!(true));
    let mut all = shapes(weights.as_ref());
    for (part, rows) in [
        ("q_proj", 32),
        ("k_proj", 16),
        ("v_proj", 16),
        ("o_proj", 32),
    ] {
        let name = |block| format!("model.layers.{block}.self_attn.{part}.bias");
        all.extend((0..2).map(|block| (name(block), vec![rows])));
    }
    let read = |name: &str| Ok(values(weights.as_ref(), name));
    let error = Plan::new(&config, &all, &read).unwrap_err().to_string();
    assert!(error.contains("o_proj.bias"), "{error}");
    assert!(error.contains("llama.cpp reads no such bias"), "{error}");
}

#[test]
fn heads_are_as_llama_cpp_has_them() {
    // A head of its own, where one is required.
    let (mut config, weights) = folder("olmo2");
    let mut all = shapes(weights.as_ref());
    let read = |name: &str| Ok(values(weights.as_ref(), name));
    config.insert("tie_word_embeddings".into(), json!(true));
    all.remove("lm_head.weight");
    let plan = Plan::new(&config, &all, &read).unwrap();
    let head = plan
        .tensors
        .iter()
        .find(|tensor| tensor.name == "output.weight");
    assert_eq!(head.unwrap().from, ["model.embed_tokens.weight"]);
    // No head, where it uses the embeddings.
    let (mut config, weights) = folder("cohere2");
    let mut all = shapes(weights.as_ref());
    config.insert("tie_word_embeddings".into(), json!(false));
    all.insert("lm_head.weight".into(), vec![96, 32]);
    let error = Plan::new(&config, &all, &read).unwrap_err().to_string();
    assert!(error.contains("tie_word_embeddings = false"), "{error}");
    // Heads that are together wider than the hidden states.
    let (mut config, weights) = folder("qwen2");
    let all = shapes(weights.as_ref());
    config.insert("head_dim".into(), json!(16));
    let error = Plan::new(&config, &all, &read).unwrap_err().to_string();
    assert!(
        error.contains("head_dim = 16 of 4 heads beside hidden_size = 32"),
        "{error}"
    );
}

#[test]
fn hunyuans_stretched_base_is_the_converters() {
    let (mut config, weights) = folder("hunyuan");
    let rope = json!({"rope_type": "dynamic", "alpha": 50.0, "factor": 1.0, "rope_theta": 1e4});
    config.insert("rope_parameters".into(), rope);
    let plan = plan(&config, weights.as_ref()).unwrap();
    // 10000 * 50 ** (8 / (8 - 2))
    let Some(KeyValue::F32(base)) = value(&plan, "hunyuan-dense.rope.freq_base") else {
        panic!("no base");
    };
    assert!((base - 1_842_015.7).abs() < 1.0, "{base}");
}

#[test]
fn the_usual_factors_of_positions_are_llama3() {
    let file = Gguf::open(fixtures().join("gguf/models/apertus.gguf")).unwrap();
    let of = Architecture::of("apertus").unwrap();
    let read = config(&file, of).unwrap();
    let (said, _) = folder("apertus");
    let (found, expected) = (&read["rope_parameters"], &said["rope_parameters"]);
    for key in [
        "rope_type",
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "rope_theta",
    ] {
        assert_eq!(found[key], expected[key], "{key}");
    }
}

#[test]
fn other_factors_of_positions_are_written_as_they_were_read() {
    let path = fixtures().join("gguf/models/llama_rope3.gguf");
    let file = Gguf::open(&path).unwrap();
    let read = config(&file, Architecture::of("llama").unwrap()).unwrap();
    assert_eq!(read["rope_parameters"]["rope_type"], "longrope");
    let weights = weights::open(&ModelFiles::gguf(path).unwrap()).unwrap();
    let plan = plan(&read, weights.as_ref()).unwrap();
    let factors = file.values("rope_freqs.weight").unwrap();
    assert_eq!(plan.constants, [("rope_freqs.weight".to_string(), factors)]);
}

#[test]
fn layers_without_positions_are_as_many_as_layers() {
    let (mut config, weights) = folder("smollm3");
    config.insert("no_rope_layers".into(), json!([1, 1, 1]));
    let error = plan(&config, weights.as_ref()).unwrap_err().to_string();
    assert!(
        error.contains("no_rope_layers has 3 entries and num_hidden_layers is 2"),
        "{error}"
    );
}
