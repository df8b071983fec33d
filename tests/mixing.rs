//! Several data sets in `data.train`: their counts, the messages about them, and runs that are
//! interrupted.

use burn_peft_data::message;
use serde_json::json;

use crate::common::{Answer, Lab, PEFT, TEXTS, anew};
use crate::hub::server::{COMMIT, Server};
use crate::resume::{metrics, start, wait_for_lines};

/// Ten texts, four questions with answers, and two chats.
const RUN: &str = r#"
model = "model"
[data]
validation = "train.jsonl[4:]"
stopping_strategy = "all_exhausted"
[[data.train]]
path = "a.jsonl"
weight = 3
[[data.train]]
path = "b.csv"
template = "{question} "
completion_field = "answer"
weight = 2
[[data.train]]
path = "c.jsonl"
split = "train[:2]"
[peft]
peft_type = "LORA"
r = 4
lora_alpha = 8
lora_dropout = 0.2
[training]
output_dir = "out"
max_steps = 60
per_device_train_batch_size = 2
gradient_accumulation_steps = 2
learning_rate = 0.02
logging_steps = 1
save_steps = 3
save_total_limit = 2
eval_strategy = "steps"
eval_steps = 7
"#;

const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}\
                        {% if add_generation_prompt %}<assistant>{% endif %}";

fn lab() -> Lab {
    let lab = Lab::new();
    let row = |text: &str| format!("{}\n", json!({ "text": text }));
    let texts = (0..10).map(|i| row(&TEXTS[i % 6][i / 6..]));
    lab.write("a.jsonl", texts.collect::<String>());
    let rows = "question,answer\nthe cat,sat\na dog,on a mat\nthe mat,and the dog\na cat,and\n";
    lab.write("b.csv", rows);
    let chat = |a, b| json!({"messages": [message("user", a), message("assistant", b)]});
    let chats = [
        chat("a dog", "the cat"),
        chat("sat", "on"),
        chat("not", "read"),
    ];
    lab.write("c.jsonl", chats.map(|chat| format!("{chat}\n")).concat());
    lab.write("model/chat_template.jinja", TEMPLATE);
    lab.write("run.toml", RUN);
    lab
}

