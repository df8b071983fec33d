//! Completions, manual pages, `peft doctor` and `peft schema`.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::common::{Answer, Lab, PEFT, assert_has, repository};
use crate::hub::server::Server;

fn files_in(folder: &str, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(repository(folder)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.to_string_lossy().ends_with(end));
    files.sort();
    files
}

/// The names of all commands, as the help lists them.
fn commands(lab: &Lab) -> Vec<String> {
    let help = lab.ok(&["--help"]);
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(String::from)
        .collect()
}

#[test]
fn completions_know_every_command_and_option() {
    let lab = Lab::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = lab.ok(&["completions", shell]);
        for command in commands(&lab) {
            assert!(script.contains(&command), "{shell}: {command}");
        }
        assert!(script.contains("print-config"), "{shell}");
    }
    let answer = lab.peft(&["completions", "csh"]);
    assert_eq!(answer.code, Some(2), "{answer:?}");
}

/// bash itself completes a command.
#[cfg(unix)]
#[test]
fn bash_completes_a_command() {
    let lab = Lab::new();
    lab.write("peft.bash", lab.ok(&["completions", "bash"]));
    let mut bash = lab.command("bash");
    bash.args(["--norc", "-c"]);
    bash.arg("source peft.bash; COMP_WORDS=(peft comp); COMP_CWORD=1; _peft peft comp peft; echo ${COMPREPLY[@]}");
    let Ok(output) = bash.output() else {
        eprintln!("skipped: no bash");
        return;
    };
    let answer = Answer::from(output);
    assert_eq!(answer.out, "completions\n", "{answer:?}");
}

#[test]
fn every_command_has_a_man_page() {
    let lab = Lab::new();
    lab.ok(&["man", "--output", "pages/man1"]);
    let mut expected: Vec<_> = commands(&lab)
        .iter()
        .map(|name| format!("peft-{name}.1"))
        .collect();
    expected.push("peft.1".into());
    expected.sort();
    assert_eq!(lab.names("pages/man1"), expected);
    let page = lab.text("pages/man1/peft-train.1");
    let parts = [
        ".TH peft-train 1",
        "\\-\\-print\\-config",
        "\\-\\-device",
        "peft train",
    ];
    assert_has(&page, &parts);
}

#[test]
fn the_doctor_tells_what_a_report_needs_and_no_secret() {
    let lab = Lab::new();
    lab.ok(&["data", "train.jsonl", "--model", "model"]);
    let doctor = |args: &[&str]| -> Answer {
        let mut command = lab.command(PEFT);
        command
            .env("HF_TOKEN", "hf_secret")
            .env("BURN_PEFT_KERNELS", "plain");
        command.arg("doctor").args(args).output().unwrap().into()
    };
    let told = doctor(&["--json"]);
    assert!(!told.out.contains("hf_secret"));
    let told: Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!(told["versions"]["peft"], env!("CARGO_PKG_VERSION"));
    assert!(
        told["versions"]["rustc"]
            .as_str()
            .unwrap()
            .starts_with("rustc 1.")
    );
    assert_eq!(told["processor"]["plain_kernels"], true);
    assert_eq!(told["processor"]["features_used"], json!([]));
    assert_eq!(told["processor"]["int8_compute"], Value::Null);
    assert_eq!(told["hub"]["has_token"], true);
    assert_eq!(told["hub"]["reached"], Value::Null, "the lab is offline");
    assert_eq!(told["environment"]["BURN_PEFT_KERNELS"], "plain");
    assert_eq!(told["caches"][0]["path"], "peft-cache");
    assert_eq!(told["devices"][0]["device"], "cpu");
    let text = doctor(&[]).out;
    assert!(!text.contains("hf_secret"), "{text}");
    let parts = [
        "rustc 1.",
        "not asked: HF_HUB_OFFLINE",
        "(set, not shown)",
        "plain (BURN_PEFT_KERNELS",
    ];
    assert_has(&text, &parts);
}

