//! A folder with a tiny model, its tokenizer and data, and the built command to use on them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use burn::tensor::Device;
use burn_peft_data::train_bpe;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::{Value, json};
use tempfile::TempDir;

/// The device for tests of numbers: the CPU, or the one that `BURN_PEFT_DEVICE` names (see
/// `.ci/software-gpu`).
pub fn device() -> Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    let open = || {
        let name = device_name().unwrap_or_else(|| "cpu".to_owned());
        burn_peft_device::open(name.parse().unwrap()).unwrap()
    };
    DEVICE.get_or_init(open).clone()
}

/// The name of the device that the tests are asked to use.
pub fn device_name() -> Option<String> {
    std::env::var("BURN_PEFT_DEVICE").ok()
}

pub const N_POSITIONS: usize = 32;
const N_EMBD: usize = 16;

/// Sentences of words that are single tokens.
pub const TEXTS: [&str; 6] = [
    "the cat sat on the mat",
    "the dog sat on the cat",
    "a cat and a dog sat",
    "the mat and the dog",
    "a dog on a mat and a cat",
    "the cat and the mat",
];

/// A folder that is removed when the test ends.
pub struct Lab {
    dir: TempDir,
    pub vocab_size: usize,
}

/// The result of a call of `peft`.
#[derive(Debug)]
pub struct Answer {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// Variables that change what a command prints or where it looks.
const SETTINGS: [&str; 17] = [
    "CI",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLORTERM",
    "NO_COLOR",
    "HF_ENDPOINT",
    "HF_TOKEN",
    "ALL_PROXY",
    "all_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "OMPI_COMM_WORLD_SIZE",
    "PMI_SIZE",
    "PMIX_RANK",
    "SLURM_PROCID",
];

impl Lab {
    /// `model/` (GPT-2 with two narrow blocks, random), `train.jsonl` and `train.toml`.
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tokenizer = train_bpe(TEXTS, 300).unwrap();
        let lab = Self {
            dir,
            vocab_size: tokenizer.vocab_size(),
        };
        lab.write("config.json", lab.config().to_string());
        lab.ok(&["init", "config.json", "--output", "model", "--seed", "1"]);
        tokenizer.save(lab.path("model/tokenizer.json")).unwrap();
        let lines = TEXTS.map(|text| format!("{}\n", json!({ "text": text })));
        lab.write("train.jsonl", lines.concat());
        lab.write("train.toml", TRAIN);
        lab
    }

    /// The model's `config.json`.
    pub fn config(&self) -> Value {
        json!({
            "model_type": "gpt2", "vocab_size": self.vocab_size, "n_positions": N_POSITIONS,
            "n_embd": N_EMBD, "n_layer": 2, "n_head": 2, "initializer_range": 0.2,
            "eos_token_id": 0, "bos_token_id": 0,
        })
    }

    /// As [`new`](Self::new), with an adapter in `out/` that was trained for three steps.
    pub fn with_adapter() -> Self {
        let lab = Self::new();
        lab.ok(&["train", "train.toml"]);
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.path(name), content).unwrap();
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    pub fn text(&self, name: &str) -> String {
        String::from_utf8(self.read(name)).unwrap()
    }

    pub fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// The entries of a run's `metrics.jsonl`.
    pub fn metrics(&self, run: &str) -> Vec<Value> {
        values(&self.text(&format!("{run}/metrics.jsonl")))
    }

    /// The losses of training in a run's `metrics.jsonl`.
    pub fn losses(&self, run: &str) -> Vec<f64> {
        let entries = self.metrics(run).into_iter();
        entries.filter_map(|entry| entry["loss"].as_f64()).collect()
    }

    /// The weights of an adapter, as in its file.
    pub fn weights(&self, adapter: &str) -> Vec<u8> {
        self.read(&format!("{adapter}/adapter_model.safetensors"))
    }

