//! `peft train`: a new adapter, a saved one, all weights.

use std::fs;

use crate::common::{Lab, assert_has, evaluations, quick_start, repository, with_keys};

#[test]
fn an_adapter_is_trained_shown_and_saved() {
    let lab = Lab::new();
    let base = lab.read("model/model.safetensors");
    let out = lab.ok(&["train", "train.toml"]);

    // LoRA on c_attn, r 4: two blocks of 4 * (16 + 48) values.
    let all = 2 * 4 * (16 + 48) + parameters(&lab);
    let line = format!("trainable params: 512 || all params: {all:?} ||");
    let line = line.replace(&format!("{all:?}"), &with_comma(all));
    assert!(out.contains(&line), "{line} is not in {out}");
    let parts = [
        "LORA: r = 4, lora_alpha = 8, lora_dropout = 0.1\n",
        "  transformer.h.*.attn.c_attn  2 layers  512 parameters\n",
        "6 examples",
        "before training:\n  evaluation: loss ",
        "\n  evaluated in 0:0",
        "after training, 3 steps in 0:0",
        "out/adapter_model.safetensors (",
        "out/checkpoint-3 (",
    ];
    assert_has(&out, &parts);
    // A sample before and one after training, each with the prompt once.
    assert_eq!(out.matches("\n  sample: the cat").count(), 2, "{out}");
    assert_eq!(out.matches("the cat").count(), 2, "{out}");
    // Everything before the first step fits on one screen.
    let begun = out.lines().position(|line| line.starts_with("step 1/3"));
    assert!(begun.is_some_and(|lines| lines < 16), "{out}");
    assert!(!out.contains("GPT2LMHeadModel("), "{out}");
    let losses = evaluations(&out);
    assert!(losses.len() == 2 && losses[1] < losses[0], "{losses:?}");

    let mut files = lab.names("out");
    files.retain(|name| !name.starts_with("checkpoint"));
    let expected = [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "config.toml",
        "events.out.tfevents.peft",
        "metrics.jsonl",
        "report.html",
    ];
    assert_eq!(files, expected);
    let config = lab.json("out/adapter_config.json");
    assert_eq!(config["task_type"], "CAUSAL_LM");
    assert_eq!(config["base_model_name_or_path"], "model");
    assert_eq!(lab.read("model/model.safetensors"), base);

    let entries = lab.metrics("out");
    assert_eq!(entries.len(), 3);
    for (step, entry) in (1..).zip(entries) {
        assert_eq!(entry["step"], step);
        for key in ["loss", "learning_rate", "tokens_per_second"] {
            assert!(entry[key].is_f64(), "{key} in {entry}");
        }
    }
}

