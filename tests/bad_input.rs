//! Bad input gives a clear error with the name and the value, and no half-written file.

use serde_json::{Value, json};

use crate::common::{Answer, Lab, MERGE, N_POSITIONS, PEFT, tree, with_keys};
use crate::conformance::fixtures;

const INSPECT: [&str; 3] = ["inspect", "--model", "model"];
const FORWARD: [&str; 7] = [
    "forward",
    "--model",
    "model",
    "--input",
    "in.safetensors",
    "--output",
    "out.safetensors",
];

/// Trains with one key set to a bad value. This has to fail, and to leave no output folder.
#[track_caller]
fn train_fails(lab: &Lab, set: &str, named: &[&str]) {
    lab.fails(&["train", "train.toml", "--set", set], named);
    assert!(!lab.path("out").exists(), "{:?}", lab.names("out"));
}

/// As [`train_fails`], with this training data.
#[track_caller]
fn data_fails(lab: &Lab, data: &str, named: &[&str]) {
    lab.write("bad.jsonl", data);
    train_fails(lab, "data.train=bad.jsonl", named);
    lab.fails(&["eval", "--model", "model", "--data", "bad.jsonl"], named);
}

fn edit(lab: &Lab, file: &str, change: impl FnOnce(&mut Value)) {
    let mut value = lab.json(file);
    change(&mut value);
    lab.write(file, value.to_string());
}

#[test]
fn missing_files() {
    let lab = Lab::new();
    lab.fails(&["train", "none.toml"], &["none.toml", "No such file"]);
    train_fails(&lab, "model=./none", &["./none", "no such folder"]);
    train_fails(&lab, "data.train=none.jsonl", &["none.jsonl"]);
    train_fails(&lab, "tokenizer=./none", &["./none"]);
    lab.fails(&FORWARD, &["in.safetensors", "No such file"]);
    lab.fails(
        &[&INSPECT[..], &["--adapter", "none"]].concat(),
        &["none", "no such folder"],
    );
    lab.fails(
        &[&INSPECT[..], &["--config", "none.json"]].concat(),
        &["none.json"],
    );
    lab.fails(&["init", "gpt3", "--output", "new"], &["gpt3", "gpt2-xl"]);
    assert!(!lab.path("new").exists());
    std::fs::remove_file(lab.path("model/model.safetensors")).unwrap();
    lab.fails(&INSPECT, &["model", "has no model.safetensors"]);
}

#[test]
fn an_output_folder_that_is_a_file() {
    let lab = Lab::with_adapter();
    lab.write("taken", "mine");
    lab.fails(
        &["init", "config.json", "--output", "taken"],
        &["taken is a file"],
    );
    lab.fails(
        &[&MERGE[..5], &["--output", "taken"]].concat(),
        &["taken is a file"],
    );
    let train = ["train", "train.toml", "--set", "training.output_dir=taken"];
    lab.fails(&train, &["taken", "File exists"]);
    assert_eq!(lab.read("taken"), b"mine");
}

#[test]
fn a_model_that_is_not_on_the_hub_either() {
    let lab = Lab::new();
    lab.fails(
        &["inspect", "--model", "some/model"],
        &["some/model", "HF_HUB_OFFLINE"],
    );
}

#[test]
fn truncated_files() {
    let lab = Lab::with_adapter();
    for (file, args) in [
        ("model/model.safetensors", &INSPECT[..]),
        ("out/adapter_model.safetensors", &MERGE[..]),
    ] {
        let whole = lab.read(file);
        for length in [whole.len() - 1, whole.len() / 2, 20, 3, 0] {
            lab.write(file, &whole[..length]);
            lab.fails(args, &[file, &length.to_string()]);
        }
        lab.write(file, whole);
    }
    assert!(!lab.path("merged").exists());
}

