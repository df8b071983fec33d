//! Rows of a file that are computed together: `peft generate --input`, and `peft forward` with rows
//! that are padded on the left.

use std::fs;
use std::path::PathBuf;

use burn_peft::tensor_file;
use safetensors::SafeTensors;
use serde_json::json;

use crate::common::{Lab, largest_difference};
use crate::conformance::{fixtures, ints};

/// One family of each kind: windows, a fused layer, LayerNorm, other gates, and angles that depend
/// on the length.
const FAMILIES: [&str; 6] = [
    "gemma3",
    "phi3",
    "gpt_neox",
    "cohere2",
    "qwen3",
    "llama_rope_dynamic",
];

fn case(name: &str) -> [PathBuf; 2] {
    ["base", "cases"].map(|part| fixtures().join("families").join(part).join(name))
}

fn expected(name: &str, tensor: &str) -> Vec<f32> {
    let file = case(name)[1].join("expected.safetensors");
    let tensors = tensor_file::read_tensors(&file).unwrap();
    tensors[tensor].try_to_vec().unwrap()
}

/// Writes rows that are padded on the left, with their positions.
fn write_left(lab: &Lab, name: &str) -> [usize; 2] {
    let folder = &case(name)[1];
    let (ids, shape) = ints(folder, "left_input_ids");
    let (mask, _) = ints(folder, "left_attention_mask");
    let positions = mask.chunks(shape[1]).flat_map(|row| {
        let seen = (0..row.len()).map(|at| row[..=at].iter().sum::<i64>());
        seen.map(|seen| (seen - 1).max(0))
    });
    let positions: Vec<i64> = positions.collect();
    lab.write_integers(
        "in.safetensors",
        &[
            ("input_ids", &shape, &ids),
            ("attention_mask", &shape, &mask),
            ("position_ids", &shape, &positions),
        ],
    );
    shape
}

/// Calls `peft COMMAND` on `in.safetensors`.
fn call(lab: &Lab, command: &str, folders: &[PathBuf; 2], more: &[&str]) -> crate::common::Answer {
    let [base, adapter] = folders.each_ref().map(|path| path.to_str().unwrap());
    let args = [command, "--model", base, "--adapter", adapter];
    let files = ["--input", "in.safetensors", "--output", "out.safetensors"];
    lab.peft(&[&args[..], &files, more].concat())
}

