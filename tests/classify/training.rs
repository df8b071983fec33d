//! Gradients and losses of classifiers, and the commands that use them.

use burn::module::Module;
use burn::optim::GradientsParams;
use burn_peft_data::{Batch, Classes, DataConfig, DataSet, LabelKind, Limits, Tags, Task};
use burn_peft_models::{CausalLm, LanguageModel, ProblemType};
use burn_peft_train::{Classify, Objective, Tag};
use serde_json::Value;

use super::{Case, each};
use crate::common::{Lab, adapted, anew, device_name, values};
use crate::conformance::without_dropout;
use crate::families::close;
use crate::steps;

fn is_of_texts(case: &Case) -> bool {
    !case.name.ends_with("_token")
}

fn task(model: &impl CausalLm) -> Classes {
    let labels = model.head().labels;
    let kind = match labels.problem_type {
        Some(ProblemType::Regression) => LabelKind::Number,
        Some(ProblemType::MultiLabelClassification) => LabelKind::Several,
        _ => LabelKind::One,
    };
    Classes {
        names: labels.names,
        kind,
        takes_unlabelled: false,
    }
}

/// The rows of a case as one batch.
fn batch(case: &Case, task: &dyn Task, vocab_size: usize) -> Batch {
    let lab = Lab::new();
    let mut config = DataConfig::new(case.folder.join("rows.jsonl").to_str().unwrap());
    config.cache_dir = Some(lab.path("cache"));
    let limits = Limits {
        max_positions: 64,
        has_last_position: true,
        positions_key: "n_positions",
        adapter_positions: 0,
        vocab_size,
    };
    let data = DataSet::load_with(&config, None, limits, 0, &|_| Ok(None), task).unwrap();
    data.train.batch(&[0, 1, 2])
}

/// The gradients of the first of eight steps, and the losses of all eight.
fn eight_steps<O: Objective<LanguageModel>>(
    case: &Case,
    objective: impl Fn(&LanguageModel) -> O,
) -> Result<(), String> {
    let model = without_dropout(LanguageModel::from(case.adapted()).train());
    let objective = objective(&model);
    let batch = batch(case, &objective, model.vocab_size());
    let count = objective.count(&batch) as f64;
    let (losses, found) = steps::eight_steps(
        model,
        |model| objective.loss(model, &batch) / count,
        |model, gradients| {
            let peft = model.as_peft().unwrap();
            peft.adapter_gradients("default", gradients)
        },
    );
    for (key, gradient) in found {
        let saved = |head: &str| format!("{head}.modules_to_save.");
        let key = key.replace("score.", &saved("score"));
        let key = key.replace("classifier.", &saved("classifier"));
        let key = if key.ends_with("lora_magnitude_vector") {
            format!("{key}.weight")
        } else {
            key
        };
        let gradient = gradient.expect(&key).try_to_vec::<f32>().unwrap();
        close(&key, &gradient, &case.expected(&format!("grad.{key}")))?;
    }
    close("train_losses", &losses, &case.expected("train_losses"))
}

#[test]
fn gradients_and_eight_losses_of_a_classifier() {
    each(|case| {
        if is_of_texts(case) {
            eight_steps(case, |model| Classify::new(task(model)))
        } else {
            Ok(())
        }
    });
}

/// Writes `train.toml`, which trains a case as it was trained in Python.
pub fn write_training(case: &Case, lab: &Lab) {
    let toml = format!(
        "model = {:?}\nadapter = {:?}\n[data]\ntrain = {:?}\nvalidation = {:?}\n[training]\n\
         objective = \"classify\"\noutput_dir = \"out\"\nlearning_rate = 1e-3\nweight_decay = 0.01\n\
         per_device_train_batch_size = 3\nmax_steps = 8\nlr_scheduler_type = \"constant\"\n\
         logging_steps = 1\nmax_grad_norm = 0\ntrain_sampling_strategy = \"sequential\"\n",
        case.base,
        case.folder,
        case.folder.join("rows.jsonl"),
        case.folder.join("rows.jsonl"),
    );
    lab.write("train.toml", toml);
}

/// The losses that a run has logged.
pub fn logged_losses(lab: &Lab) -> Vec<f32> {
    let losses = lab.losses("out").into_iter();
    losses.map(|loss| loss as f32).collect()
}

