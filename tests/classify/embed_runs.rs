//! Embeddings from training to search, by the command line.

use serde_json::Value;

use crate::common::{Lab, adapted, anew, jsonl, values, with_keys};

/// Texts of three kinds. Texts of the same kind belong together.
const KINDS: [[&str; 4]; 3] = [
    ["the cat sat", "a cat ran", "my cat ate", "one cat slept"],
    [
        "red as a rose",
        "red as wine",
        "red as fire",
        "red as blood",
    ],
    ["two and two", "two or three", "two by two", "two at once"],
];

/// Rows of two texts of a kind and one of another kind.
fn rows() -> Vec<[&'static str; 3]> {
    let mut rows = Vec::new();
    for (kind, texts) in KINDS.iter().enumerate() {
        for (index, text) in texts.iter().enumerate() {
            let other = texts[(index + 1) % texts.len()];
            rows.push([text, other, KINDS[(kind + 1) % 3][index]]);
        }
    }
    rows
}

fn config(lab: &Lab, more: &str) {
    let toml = format!(
        "model = \"model\"\n[data]\ntrain = \"rows.jsonl\"\nvalidation = \"rows.jsonl\"\n[peft]\n\
         peft_type = \"LORA\"\nr = 4\ntarget_modules = \"all-linear\"\n[training]\n\
         objective = \"embed\"\noutput_dir = \"out\"\nmax_steps = 24\nlearning_rate = 1e-2\n\
         per_device_train_batch_size = 6\nsave_steps = 8\n{more}"
    );
    lab.write("train.toml", toml);
}

/// The vectors in a file of lines.
fn vectors(text: &str) -> Vec<Vec<f64>> {
    let lines = values(text).into_iter();
    let numbers = |line: Value| {
        let numbers = line["embedding"].as_array().unwrap().iter();
        numbers.map(|number| number.as_f64().unwrap()).collect()
    };
    lines.map(numbers).collect()
}

