use std::fs;
use std::path::PathBuf;

use burn_peft::tensor_file::read_tensors;

use super::*;

fn fixture(name: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/gguf");
    PathBuf::from(folder).join(name)
}

#[test]
fn blocks_have_the_bits_of_the_reference() {
    let file = Gguf::open(fixture("blocks.gguf")).unwrap();
    let expected = read_tensors(&fixture("blocks.safetensors")).unwrap();
    assert_eq!(expected.len(), 16);
    for (name, expected) in expected {
        let info = &file.tensors[&name];
        assert_eq!(info.shape, expected.shape().to_vec(), "{name}");
        let mut found = vec![0.0; info.shape.iter().product()];
        (info.of.blocks.unwrap()).dequantize(file.bytes(info), &mut found);
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let expected = expected.try_to_vec::<f32>().unwrap();
        assert_eq!(bits(&found), bits(&expected), "{name}");
    }
}

#[test]
fn values_become_the_blocks_of_the_reference() {
    let file = Gguf::open(fixture("quantized.gguf")).unwrap();
    let values = read_tensors(&fixture("quantized.safetensors")).unwrap();
    let values = values["values"].try_to_vec::<f32>().unwrap();
    assert_eq!(file.tensors.len(), 10);
    for (name, info) in &file.tensors {
        let expected = file.bytes(info);
        let mut found = vec![0; expected.len()];
        let (block, bytes) = (info.of.values, info.of.bytes);
        info.of.blocks.unwrap().quantize(&values, &mut found);
        let blocks = found.chunks(bytes).zip(expected.chunks(bytes));
        let other = blocks
            .enumerate()
            .find(|(_, (found, expected))| found != expected);
        if let Some((at, (found, expected))) = other {
            let row = at * block / 256;
            panic!("{name}: block {at} in row {row} is {found:?} and not {expected:?}");
        }
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

fn head(tensors: u64, keys: u64) -> Vec<u8> {
    let counts = [tensors.to_le_bytes(), keys.to_le_bytes()].concat();
    [b"GGUF".to_vec(), 3u32.to_le_bytes().to_vec(), counts].concat()
}

fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [text(name), kind.to_le_bytes().to_vec(), value.to_vec()].concat()
}

fn tensor(name: &str, shape: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let mut bytes = [text(name), (shape.len() as u32).to_le_bytes().to_vec()].concat();
    bytes.extend(shape.iter().flat_map(|size| size.to_le_bytes()));
    bytes.extend(kind.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

fn open(bytes: &[u8]) -> crate::Result<Gguf> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    fs::write(&path, bytes).unwrap();
    Gguf::open(path)
}

/// Keys and tensor descriptions, with `data` bytes of tensors.
fn file(keys: &[Vec<u8>], tensors: &[Vec<u8>], data: usize) -> Vec<u8> {
    let mut bytes = head(tensors.len() as u64, keys.len() as u64);
    bytes.extend(keys.concat());
    bytes.extend(tensors.concat());
    bytes.resize(bytes.len().next_multiple_of(32) + data, 0);
    bytes
}

#[test]
fn a_file_that_lies_is_refused_with_the_place() {
    let huge = u64::MAX.to_le_bytes();
    let list = |kind: u32, count: u64| [&kind.to_le_bytes()[..], &count.to_le_bytes()].concat();
    let two = |a, b| file(&[], &[a, b], 64);
    let one = |tensor| file(&[], &[tensor], 64);
    let keys = |value: Vec<u8>| file(&[value], &[], 0);
    let cases = [
        (
            vec![],
            "the first word at byte 0 would take 4 bytes, and the file has 0 more",
        ),
        (
            b"GGML\x01\0\0\0".to_vec(),
            "begins with \"GGML\", not \"GGUF\"",
        ),
        (
            b"version https://git-lfs.github.com".to_vec(),
            "git lfs pull",
        ),
        (b"GGUF\x01\0\0\0".to_vec(), "version = 1 at byte 4"),
        (b"GGUF\0\0\0\x03".to_vec(), "only little-endian"),
        (b"GGUF\0\0\0\0".to_vec(), "version = 0 at byte 4"),
        (
            head(0, 1 << 60),
            "the number of keys = 1152921504606846976 at byte 16",
        ),
        (
            head(u64::MAX, 0),
            "the number of tensors = 18446744073709551615 at byte 8",
        ),
        (
            [head(0, 1), huge.to_vec(), vec![0; 9]].concat(),
            "the name of a key at byte 32 would take 18446744073709551615 bytes",
        ),
        (
            keys(key("a.b", 8, &(1u64 << 63).to_le_bytes())),
            "a.b at byte 47 would take 9223372036854775808 bytes",
        ),
        (keys(key("a", 13, &[0; 8])), "a at byte 37 is of kind 13"),
        (
            keys(key("a", 9, &list(8, 1 << 61))),
            "the length of a = 2305843009213693952 at byte 41",
        ),
        (
            keys(key("a", 9, &list(10, 1 << 62))),
            "the length of a = 4611686018427387904",
        ),
        (
            keys(key("a", 9, &list(9, 1))),
            "a at byte 41 is a list of lists",
        ),
        (
            keys(key("a", 9, &[&list(8, 2)[..], &text("x"), &huge].concat())),
            "a at byte 66 would take 18446744073709551615 bytes, and the file has 30 more: it is truncated or broken; it is item 1 of a list",
        ),
        (
            keys(key(
                "a",
                8,
                &[&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat(),
            )),
            "a at byte 45 is not UTF-8 (at byte 45)",
        ),
        (
            file(&[key("a", 4, &[0; 4]), key("a", 4, &[0; 4])], &[], 0),
            "has the key a a second time at byte 41",
        ),
        (
            keys(key("general.alignment", 4, &[0; 4])),
            "general.alignment at byte 53 is the whole number 0: expected a power of two",
        ),
        (
            keys(key("general.alignment", 8, &text("x"))),
            "is the text \"x\": expected a power of two",
        ),
        (
            one(tensor("w", &[], 0, 0)),
            "tensor w at byte 33: 0 dimensions",
        ),
        (
            one(tensor("w", &[1; 5], 0, 0)),
            "5 dimensions, and there are 1 to 4",
        ),
        (
            one(tensor("w", &[1], 77, 0)),
            "type 77 is not known; known: F32, F16, BF16, Q8_0",
        ),
        (
            one(tensor("w", &[33], 2, 0)),
            "shape [33] does not fit Q4_0, whose blocks have 32 values",
        ),
        (
            one(tensor("w", &[1 << 32, 1 << 32], 0, 0)),
            "shape [4294967296, 4294967296] does not fit",
        ),
        (
            one(tensor("w", &[0, 1 << 32, 1 << 32, 1 << 32], 0, 0)),
            "shape [0, 4294967296, 4294967296, 4294967296] does not fit F32",
        ),
        (
            one(tensor("w", &[16], 0, 33)),
            "offset 33 is not a multiple of the alignment, 32",
        ),
        (
            one(tensor("w", &[16], 0, 32)),
            "tensor w has 64 bytes at the offset 32 from byte 64, and the file has 128 bytes",
        ),
        (
            one(tensor("w", &[16], 0, u64::MAX - 31)),
            "it is truncated or broken",
        ),
        (
            two(tensor("w", &[16], 0, 0), tensor("v", &[8], 0, 32)),
            "tensor v has the offset 32, where w still is (to 64)",
        ),
        (
            two(tensor("w", &[8], 0, 0), tensor("w", &[8], 0, 32)),
            "has the tensor w twice",
        ),
    ];
    for (bytes, message) in cases {
        let error = open(&bytes).unwrap_err().to_string();
        assert!(error.contains(message), "{message}: {error}");
        assert!(error.contains("model.gguf"), "{error}");
    }
}

#[test]
fn a_value_of_another_kind_is_named() {
    let keys = [
        key("a", 8, &text("yes")),
        key("b", 5, &(-1i32).to_le_bytes()),
        key("c", 6, &1e-5f32.to_le_bytes()),
        key("d", 7, &[1]),
        key(
            "e",
            9,
            &[&8u32.to_le_bytes()[..], &1u64.to_le_bytes(), &text("x")].concat(),
        ),
        key(
            "f",
            9,
            &[&1u32.to_le_bytes()[..], &2u64.to_le_bytes(), &[1, 255]].concat(),
        ),
    ];
    let file = open(&file(&keys, &[], 0)).unwrap();
    assert_eq!(file.text("a").unwrap(), Some("yes"));
    assert_eq!(file.number("c").unwrap(), Some(1e-5));
    assert_eq!(file.flag("d").unwrap(), Some(true));
    assert_eq!(file.texts("e").unwrap(), Some(vec!["x"]));
    assert_eq!(file.numbers("f").unwrap(), Some(vec![1.0, -1.0]));
    assert_eq!(file.whole("z").unwrap(), None);
    let message = |result: crate::Result<Option<u64>>| result.unwrap_err().to_string();
    let error = message(file.whole("a"));
    assert!(
        error.contains("a at byte 37 is the text \"yes\": expected a whole number"),
        "{error}"
    );
    let error = message(file.whole("b"));
    assert!(error.contains("is the whole number -1"), "{error}");
    let error = file.texts("f").unwrap_err().to_string();
    assert!(
        error.contains("is a list of 2: expected a list of texts"),
        "{error}"
    );
}

#[test]
fn windows_of_other_layers_than_there_are_are_refused() {
    let number = |name: &str, value: u32| key(name, 4, &value.to_le_bytes());
    let own = |name: &str, value| number(&format!("olmo2.{name}"), value);
    let flags = |kind: u32| [&kind.to_le_bytes()[..], &3u64.to_le_bytes(), &[1, 1, 0]].concat();
    let with = |kind, blocks| {
        let pattern = "olmo2.attention.sliding_window_pattern";
        let keys = [
            own("context_length", 8),
            own("embedding_length", 8),
            own("block_count", blocks),
            own("feed_forward_length", 8),
            own("attention.head_count", 2),
            own("attention.sliding_window", 4),
            key(pattern, 9, &flags(kind)),
        ];
        let embedding = tensor("token_embd.weight", &[8, 4], 0, 0);
        let file = open(&file(&keys, &[embedding], 128)).unwrap();
        let of = architecture::Architecture::of("olmo2").unwrap();
        config::config(&file, of)
    };
    let read = with(7, 3).unwrap();
    assert_eq!(read["model_type"], "olmo3");
    let types = ["sliding_attention", "sliding_attention", "full_attention"];
    assert_eq!(read["layer_types"], serde_json::json!(types));
    for (kind, blocks, message) in [
        (7, 2, "has 3 entries and olmo2.block_count = 2"),
        (7, u32::MAX, "olmo2.block_count = 4294967295: at most 1000"),
        (0, 3, "is a list of 3: expected a whole number"),
    ] {
        let error = with(kind, blocks).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}

/// A GPT-2 of four tokens with further keys.
fn gpt2(more: &[Vec<u8>]) -> Gguf {
    let own = |name: &str| key(&format!("gpt2.{name}"), 4, &8u32.to_le_bytes());
    let names = [
        "context_length",
        "embedding_length",
        "block_count",
        "feed_forward_length",
        "attention.head_count",
    ];
    let keys = [names.map(own).to_vec(), more.to_vec()].concat();
    let embedding = tensor("token_embd.weight", &[8, 4], 0, 0);
    open(&file(&keys, &[embedding], 128)).unwrap()
}

#[test]
fn a_gpt2_has_no_dropout() {
    let of = architecture::Architecture::of("gpt2").unwrap();
    let read = config::config(&gpt2(&[]), of).unwrap();
    for name in ["resid_pdrop", "embd_pdrop", "attn_pdrop"] {
        assert_eq!(read[name], 0.0, "{name}");
    }
}

#[test]
fn norms_that_16_bits_would_round_are_written_in_32() {
    use crate::weights::Weights;
    use burn::tensor::FloatDType;
    let of = architecture::Architecture::of("gpt2").unwrap();
    let heads = key("gpt2.attention.head_count", 4, &2u32.to_le_bytes());
    for (kind, norm, expected) in [
        (1, 1.5f32, FloatDType::F16),
        (1, 1.1, FloatDType::F32),
        // More than the seven bits of bfloat16, but not than the ten of float16.
        (1, 1.0 + 1.0 / 1024.0, FloatDType::F16),
        (30, 1.0 + 1.0 / 1024.0, FloatDType::F32),
        (30, 1.5, FloatDType::BF16),
    ] {
        let tensors = [
            tensor("token_embd.weight", &[8, 4], kind, 0),
            tensor("output_norm.weight", &[8], 0, 64),
        ];
        let mut bytes = file(std::slice::from_ref(&heads), &tensors, 96);
        let at = bytes.len() - 32;
        bytes[at..at + 4].copy_from_slice(&norm.to_le_bytes());
        let opened = std::sync::Arc::new(open(&bytes).unwrap());
        let weights = weights::GgufWeights::new(opened, of).unwrap();
        assert_eq!(weights.written_dtype().unwrap(), expected, "{kind} {norm}");
    }
}

#[test]
fn ids_beyond_the_tokens_are_left_out() {
    let id = |name: &str, kind, value: [u8; 4]| {
        key(&format!("tokenizer.ggml.{name}_token_id"), kind, &value)
    };
    let file = gpt2(&[
        id("bos", 4, 3u32.to_le_bytes()),
        id("eos", 4, 4u32.to_le_bytes()),
        id("eot", 5, (-1i32).to_le_bytes()),
        id("eom", 4, 2u32.to_le_bytes()),
        id("padding", 4, u32::MAX.to_le_bytes()),
        key("general.sampling.top_k", 5, &(-1i32).to_le_bytes()),
    ]);
    let of = architecture::Architecture::of("gpt2").unwrap();
    let read = config::config(&file, of).unwrap();
    assert_eq!(read["bos_token_id"], 3);
    assert!(!read.contains_key("eos_token_id") && !read.contains_key("pad_token_id"));
    let read = config::generation_config(&file).unwrap();
    let expected = serde_json::json!({"bos_token_id": 3, "eos_token_id": 2, "top_k": 0});
    assert_eq!(read, expected);
}

#[test]
fn tokens_of_too_many_merges_are_refused() {
    let file = open(&file(&[], &[], 0)).unwrap();
    let merges = |most: usize| {
        let run = |a| (0..=most).map(move |b| "a".repeat(a) + &"b".repeat(b));
        let tokens: Vec<String> = (0..=most).flat_map(run).skip(1).collect();
        let tokens: Vec<&str> = tokens.iter().map(String::as_str).collect();
        pieces::merges(&file, &tokens, None)
    };
    assert_eq!(merges(2).unwrap().len(), 10);
    let error = merges(80).unwrap_err().to_string();
    assert!(error.contains("more than 33554432 bytes"), "{error}");
}

#[test]
fn a_model_in_several_files_is_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let write = |name: &str, tensor_name: &str, value: f32| {
        let keys = [key("split.count", 2, &2u16.to_le_bytes())];
        let mut bytes = file(&keys, &[tensor(tensor_name, &[8], 0, 0)], 32);
        let at = bytes.len() - 32;
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        fs::write(path(name), bytes).unwrap();
    };
    write("m-00001-of-00002.gguf", "a", 1.0);
    let message = |name: &str| Gguf::open(path(name)).unwrap_err().to_string();
    let error = message("m-00001-of-00002.gguf");
    assert!(error.contains("m-00002-of-00002.gguf"), "{error}");
    write("m-00002-of-00002.gguf", "b", 2.0);
    let opened = Gguf::open(path("m-00001-of-00002.gguf")).unwrap();
    let first = |name: &str| opened.values(name).unwrap()[0];
    assert_eq!((first("a"), first("b")), (1.0, 2.0));
    let error = message("m-00002-of-00002.gguf");
    assert!(error.contains("split.count = 2"), "{error}");
    assert!(error.contains("give the first"), "{error}");
    write("m-00002-of-00002.gguf", "a", 2.0);
    let error = message("m-00001-of-00002.gguf");
    assert!(error.contains("has the tensor a, which is in"), "{error}");
}