#[test]
fn the_doctor_asks_the_hub() {
    let lab = Lab::new();
    let server = Server::start(&[]);
    let said = |endpoint: &str| -> Value {
        let mut command = lab.command(PEFT);
        command
            .env("HF_ENDPOINT", endpoint)
            .env("HF_HUB_OFFLINE", "0")
            .env("HF_TOKEN", "hf_secret");
        let answer = Answer::from(command.args(["doctor", "--json"]).output().unwrap());
        let told: Value = serde_json::from_str(&answer.out).unwrap();
        told["hub"].clone()
    };
    let told = said(&server.endpoint);
    assert_eq!(told["reached"], true, "{told}");
    let requests = server.take_requests();
    assert!(
        requests[0].starts_with("GET /api/whoami-v2 "),
        "{requests:?}"
    );
    assert!(requests[0].contains("Bearer hf_secret"));
    // Nothing listens at this port.
    let told = said("http://127.0.0.1:9");
    assert_eq!(told["reached"], false, "{told}");
    // A proxy is used, as for downloads.
    let mut command = lab.command(PEFT);
    command
        .env("HF_ENDPOINT", "http://hub.invalid")
        .env("HF_HUB_OFFLINE", "0")
        .env("HTTP_PROXY", &server.endpoint);
    let answer = Answer::from(command.args(["doctor", "--json"]).output().unwrap());
    let requests = server.take_requests();
    assert!(
        requests[0].contains("hub.invalid"),
        "{requests:?} {answer:?}"
    );
}

/// The schema. This implements the part of JSON Schema that it uses.
struct Schema(Value);

impl Schema {
    fn get(lab: &Lab) -> Self {
        Self(lab.ok_json(&["schema"]))
    }

    fn follow<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema.get("$ref").and_then(Value::as_str) {
            Some(reference) => self.0.pointer(&reference[1..]).unwrap(),
            None => schema,
        }
    }

    /// Whether the schema accepts a value.
    fn takes(&self, schema: &Value, value: &Value) -> bool {
        let schema = self.follow(schema);
        let Some(words) = schema.as_object() else {
            return schema == &json!(true);
        };
        words
            .iter()
            .all(|(word, said)| self.obeys(schema, word, said, value))
    }

    fn obeys(&self, schema: &Value, word: &str, said: &Value, value: &Value) -> bool {
        let each = || said.as_array().unwrap().iter();
        match word {
            "$schema" | "title" | "description" | "default" | "format" | "definitions" => true,
            "type" if said.is_array() => each().any(|kind| is_of_type(kind, value)),
            "type" => is_of_type(said, value),
            "const" => said == value,
            "enum" => each().any(|word| word == value),
            "anyOf" => each().any(|schema| self.takes(schema, value)),
            "oneOf" => each().filter(|schema| self.takes(schema, value)).count() == 1,
            "allOf" => each().all(|schema| self.takes(schema, value)),
            "minimum" => value
                .as_f64()
                .is_none_or(|number| number >= said.as_f64().unwrap()),
            "pattern" if said == "^[Nn][Oo][Nn][Ee]$" => value
                .as_str()
                .is_some_and(|text| text.eq_ignore_ascii_case("none")),
            "pattern" => {
                // The only other pattern: words that end in a number.
                let stem = said
                    .as_str()
                    .unwrap()
                    .trim_start_matches('^')
                    .trim_end_matches("[0-9]+$");
                let rest = value.as_str().and_then(|text| text.strip_prefix(stem));
                rest.is_some_and(|rest| rest.parse::<u32>().is_ok())
            }
            "maximum" => value
                .as_f64()
                .is_none_or(|number| number <= said.as_f64().unwrap()),
            "items" => value
                .as_array()
                .is_none_or(|items| items.iter().all(|item| self.takes(said, item))),
            "required" => value
                .as_object()
                .is_none_or(|map| each().all(|key| map.contains_key(key.as_str().unwrap()))),
            "properties" => value.as_object().is_none_or(|map| {
                let known = said.as_object().unwrap().iter();
                let mut given = known.filter_map(|(key, schema)| Some((schema, map.get(key)?)));
                given.all(|(schema, value)| self.takes(schema, value))
            }),
            "additionalProperties" => value.as_object().is_none_or(|map| {
                let known = |key: &String| schema["properties"].get(key).is_some();
                let mut others = map.iter().filter(|(key, _)| !known(key));
                others.all(|(_, value)| match said.as_bool() {
                    Some(allowed) => allowed,
                    None => self.takes(said, value),
                })
            }),
            other => panic!("this test knows no {other}"),
        }
    }

    fn takes_file(&self, text: &str) -> bool {
        let table: toml::Table = text.parse().unwrap();
        self.takes(&self.0, &serde_json::to_value(table).unwrap())
    }

    /// The keys of a table, also through references and alternatives.
    fn keys(&self, schema: &Value, keys: &mut BTreeSet<String>) {
        let schema = self.follow(schema);
        for word in ["anyOf", "allOf", "oneOf"] {
            for inner in schema
                .get(word)
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                self.keys(inner, keys);
            }
        }
        let own = schema.get("properties").and_then(Value::as_object);
        keys.extend(own.into_iter().flatten().map(|(key, _)| key.clone()));
    }
}