#[test]
fn embeddings_are_trained_measured_and_searched() {
    let lab = Lab::new();
    let triplets = rows().into_iter().map(|[anchor, positive, negative]| {
        serde_json::json!({"anchor": anchor, "positive": positive, "negative": negative})
    });
    lab.write("rows.jsonl", jsonl(triplets));
    config(
        &lab,
        "metric_for_best_model = \"ndcg@10\"\nload_best_model_at_end = true\neval_strategy = \"steps\"\neval_steps = 8\n\
         [embed]\nnormalize = true\nprompts = { anchor = \"find: \" }\nmax_seq_length = 12\n",
    );
    let said = lab.ok(&["train", "train.toml"]);
    for name in ["recall@1", "recall@10", "ndcg@10", "mrr@10", "accuracy"] {
        assert!(said.contains(name), "{said}");
    }
    assert!(
        said.contains("peft predict --model model --adapter out"),
        "{said}"
    );
    let config = lab.json("out/adapter_config.json");
    assert_eq!(config["task_type"], "FEATURE_EXTRACTION");
    let pooling = lab.json("out/1_Pooling/config.json");
    assert_eq!(pooling["pooling_mode_mean_tokens"], true);
    assert_eq!(
        lab.json("out/sentence_bert_config.json")["max_seq_length"],
        12
    );
    assert_eq!(lab.json("out/modules.json").as_array().unwrap().len(), 3);
    assert!(lab.path("out/tokenizer.json").exists());
    // A checkpoint gives the same vectors as the result, and so does the adapter after a conversion
    // or combination.
    lab.ok(&adapted("convert", &["--output", "lora"]));
    lab.ok(&[
        "combine",
        "--adapter",
        "out:0.5",
        "--adapter",
        "lora:0.5",
        "--method",
        "svd",
        "--output",
        "both",
    ]);
    for folder in ["out/checkpoint-24", "lora", "both"] {
        for name in [
            "1_Pooling/config.json",
            "2_Normalize/config.json",
            "modules.json",
        ] {
            let place = format!("{folder}/{name}");
            assert_eq!(
                lab.read(&place),
                lab.read(&format!("out/{name}")),
                "{place}"
            );
        }
    }
    assert_eq!(
        lab.read("lora/tokenizer.json"),
        lab.read("out/tokenizer.json")
    );
    let modules = lab.json("lora/modules.json");
    let modules: Vec<_> = modules.as_array().unwrap()[..2].to_vec();
    lab.write("lora/modules.json", Value::from(modules).to_string());
    lab.fails(
        &[
            "combine",
            "--adapter",
            "out",
            "--adapter",
            "lora",
            "--output",
            "bad",
        ],
        &["out and lora make vectors of texts in different ways"],
    );
    assert!(!lab.path("bad").exists());
    lab.fails(
        &anew("train.toml", &["embed.max_seq_length=9999"]),
        &["embed.max_seq_length is 9999, more than the model's n_positions "],
    );
    lab.fails(
        &anew(
            "train.toml",
            &["embed.columns=[\"nope\", \"anchor\"]", "embed.prompts={}"],
        ),
        &["embed.columns is \"nope\""],
    );

    let eval = adapted("eval", &["--data", "rows.jsonl", "--json"]);
    let found = lab.ok_json(&eval);
    let (after, before) = (&found["ndcg@10"], &found["base"]["ndcg@10"]);
    assert!(after.as_f64() > before.as_f64(), "{found}");
    assert!(found["accuracy"].as_f64() > Some(0.9), "{found}");

    let texts = KINDS
        .iter()
        .flatten()
        .map(|text| serde_json::json!({"text": text}));
    lab.write("texts.jsonl", jsonl(texts));
    let predict = adapted("predict", &["--data", "texts.jsonl"]);
    let lines = vectors(&lab.ok(&predict));
    assert_eq!(lines.len(), 12);
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    // The adapter's files ask for vectors of length one.
    assert!((dot(&lines[3], &lines[3]) - 1.0).abs() < 1e-5);
    let nearest = |at: usize| {
        let others = (0..12).filter(|&other| other != at);
        let likeness = |other: usize| dot(&lines[at], &lines[other]);
        others.max_by(|&a, &b| likeness(a).total_cmp(&likeness(b)))
    };
    let found = (0..12).filter(|&at| nearest(at).unwrap() / 4 == at / 4);
    assert!(found.count() >= 10);
    // A prompt by its name, which is in the adapter's files.
    let with_prompt = [&predict[..], &["--prompt-name", "anchor"]].concat();
    assert_ne!(vectors(&lab.ok(&with_prompt))[0], lines[0]);
    lab.fails(
        &[&predict[..], &["--prompt-name", "query"]].concat(),
        &["there is no prompt \"query\": the model has anchor"],
    );

    // A label beside a text does no harm.
    let labelled = "{\"text\": \"a cat\", \"label\": \"pet\"}\n";
    lab.write("labelled.jsonl", labelled);
    let answer = lab.peft(&[&predict[..6], &["labelled.jsonl"]].concat());
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(!answer.err.contains("left out"), "{answer:?}");

    // A text without tokens has a line that says so, and the next text still has its vector.
    let says = |rows: &str, more: &[&str]| {
        lab.write("some.jsonl", rows);
        let answer = lab.peft(&[&predict[..6], &["some.jsonl"], more].concat());
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert!(!answer.err.contains("learnt"), "{answer:?}");
        answer
    };
    let rows = "{\"text\": \"\"}\n{\"text\": \"a cat\"}\n";
    let lines_of = says(rows, &[]).out;
    let error = "{\"row\":1,\"error\":\"it has no tokens, and so no vector\"}\n{\"row\":2,\"emb";
    assert!(lines_of.starts_with(error), "{lines_of}");
    let answer = says(rows, &["--output", "some.safetensors"]);
    assert!(
        answer.out.ends_with("some.safetensors: 1 row\n"),
        "{answer:?}"
    );
    assert!(answer.err.contains("1 row left out"), "{answer:?}");
    assert_eq!(lab.floats("some.safetensors", "embeddings").0[0], 1);
    let pair = says("{\"anchor\": \"a cat\", \"positive\": \"\"}\n", &[]).out;
    let pair: serde_json::Value = serde_json::from_str(&pair).unwrap();
    assert!(pair["anchor"].is_array() && pair.get("positive").is_none());
    assert_eq!(pair["error"], "no tokens, and so no vector, in positive");
    lab.fails(
        &[&predict[..], &["--objective", "sft"]].concat(),
        &["--objective sft", "FEATURE_EXTRACTION"],
    );

    // The same vectors: as a file of tensors, from a merged folder, and from one of three columns.
    let near = |found: &[f32], expected: &[f64]| {
        let mut pairs = found.iter().zip(expected);
        found.len() == expected.len() && pairs.all(|(a, b)| (f64::from(*a) - b).abs() < 1e-5)
    };
    lab.ok(&[&predict[..], &["--output", "texts.safetensors"]].concat());
    let (shape, found) = lab.floats("texts.safetensors", "embeddings");
    assert_eq!(shape[0], 12);
    assert!(near(&found, &lines.concat()));
    lab.ok(&adapted("merge", &["--output", "merged"]));
    let of_merged = lab.ok(&["predict", "--model", "merged", "--data", "texts.jsonl"]);
    let found: Vec<f32> = vectors(&of_merged)
        .concat()
        .iter()
        .map(|&x| x as f32)
        .collect();
    assert!(near(&found, &lines.concat()));
    assert!(lab.path("merged/2_Normalize/config.json").exists());
    let of_rows = [
        "predict",
        "--model",
        "merged",
        "--data",
        "rows.jsonl",
        "--output",
    ];
    lab.ok(&[&of_rows[..], &["rows.safetensors"]].concat());
    let (_, anchors) = lab.floats("rows.safetensors", "anchor");
    assert!(near(&anchors[..lines[0].len()], &lines[0]));

    // The model can no longer generate text.
    let generate = adapted("generate", &["--prompt", "a"]);
    lab.fails(&generate, &["peft predict"]);
}

