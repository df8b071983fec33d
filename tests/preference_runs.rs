//! Runs that compare answers: resumed, evaluated, with checkpoints, with every kind of base and
//! method.

use serde_json::{Value, json};

use crate::common::{Lab, adapted, with_keys};
use crate::resume::{metrics, start, wait_for_lines};

/// Short answers are preferred to long ones.
fn pairs(rows: usize) -> String {
    let words = ["the cat", "sat on", "the mat", "and the dog", "ran", "home"];
    let row = |i: usize| {
        let word = |at: usize| words[(i * 5 + at * 3) % words.len()];
        let row = json!({
            "prompt": format!("{} {} ", word(0), word(1)),
            "chosen": word(2),
            "rejected": format!("{} {} {i}", word(3), word(4)),
        });
        format!("{row}\n")
    };
    (0..rows).map(row).collect()
}

const RUN: &str = r#"
model = "model"
[data]
train = "pairs.jsonl"
validation = "held.jsonl"
[peft]
peft_type = "LORA"
r = 4
lora_alpha = 8
lora_dropout = 0.2
[training]
objective = "dpo"
output_dir = "out"
max_steps = 24
per_device_train_batch_size = 2
gradient_accumulation_steps = 2
learning_rate = 0.01
logging_steps = 1
save_steps = 3
eval_strategy = "steps"
eval_steps = 6
"#;

fn lab() -> Lab {
    let lab = Lab::new();
    lab.write("pairs.jsonl", pairs(22));
    lab.write(
        "held.jsonl",
        pairs(30)
            .lines()
            .skip(22)
            .map(|l| format!("{l}\n"))
            .collect::<String>(),
    );
    lab.write("run.toml", RUN);
    lab
}

fn train(lab: &Lab, sets: &[&str]) -> String {
    lab.ok(&with_keys("run.toml", sets))
}

/// The last value of a number in `metrics.jsonl`.
fn last(entries: &[Value], key: &str) -> f64 {
    let mut values = entries.iter().rev().filter_map(|entry| entry[key].as_f64());
    values
        .next()
        .unwrap_or_else(|| panic!("no {key} in {entries:?}"))
}

#[test]
fn preferences_are_learnt_measured_and_shown() {
    let lab = lab();
    let best = "training.metric_for_best_model=rewards/margins";
    let out = train(
        &lab,
        &[
            best,
            "training.load_best_model_at_end=true",
            "training.save_steps=6",
        ],
    );
    let entries = metrics(&lab, "out");
    // At the start, policy and reference are equal.
    let first = entries.iter().find(|entry| entry["loss"].is_f64()).unwrap();
    // On the CPU's kernels they are equal to the last bit.
    assert!(
        first["rewards/margins"].as_f64().unwrap().abs() < 1e-6,
        "{first}"
    );
    assert!(
        (first["loss"].as_f64().unwrap() - 2f64.ln()).abs() < 1e-6,
        "{first}"
    );
    assert!(last(&entries, "rewards/margins") > 0.2);
    assert!(last(&entries, "eval_rewards/accuracies") > 0.8);
    for key in [
        "logps/chosen",
        "logps/rejected",
        "rewards/chosen",
        "rewards/rejected",
    ] {
        assert!(
            last(&entries, key).is_finite() && last(&entries, &format!("eval_{key}")).is_finite()
        );
    }
    assert!(out.contains("rewards/accuracies"), "{out}");
    let report = lab.text("out/report.html");
    assert!(
        report.contains("<svg") && report.contains("margin"),
        "the report shows margins"
    );

    let eval = adapted("eval", &["--data", "held.jsonl", "--json"]);
    let found = lab.ok_json(&eval);
    let evaluated = entries
        .iter()
        .filter_map(|e| e["eval_rewards/margins"].as_f64());
    let margin = evaluated.fold(f64::MIN, f64::max);
    assert!(
        (found["rewards/margins"].as_f64().unwrap() - margin).abs() < 1e-5,
        "{found}"
    );
    assert_eq!(found["base"]["rewards/margins"], 0.0);
    assert_eq!(found["pairs"], 8);
}