#[test]
fn the_trees_of_a_model_are_shown_to_who_asks() {
    let lab = Lab::new();
    let answer = lab.peft(&["train", "train.toml", "-v", "--dry-run"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(!answer.out.contains("GPT2LMHeadModel("), "{}", answer.out);
    let (before, after) = answer.err.split_once("with the adapter:").unwrap();
    assert!(
        before.contains("GPT2LMHeadModel(\n") && !before.contains("lora_A"),
        "{before}"
    );
    let parts = [
        "PeftModelForCausalLM(\n  (base_model): LoraModel(",
        "(base_layer): Conv1D(nf=48, nx=16)",
        "(default): Dropout(p=0.1, inplace=False)",
        "(default): Linear(in_features=16, out_features=4, bias=False)",
    ];
    assert_has(after, &parts);
}

#[test]
fn what_every_method_adapts_is_told_in_a_few_lines() {
    let lab = Lab::new();
    let told = |keys: &[&str]| {
        let mut args = vec!["train", "train.toml", "--dry-run"];
        keys.iter().for_each(|key| args.extend(["--set", key]));
        let out = lab.ok(&args);
        out.split("trainable params").next().unwrap().to_string()
    };
    assert_eq!(
        told(&["peft.peft_type=IA3"]),
        "IA3\n  transformer.h.*.attn.c_attn  2 layers   96 parameters\n  \
         transformer.h.*.mlp.c_proj   2 layers  128 parameters\n"
    );
    // A table replaces the file's table, including its target_modules.
    for (set, parameters) in [
        ("peft.peft_type=IA3", "trainable params: 6,144 "),
        ("peft={peft_type=\"IA3\"}", "trainable params: 3,584 "),
    ] {
        let args = quick_start(&[set]);
        let mut args: Vec<&str> = args.iter().map(String::as_str).collect();
        args.push("--dry-run");
        let out = lab.ok(&args);
        assert!(out.contains(parameters), "{out}");
    }
    // The model's default in the form in which PEFT stores it does not count as set by the user.
    let all = "peft.target_modules=[\"c_attn\", \"c_proj\"]";
    let ia3 = told(&["peft.peft_type=IA3", all]);
    assert!(
        ia3.starts_with("IA3\n  transformer.h.*.attn.c_attn"),
        "{ia3}"
    );
    let set = r#"peft.feedforward_modules=".*\\.mlp\\.c_proj""#;
    let ia3 = told(&["peft.peft_type=IA3", all, set]);
    assert!(
        ia3.starts_with(r"IA3: feedforward_modules = '.*\.mlp\.c_proj'"),
        "{ia3}"
    );
    assert_eq!(
        told(&[
            "peft.bias=lora_only",
            "peft.use_dora=true",
            "peft.lora_dropout=0",
            "peft.modules_to_save=[\"ln_f\"]"
        ]),
        "LORA: r = 4, lora_alpha = 8, bias = \"lora_only\", use_dora = true\n  \
         transformer.h.*.attn.c_attn (its bias)  2 layers   96 parameters\n  \
         transformer.h.*.attn.c_attn             2 layers  608 parameters\n  \
         transformer.ln_f (a copy of the layer)   1 layer   32 parameters\n"
    );
    let full = told(&["peft.peft_type=NONE"]);
    assert_eq!(full, "all weights of model are trained\n");
}

#[test]
fn nothing_is_headed_that_is_not_there() {
    let lab = Lab::new();
    let text = lab.text("train.toml");
    let text = text.replace("prompt = \"the cat\"\n", "");
    let text = text.replace("validation = \"train.jsonl[4:]\"\n", "");
    lab.write("plain.toml", text);
    let out = lab.ok(&["train", "plain.toml"]);
    assert!(!out.contains("before training"), "{out}");
    let after = out.lines().find(|line| line.starts_with("after training"));
    assert!(after.is_some_and(|line| !line.ends_with(':')), "{out}");
    let page = lab.text("out/report.html");
    assert!(!page.contains("Samples") && !page.contains("Evaluations"));
}

#[test]
fn the_first_evaluation_can_be_turned_off() {
    let lab = Lab::new();
    let off = ["--set", "training.eval_on_start=false"];
    let out = lab.ok(&[&["train", "train.toml"], &off[..]].concat());
    assert_eq!(evaluations(&out).len(), 1, "{out}");
    // The sample takes little time, and was requested by the prompt.
    assert!(out.contains("before training:\n  sample: the cat"), "{out}");
}

#[test]
fn the_written_config_repeats_the_run() {
    let lab = Lab::with_adapter();
    lab.ok(&with_keys(
        "out/config.toml",
        &["training.output_dir=again"],
    ));
    assert_eq!(lab.weights("again"), lab.weights("out"));
    lab.ok(&with_keys(
        "train.toml",
        &["training.output_dir=seed", "training.seed=7"],
    ));
    assert_ne!(lab.weights("seed"), lab.weights("out"));
}

#[test]
fn a_saved_adapter_goes_on_where_it_was() {
    let lab = Lab::new();
    let first = lab.ok(&["train", "train.toml"]);
    let saved = lab.weights("out");
    let toml = lab.text("train.toml");
    let (head, rest) = toml.split_once("[data]").unwrap();
    let (data, rest) = rest.split_once("[peft]").unwrap();
    let (_, training) = rest.split_once("[training]").unwrap();
    let resume = format!("{head}adapter = 'out'\n[data]{data}[training]{training}");
    lab.write("resume.toml", resume);

    let second = lab.ok(&["train", "resume.toml", "--set", "training.output_dir=more"]);
    assert_eq!(evaluations(&second)[0], evaluations(&first)[1]);
    assert!(evaluations(&second)[1] < evaluations(&second)[0]);
    assert!(second.contains("trainable params: 512 ||"), "{second}");
    assert_eq!(lab.weights("out"), saved);
    assert_ne!(lab.weights("more"), saved);
    assert_eq!(lab.json("more/adapter_config.json")["r"], 4);
}

#[test]
fn all_weights_are_trained_on_request() {
    let lab = Lab::new();
    let out = lab.ok(&["train", "train.toml", "--set", "peft.peft_type=NONE"]);
    let all = with_comma(parameters(&lab));
    let line = format!("trainable params: {all} || all params: {all} || trainable%: 100.0000");
    assert!(out.contains(&line), "{out}");
    assert!(
        !lab.names("out")
            .contains(&"adapter_config.json".to_string())
    );
    assert_ne!(
        lab.read("out/model.safetensors"),
        lab.read("model/model.safetensors")
    );
    // The output is a complete model, with its tokenizer.
    let text = lab.ok_json(&["generate", "--model", "out", "--prompt", "the", "--json"]);
    assert!(text["token_ids"].is_array());
}

/// GPT-2's parameters at these sizes. The tied head is counted once.
fn parameters(lab: &Lab) -> usize {
    let (d, vocab, positions, layers) = (16, lab.vocab_size, 32, 2);
    let norm = 2 * d;
    let linear = |d_in: usize, d_out: usize| d_in * d_out + d_out;
    let block = 2 * norm + linear(d, 3 * d) + linear(d, d) + linear(d, 4 * d) + linear(4 * d, d);
    (vocab + positions) * d + layers * block + norm
}

fn with_comma(number: usize) -> String {
    format!("{},{:03}", number / 1000, number % 1000)
}

/// Every shipped configuration is valid, and its first line is the command that runs it.
#[test]
fn the_shipped_configurations_are_read() {
    let lab = Lab::new();
    let mut names: Vec<_> = fs::read_dir(repository("configs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    names.sort();
    assert_eq!(names.len(), 12);
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let command = format!("# cargo run --release -- train configs/{name}");
        let first = text.lines().next().unwrap();
        let installed = command.replace("cargo run --release --", "peft");
        assert!(
            [command, installed].iter().any(|command| command == first),
            "{first}"
        );
        lab.ok(&["train", path.to_str().unwrap(), "--print-config"]);
    }
}
