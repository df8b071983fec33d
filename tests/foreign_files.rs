//! Files that are not what their names say, and files with a byte order mark.

use crate::common::{Lab, MERGE};

const POINTER: &str =
    "version https://git-lfs.github.com/spec/v1\noid sha256:248dfc39\nsize 548105171\n";
const GENERATE: [&str; 7] = [
    "generate",
    "--model",
    "model",
    "--adapter",
    "out",
    "--prompt",
    "the cat",
];
const DATA: [&str; 4] = ["data", "train.jsonl", "--model", "model"];
const TRAIN: [&str; 2] = ["train", "train.toml"];

/// Text files and the commands that read them.
const TEXTS: [(&str, &[&str]); 5] = [
    ("model/config.json", &GENERATE),
    ("model/tokenizer.json", &GENERATE),
    ("out/adapter_config.json", &GENERATE),
    ("train.jsonl", &DATA),
    ("train.toml", &TRAIN),
];

#[test]
fn what_a_file_is_in_truth_is_said_of_all_that_are_read() {
    let lab = Lab::with_adapter();
    let weights: [(&str, &[&str]); 2] = [
        ("model/model.safetensors", &GENERATE),
        ("out/adapter_model.safetensors", &GENERATE),
    ];
    for (name, args) in TEXTS.into_iter().chain(weights) {
        let content = lab.read(name);
        lab.write(name, POINTER);
        let file = name.rsplit('/').next().unwrap();
        lab.fails(args, &[file, "is a Git LFS pointer", "`git lfs pull`"]);
        lab.write(name, b"\x1f\x8b\x08\0\0\0\0\0\0\x03");
        lab.fails(args, &[file, "is compressed by gzip"]);
        lab.write(name, content);
    }
    for (name, args) in TEXTS {
        let content = lab.read(name);
        let utf16 = String::from_utf8(content.clone()).unwrap();
        let utf16 = utf16.encode_utf16().flat_map(u16::to_le_bytes);
        lab.write(
            name,
            [0xff, 0xfe].into_iter().chain(utf16).collect::<Vec<u8>>(),
        );
        let file = name.rsplit('/').next().unwrap();
        lab.fails(args, &[file, "is text in UTF-16: save it as UTF-8"]);
        lab.write(name, content);
    }
    lab.write("a.txt", POINTER);
    lab.fails(
        &["data", "a.txt", "--model", "model"],
        &["a.txt is a Git LFS pointer"],
    );
}

#[test]
fn a_byte_order_mark_changes_nothing() {
    let lab = Lab::with_adapter();
    lab.write(
        "model/tokenizer_config.json",
        "{\"eos_token\": \"<|endoftext|>\"}",
    );
    let (text, data) = (lab.ok(&GENERATE), lab.ok(&DATA));
    let others = [
        "model/tokenizer_config.json",
        "model/generation_config.json",
    ];
    lab.write("model/generation_config.json", "{\"eos_token_id\": 0}");
    for name in TEXTS.map(|(name, _)| name).into_iter().chain(others) {
        let content = lab.read(name);
        lab.write(name, [b"\xef\xbb\xbf", &content[..]].concat());
    }
    assert_eq!((lab.ok(&GENERATE), lab.ok(&DATA)), (text, data));
    lab.ok(&["train", "train.toml", "--set", "training.output_dir=again"]);
}

#[test]
fn an_adapter_in_pytorchs_format_alone() {
    let lab = Lab::with_adapter();
    let from = lab.path("out/adapter_model.safetensors");
    std::fs::rename(from, lab.path("out/adapter_model.bin")).unwrap();
    let named = [
        "out: ",
        "only PyTorch's adapter_model.bin",
        "save it as safetensors",
    ];
    lab.fails(&MERGE, &named);
    lab.fails(&["combine", "--adapter", "out", "--output", "both"], &named);
}

#[test]
fn weights_of_other_kinds_are_named_with_the_way_out() {
    let lab = Lab::with_adapter();
    let from = lab.path("model/model.safetensors");
    std::fs::rename(from, lab.path("weights")).unwrap();
    for (name, way) in [
        ("pytorch_model.bin", "save_pretrained"),
        ("pytorch_model.bin.index.json", "save_pretrained"),
        ("tf_model.h5", "from_tf=True"),
        ("flax_model.msgpack", "from_flax=True"),
        ("model-q4.gguf", "give the file itself as the model"),
        (
            "model-00001-of-00002.safetensors",
            "model.safetensors.index.json",
        ),
        ("other.safetensors", "rename it"),
    ] {
        let path = lab.path("model").join(name);
        std::fs::write(&path, "x").unwrap();
        lab.fails(
            &MERGE,
            &["model: has no model.safetensors, only", name, way],
        );
        std::fs::remove_file(path).unwrap();
    }
    std::fs::rename(lab.path("weights"), lab.path("model/model.safetensors")).unwrap();

    std::fs::remove_file(lab.path("out/adapter_model.safetensors")).unwrap();
    lab.fails(
        &MERGE,
        &["out: the folder has adapter_config.json, but no adapter_model.safetensors"],
    );
    lab.write("out/pytorch_model.bin", "x");
    lab.fails(&MERGE, &["out: has only PyTorch's pytorch_model.bin"]);
}

#[test]
fn numbers_that_only_python_writes_are_named() {
    let lab = Lab::with_adapter();
    for (file, word) in [
        ("model/config.json", "Infinity"),
        ("out/adapter_config.json", "NaN"),
    ] {
        lab.write(file, format!("{{\n \"a\": {word}\n}}"));
        let said = format!("{word} in line 2 is not a JSON number, though Python writes it");
        lab.fails(&MERGE, &[file, &said]);
    }
}