#[test]
fn a_run_of_embeddings_goes_on_bit_for_bit() {
    let lab = Lab::new();
    let pairs = rows()
        .into_iter()
        .map(|[anchor, positive, _]| serde_json::json!({"query": anchor, "positive": positive}));
    lab.write("rows.jsonl", jsonl(pairs));
    config(
        &lab,
        "gradient_accumulation_steps = 2\n[embed]\nmatryoshka_dims = [16, 8]\n",
    );
    lab.ok(&["train", "train.toml"]);
    let whole = lab.weights("out");
    lab.ok(&[
        "train",
        "train.toml",
        "--resume",
        "out/checkpoint-8",
        "--set",
        "training.output_dir=again",
    ]);
    assert!(whole == lab.weights("again"));
    // Checkpointing, with one block at a time, gives the same up to rounding.
    lab.ok(&with_keys(
        "train.toml",
        &[
            "training.output_dir=checkpointed",
            "training.gradient_checkpointing=true",
        ],
    ));
    let wide = anew("train.toml", &["embed.matryoshka_dims=[4096]"]);
    lab.fails(&wide, &["embed.matryoshka_dims has 4096"]);
    let one = anew("train.toml", &["training.per_device_train_batch_size=1"]);
    lab.fails(&one, &["it must be 2 or more"]);
    let triplets = anew("train.toml", &["embed.loss=\"TripletLoss\""]);
    lab.fails(
        &triplets,
        &["three texts: anchor, positive and negative; these have query, positive"],
    );
}

#[test]
fn a_new_file_for_embeddings_trains() {
    let lab = Lab::new();
    let pairs = rows().into_iter();
    let pairs = pairs.map(|[a, b, _]| serde_json::json!({"anchor": a, "positive": b}));
    lab.write("rows.jsonl", jsonl(pairs));
    let new = ["new", "mine", "--train", "rows.jsonl", "--model", "model"];
    // The columns show that the rows are for embeddings.
    lab.ok(&new);
    let said = lab.ok(&with_keys(
        "mine.toml",
        &["training.max_steps=2", "data.validation_split=4"],
    ));
    assert!(said.contains("ndcg@10"), "{said}");
    lab.ok(&["train", "mine.toml", "--dry-run"]);
}

