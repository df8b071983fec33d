use std::path::PathBuf;

use super::*;
use crate::configuration::arguments::IntervalStrategy;

const FILE: &str = r#"
    model = "models/tiny"
    [data]
    train = "a.jsonl"
    [peft]
    r = 4
    target_modules = ["c_attn"]
    rank_pattern = { "h.0.attn.c_attn" = 2 }
    [training]
    output_dir = "out"
    num_train_epochs = 1
    eval_strategy = "steps"
"#;

fn read(text: &str, overrides: &[&str]) -> Result<TrainConfig> {
    TrainConfig::from_toml(text, "a.toml", overrides)
}

#[test]
fn what_is_written_reads_back_the_same_and_has_every_default() {
    let config = read(FILE, &["training.eval_steps=7", "data.max_length=32"]).unwrap();
    assert_eq!(config.training.eval_strategy, IntervalStrategy::Steps);
    assert_eq!(config.training.eval_steps, Some(7));
    assert_eq!(config.data.max_length, Some(32));
    let text = config.to_toml().unwrap();
    assert_eq!(read(&text, &[]).unwrap(), config, "{text}");
    for default in [
        "learning_rate = 0.00005",
        "seed = 42",
        "max_grad_norm = 1.0",
    ] {
        assert!(text.contains(default), "{text}");
    }
}

#[test]
fn errors_name_the_file_the_key_and_the_way_out() {
    let error = |overrides: &[&str]| read(FILE, overrides).unwrap_err().to_string();
    assert_eq!(
        error(&["training.learning_rat=1"]),
        "--set training.learning_rat=1: training.learning_rat is not a known key; did you mean \
         learning_rate?"
    );
    assert!(error(&["training.fsdp=true"]).contains("does not support yet"));
    assert!(error(&["dta.x=1"]).contains("did you mean data?"));
    let message = read(&FILE.replace("num_train_epochs", "epochs"), &[]).unwrap_err();
    assert_eq!(
        message.to_string(),
        "a.toml: training.epochs is not a known key; did you mean num_train_epochs?"
    );
    assert_eq!(
        error(&["r=4"]),
        "--set r=4: r is not a known key; did you mean peft.r?"
    );
    let method = |flag: &str| {
        let method = read(FILE, &[flag]).and_then(|config| config.method("a.toml"));
        method.map(drop).unwrap_err().to_string()
    };
    let message = method("peft.lora_r=4");
    assert!(
        message.ends_with(": peft.lora_r is not a known key; did you mean r?"),
        "{message}"
    );
    let message = method("peft.peft_type=lora");
    assert!(
        message.ends_with("is not a method; did you mean peft_type = \"LORA\"?"),
        "{message}"
    );
    assert!(method("peft.peft_type=DORA").contains("use_dora = true"));
    let message = error(&["training.max_steps=many"]);
    assert!(
        message.contains("many") && message.contains("training.max_steps"),
        "{message}"
    );
    let message = error(&["training.lr_scheduler_type=staircase"]);
    assert!(
        message.contains("staircase") && message.contains("cosine"),
        "{message}"
    );
    assert!(error(&["data.max_lenght=3"]).ends_with("did you mean max_length?"));
    assert_eq!(
        error(&["peft.lora_alfa=3"]),
        "--set peft.lora_alfa=3: peft.lora_alfa is not a known key; did you mean lora_alpha?"
    );
    let config = read(&FILE.replace("r = 4", "lora_alfa = 3"), &[]).unwrap();
    let message = config.method("a.toml").unwrap_err().to_string();
    assert_eq!(
        message,
        "a.toml [peft]: peft.lora_alfa is not a known key; did you mean lora_alpha?"
    );
    let message = error(&["peft.task_type=SEQ_CLS"]);
    assert_eq!(
        message,
        "--set peft.task_type=SEQ_CLS: peft.task_type = \"SEQ_CLS\": training.objective = \"sft\" trains \
         \"CAUSAL_LM\"; leave the key out, or choose another objective"
    );
    let classifier = ["peft.task_type=SEQ_CLS", "training.objective=classify"];
    let config = read(FILE, &classifier).unwrap();
    config.method("a.toml").unwrap();
    let config = read(FILE, &["peft.task_type=CAUSAL_LM"]).unwrap();
    config.method("a.toml").unwrap();
    assert_eq!(
        error(&["peft.lora_alpha=nan"]),
        "--set peft.lora_alpha=nan: lora_alpha = nan: it must be a finite number"
    );
    let infinite = read(&FILE.replace("r = 4", "r = inf"), &[]).unwrap_err();
    assert_eq!(
        infinite.to_string(),
        "a.toml: peft.r = inf: it must be a finite number"
    );
    assert!(error(&["training.output_dir="]).contains("training.output_dir is not set"));
    assert!(error(&["adapter=x", "peft.r=2"]).contains("both"));
    assert!(error(&["training.max_steps"]).starts_with("--set training.max_steps: "));
    assert!(
        read("model = ", &[])
            .unwrap_err()
            .to_string()
            .contains("line 1")
    );
    let missing = read(
        "model = 'a'\n[data]\ntrain='a'\n[training]\noutput_dir='o'",
        &[],
    );
    assert!(missing.unwrap_err().to_string().contains("[peft]"));
    let missing = TrainConfig::from_file(Path::new("/nowhere/a.toml"), &[""; 0]);
    assert!(
        missing
            .unwrap_err()
            .to_string()
            .starts_with("/nowhere/a.toml: ")
    );
}