fn sequences(lab: &Lab) -> (Vec<usize>, Vec<i64>) {
    let bytes = lab.read("out.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensor = file.tensor("sequences").unwrap();
    assert_eq!(tensor.dtype(), safetensors::Dtype::I64);
    let words = tensor.data().as_chunks().0.iter();
    let values = words.map(|&word| i64::from_le_bytes(word));
    (tensor.shape().to_vec(), values.collect())
}

#[test]
fn rows_of_a_file_go_on_as_in_transformers() {
    let lab = Lab::new();
    for name in FAMILIES {
        let [rows, _] = write_left(&lab, name);
        let more = ["--ignore-eos", "--max-new-tokens", "8"];
        let answer = call(&lab, "generate", &case(name), &more);
        assert_eq!(answer.code, Some(0), "{name}: {answer:?}");
        // The model has eight positions, and generation continues beyond them.
        let is_long = name == "llama_rope_dynamic";
        let warned = answer.err.contains("beyond the 8 positions");
        assert_eq!(warned, is_long, "{name}: {answer:?}");
        assert_eq!(answer.out, "out.safetensors: sequences [3, 8]\n");
        let (shape, found) = sequences(&lab);
        assert_eq!(shape, [rows, 8]);
        let found: Vec<f32> = found.into_iter().map(|id| id as f32).collect();
        assert_eq!(found, expected(name, "greedy"), "{name}");
    }
}

#[test]
fn rows_that_have_ended_are_padded_until_the_others_have() {
    let lab = Lab::new();
    let name = "cohere2";
    write_left(&lab, name);
    let greedy: Vec<i64> = expected(name, "greedy")
        .iter()
        .map(|&id| id as i64)
        .collect();
    // A token that the rows reach at different times, if there is one.
    let ends_at = |row: &[i64], end| row.iter().position(|&id| id == end);
    let end = (greedy.iter().copied())
        .find(|&end| {
            greedy
                .chunks(8)
                .any(|row| ends_at(row, end).is_some_and(|at| at > 0 && at < 7))
        })
        .unwrap();
    let [base, adapter] = case(name);
    let folder = lab.path("base");
    fs::create_dir(&folder).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(base.join(file), folder.join(file)).unwrap();
    }
    for (said, padding) in [
        (json!({"eos_token_id": [end], "pad_token_id": 5}), 5),
        (json!({"eos_token_id": end}), end),
    ] {
        lab.write("base/generation_config.json", said.to_string());
        let answer = call(
            &lab,
            "generate",
            &[folder.clone(), adapter.clone()],
            &["--max-new-tokens", "8", "--json"],
        );
        assert_eq!(answer.code, Some(0), "{answer:?}");
        let lengths: Vec<usize> = greedy
            .chunks(8)
            .map(|row| ends_at(row, end).map_or(8, |at| at + 1))
            .collect();
        let width = *lengths.iter().max().unwrap();
        let rows = greedy.chunks(8).zip(&lengths);
        let padded = rows.flat_map(|(row, &length)| {
            let text = row[..length].iter().copied();
            text.chain(std::iter::repeat_n(padding, width - length))
        });
        let found = sequences(&lab);
        assert_eq!(found, (vec![3, width], padded.collect()));
        let told: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
        assert_eq!(told["shape"], json!([3, width]));
        assert!(told["tokens_per_second"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn forward_takes_the_positions_of_rows_padded_on_the_left() {
    let lab = Lab::new();
    for name in FAMILIES {
        let [rows, seq] = write_left(&lab, name);
        let (mask, _) = ints(&case(name)[1], "left_attention_mask");
        let answer = call(&lab, "forward", &case(name), &[]);
        assert_eq!(answer.code, Some(0), "{name}: {answer:?}");
        let (shape, found) = lab.floats("out.safetensors", "logits");
        assert_eq!(shape[..2], [rows, seq]);
        let expected = expected(name, "left_logits");
        // The fixtures have only some of the columns.
        let vocab = shape[2];
        let kept = expected.len() / (rows * seq);
        for at in (0..rows * seq).filter(|&at| mask[at] == 1) {
            let found = found[at * vocab..(at + 1) * vocab].iter();
            let found: Vec<f32> = found.copied().step_by(vocab.div_ceil(kept)).collect();
            let off = largest_difference(&found, &expected[at * kept..(at + 1) * kept]);
            assert!(off < 1e-4, "{name}: token {at} is {off} off");
        }
    }
}

#[test]
fn prompts_go_on_together_as_they_do_alone() {
    let lab = Lab::with_adapter();
    let generate = |prompts: &[&str], more: &[&str]| {
        let args = ["generate", "--model", "model", "--max-new-tokens", "9"];
        let prompts = prompts.iter().flat_map(|prompt| ["--prompt", prompt]);
        let args = args.into_iter().chain(prompts).chain(more.iter().copied());
        args.map(str::to_string).collect::<Vec<_>>()
    };
    let json = |prompts: &[&str], more: &[&str]| {
        let args = generate(prompts, &[&["--json"], more].concat());
        lab.ok_json(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let prompts = ["the cat sat on", "a", "the dog and the"];
    for more in [&[][..], &["--adapter", "out"]] {
        let together = json(&prompts, more);
        for (index, prompt) in prompts.iter().enumerate() {
            let alone = json(&[prompt], more);
            for key in ["prompt", "text", "prompt_token_ids", "token_ids"] {
                assert_eq!(together[index][key], alone[key], "{prompt}: {key}");
            }
        }
    }
    // Each row has its own random numbers.
    let drawn = ["--temperature", "2", "--top-k", "0"];
    let together = json(&prompts, &drawn);
    assert_eq!(
        together[0]["token_ids"],
        json(&prompts[..1], &drawn)["token_ids"]
    );
    assert_ne!(
        json(&["a", "a"], &drawn)[0]["text"],
        json(&["a", "a"], &drawn)[1]["text"]
    );
    // Each text is shown with its prompt and, if there are several adapters, with its adapter.
    let args = generate(&prompts[..2], &[]);
    let shown = lab.ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let texts = json(&prompts[..2], &[]);
    let whole = |index: usize| {
        format!(
            "{}{}",
            prompts[index],
            texts[index]["text"].as_str().unwrap()
        )
    };
    assert_eq!(shown, format!("{}\n\n{}\n", whole(0), whole(1)));
    let both = json(&prompts[..2], &["--adapter", "out", "--adapter", "./out"]);
    let named = [0, 1, 2, 3].map(|i| both[i]["adapter"].as_str().unwrap());
    assert_eq!(named, ["out", "out", "./out", "./out"]);
}

#[test]
fn rows_that_cannot_go_on_are_refused() {
    let lab = Lab::new();
    let fails =
        |command: &str, tensors: &[(&str, &[usize], &[i64])], more: &[&str], named: &[&str]| {
            lab.write_integers("in.safetensors", tensors);
            let files = ["--input", "in.safetensors", "--output", "out.safetensors"];
            let args = [&[command, "--model", "model"], &files[..], more].concat();
            lab.fails(&args, &[&["in.safetensors"], named].concat());
            assert!(!lab.path("out.safetensors").exists());
        };
    let generate = |tensors: &[(&str, &[usize], &[i64])], named: &[&str]| {
        fails("generate", tensors, &[], named);
    };
    let ids = ("input_ids", &[2, 3][..], &[1, 2, 3, 4, 5, 6][..]);
    generate(
        &[("ids", ids.1, ids.2)],
        &["no tensor input_ids", "it holds ids"],
    );
    generate(&[("input_ids", &[6], ids.2)], &["[6], not [batch, seq]"]);
    let mask = |values: &'static [i64]| [ids, ("attention_mask", &[2, 3][..], values)];
    generate(
        &[ids, ("attention_mask", &[3, 2], &[1; 6])],
        &["attention_mask is [3, 2], input_ids is [2, 3]"],
    );
    generate(
        &mask(&[0, 1, 1, 1, 0, 1]),
        &["attention_mask[1, 1] is 0", "on the left"],
    );
    generate(
        &mask(&[1, 1, 0, 1, 1, 1]),
        &["attention_mask[0, 2] is 0", "on the left"],
    );
    generate(
        &mask(&[1, 1, 1, 0, 0, 0]),
        &["row 1", "a token to continue"],
    );
    generate(&mask(&[1, 1, 2, 1, 1, 1]), &["attention_mask holds 2"]);
    generate(
        &[("input_ids", &[1, 2], &[5, 100_000])],
        &["input_ids[0, 1] is 100000", "vocab_size"],
    );
    let positions = |values: &'static [i64]| [ids, ("position_ids", &[2, 3][..], values)];
    for (values, named) in [
        (
            &[0, 1, 2, 0, 1, 32][..],
            "position_ids[1, 2] is 32, not from 0 to below the model's n_positions 32",
        ),
        (&[0, 1, 2, -1, 1, 2], "position_ids[1, 0] is -1"),
    ] {
        fails("forward", &positions(values), &[], &[named]);
    }

    // More tokens than learnt positions.
    lab.write_integers("in.safetensors", &[("input_ids", &[1, 40], &[1; 40])]);
    let files = ["--input", "in.safetensors", "--output", "out.safetensors"];
    let args = [&["generate", "--model", "model"], &files[..]].concat();
    lab.fails(&args, &["40 tokens", "32 positions"]);
    let several = ["--adapter", "a", "--adapter", "b"];
    lab.fails(&[&args[..], &several].concat(), &["several adapters"]);
    for (more, named) in [
        (&["--prompt", "the cat"][..], "--prompt"),
        (&["--tokenizer", "model"], "--tokenizer"),
    ] {
        let answer = lab.peft(&[&args[..], more].concat());
        assert_eq!(answer.code, Some(2), "{answer:?}");
        assert!(answer.err.contains(named), "{answer:?}");
    }
    for alone in [&args[..5], &["generate", "--model", "model"]] {
        let answer = lab.peft(alone);
        assert_eq!(answer.code, Some(2), "{answer:?}");
    }

    // Rotary positions end at the limit of 32 bits.
    let far = ("position_ids", ids.1, &[0, 1, 2, 0, 1, 1 << 31][..]);
    lab.write_integers("in.safetensors", &[ids, far]);
    let answer = call(&lab, "forward", &case("qwen3"), &[]);
    answer.failed(&["position_ids[1, 2] is 2147483648, not from 0 to below 1073741824"]);
}