#[test]
fn scored_pairs_are_learnt() {
    let lab = Lab::new();
    let pairs = rows().into_iter().flat_map(|[a, b, c]| {
        let row = |a: &str, b: &str, score: f64| {
            serde_json::json!({"sentence1": a, "sentence2": b, "score": score})
        };
        [row(a, b, 1.0), row(a, c, 0.0)]
    });
    lab.write("rows.jsonl", jsonl(pairs));
    config(&lab, "metric_for_best_model = \"spearman\"\n");
    let said = lab.ok(&["train", "train.toml"]);
    assert!(
        said.contains("pearson") && said.contains("spearman"),
        "{said}"
    );
    let eval = adapted("eval", &["--data", "rows.jsonl", "--json"]);
    let found = lab.ok_json(&eval);
    assert!(found["pearson"].as_f64() > Some(0.8), "{found}");
    let rows = "{\"sentence1\": \"a\", \"sentence2\": \"b\", \"score\": 4.5}\n";
    lab.write("rows.jsonl", rows);
    let again = ["train", "train.toml", "--force"];
    lab.fails(
        &again,
        &["has 4.5 in `score`, where a number from -1 to 1 is expected"],
    );
    lab.write("rows.jsonl", "{\"text\": \"a cat\"}\n");
    lab.fails(
        &again,
        &[
            "embed.loss needs rows of two texts or more",
            "these have one text",
        ],
    );
}

#[test]
fn embeddings_are_trained_with_every_kind_of_base_and_method() {
    let lab = Lab::new();
    let pairs = rows()
        .into_iter()
        .map(|[anchor, positive, _]| serde_json::json!({"anchor": anchor, "positive": positive}));
    lab.write("rows.jsonl", jsonl(pairs));
    config(&lab, "");
    lab.ok(&[
        "export",
        "--model",
        "model",
        "--output",
        "model.gguf",
        "--outtype",
        "q8_0",
    ]);
    for keys in [
        &["peft.use_dora=true", "embed.pooling=cls"][..],
        &["peft.init_lora_weights=pissa", "embed.pooling=lasttoken"],
        &["quantization_config.load_in_4bit=true"],
        &["quantization_config.load_in_8bit=true"],
        &["training.bf16=true", "embed.pooling=weightedmean"],
        &["model=model.gguf", "embed.pooling=max"],
        &["peft.peft_type=IA3"],
        &["peft.peft_type=OFT", "peft.oft_block_size=4"],
        &["peft.peft_type=PREFIX_TUNING", "peft.num_virtual_tokens=3"],
        &[
            "peft.peft_type=PROMPT_TUNING",
            "peft.num_virtual_tokens=3",
            "training.gradient_checkpointing=true",
        ],
        &[
            "peft.peft_type=NONE",
            "training.gradient_checkpointing=true",
        ],
    ] {
        let mut args = anew("train.toml", &[&["training.max_steps=3"], keys].concat());
        let has_own_keys = !keys.iter().any(|key| key.starts_with("peft.peft_type"));
        if !has_own_keys {
            let toml = lab.text("train.toml");
            let toml = toml.replace("r = 4\ntarget_modules = \"all-linear\"\n", "");
            lab.write("other.toml", toml);
            args[1] = "other.toml";
        }
        let said = lab.ok(&args);
        assert!(said.contains("ndcg@10"), "{keys:?}: {said}");
        let model = match keys[0].strip_prefix("model=") {
            Some(model) => model,
            None if keys[0] == "peft.peft_type=NONE" => "out",
            None => "model",
        };
        let mut predict = vec!["predict", "--model", model, "--data", "rows.jsonl"];
        if model != "out" {
            predict.extend(["--adapter", "out"]);
        }
        predict.extend(["--output", "vectors.safetensors"]);
        lab.ok(&predict);
        let (shape, found) = lab.floats("vectors.safetensors", "positive");
        assert_eq!(shape[0], 12);
        assert!(found.iter().all(|value| value.is_finite()));
    }
}