#[test]
fn a_run_that_is_killed_goes_on_from_the_reference_it_began_with() {
    let lab = lab();
    train(&lab, &["training.output_dir=first", "training.max_steps=5"]);
    // The reference is the adapter as it was loaded, not as it is in a checkpoint.
    let run = RUN.replace("[peft]", "").replace(
        "model = \"model\"",
        "model = \"model\"\nadapter = \"first\"",
    );
    let run = ["peft_type", "r =", "lora_"].iter().fold(run, |run, key| {
        run.lines()
            .filter(|l| !l.starts_with(key))
            .map(|l| format!("{l}\n"))
            .collect()
    });
    lab.write("run.toml", run);
    for sets in [
        &[][..],
        &["dpo.precompute_ref_log_probs=true"],
        &["training.gradient_checkpointing=true"],
    ] {
        for dir in ["out", "whole"] {
            std::fs::remove_dir_all(lab.path(dir)).ok();
        }
        train(&lab, &[&["training.output_dir=whole"], sets].concat());
        let mut child = start(&lab, &with_keys("run.toml", sets));
        wait_for_lines(&lab, "out", 12, &mut child);
        child.kill().unwrap();
        child.wait().unwrap();
        let out = lab.ok(&[&with_keys("run.toml", sets)[..], &["--resume"]].concat());
        assert!(out.starts_with("resuming from out/checkpoint-"), "{out}");
        for file in ["adapter_model.safetensors", "checkpoint-24/optimizer.bpk"] {
            let same = lab.read(&format!("out/{file}")) == lab.read(&format!("whole/{file}"));
            assert!(same, "{file} differs with {sets:?}");
        }
        assert_eq!(metrics(&lab, "out"), metrics(&lab, "whole"), "{sets:?}");
    }
    // If another adapter is stored under that name, the reference is another one.
    lab.write("other.toml", RUN);
    lab.ok(&[
        "train",
        "other.toml",
        "--set",
        "training.output_dir=first",
        "--set",
        "training.seed=7",
        "--force",
    ]);
    lab.fails(
        &[
            "train",
            "run.toml",
            "--resume",
            "--set",
            "training.gradient_checkpointing=true",
        ],
        &["its answers are compared with"],
    );
}

#[test]
fn the_reference_can_be_chosen() {
    let lab = lab();
    train(&lab, &["training.output_dir=first", "training.max_steps=6"]);
    let reward = |sets: &[&str]| {
        std::fs::remove_dir_all(lab.path("out")).ok();
        train(
            &lab,
            &[&["training.max_steps=1", "training.eval_strategy=no"], sets].concat(),
        );
        let entries = metrics(&lab, "out");
        (last(&entries, "rewards/margins"), last(&entries, "loss"))
    };
    let fresh = reward(&[]);
    assert!(fresh.0.abs() < 1e-6, "{fresh:?}");
    let (as_loaded, _) = reward(&["adapter=first"]);
    assert!(as_loaded.abs() < 1e-6, "{as_loaded}");
    let (from_base, _) = reward(&["adapter=first", "reference=base"]);
    assert!(from_base > 0.001, "{from_base}");
    let (from_first, _) = reward(&["reference=first"]);
    assert!(from_first < -0.001, "{from_first}");
    let (itself, _) = reward(&["adapter=first", "reference=first"]);
    assert!(itself.abs() < 1e-6, "{itself}");
}