fn is_of_type(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        other => panic!("{other}"),
    }
}

#[test]
fn the_schema_takes_every_shipped_file_and_what_peft_writes() {
    let lab = Lab::new();
    let schema = Schema::get(&lab);
    let mut texts: Vec<(String, String)> = files_in("configs", ".toml")
        .iter()
        .map(|path| {
            (
                path.display().to_string(),
                fs::read_to_string(path).unwrap(),
            )
        })
        .collect();
    assert!(texts.len() > 10);
    for template in ["lora", "full"] {
        lab.ok(&[
            "new",
            template,
            "--template",
            template,
            "--train",
            "train.jsonl",
        ]);
        let text = lab.read(&format!("{template}.toml"));
        texts.push((template.into(), String::from_utf8(text).unwrap()));
    }
    // Every key with its default, and those of every objective's table.
    for change in [
        "training.seed=1",
        "training.objective=dpo",
        "training.objective=embed",
    ] {
        let shown = lab.ok(&["train", "train.toml", "--set", change, "--print-config"]);
        texts.push((change.into(), shown));
    }
    for (name, text) in texts {
        assert!(schema.takes_file(&text), "{name}:\n{text}");
    }
}

#[test]
fn the_schema_takes_what_the_reader_takes() {
    let lab = Lab::new();
    let schema = Schema::get(&lab);
    let base = lab.text("train.toml");
    let table = |change: &str| {
        let (path, value) = change.split_once('=').unwrap();
        let mut table: toml::Table = base.parse().unwrap();
        let (outer, key) = path.split_once('.').unwrap();
        let value: toml::Table = format!("x = {value}").parse().unwrap();
        let inner = table.entry(outer).or_insert(toml::Table::new().into());
        inner
            .as_table_mut()
            .unwrap()
            .insert(key.into(), value["x"].clone());
        table.to_string()
    };
    for (change, is_right) in [
        ("training.learning_rat=1e-3", false),
        ("training.learning_rate=1", true),
        ("training.learning_rate='fast'", false),
        ("training.optim='lion_32bit'", true),
        ("training.optim='adamw_torch_fused'", true),
        ("training.optim='adamw'", false),
        ("training.objective='sft'", true),
        ("training.objective='ppo'", false),
        ("training.metric_for_best_model='eval_loss'", true),
        ("training.max_steps=-1", true),
        ("training.per_device_train_batch_size=-1", false),
        ("peft.rr=8", false),
        ("peft.r='8'", false),
        ("peft.r=0", false),
        ("peft.r=-3", false),
        ("peft.target_modules=['c_attn', 1]", false),
        ("peft.lora_dropout=0.5", true),
        ("peft.lora_dropout=0", true),
        ("peft.init_lora_weights=false", true),
        ("peft.init_lora_weights='gaussian'", true),
        ("peft.init_lora_weights='pissa_niter_16'", true),
        ("peft.bias='lora_only'", true),
        ("peft.target_modules='all-linear'", true),
        ("peft.target_modules=['c_attn']", true),
        ("peft.layers_to_transform=[0]", true),
        ("peft.layers_to_transform=0", true),
        ("peft.rank_pattern={ c_attn = 2 }", true),
        ("peft.num_virtual_tokens=8", false),
        (
            "data.train=['a.jsonl', { path = 'b.jsonl', weight = 2 }]",
            true,
        ),
        ("data.train=[{ path = 'b.jsonl', wait = 2 }]", false),
        ("data.validation_split=0.1", true),
        ("data.train_on='all'", true),
        ("dpo.loss_type=['sigmoid', 'ipo']", true),
        ("dpo.loss_type='sigmoid'", true),
        ("dpo.loss='sigmoid'", false),
        ("embed.pooling='last'", true),
        ("classify.class_weights='balanced'", true),
        ("classify.class_weights={ good = 2 }", true),
        ("quantization_config.load_in_4bit=true", true),
        ("quantization_config.llm_int8_threshold=6", false),
        ("distributed.local_steps=8", true),
        ("more.key=1", false),
    ] {
        assert_eq!(schema.takes_file(&table(change)), is_right, "{change}");
    }
    for method in ["NONE", "none", "IA3", "ADALORA", "OFT", "PREFIX_TUNING"] {
        let text = base.replace(
            "\"LORA\"\nr = 4\nlora_alpha = 8\nlora_dropout = 0.1",
            &format!("\"{method}\""),
        );
        assert!(schema.takes_file(&text), "{method}: {text}");
    }
    // A table that names no method is LoRA's.
    assert!(schema.takes_file(&base.replace("peft_type = \"LORA\"\n", "")));
    // Without an adapter, the reader ignores the other keys, and the schema says so.
    let ignoring = base.replace("\"LORA\"\n", "\"NONE\"\nnonsense = 1\n");
    assert!(schema.takes_file(&ignoring), "{ignoring}");
    lab.write("ignoring.toml", &ignoring);
    lab.ok(&["train", "ignoring.toml", "--print-config"]);
    let methods = schema.0.to_string();
    assert!(methods.contains("Ignored: with peft_type"), "{methods}");
}