    /// The sorted names in a folder; empty if there is no such folder.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(folder)) else {
            return Vec::new();
        };
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries.map(|e| name(e).into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The command, in this folder, without the Hub, the user's settings and the variables of a CI
    /// (with `CI`, anstream assumes that every terminal shows colours).
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        for name in SETTINGS {
            command.env_remove(name);
        }
        command
            .current_dir(self.dir.path())
            .env("HF_HUB_OFFLINE", "1")
            .env("HF_HOME", "hf-home")
            .env("BURN_PEFT_CACHE", "peft-cache");
        command
    }

    /// Calls `peft`.
    pub fn peft(&self, args: &[&str]) -> Answer {
        self.command(PEFT).args(args).output().unwrap().into()
    }

    /// Calls `peft`, which has to succeed, and returns its standard output.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let answer = self.peft(args);
        assert_eq!(answer.code, Some(0), "{args:?}: {answer:?}");
        answer.out
    }

    /// As [`ok`](Self::ok), for a reader that leaves before anything is printed.
    #[track_caller]
    pub fn ok_unread(&self, args: &[&str]) {
        let mut child = self
            .command(PEFT)
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let answer = Answer::from(child.wait_with_output().unwrap());
        assert_eq!(
            (answer.code, &*answer.err),
            (Some(0), ""),
            "{args:?}: {answer:?}"
        );
    }

    /// As [`ok`](Self::ok), for a command that prints JSON.
    #[track_caller]
    pub fn ok_json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.ok(args)).unwrap()
    }

    /// The loss that `peft eval` finds on a file, for a model that these options choose.
    #[track_caller]
    pub fn loss(&self, data: &str, model: &[&str]) -> f64 {
        let eval = ["eval", "--json", "--data", data];
        let found = self.ok_json(&[&eval[..], model].concat());
        found["loss"].as_f64().unwrap()
    }

    /// Calls `peft`, which has to fail with code 1 and a message of a few lines that contains all
    /// of `named`. Returns its standard error.
    #[track_caller]
    pub fn fails(&self, args: &[&str], named: &[&str]) -> String {
        self.peft(args).failed(named)
    }

    /// The logits that `peft forward` computes for `in.safetensors`, with their shape.
    #[track_caller]
    pub fn logits(&self, options: &[&str]) -> (Vec<usize>, Vec<f32>) {
        let files = ["--input", "in.safetensors", "--output", "out.safetensors"];
        self.ok(&[&["forward"], &files[..], options].concat());
        self.floats("out.safetensors", "logits")
    }

    /// Writes a safetensors file of 64-bit integers.
    pub fn write_integers(&self, name: &str, tensors: &[(&str, &[usize], &[i64])]) {
        let bytes: Vec<Vec<u8>> = tensors
            .iter()
            .map(|(_, _, values)| values.iter().flat_map(|v| v.to_le_bytes()).collect())
            .collect();
        let views = tensors.iter().zip(&bytes).map(|((name, shape, _), bytes)| {
            (
                *name,
                TensorView::new(Dtype::I64, shape.to_vec(), bytes).unwrap(),
            )
        });
        self.write(name, safetensors::serialize(views, None).unwrap());
    }

    /// A tensor of 32-bit floats: shape and values.
    pub fn floats(&self, file: &str, name: &str) -> (Vec<usize>, Vec<f32>) {
        let bytes = self.read(file);
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let tensor = tensors.tensor(name).unwrap();
        assert_eq!(tensor.dtype(), Dtype::F32);
        let words = tensor.data().as_chunks().0.iter();
        (
            tensor.shape().to_vec(),
            words.map(|&word| f32::from_le_bytes(word)).collect(),
        )
    }
}

impl Answer {
    /// Checks that the call failed as a job has to fail.
    #[track_caller]
    pub fn failed(self, named: &[&str]) -> String {
        assert_eq!(self.code, Some(1), "{self:?}");
        assert_has(&self.err, named);
        assert!(
            self.err.starts_with("error: ") || self.err.contains("\nerror: "),
            "{}",
            self.err
        );
        let lines = self.err.lines().count();
        // An error in TOML takes five lines, because it shows the place.
        assert!(lines <= 5, "{lines} lines: {}", self.err);
        for word in ["panicked", "RUST_BACKTRACE", "bug in peft", "unwrap"] {
            assert!(!self.err.contains(word), "{}", self.err);
        }
        self.err
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }
}

/// Checks that a text has all these parts.
#[track_caller]
pub fn assert_has(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in: {text}");
    }
}

/// A file or folder of the repository.
pub fn repository(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(name)
}