/// PiSSA's adapter took a part of the weights. The model alone still counts as the whole model.
#[test]
fn the_model_alone_is_whole_beside_pissa() {
    let lab = lab();
    let pissa = "peft.init_lora_weights=pissa";
    train(
        &lab,
        &["training.output_dir=first", "training.max_steps=6", pissa],
    );
    let eval = "eval --model model --adapter first --data pairs.jsonl --json";
    let found = lab.ok_json(&eval.split(' ').collect::<Vec<_>>());
    for answer in ["chosen", "rejected"] {
        let logps = format!("logps/{answer}");
        let gain = found[&logps].as_f64().unwrap() - found["base"][&logps].as_f64().unwrap();
        let reward = found[format!("rewards/{answer}")].as_f64().unwrap();
        assert!(
            (reward - 0.1 * gain).abs() < 1e-4,
            "{answer}: {reward}, {gain}"
        );
    }
    // In a run with PiSSA, this reference is the other adapter on the whole model. So all answers
    // have the same probabilities as without PiSSA.
    let reward = |sets: &[&str]| {
        std::fs::remove_dir_all(lab.path("out")).ok();
        let run = ["training.max_steps=1", "training.eval_strategy=no"];
        train(&lab, &[&run[..], sets].concat());
        last(&metrics(&lab, "out"), "rewards/margins")
    };
    for reference in ["reference=base", "reference=first"] {
        let (plain, with) = (reward(&[reference]), reward(&[reference, pissa]));
        assert!((plain - with).abs() < 1e-4, "{reference}: {plain}, {with}");
    }
}

#[test]
fn accumulation_and_checkpointing_change_nothing() {
    let lab = lab();
    let losses = |sets: &[&str]| -> Vec<f64> {
        std::fs::remove_dir_all(lab.path("out")).ok();
        let fixed = [
            "training.max_steps=4",
            "training.train_sampling_strategy=sequential",
        ];
        train(&lab, &[&fixed, sets].concat());
        let entries = metrics(&lab, "out");
        entries
            .iter()
            .filter_map(|entry| entry["loss"].as_f64())
            .collect()
    };
    let same = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 2e-5);
    let plain = losses(&[]);
    assert_eq!(plain.len(), 4);
    assert!(plain[3] < plain[0], "{plain:?}");
    for sets in [
        &[
            "training.per_device_train_batch_size=4",
            "training.gradient_accumulation_steps=1",
        ][..],
        &["training.gradient_checkpointing=true"],
        &["dpo.precompute_ref_log_probs=true"],
    ] {
        let found = losses(sets);
        assert!(same(&found, &plain), "{sets:?}: {found:?} {plain:?}");
    }
    // Dropout is off by default.
    assert!(!same(&losses(&["dpo.disable_dropout=false"]), &plain));
    assert!(same(&losses(&["peft.lora_dropout=0"]), &plain));
}

#[test]
fn every_objective_runs_with_every_kind_of_base_and_method() {
    let lab = lab();
    for objective in ["dpo", "kto", "orpo", "cpo"] {
        for method in [
            &["peft.init_lora_weights=pissa"][..],
            &["quantization_config.load_in_4bit=true"],
            &["training.bf16=true"],
            &["peft.peft_type=IA3"],
            &["peft.peft_type=PREFIX_TUNING", "peft.num_virtual_tokens=3"],
            &[
                "peft.peft_type=PROMPT_TUNING",
                "peft.num_virtual_tokens=3",
                "training.gradient_checkpointing=true",
            ],
            &["peft.modules_to_save=[\"lm_head\"]"],
            &[
                "peft.peft_type=NONE",
                "training.gradient_checkpointing=true",
            ],
        ] {
            std::fs::remove_dir_all(lab.path("out")).ok();
            let objective = format!("training.objective={objective}");
            train(
                &lab,
                &[&[&objective[..], "training.max_steps=3"], method].concat(),
            );
            let entries = metrics(&lab, "out");
            assert!(last(&entries, "loss").is_finite(), "{objective} {method:?}");
            // With virtual tokens, the policy differs from the model alone from the start.
            if objective.ends_with("dpo") && !method[0].contains("TUNING") {
                let first = entries
                    .iter()
                    .find_map(|e| e["rewards/margins"].as_f64())
                    .unwrap();
                assert!(
                    first.abs() < 2e-4,
                    "{method:?} begins as the reference: {first}"
                );
            }
        }
    }
}