#[test]
fn a_key_takes_its_value_as_people_write_it() {
    let set = |text: &str| read(FILE, &[text]).unwrap();
    assert_eq!(set("training.learning_rate=.5").training.learning_rate, 0.5);
    assert_eq!(set("training.max_steps=1e3").training.max_steps, 1000);
    assert_eq!(set("training.max_steps=1_000").training.max_steps, 1000);
    assert!(set("training.bf16=True").training.bf16);
    assert_eq!(
        set("training.save_total_limit=05")
            .training
            .save_total_limit,
        Some(5)
    );
    for text in [
        "2024",
        "5",
        "true",
        "1e5",
        ".5",
        "{a",
        "[x",
        "\"x",
        "2024-01-02",
        "",
        "a = b",
    ] {
        assert_eq!(set(&format!("prompt={text}")).prompt.unwrap(), [text]);
        let data = set(&format!("data.template={text}")).data;
        assert_eq!(data.template.as_deref(), Some(text));
        let dir = PathBuf::from(format!("o{text}"));
        let found = set(&format!("training.output_dir=o{text}"));
        assert_eq!(found.training.output_dir, dir);
    }
    assert_eq!(set("model=2024").model, "2024");
    assert_eq!(set("prompt=\"5\"").prompt.unwrap(), ["5"]);
    let several = set("prompt=[\"a\", \"5\"]");
    assert_eq!(
        several.prompt.as_deref(),
        Some(&["a".to_owned(), "5".to_owned()][..])
    );
    let again: Table = several.to_toml().unwrap().parse().unwrap();
    assert_eq!(again["prompt"].as_array().unwrap().len(), 2);
    let one: Table = set("prompt=a").to_toml().unwrap().parse().unwrap();
    assert_eq!(one["prompt"].as_str(), Some("a"));
    let template = set("data.template={prompt}: x").data.template;
    assert_eq!(template.as_deref(), Some("{prompt}: x"));

    let method = |texts: &[&str]| {
        let config = read(FILE, texts).unwrap();
        config.method("a.toml").unwrap().to_json()
    };
    assert_eq!(method(&["peft.lora_dropout=.5"])["lora_dropout"], 0.5);
    assert_eq!(method(&["peft.r=1e1"])["r"], 10);
    let revision = method(&["peft.revision=2024"]);
    assert_eq!(revision["revision"], "2024");
    // Keys that need each other, in any order.
    let texts = [
        "peft.init_lora_weights=loftq",
        "peft.loftq_config.loftq_bits=4",
    ];
    assert_eq!(method(&texts)["init_lora_weights"], "loftq");
    let texts = ["peft.eva_config.rho=2", "peft.init_lora_weights=eva"];
    assert_eq!(method(&texts)["init_lora_weights"], "eva");
    let texts = [
        "peft.peft_type=PROMPT_TUNING",
        "peft.num_virtual_tokens=4",
        "peft.prompt_tuning_init=TEXT",
        "peft.prompt_tuning_init_text={x} 5",
        "peft.tokenizer_name_or_path=2024",
    ];
    let prompt = method(&texts);
    assert_eq!(prompt["prompt_tuning_init_text"], "{x} 5");
    assert_eq!(prompt["tokenizer_name_or_path"], "2024");
}