/// Divided by their weights, the sets have 10/3, 4/2 and 2/1 rows. So the first one ends the epoch,
/// which has 10 of its rows, and 20/3 and 10/3 of the others.
#[test]
fn the_mixture_is_shown() {
    let lab = lab();
    let out = lab.ok(&["data", "run.toml"]);
    for line in [
        "a.jsonl: text (column `text`)",
        "b.csv: template, completion in `answer`",
        "c.jsonl[:2]: chat (column `messages`)",
        "mixed by weight (all_exhausted), an epoch is 20 examples: 10 of a.jsonl, 7 of b.csv, \
         3 of c.jsonl[:2]",
        "train.jsonl[4:]: 2 examples to evaluate on",
        "a.jsonl row 1:\n  the[ cat sat on the mat<|endoftext|>]",
        "b.csv row 2:\n  the cat [sat<|endoftext|>]",
        "c.jsonl[:2] row 1:\n  <user>a dog\n  <assistant>[the cat\n  ]",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
    let shown = lab.ok_json(&["data", "run.toml", "--summary"]);
    let alone = |args: &[&str]| {
        let common = ["--model", "model", "--summary"];
        lab.ok_json(&[&["data"][..], args, &common].concat())
    };
    let template = ["--template", "{question} ", "--completion-field", "answer"];
    let alone = [
        alone(&["a.jsonl"]),
        alone(&[&["b.csv"][..], &template].concat()),
        alone(&["c.jsonl[:2]"]),
    ];
    for (index, (alone, rows)) in alone.iter().zip([10, 7, 3]).enumerate() {
        let set = &shown["sets"][index];
        for key in ["examples", "tokens", "supervised_tokens", "shape"] {
            assert_eq!(set[key], alone[key], "{key}");
        }
        let share = rows as f64 / alone["examples"].as_f64().unwrap();
        let tokens = (alone["tokens"].as_f64().unwrap() * share).round();
        assert_eq!(set["epoch"]["sequences"], rows);
        assert_eq!(set["epoch"]["tokens"].as_f64(), Some(tokens));
    }
    let weights: Vec<_> = (0..3)
        .map(|i| shown["sets"][i]["weight"].as_f64())
        .collect();
    assert_eq!(weights, [Some(3.0), Some(2.0), Some(1.0)]);
    assert_eq!(shown["epoch"]["sequences"], 20);
    assert_eq!(shown["stopping_strategy"], "all_exhausted");

    lab.write(
        "first.toml",
        RUN.replace("all_exhausted", "first_exhausted"),
    );
    let shown = lab.ok_json(&["data", "first.toml", "--summary"]);
    // The other two sets have 2 rows for each unit of weight, so they end together.
    let rows: Vec<_> = (0..3)
        .map(|i| shown["sets"][i]["epoch"]["sequences"].as_u64())
        .collect();
    assert_eq!(rows, [Some(6), Some(4), Some(2)]);

    let out = lab.ok(&["train", "run.toml", "--dry-run"]);
    assert!(out.contains("a run: 60 steps, about"), "{out}");
    lab.fails(
        &["data", "run.toml", "--json"],
        &["run.toml is a training file: --summary prints"],
    );
    lab.fails(
        &["data", "run.toml", "--template", "x"],
        &["--template is for a file of rows", "it says data.template"],
    );
}

#[test]
fn a_run_says_what_it_trains_on() {
    let lab = lab();
    let epochs = [
        "--set",
        "training.max_steps=-1",
        "--set",
        "training.num_train_epochs=2",
    ];
    let out = lab.ok(&[&["train", "run.toml"][..], &epochs].concat());
    assert!(out.contains("\na.jsonl: 10 examples, "), "{out}");
    assert!(out.contains("\nb.csv: 4 examples, "), "{out}");
    assert!(out.contains("\nc.jsonl[:2]: 2 examples, "), "{out}");
    assert!(
        out.contains("an epoch is 20 examples: 10 of a.jsonl, 7 of b.csv"),
        "{out}"
    );
    // Ten batches per epoch, two batches per step.
    assert!(out.contains("after training, 10 steps"), "{out}");
    // The configuration that the run wrote repeats it.
    let again = ["--set", "training.output_dir=again"];
    lab.ok(&[&["train", "out/config.toml"][..], &again].concat());
    assert_eq!(metrics(&lab, "again"), metrics(&lab, "out"));

    // A list on the command line, without weights.
    let list = ["--set", "data.train=[\"a.jsonl\", \"train.jsonl\"]"];
    let out = lab.ok(&[&["train", "train.toml", "--force"][..], &list].concat());
    assert!(
        out.contains("together: 16 examples, each once in an epoch, "),
        "{out}"
    );
}

#[test]
fn rows_of_several_shapes_are_evaluated_on() {
    let lab = lab();
    let list = "validation = [\"c.jsonl[2:]\", { path = \"b.csv\", split = \"[:3]\", \
                template = \"{question}\", completion_field = \"answer\" }]";
    lab.write(
        "run.toml",
        RUN.replace("validation = \"train.jsonl[4:]\"", list),
    );
    let run = ["train", "run.toml", "--set", "training.max_steps=7"];
    let out = lab.ok(&run);
    let said = "c.jsonl, b.csv: 4 examples to evaluate on";
    assert!(out.contains(said), "{out}");
    // The validation data may change: the run can still be resumed.
    lab.write("run.toml", RUN);
    let out = lab.ok(&[&run[..3], &["training.max_steps=9", "--resume"]].concat());
    assert!(out.starts_with("resuming from out/checkpoint-7"), "{out}");
    lab.write(
        "bad.toml",
        RUN.replace(
            "validation = \"train.jsonl[4:]\"",
            &list.replace("split =", "wait ="),
        ),
    );
    lab.fails(
        &["train", "bad.toml"],
        &["data.validation[1].wait is not a known key"],
    );
    lab.write(
        "bad.toml",
        RUN.replace(
            "validation = \"train.jsonl[4:]\"",
            &list.replace("split = \"[:3]\"", "weight = 3"),
        ),
    );
    lab.fails(
        &["train", "bad.toml"],
        &["data.validation[1].weight is 3, and every row is evaluated on once"],
    );
}

#[test]
fn a_run_killed_in_the_middle_of_a_mixture_ends_like_one_that_was_not() {
    let lab = lab();
    for more in [
        &[][..],
        &["--set", "data.packing=true"],
        &["--set", "training.group_by_length=true"],
    ] {
        for dir in ["out", "whole"] {
            std::fs::remove_dir_all(lab.path(dir)).ok();
        }
        let run = |args: &[&'static str]| [&["train", "run.toml"][..], more, args].concat();
        lab.ok(&run(&["--set", "training.output_dir=whole"]));
        // In the middle of the second epoch, and of the fifth.
        for lines in [11, 30] {
            let mut child = start(&lab, &run(&["--resume"]));
            assert!(wait_for_lines(&lab, "out", lines, &mut child));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let out = lab.ok(&run(&["--resume"]));
        assert!(out.starts_with("resuming from out/checkpoint-"), "{out}");
        for file in ["adapter_model.safetensors", "checkpoint-60/optimizer.bpk"] {
            let same = lab.read(&format!("out/{file}")) == lab.read(&format!("whole/{file}"));
            assert!(same, "{file} differs, {more:?}");
        }
        assert_eq!(metrics(&lab, "out"), metrics(&lab, "whole"), "{more:?}");
    }
}

#[test]
fn a_run_does_not_go_on_with_another_mixture() {
    let lab = lab();
    let short = ["--set", "training.max_steps=3"];
    lab.ok(&[&["train", "run.toml"][..], &short].concat());
    for (from, to, named) in [
        (
            "weight = 3",
            "weight = 4",
            "its run had data.train[0].weight = 3.0, this one has 4.0",
        ),
        (
            "weight = 2\n",
            "",
            "data.train[1].weight = 2.0, this one has nothing",
        ),
        (
            "all_exhausted",
            "first_exhausted",
            "data.stopping_strategy = \"all_exhausted\"",
        ),
        (
            "train[:2]",
            "train[:1]",
            "data.train[2].split = \"train[:2]\"",
        ),
    ] {
        lab.write("other.toml", RUN.replace(from, to));
        lab.fails(
            &[&["train", "other.toml", "--resume"][..], &short].concat(),
            &[named],
        );
    }
}

#[test]
fn what_an_entry_cannot_have_is_named() {
    let lab = lab();
    for (from, to, named) in [
        (
            "weight = 3",
            "wieght = 3",
            "data.train[0].wieght is not a known key; did you mean weight?",
        ),
        (
            "weight = 2",
            "probability = 2",
            "data.train[1].probability is not a known key; did you mean weight?",
        ),
        (
            "weight = 2",
            "max_length = 2",
            "data.train[1].max_length is not a known key; did you mean data.max_length?",
        ),
        (
            "path = \"b.csv\"",
            "file = \"b.csv\"",
            "data.train[1].file is not a known key; did you mean path?",
        ),
        ("path = \"b.csv\"", "", "entry [1]: missing key `path`"),
        (
            "weight = 3",
            "weight = -1",
            "data.train[0].weight is -1; give a.jsonl a number above 0",
        ),
        (
            "weight = 3",
            "weight = 0",
            "data.train[0].weight is 0; give a.jsonl a number above 0",
        ),
        ("weight = 3", "weight = nan", "data.train[0].weight is NaN"),
        (
            "weight = 3",
            "weight = \"much\"",
            "entry [0]: invalid type: string \"much\"",
        ),
        ("c.jsonl", "a.jsonl", "data.train[2].split"),
        (
            "{question}",
            "{query}",
            "data.train[1].template asks for {query}, but b.csv has the columns question, answer",
        ),
        ("all_exhausted", "both", "first_exhausted"),
    ] {
        let text = RUN.replace(from, to);
        // Naming the same file twice is another error.
        let text = if from == "c.jsonl" {
            text.replace("train[:2]", "test")
        } else {
            text
        };
        lab.write("bad.toml", text);
        lab.fails(&["train", "bad.toml"], &[named]);
    }
    for (set, named) in [
        (
            "data.train=[]",
            "data.train is an empty list; name a file, or several",
        ),
        (
            "data.train=[a.jsonl, b.csv]",
            "the value is not valid TOML: quote strings inside of it",
        ),
        (
            "data.train=[\"a.jsonl\", 3]",
            "entry [1]: invalid type: integer `3`",
        ),
        (
            "data.train=[\"a.jsonl\", \"a.jsonl\"]",
            "data.train[1].path is a.jsonl, as data.train[0] has it",
        ),
        (
            "data.stopping_strategy=all_exhausted",
            "no set of data.train has a weight",
        ),
    ] {
        lab.fails(&["train", "train.toml", "--set", set], &[named]);
    }
}

#[test]
fn a_data_set_of_the_hub_is_one_of_several() {
    let lab = lab();
    let rows: String = (0..3)
        .map(|i| format!("{}\n", json!({"text": TEXTS[i]})))
        .collect();
    let files = json!({"sha": COMMIT, "siblings": [{"rfilename": "train.jsonl"}]}).to_string();
    let files = [
        ("list.json", files.as_bytes()),
        ("train.jsonl", rows.as_bytes()),
    ];
    let server = Server::start(&files);
    let list = "data.train=[\"a.jsonl\", {path = \"org/tiny\", split = \"train[:2]\", weight = 2}]";
    let train = |offline: &str| -> Answer {
        let mut command = lab.command(PEFT);
        command
            .env("HF_ENDPOINT", &server.endpoint)
            .env("HF_HUB_OFFLINE", offline);
        command.args(anew("train.toml", &[list]));
        command.output().unwrap().into()
    };
    for offline in ["0", "1"] {
        let answer = train(offline);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        let said = "org/tiny:train[:2]: 2 examples, ";
        assert!(answer.out.contains(said), "{answer:?}");
        assert!(
            answer
                .out
                .contains("an epoch is 3 examples: 1 of a.jsonl, 2 of org/tiny"),
            "{answer:?}"
        );
    }
}