#[test]
fn sets_are_mixed_and_a_dry_run_tells_what_it_takes() {
    let lab = lab();
    lab.write("more.jsonl", pairs(7));
    let sets = ["data.train=[{path=\"pairs.jsonl\", weight=2}, {path=\"more.jsonl\", weight=1}]"];
    let out = train(&lab, &[&sets[..], &["training.max_steps=3"]].concat());
    assert!(out.contains("mixed by weight"), "{out}");
    let out = lab.ok(&["train", "run.toml", "--dry-run"]);
    assert!(out.contains("a run: 24 steps"), "{out}");
    let out = lab.ok(&["data", "run.toml"]);
    assert!(
        out.contains("row 1, chosen") && out.contains("row 1, rejected"),
        "{out}"
    );
}

#[test]
fn a_reward_model_ranks_what_a_model_says() {
    let lab = lab();
    train(
        &lab,
        &[
            "training.objective=reward",
            "training.max_steps=30",
            "training.output_dir=judge",
        ],
    );
    let ask = [
        "generate",
        "--model",
        "model",
        "--prompt",
        "the cat ",
        "--max-new-tokens",
        "6",
    ];
    let best = ["--best-of", "5", "--reward", "judge", "--json"];
    let found = lab.ok_json(&[&ask[..], &["--temperature", "1.5"], &best].concat());
    let found = &found[0];
    let candidates = found["candidates"].as_array().unwrap();
    let rewards: Vec<f64> = candidates
        .iter()
        .map(|c| c["reward"].as_f64().unwrap())
        .collect();
    assert_eq!(rewards.len(), 5);
    assert!(
        rewards.is_sorted_by(|a, b| a >= b) && rewards[0] > rewards[4],
        "{rewards:?}"
    );
    assert_eq!(
        (&found["reward"], &found["text"]),
        (&candidates[0]["reward"], &candidates[0]["text"])
    );
    // `peft predict` gives the same text the same reward.
    let text = format!("the cat {}", found["text"].as_str().unwrap());
    lab.write("said.jsonl", format!("{}\n", json!({"text": text})));
    let said = [
        "predict",
        "--model",
        "model",
        "--adapter",
        "judge",
        "--data",
        "said.jsonl",
    ];
    let said: Value = serde_json::from_str(&lab.ok(&said)).unwrap();
    println!("{said} {rewards:?}");

    lab.fails(
        &[&ask[..], &["--temperature", "0"], &best].concat(),
        &["give --temperature, such as 1"],
    );
    train(&lab, &["training.max_steps=1"]);
    let no_judge = ["--temperature", "1", "--best-of", "2", "--reward", "out"];
    lab.fails(
        &[&ask[..], &no_judge].concat(),
        &["out is not a reward model"],
    );
}

#[test]
fn a_new_file_for_pairs_trains_on_them() {
    let lab = lab();
    let new = ["new", "brief", "--train", "pairs.jsonl", "--model", "model"];
    lab.ok(&new);
    let text = lab.text("brief.toml");
    assert!(
        text.contains("objective = \"dpo\"")
            && text.contains("[dpo]\n# How")
            && text.contains("beta = 0.1"),
        "{text}"
    );
    lab.ok(&with_keys(
        "brief.toml",
        &["training.max_steps=2", "prompt=the cat"],
    ));
    let orpo = ["--objective", "orpo", "--force"];
    lab.ok(&[&new[..], &orpo].concat());
    let text = lab.text("brief.toml");
    assert!(
        text.contains("objective = \"orpo\"") && text.contains("[orpo]"),
        "{text}"
    );
    let answer = lab.peft(&[&new[..], &["--objective", "ppo"]].concat());
    assert_eq!(answer.code, Some(2), "{answer:?}");
    assert!(
        answer.err.contains("give one of sft, dpo, kto, orpo, cpo"),
        "{answer:?}"
    );
}