#[test]
fn an_error_of_a_flag_names_the_flag_and_not_the_file() {
    for (text, named) in [
        ("training.learning_rate=fast", "expected a number"),
        ("training.max_steps=1.5", "expected a whole number"),
        ("training.bf16=maybe", "expected true or false"),
        ("training.fsdp=true", "does not support yet"),
        (
            "training.lr_scheduler_type=5",
            "training.lr_scheduler_type = 5: expected one of `linear`, `cosine`",
        ),
        (
            "training.optim=true",
            "training.optim = true: expected one of `adamw_torch`",
        ),
        ("dta.x=1", "did you mean data?"),
        ("data.max_length=long", "expected a whole number"),
        (
            "quantization_config.load_in_4bit=2",
            "expected true or false",
        ),
        ("peft.r=eight", "expected a whole number"),
        ("peft.r=-3", "r = -3"),
        ("peft.lora_dropout=2", "lora_dropout"),
        ("peft.target_modules=[c_attn]", "quote strings"),
        ("peft=LORA", "peft.r=8"),
        ("training.max_steps", "not key=value"),
    ] {
        let error = read(FILE, &[text]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("--set {text}: ")), "{error}");
        assert!(error.contains(named), "{error}");
        assert!(!error.contains("a.toml"), "{error}");
    }
    let wrong = FILE.replace("[training]", "[training]\noptim = 1.5");
    let error = read(&wrong, &[]).unwrap_err().to_string();
    let named = "a.toml: training.optim = 1.5: expected one of `adamw_torch`";
    assert!(error.starts_with(named), "{error}");
    // A mistake in the file is reported for the file.
    let wrong = FILE.replace("r = 4", "r = 0");
    let error = read(&wrong, &["peft.lora_alpha=3"])
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("a.toml [peft]: "), "{error}");
}

#[test]
fn keys_of_another_method_are_left_out_and_mistakes_are_not() {
    let file = FILE.replace("r = 4", "peft_type = \"IA3\"\nr = 4\nlora_alpha = 8");
    let config = read(&file, &[]).unwrap();
    assert_eq!(config.method("a.toml").unwrap().peft_type(), "IA3");
    let config = read(FILE, &["peft.peft_type=IA3"]).unwrap();
    assert_eq!(config.method("a.toml").unwrap().peft_type(), "IA3");
    let quoted = ["peft.peft_type=\"IA3\"", "peft.target_modules=[\"c_attn\"]"];
    let config = read(FILE, &quoted).unwrap();
    assert_eq!(config.method("a.toml").unwrap().peft_type(), "IA3");
    let mistake = file.replace("lora_alpha", "lora_alfa");
    let config = read(&mistake, &[]).unwrap();
    assert!(config.method("a.toml").is_err());
    // Another method's key is a mistake if nothing was changed.
    let mistake = FILE.replace("r = 4", "alpha = 4");
    assert!(read(&mistake, &[]).unwrap().method("a.toml").is_err());
    let error = read(FILE, &["peft.peft_type=IA3", "peft.r=4"]).unwrap_err();
    assert!(error.to_string().starts_with("--set peft.r=4: "), "{error}");
}

#[test]
fn an_adapter_that_is_set_takes_the_place_of_the_table() {
    let config = read(FILE, &["adapter=saved"]).unwrap();
    assert_eq!(config.adapter.as_deref(), Some("saved"));
    assert_eq!(config.peft, None);
}

#[test]
fn total_step_is_that_of_the_run() {
    // `rank_pattern` has a number for each layer in LoRA, and a list in AdaLoRA.
    let file = FILE.replace("rank_pattern = { \"h.0.attn.c_attn\" = 2 }", "");
    let ada = "peft.peft_type=ADALORA";
    let total = |config: &TrainConfig| {
        let json = config.method("a.toml").unwrap().to_json();
        json["total_step"].as_u64().unwrap()
    };
    let config = read(&file, &[ada, "training.max_steps=90"]).unwrap();
    assert_eq!((config.wants_total_step(), total(&config)), (false, 90));
    let config = read(&file, &[ada, "peft.total_step=50"]).unwrap();
    assert_eq!((config.wants_total_step(), total(&config)), (false, 50));
    let mut config = read(&file, &[ada]).unwrap();
    assert!(config.wants_total_step());
    config.set_total_step(70);
    assert_eq!((config.wants_total_step(), total(&config)), (false, 70));
    assert!(!read(&file, &[]).unwrap().wants_total_step());
}

#[test]
fn full_training_is_asked_for_by_name() {
    assert!(!read(FILE, &[]).unwrap().is_full_training());
    assert!(
        read(FILE, &["peft.peft_type=NONE"])
            .unwrap()
            .is_full_training()
    );
}