/// Editors show what a key means, in every method's table as elsewhere.
#[test]
fn the_schema_explains_every_key() {
    let lab = Lab::new();
    let schema = Schema::get(&lab);
    let tables = schema.0["definitions"].as_object().unwrap().values();
    let methods = schema.0["properties"]["peft"]["anyOf"].as_array().unwrap();
    assert!(methods.len() > 25);
    let (mut seen, mut missing) = (0, Vec::new());
    for table in tables.chain(methods) {
        for (key, about) in table["properties"].as_object().into_iter().flatten() {
            seen += 1;
            // What `const` allows, and a reference to another definition, explain themselves.
            let is_clear = ["description", "const", "$ref", "allOf"]
                .iter()
                .any(|word| about.get(word).is_some());
            if !is_clear && key != "peft_type" {
                missing.push(format!("{} {key}", table["title"]));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
    assert!(seen > 600, "{seen}");
    let rank = &methods[0]["properties"]["r"];
    assert_eq!(rank["description"], "The rank.");
}

#[test]
fn the_schema_has_every_key_that_the_documentation_names() {
    let lab = Lab::new();
    let schema = Schema::get(&lab);
    let tables = schema.0["properties"].as_object().unwrap();
    let mut pages = files_in("docs", ".md");
    pages.push(repository("README.md"));
    let (mut seen, mut missing) = (0, Vec::new());
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let words = named(&text);
        for (table, key) in words
            .iter()
            .filter_map(|word| word.trim_matches('.').split_once('.'))
        {
            // File names, and the misspelt key that docs/training.md shows.
            let others = [
                "toml",
                "jsonl",
                "json",
                "md",
                "rs",
                "csv",
                "parquet",
                "schema",
                "learning_rat",
            ];
            let key = key.split('.').next().unwrap();
            let (Some(of_table), false) = (tables.get(table), others.contains(&key)) else {
                continue;
            };
            let mut keys = BTreeSet::new();
            schema.keys(of_table, &mut keys);
            if !keys.is_empty() {
                seen += 1;
                if !keys.contains(key) {
                    missing.push(format!("{}: {table}.{key}", page.display()));
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:?}");
    assert!(seen > 60, "{seen}");
}

/// The words between backticks, and what follows `--set`.
fn named(text: &str) -> Vec<&str> {
    let mut is_code = false;
    let mut spans: Vec<&str> = Vec::new();
    for line in text.lines() {
        is_code ^= line.starts_with("```");
        if !is_code {
            spans.extend(line.split('`').skip(1).step_by(2));
        }
        spans.extend(
            line.split("--set ")
                .skip(1)
                .filter_map(|rest| rest.split('=').next()),
        );
    }
    let is_between = |c: char| !(c.is_ascii_alphanumeric() || "._".contains(c));
    spans
        .into_iter()
        .flat_map(|span| span.split(is_between))
        .collect()
}