/// The names of the cases in a folder, sorted; if there is a variable `only`, those that it lists.
pub fn case_names(folder: &Path, only: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    if let Ok(only) = std::env::var(only) {
        names.retain(|name| only.split(',').any(|part| part == name));
    }
    names
}

/// The numbers of a run's `evaluation: loss …` lines.
pub fn evaluations(out: &str) -> Vec<f64> {
    let lines = out.lines().map(str::trim);
    lines
        .filter_map(|line| line.strip_prefix("evaluation: loss "))
        .map(|rest| rest.split(' ').next().unwrap().parse().unwrap())
        .collect()
}

/// Rows as lines of JSON.
pub fn jsonl(rows: impl IntoIterator<Item = impl std::fmt::Display>) -> String {
    rows.into_iter().map(|row| format!("{row}\n")).collect()
}

/// The values of a file of JSON lines.
pub fn values(lines: &str) -> Vec<Value> {
    let values = lines.lines().map(serde_json::from_str);
    values.collect::<Result<_, _>>().unwrap()
}

/// The arguments of a command for the model of a [`Lab`] with the adapter in `out/`, followed by
/// `more`.
pub fn adapted<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&[command, "--model", "model", "--adapter", "out"], more].concat()
}

/// The arguments to train by a file, with these keys set (`training.max_steps=1`).
pub fn with_keys<'a>(file: &'a str, keys: &[&'a str]) -> Vec<&'a str> {
    let keys = keys.iter().flat_map(|key| ["--set", key]);
    ["train", file].into_iter().chain(keys).collect()
}

/// As [`with_keys`], with `--force`.
pub fn anew<'a>(file: &'a str, keys: &[&'a str]) -> Vec<&'a str> {
    [&with_keys(file, keys)[..], &["--force"]].concat()
}

/// Merges the adapter of [`Lab::with_adapter`] into its model.
pub const MERGE: [&str; 7] = [
    "merge",
    "--model",
    "model",
    "--adapter",
    "out",
    "--output",
    "merged",
];

/// The built command.
pub const PEFT: &str = env!("CARGO_BIN_EXE_peft");

const TRAIN: &str = r#"
model = "model"
prompt = "the cat"
[data]
train = "train.jsonl"
validation = "train.jsonl[4:]"
[peft]
peft_type = "LORA"
r = 4
lora_alpha = 8
lora_dropout = 0.1
[training]
output_dir = "out"
max_steps = 3
per_device_train_batch_size = 2
learning_rate = 0.05
logging_steps = 1
"#;

/// The largest difference between two lists of the same length.
#[track_caller]
pub fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

/// The sorted paths of everything below a folder, relative to it.
pub fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(
                tree(&path)
                    .into_iter()
                    .map(|below| format!("{name}/{below}")),
            );
        }
        found.push(name);
    }
    found.sort();
    found
}

/// Runs the quick start's task for 200 steps, in the place of what is there; returns the loss at the
/// end.
pub fn two_hundred_steps(lab: &Lab, keys: &[&str]) -> f64 {
    let fixed = [
        "training.max_steps=200",
        "training.per_device_train_batch_size=2",
        "training.eval_strategy=no",
    ];
    let mut args = quick_start(&[&fixed[..], keys].concat());
    args.push("--force".to_owned());
    let out = lab.ok(&args.iter().map(String::as_str).collect::<Vec<_>>());
    *evaluations(&out).last().unwrap()
}

/// The arguments of `peft` for the quick start on the shipped small GPT-2, with the output in `out`
/// and some keys set.
pub fn quick_start(keys: &[&str]) -> Vec<String> {
    let path = |name: &str| {
        let path = repository(name).canonicalize().unwrap();
        path.display().to_string()
    };
    let mut args = vec!["train".to_owned(), path("configs/quickstart.toml")];
    let mut set = |key: String| args.extend(["--set".to_owned(), key]);
    set(format!("model={}", path("assets/tiny-gpt2")));
    for part in ["train", "validation"] {
        let file = path(&format!("data/quickstart/{part}.jsonl"));
        set(format!("data.{part}={file}"));
    }
    set("training.output_dir=out".to_owned());
    keys.iter().for_each(|key| set(key.to_string()));
    args
}
