//! Files, counts and printed trees.

use super::*;

/// Every tensor of a folder, with its shape.
fn weights(folder: &Path) -> BTreeMap<String, (Vec<usize>, Vec<f32>)> {
    let mut weights = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "safetensors") {
            for (name, data) in tensor_file::read_tensors(&path).unwrap() {
                let shape = data.shape().to_vec();
                weights.insert(name, (shape, data.try_into_vec().unwrap()));
            }
        }
    }
    weights
}

#[test]
fn files_are_written_back_as_they_were() {
    each(|case| {
        let folder = tempfile::tempdir().unwrap();
        case.adapted().save_pretrained(folder.path()).unwrap();
        for name in [files::WEIGHTS_NAME, files::CONFIG_NAME] {
            let bytes = |folder: &Path| fs::read(folder.join(name)).unwrap();
            if bytes(folder.path()) != bytes(&case.folder) {
                return Err(format!("{name} differs"));
            }
        }
        let folder = tempfile::tempdir().unwrap();
        case.model().save_pretrained(folder.path()).unwrap();
        let (written, original) = (weights(folder.path()), weights(&case.base));
        let names = |weights: &BTreeMap<_, _>| weights.keys().cloned().collect::<Vec<String>>();
        if names(&written) != names(&original) {
            return Err(format!("tensors {:?}", names(&written)));
        }
        if let Some((name, _)) = written
            .iter()
            .find(|(name, data)| original[*name] != **data)
        {
            return Err(format!("{name} differs"));
        }
        let text = fs::read_to_string(folder.path().join("config.json")).unwrap();
        let mut config: Value = serde_json::from_str(&text).unwrap();
        config["dtype"] = case.config()["dtype"].clone();
        if config == case.config() {
            Ok(())
        } else {
            Err(format!("config.json is {config}"))
        }
    });
}

#[test]
fn counts_and_the_printed_tree() {
    each(|case| {
        let text = fs::read_to_string(case.folder.join("manifest.json")).unwrap();
        let manifest: Value = serde_json::from_str(&text).unwrap();
        let count = |key: &str| manifest[key].as_u64().unwrap() as usize;
        let counts = case.adapted().get_nb_trainable_parameters();
        if counts != (count("trainable"), count("total")) {
            return Err(format!("{counts:?} parameters"));
        }
        let Ok(expected) = fs::read_to_string(case.folder.join("tree.txt")) else {
            return Ok(());
        };
        let found = format!("{}\n", case.model().tree());
        let differs = found.lines().zip(expected.lines()).find(|(a, b)| a != b);
        match differs {
            None if found == expected => Ok(()),
            Some((found, expected)) => Err(format!("{found} in place of {expected}")),
            None => Err(format!("the tree is {found}")),
        }
    });
}

/// Gemma 3's larger models also take images. Their text part lies deeper in the files, and is saved
/// as a model of its own.
#[test]
fn a_text_part_is_a_model() {
    let base = root().join("base/gemma3");
    let whole = tempfile::tempdir().unwrap();
    let config = fs::read_to_string(base.join("config.json")).unwrap();
    let text: Value = serde_json::from_str(&config).unwrap();
    let config = serde_json::json!({
        "architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3",
        "eos_token_id": [1, 7], "vision_config": { "hidden_size": 8 }, "text_config": text,
    });
    fs::write(whole.path().join("config.json"), config.to_string()).unwrap();
    let tensors = tensor_file::read_tensors(&base.join("model.safetensors")).unwrap();
    let vision = TensorData::new(vec![1.0f32; 2], [2]);
    let deeper = |(name, data): (String, TensorData)| {
        (name.replacen("model.", "language_model.model.", 1), data)
    };
    let tensors = tensors.into_iter().map(deeper);
    let tensors = tensors.chain([("vision_tower.norm.weight".to_string(), vision)]);
    let file = whole.path().join("model.safetensors");
    tensor_file::write_tensors(&file, tensors.collect()).unwrap();

    let load = |folder: &Path| AutoModel::from_files(&ModelFiles::folder(folder), &device());
    let model = load(whole.path()).unwrap();
    let input = || {
        let ids = Tensor::<2, Int>::from_data([[3, 14, 15, 9, 2, 6, 5]], &device());
        ModelInput::new(ids)
    };
    let expected = numbers(load(&base).unwrap().forward(input()));
    assert_eq!(numbers(model.forward(input())), expected);
    assert_eq!(model.common().eos_token_ids(), [1, 7]);
    let tree = model.tree().to_string();
    assert!(
        tree.contains("(language_model): Gemma3TextModel("),
        "{tree}"
    );
    let mut paths = Vec::new();
    model.visit_slots(&mut Default::default(), &mut |path, _| {
        paths.push(path.to_string())
    });
    let attention = "model.language_model.layers.0.self_attn.q_proj".to_string();
    assert!(paths.contains(&attention), "{paths:?}");

    let saved = tempfile::tempdir().unwrap();
    model.save_pretrained(saved.path()).unwrap();
    assert_eq!(weights(saved.path()), weights(&base));
    assert_eq!(
        numbers(load(saved.path()).unwrap().forward(input())),
        expected
    );
}

#[test]
fn families_that_come_later_are_named() {
    for (folder, family) in ["lfm2", "qwen3_5", "qwen3_moe", "gemma4"].iter().zip(LATER) {
        let config = root().join("base").join(folder).join("config.json");
        let error = AutoConfig::from_file(config).unwrap_err().to_string();
        for part in [family, "not supported", "\"llama\"", "\"gpt2\""] {
            assert!(error.contains(part), "{error}");
        }
    }
}