#[test]
fn a_classifier_is_trained_evaluated_and_asked() {
    if device_name().is_some() {
        return;
    }
    each(|case| {
        // The other cases have dropout.
        if !["llama_all_linear", "qwen3_seq", "gemma_seq"].contains(&case.name.as_str()) {
            return Ok(());
        }
        let lab = Lab::new();
        write_training(case, &lab);
        let said = lab.ok(&["train", "train.toml"]);
        assert!(said.contains("accuracy"), "{said}");
        let losses = logged_losses(&lab);
        close("logged losses", &losses, &case.expected("train_losses"))?;
        let (base, rows) = (
            case.base.display().to_string(),
            case.folder.join("rows.jsonl"),
        );
        let (rows, folder) = (
            rows.display().to_string(),
            case.folder.display().to_string(),
        );
        let on_rows = ["--model", &base, "--adapter", &folder, "--data", &rows];
        let found = lab.ok_json(&[&["eval", "--json"], &on_rows[..]].concat());
        let loss = found["loss"].as_f64().unwrap() as f32;
        close("loss", &[loss], &case.expected("train_losses")[..1])?;
        let predict = ["predict", "--output", "labels.jsonl"];
        lab.ok(&[&predict, &on_rows[..]].concat());
        let lines = lab.text("labels.jsonl");
        let lines: Vec<Value> = values(&lines);
        let logits = case.expected("logits");
        let labels = logits.len() / 3;
        let names = case.model().head().labels.names;
        let mut right = 0;
        for (row, (line, logits)) in lines.iter().zip(logits.chunks(labels)).enumerate() {
            assert_eq!(line["row"], row + 1);
            let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
            let found = names
                .iter()
                .map(|name| line["probabilities"][name].as_f64().unwrap() as f32);
            let expected: Vec<f32> = logits.iter().map(|logit| logit.exp() / sum).collect();
            close("probabilities", &found.collect::<Vec<_>>(), &expected)?;
            right += usize::from(line["is_right"] == true);
        }
        assert_eq!(lines.len(), 3);
        let accuracy = found["accuracy"].as_f64().unwrap();
        assert!((accuracy - right as f64 / 3.0).abs() < 1e-9, "{found}");
        Ok(())
    });
}