#[test]
fn a_safetensors_header_that_lies() {
    let lab = Lab::with_adapter();
    let with_header = |header: &str, data: usize| {
        let length = (header.len() as u64).to_le_bytes();
        [&length[..], header.as_bytes(), &vec![0; data]].concat()
    };
    let beyond = r#"{"wte.weight":{"dtype":"F32","shape":[4,4],"data_offsets":[0,64]}}"#;
    let too_short = r#"{"wte.weight":{"dtype":"F32","shape":[4,4],"data_offsets":[0,60]}}"#;
    let mut huge = with_header(beyond, 64);
    huge[..8].copy_from_slice(&(1_u64 << 60).to_le_bytes());
    let cases = [
        huge,
        with_header(beyond, 10),
        with_header(too_short, 60),
        with_header("{\"wte\": 5}", 0),
        with_header("not json", 0),
    ];
    for bytes in cases {
        lab.write("in.safetensors", &bytes);
        lab.fails(
            &FORWARD,
            &["in.safetensors", "not a whole safetensors file"],
        );
        lab.write("model/model.safetensors", &bytes);
        lab.fails(
            &INSPECT,
            &["model/model.safetensors", "not a whole safetensors file"],
        );
    }
    assert!(!lab.path("out.safetensors").exists());
}

#[test]
fn a_tensor_of_another_type() {
    let lab = Lab::new();
    let mut weights = lab.read("model/model.safetensors");
    let wte = b"\"transformer.wte.weight\":{\"dtype\":\"";
    let at = weights.windows(wte.len()).position(|bytes| bytes == wte);
    let at = at.unwrap() + wte.len();
    assert_eq!(&weights[at..at + 3], b"F32");
    weights[at] = b'I';
    lab.write("model/model.safetensors", weights);
    lab.fails(&INSPECT, &["wte.weight", "I32"]);
    let header = r#"{"input_ids":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#;
    let length = (header.len() as u64).to_le_bytes();
    let file = [&length[..], header.as_bytes(), &[0; 8]].concat();
    lab.write("in.safetensors", file);
    lab.fails(&FORWARD, &["in.safetensors: input_ids", "F32", "I64"]);
}

#[test]
fn a_config_with_a_wrong_type() {
    let lab = Lab::with_adapter();
    edit(&lab, "model/config.json", |config| {
        config["n_embd"] = json!("16")
    });
    lab.fails(&INSPECT, &["model/config.json", "n_embd = \"16\""]);
    lab.fails(
        &["init", "model/config.json", "--output", "new"],
        &["n_embd = \"16\""],
    );
    assert!(!lab.path("new").exists());
    lab.write("model/config.json", lab.config().to_string());
    edit(&lab, "out/adapter_config.json", |config| {
        config["r"] = json!("four")
    });
    lab.fails(&MERGE, &["out/adapter_config.json", "r = \"four\""]);
    lab.write("train.toml", "model = 5");
    lab.fails(&["train", "train.toml"], &["train.toml", "model", "5"]);
    lab.write("train.toml", "model = ");
    lab.fails(&["train", "train.toml"], &["train.toml", "line 1"]);
}

