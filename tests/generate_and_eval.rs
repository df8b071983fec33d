//! `peft generate` and `peft eval`.

use crate::common::{Lab, N_POSITIONS};

const GENERATE: [&str; 6] = [
    "generate", "--model", "model", "--prompt", "the cat", "--json",
];

#[test]
fn a_text_is_continued_and_counted() {
    let lab = Lab::new();
    let answer = lab.ok_json(&[&GENERATE[..], &["--max-new-tokens", "12"]].concat());
    assert_eq!(answer["prompt"], "the cat");
    let ids = answer["token_ids"].as_array().unwrap();
    assert!(!ids.is_empty() && ids.len() <= 12, "{answer}");
    assert!(answer["tokens_per_second"].as_f64().unwrap() > 0.0);
    // A list of numbers is on one line.
    let text = lab.ok(&GENERATE);
    assert!(
        text.contains("\n  \"token_ids\": [") && text.lines().count() == 7,
        "{text}"
    );
    // The text that is printed while it is generated is the same.
    let plain = lab.ok(&[
        "generate",
        "--model",
        "model",
        "--prompt",
        "the cat",
        "--max-new-tokens",
        "12",
    ]);
    assert_eq!(plain, format!("{}\n", answer["text"].as_str().unwrap()));
}

#[test]
fn sampling_follows_the_seed() {
    let lab = Lab::new();
    let sample = |seed: &str| {
        let options = ["--temperature", "2", "--top-k", "0", "--seed", seed];
        lab.ok_json(&[&GENERATE[..], &options].concat())["token_ids"].clone()
    };
    assert_eq!(sample("1"), sample("1"));
    assert_ne!(sample("1"), sample("2"));
    let greedy = lab.ok_json(&GENERATE)["token_ids"].clone();
    let certain = [&GENERATE[..], &["--temperature", "2", "--top-k", "1"]].concat();
    assert_eq!(lab.ok_json(&certain)["token_ids"], greedy);
}

#[test]
fn without_a_number_generation_ends_at_the_last_position() {
    let lab = Lab::new();
    let answer = lab.ok_json(&GENERATE);
    let count = |key: &str| answer[key].as_array().unwrap().len();
    assert!(count("prompt_token_ids") + count("token_ids") <= N_POSITIONS);
    let too_many = [&GENERATE[..], &["--max-new-tokens", "500"]].concat();
    lab.fails(&too_many, &["max_new_tokens 500", "32"]);
}

/// The mean cross-entropy of the next token, in double precision, from the logits of `forward`.
#[test]
fn eval_is_the_mean_loss_of_all_tokens() {
    let lab = Lab::with_adapter();
    let rows: [&[i64]; 2] = [&[5, 260, 7, 100, 9], &[1, 2, 3]];
    let lines = rows.map(|row| format!("{{\"input_ids\": {row:?}}}\n"));
    lab.write("ids.jsonl", lines.concat());
    let model = ["--model", "model", "--adapter", "out"];
    let eval = |batch: &str| {
        let args = [
            "eval",
            "--data",
            "ids.jsonl",
            "--json",
            "--batch-size",
            batch,
        ];
        lab.ok_json(&[&args[..], &model].concat())
    };

    let mut losses = Vec::new();
    for row in rows {
        lab.write_integers("in.safetensors", &[("input_ids", &[1, row.len()], row)]);
        let (_, logits) = lab.logits(&model);
        for (logits, &next) in logits.chunks(lab.vocab_size).zip(&row[1..]) {
            let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            losses.push(sum.ln() - f64::from(logits[next as usize]));
        }
    }
    let expected = losses.iter().sum::<f64>() / losses.len() as f64;
    let base = lab.ok_json(&["eval", "--data", "ids.jsonl", "--json", "--model", "model"]);
    for batch in ["1", "2"] {
        let found = eval(batch);
        for key in ["loss", "perplexity", "tokens"] {
            let (beside, alone) = (&found["base"][key], &base[key]);
            let difference = beside.as_f64().unwrap() - alone.as_f64().unwrap();
            assert!(difference.abs() < 1e-5, "{key}: {beside}, {alone}");
        }
        let loss = found["loss"].as_f64().unwrap();
        assert!((loss - expected).abs() < 1e-5, "{loss}, not {expected}");
        assert!((found["perplexity"].as_f64().unwrap() - loss.exp()).abs() < 1e-9);
        assert_eq!(found["tokens"], 6);
    }
    let plain = lab.ok(&["eval", "--model", "model", "--data", "train.jsonl[:2]"]);
    assert!(
        plain.starts_with("loss ") && plain.contains("  perplexity "),
        "{plain}"
    );
    // With an adapter, the base's figures follow on the same line.
    let eval = ["eval", "--data", "train.jsonl[:2]"];
    let adapted = lab.ok(&[&eval[..], &model].concat());
    let [first, base] = adapted.split("  base: ").collect::<Vec<_>>()[..] else {
        panic!("{adapted}");
    };
    let same = plain.split("  (").next().unwrap();
    assert_eq!(base.trim_end(), same);
    assert!(first.starts_with("loss ") && !adapted.trim_end().contains('\n'));
}

#[test]
fn eval_says_which_rows_are_left_out() {
    let lab = Lab::with_adapter();
    let rows = "{\"input_ids\": [1, 2, 3, 4]}\n{\"input_ids\": [1, 2], \"weight\": 0}\n{\"input_ids\": [1]}\n";
    lab.write("ids.jsonl", rows);
    let eval = [
        "eval",
        "--data",
        "ids.jsonl",
        "--model",
        "model",
        "--max-length",
        "3",
        "--json",
    ];
    let answer = lab.peft(&eval);
    let lines = [
        "1 of 3 rows cut to data.max_length = 3",
        "1 of 3 rows dropped: fewer than 2 tokens",
        "1 of 3 rows dropped: their weight is 0 or their label false",
    ];
    let found: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!(found["left_out"], serde_json::json!(lines));
    for line in lines {
        assert!(answer.err.contains(line), "{}", answer.err);
    }
}

/// `eval` refuses them as `generate` does.
#[test]
fn a_loss_that_is_not_finite_is_no_result() {
    let lab = Lab::with_adapter();
    let file = "model/model.safetensors";
    let mut weights = lab.read(file);
    // The last row of the last tensor: the embedding, which is also the head.
    let end = weights.len();
    weights[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    lab.write(file, weights);
    let eval = ["eval", "--model", "model", "--data", "train.jsonl"];
    let named = [
        "the loss is NaN",
        "the model's weights, or the adapter's, are broken",
    ];
    for more in [
        &[][..],
        &["--json"],
        &["--adapter", "out"],
        &["--adapter", "out", "--json"],
    ] {
        let answer = lab.peft(&[&eval[..], more].concat());
        assert_eq!(answer.out, "");
        answer.failed(&named);
    }
}

#[test]
fn a_perplexity_that_no_number_holds_is_told() {
    let lab = Lab::new();
    let file = "model/model.safetensors";
    let mut weights = lab.read(file);
    let end = weights.len();
    // The embedding, which is also the head: the row of a token that is in none of the texts.
    weights[end - 4..].copy_from_slice(&1e6_f32.to_le_bytes());
    lab.write(file, weights);
    let eval = [
        "eval",
        "--model",
        "model",
        "--data",
        "train.jsonl",
        "--json",
    ];
    let answer = lab.peft(&eval);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let said = "is more than a number can hold (null in JSON)";
    assert!(answer.err.contains(said), "{answer:?}");
}