#[test]
fn labels_are_told_from_rows_and_named_in_the_adapter() {
    let lab = Lab::new();
    let texts = [
        "the cat sat",
        "the dog sat",
        "a cat and a dog",
        "the mat",
        "a cat",
        "a dog",
    ];
    let row = |(index, text): (usize, &&str)| {
        let label = if index % 2 == 0 { "up" } else { "down" };
        format!("{{\"text\": \"{text}\", \"label\": \"{label}\"}}\n")
    };
    lab.write(
        "rows.jsonl",
        texts.iter().enumerate().map(row).collect::<String>(),
    );
    let toml = "model = \"model\"\n[data]\ntrain = \"rows.jsonl\"\n[peft]\npeft_type = \"LORA\"\n\
                r = 2\n[training]\nobjective = \"classify\"\noutput_dir = \"out\"\nmax_steps = 2\n";
    lab.write("train.toml", toml);
    lab.ok(&["train", "train.toml"]);
    let config = lab.json("out/adapter_config.json");
    assert_eq!(
        config["id2label"],
        serde_json::json!({"0": "down", "1": "up"})
    );
    assert_eq!(
        config["modules_to_save"],
        serde_json::json!(["classifier", "score"])
    );
    let saved = lab.text("out/config.toml");
    assert!(saved.contains("labels = [\"down\", \"up\"]"), "{saved}");
    let card = lab.text("out/README.md");
    assert!(
        card.contains("id2label = {0: \"down\", 1: \"up\"}"),
        "{card}"
    );
    lab.ok(&adapted("convert", &["--output", "lora"]));
    let converted = lab.json("lora/adapter_config.json");
    for key in ["id2label", "label2id", "problem_type", "pad_token_id"] {
        assert_eq!(converted[key], config[key], "{key}");
    }
    let pooled = adapted("predict", &["--data", "rows.jsonl"]);
    lab.fails(
        &[&pooled[..], &["--pooling", "mean"]].concat(),
        &["out is the adapter of a classifier (task_type = \"SEQ_CLS\")"],
    );
    lab.ok(&["new", "mine", "--train", "rows.jsonl"]);
    let new = lab.text("mine.toml");
    assert!(new.contains("\nobjective = \"classify\"\n"), "{new}");
    assert!(
        new.contains("\nmodel = \"distilbert/distilbert-base-uncased\"\n"),
        "{new}"
    );
    lab.write(
        "tags.jsonl",
        "{\"tokens\": [\"a\", \"cat\"], \"ner_tags\": [0, 1]}\n",
    );
    lab.write(
        "alike.jsonl",
        "{\"sentence1\": \"a\", \"sentence2\": \"b\", \"score\": 0.5}\n",
    );
    lab.write("faq.jsonl", "{\"question\": \"a\", \"answer\": \"b\"}\n");
    for (file, objective) in [
        ("tags", Some("tag")),
        ("alike", Some("embed")),
        ("faq", None),
    ] {
        lab.ok(&["new", file, "--train", &format!("{file}.jsonl")]);
        let new = lab.text(&format!("{file}.toml"));
        match objective {
            Some(name) => assert!(
                new.contains(&format!("\nobjective = \"{name}\"\n")),
                "{new}"
            ),
            None => assert!(new.contains("task_type = \"CAUSAL_LM\""), "{new}"),
        }
    }
    // `peft data` detects the labels from the rows, too.
    for data in ["rows.jsonl --objective classify", "train.toml"] {
        let data = data.split(' ').chain(["--model", "model"]);
        lab.ok(&["data"].into_iter().chain(data).collect::<Vec<_>>());
    }
    let predict = adapted("predict", &["--data", "rows.jsonl"]);
    // If the output cannot be written, nothing is computed.
    lab.fails(
        &[&predict[..], &["--output", "rows.jsonl/labels.jsonl"]].concat(),
        &["rows.jsonl"],
    );
    lab.fails(
        &[&predict[..], &["--output", "model"]].concat(),
        &["model is a folder"],
    );
    let lines = lab.ok(&predict);
    assert_eq!(lines.lines().count(), 6);
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert!(
        ["up", "down"].contains(&first["label"].as_str().unwrap()),
        "{first}"
    );
    // If the model does not know a row's label, the line does not say whether the prediction is
    // right.
    lab.write(
        "others.jsonl",
        "{\"text\": \"a cat\", \"label\": \"left\"}\n",
    );
    let others = [&predict[..6], &["others.jsonl"]].concat();
    let other: Value = serde_json::from_str(&lab.ok(&others)).unwrap();
    assert!(other.get("is_right").is_none(), "{other}");
    lab.ok(&adapted("merge", &["--output", "merged"]));
    let merged = ["predict", "--model", "merged", "--data", "rows.jsonl"];
    let again: Value = serde_json::from_str(lab.ok(&merged).lines().next().unwrap()).unwrap();
    assert_eq!(again["label"], first["label"]);
    for (rows, said) in [
        (
            "{\"text\": \"a cat\", \"label\": \"up\"}\n",
            "all rows have the same label (up)",
        ),
        ("{\"text\": \"a cat\"}\n", "no row has a label"),
        (
            "{\"text\": \"a cat\", \"label\": \"up\"}\n{\"text\": \"a dog\", \"label\": 1}\n",
            "rows.jsonl line 2 has a label of another kind",
        ),
    ] {
        lab.write("rows.jsonl", rows);
        lab.fails(&["train", "train.toml", "--force"], &[said]);
    }
    lab.write("rows.jsonl", "{\"text\": \"a cat\", \"label\": \"left\"}\n");
    let told = anew("train.toml", &["classify.labels=[\"up\",\"down\"]"]);
    lab.fails(
        &told,
        &["rows.jsonl line 1 has the label \"left\": the 2 labels are up, down"],
    );
    let packed = anew("train.toml", &["data.packing=true"]);
    lab.fails(&packed, &["data.packing = true"]);
    lab.fails(&adapted("generate", &["--prompt", "a"]), &["peft predict"]);
}

#[test]
fn gradients_and_eight_losses_of_a_classifier_of_tokens() {
    each(|case| {
        if is_of_texts(case) {
            return Ok(());
        }
        eight_steps(case, |model| {
            Tag::new(Tags {
                names: model.head().labels.names,
                ..Tags::default()
            })
        })
    });
}

/// Checkpointing, with one block of the model at a time, gives the same gradients up to rounding.
#[test]
fn checkpointed_gradients_of_classifiers() {
    each(|case| {
        if !["llama_all_linear", "gpt2_seq", "bert_seq", "distilbert_seq"]
            .contains(&case.name.as_str())
        {
            return Ok(());
        }
        let model = without_dropout(LanguageModel::from(case.adapted()).train());
        let objective = Classify::new(task(&model));
        let batch = batch(case, &objective, model.vocab_size());
        let loss = objective.loss(&model, &batch) * 0.5;
        let value = loss.clone().inner().into_scalar::<f32>();
        let plain = GradientsParams::from_grads(loss.backward(), &model);
        let other = objective
            .checkpointed_backward(&model, &batch, 0.5)
            .unwrap();
        close("loss", &[other.loss.into_scalar::<f32>()], &[value])?;
        steps::assert_same_gradients((&model, &other.gradients), (&model, &plain), 1e-4);
        Ok(())
    });
}