#[test]
fn rank_zero() {
    let lab = Lab::new();
    train_fails(&lab, "peft.r=0", &["--set peft.r=0: ", "r = 0"]);
    train_fails(&lab, "peft.r=-4", &["r = -4"]);
    lab.write("zero.json", r#"{"peft_type": "LORA", "r": 0}"#);
    lab.fails(
        &[&INSPECT[..], &["--config", "zero.json"]].concat(),
        &["zero.json", "r = 0"],
    );
}

#[test]
fn keys_that_do_not_exist_or_are_not_supported() {
    let lab = Lab::new();
    train_fails(
        &lab,
        "training.learning_rat=1",
        &["learning_rat", "learning_rate"],
    );
    train_fails(&lab, "training.learning_rate=fast", &["fast"]);
    train_fails(&lab, "peft.use_qalora=true", &["use_qalora"]);
    train_fails(&lab, "peft.peft_type=MAGIC", &["MAGIC", "LORA"]);
}

#[test]
fn an_adapter_for_another_model() {
    let lab = Lab::with_adapter();
    let mut wide = lab.config();
    wide["n_embd"] = json!(24);
    lab.write("wide.json", wide.to_string());
    lab.ok(&["init", "wide.json", "--output", "wide"]);
    let args = [
        "merge",
        "--model",
        "wide",
        "--adapter",
        "out",
        "--output",
        "merged",
    ];
    lab.fails(
        &args,
        &["out", "c_attn.lora_A.weight", "[4, 16]", "[4, 24]"],
    );

    let mut deep = lab.config();
    deep["n_layer"] = json!(3);
    lab.write("deep.json", deep.to_string());
    lab.ok(&["init", "deep.json", "--output", "deep"]);
    let args = [
        "merge",
        "--model",
        "deep",
        "--adapter",
        "out",
        "--output",
        "merged",
    ];
    lab.fails(&args, &["out", "missing", "h.2.attn.c_attn.lora_A.weight"]);
    assert!(!lab.path("merged").exists());
}

#[test]
fn a_target_that_matches_nothing() {
    let lab = Lab::new();
    train_fails(
        &lab,
        "peft.target_modules=[\"q_proj\"]",
        &[
            "target_modules [\"q_proj\"] matches no layer of gpt2",
            "attn.c_attn",
        ],
    );
}

#[test]
fn empty_data() {
    let lab = Lab::new();
    data_fails(&lab, "", &["bad.jsonl"]);
    data_fails(&lab, "\n\n", &["bad.jsonl"]);
    data_fails(&lab, "{\"text\": \"\"}\n", &["bad.jsonl", "no usable row"]);
    lab.fails(
        &["eval", "--model", "model", "--data", "train.jsonl[9:]"],
        &["train.jsonl[9:]"],
    );
}

#[test]
fn a_line_that_is_not_json() {
    let lab = Lab::new();
    data_fails(
        &lab,
        "{\"text\": \"the cat\"}\n{\"text\": \n",
        &["bad.jsonl line 2"],
    );
    data_fails(&lab, "[1]\n", &["bad.jsonl line 1"]);
}

#[test]
fn a_sequence_longer_than_n_positions() {
    let lab = Lab::new();
    let long = vec!["cat"; 40].join(" ");
    let row = format!("{}\n", json!({ "text": long }));
    data_fails(
        &lab,
        &row,
        &["bad.jsonl line 1", "n_positions 32", "max_length"],
    );
    lab.ok(&[
        "eval",
        "--model",
        "model",
        "--data",
        "bad.jsonl",
        "--max-length",
        "32",
    ]);

    let ids = vec![1; 2 * (N_POSITIONS + 1)];
    lab.write_integers(
        "in.safetensors",
        &[("input_ids", &[2, N_POSITIONS + 1], &ids)],
    );
    lab.fails(&FORWARD, &["in.safetensors", "33 tokens", "n_positions 32"]);
    lab.fails(
        &["generate", "--model", "model", "--prompt", &long],
        &["32"],
    );
    train_fails(&lab, &format!("prompt={long}"), &["32"]);
}

#[test]
fn a_token_id_out_of_range() {
    let lab = Lab::new();
    let vocab = lab.vocab_size as i64;
    let vocab_size = format!("vocab_size {vocab}");
    let row = format!("{{\"input_ids\": [1, {vocab}]}}\n");
    data_fails(
        &lab,
        &row,
        &["bad.jsonl line 1", &vocab.to_string(), &vocab_size],
    );
    for id in [vocab, -1, i64::MAX, i64::MIN] {
        lab.write_integers("in.safetensors", &[("input_ids", &[1, 3], &[0, id, 0])]);
        lab.fails(&FORWARD, &["input_ids[0, 1]", &id.to_string(), &vocab_size]);
    }
    assert!(!lab.path("out.safetensors").exists());
}

#[test]
fn inputs_of_a_wrong_shape() {
    let lab = Lab::new();
    let fails = |tensors: &[(&str, &[usize], &[i64])], named: &[&str]| {
        lab.write_integers("in.safetensors", tensors);
        lab.fails(&FORWARD, named);
    };
    fails(&[("ids", &[1, 1], &[1])], &["no tensor input_ids", "ids"]);
    fails(
        &[("input_ids", &[2], &[1, 2])],
        &["input_ids", "[2]", "[batch, seq]"],
    );
    fails(&[("input_ids", &[0, 4], &[])], &["input_ids", "[0, 4]"]);
    let ids: (&str, &[usize], &[i64]) = ("input_ids", &[1, 2], &[1, 2]);
    fails(
        &[ids, ("attention_mask", &[2, 1], &[1, 1])],
        &["attention_mask", "[2, 1]", "[1, 2]"],
    );
    fails(
        &[ids, ("attention_mask", &[1, 2], &[1, 7])],
        &["attention_mask", "7"],
    );
}

#[test]
fn a_model_is_no_adapter_and_an_adapter_no_model() {
    let lab = Lab::with_adapter();
    lab.fails(&["inspect", "--model", "out"], &["out", "is an adapter"]);
    let args = ["inspect", "--model", "model", "--adapter", "model"];
    lab.fails(&args, &["model", "holds a model", "not an adapter"]);
    let args = ["inspect", "--model", "model", "--config", "train.toml"];
    lab.fails(
        &args,
        &["train.toml", "adapter_config.json", "training file"],
    );
    let args = with_keys("train.toml", &["model=out", "training.output_dir=new"]);
    lab.fails(&args, &["out", "is an adapter"]);
    assert!(!lab.path("new").exists());
}

#[test]
fn weights_that_are_not_finite_are_not_merged() {
    let lab = Lab::with_adapter();
    let mut bytes = lab.weights("out");
    let end = bytes.len();
    bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    lab.write("out/adapter_model.safetensors", bytes);
    let before = lab.names(".");
    lab.fails(&MERGE, &["c_attn", "finite"]);
    assert_eq!(lab.names("."), before);
}

/// Runs `peft` where no file can grow beyond 4 KiB (8 blocks of 512 bytes).
#[cfg(unix)]
fn on_a_full_disk(lab: &Lab, args: &[&str]) -> Answer {
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
    let mut command = lab.command("sh");
    command
        .args(["-c", script, PEFT])
        .args(args)
        .output()
        .unwrap()
        .into()
}

#[cfg(unix)]
#[test]
fn a_disk_that_fills_up() {
    let lab = Lab::with_adapter();
    lab.write_integers("in.safetensors", &[("input_ids", &[1, 8], &[1; 8])]);
    let before = tree(&lab.path("."));
    let calls: [(&[&str], &str); 3] = [
        (
            &["init", "config.json", "--output", "a/new"],
            "a/new/model.safetensors",
        ),
        (&MERGE, "model.safetensors"),
        (&FORWARD, "out.safetensors"),
    ];
    for (args, named) in calls {
        on_a_full_disk(&lab, args).failed(&[named, "File too large"]);
        assert_eq!(tree(&lab.path(".")), before, "{args:?}");
    }
    let train = with_keys("train.toml", &["training.output_dir=new", "peft.r=32"]);
    on_a_full_disk(&lab, &train).failed(&["adapter_model.safetensors", "File too large"]);
    let files = ["config.toml", "events.out.tfevents.peft", "metrics.jsonl"];
    assert_eq!(lab.names("new"), files);
}

#[test]
fn an_adapter_of_larger_sizes_than_its_file_is_not_made() {
    let fixtures = fixtures();
    let lab = Lab::new();
    std::fs::create_dir(lab.path("adapter")).unwrap();
    for entry in std::fs::read_dir(fixtures.join("prompt/p_tuning_mlp")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), lab.path("adapter").join(entry.file_name())).unwrap();
    }
    edit(&lab, "adapter/adapter_config.json", |config| {
        config["encoder_hidden_size"] = json!(14096);
    });
    let base = fixtures.join("conformance/base-gpt2").display().to_string();
    let inspect = ["inspect", "--model", &base, "--adapter", "adapter"];
    lab.fails(
        &inspect,
        &["too small for its configuration", "prompt_encoder"],
    );
}
