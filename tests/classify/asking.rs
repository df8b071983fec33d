//! `peft predict` and `peft eval` on rows of all kinds.

use serde_json::{Value, json};

use crate::common::{Answer, Lab, PEFT, adapted, anew, jsonl, values};
use crate::hub::server::{COMMIT, Server};

/// A lab with a classifier in `out`, trained for some steps on rows of these columns.
pub(super) fn trained(rows: &[Value], keys: &[&str]) -> Lab {
    let lab = Lab::new();
    lab.write("rows.jsonl", jsonl(rows));
    lab.write("classify.toml", TRAIN);
    train(&lab, keys);
    lab
}

fn train(lab: &Lab, keys: &[&str]) -> String {
    lab.ok(&anew("classify.toml", keys))
}

const TRAIN: &str = "model = \"model\"\n[data]\ntrain = \"rows.jsonl\"\nvalidation = \"rows.jsonl\"\n\
                     [peft]\npeft_type = \"LORA\"\nr = 4\ntarget_modules = \"all-linear\"\n[training]\n\
                     objective = \"classify\"\noutput_dir = \"out\"\nmax_steps = 40\n\
                     learning_rate = 2e-2\n";

pub(super) fn predict(lab: &Lab, more: &[&str]) -> Vec<Value> {
    let said = lab.ok(&adapted("predict", more));
    let lines = values(&said).into_iter();
    lines.collect()
}

pub(super) fn pets() -> Vec<Value> {
    let texts = ["the cat sat", "a dog sat", "a cat", "the dog", "the mat"];
    let labels = ["cat", "dog", "cat", "dog", "none"];
    let rows = texts.into_iter().zip(labels);
    rows.map(|(text, label)| json!({"text": text, "label": label}))
        .collect()
}

#[test]
fn every_row_has_a_line_in_its_place() {
    let lab = trained(&pets(), &[]);
    // More rows than are read at a time, of all lengths, some without any text.
    let row = |at: usize| {
        let words = ["the", "cat", "sat", "on", "a", "mat"].into_iter().cycle();
        let words: Vec<_> = words.skip(at % 5).take(at % 7).collect();
        json!({"text": words.join(" ")})
    };
    let rows: Vec<Value> = (0..2_100).map(row).collect();
    lab.write("many.jsonl", jsonl(&rows));
    let found = predict(&lab, &["--data", "many.jsonl"]);
    assert_eq!(found.len(), rows.len());
    for (at, line) in found.iter().enumerate() {
        assert_eq!(line["row"], at + 1);
        if at % 7 == 0 {
            let said = "it has no tokens, and so nothing to judge";
            assert_eq!((&line["error"], line.get("label")), (&json!(said), None));
        } else {
            assert!(line["probabilities"]["none"].is_f64(), "{line}");
        }
    }
    let name = [
        "--data",
        "many.jsonl",
        "--batch-size",
        "3",
        "--output",
        "labels.jsonl",
    ];
    predict_file(&lab, &name);
    let other = lab.text("labels.jsonl");
    let other = values(&other).into_iter();
    for (one, other) in found.iter().zip(other) {
        assert_eq!(one["label"], other["label"]);
    }
    // If the rows end in the middle of one, the old output stays.
    let broken = jsonl(&rows) + "{\"text\": \n";
    lab.write("many.jsonl", broken);
    let args = adapted("predict", &["--data", "many.jsonl"]);
    let before = (lab.read("labels.jsonl"), lab.names("."));
    lab.fails(
        &[&args[..], &["--output", "labels.jsonl"]].concat(),
        &["many.jsonl line 2101 is not JSON"],
    );
    assert_eq!(before, (lab.read("labels.jsonl"), lab.names(".")));
    lab.fails(
        &[&args[..], &["--output", "other.jsonl"]].concat(),
        &["many.jsonl line 2101 is not JSON"],
    );
    assert_eq!(before.1, lab.names("."));
}

fn predict_file(lab: &Lab, more: &[&str]) {
    let said = lab.ok(&adapted("predict", more));
    assert!(said.ends_with("labels.jsonl: 2,100 rows\n"), "{said}");
}

#[test]
fn labels_have_figures_of_their_own() {
    let lab = trained(&pets(), &[]);
    let eval = adapted("eval", &["--data", "rows.jsonl"]);
    let said = lab.ok(&eval);
    let table: Vec<Vec<&str>> = said
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(table[0], ["label", "precision", "recall", "f1", "support"]);
    assert_eq!(table[1], ["cat", "1.0000", "1.0000", "1.0000", "2"]);
    assert_eq!(table[4][..2], ["macro", "avg"]);
    let json = lab.ok_json(&[&eval[..], &["--json"]].concat());
    assert_eq!(json["by_class"]["dog"]["f1"], 1.0);
    assert_eq!(json["confusion"]["labels"], json!(["cat", "dog", "none"]));
    assert_eq!(
        json["confusion"]["counts"],
        json!([[2, 0, 0], [0, 2, 0], [0, 0, 1]])
    );
    let report = lab.text("out/report.html");
    for part in [
        "<h2>By label</h2>",
        "cat taken for cat: 2 of 2 (100.0 %)",
        "F1 before",
    ] {
        assert!(report.contains(part), "no {part}");
    }
}

#[test]
fn a_text_may_have_many_labels() {
    let of = |ids: &[usize]| {
        ids.iter()
            .map(|id| format!("label {id:02}"))
            .collect::<Vec<_>>()
    };
    let every: Vec<usize> = (0..40).collect();
    let rows = [
        json!({"text": "the cat sat on the mat", "labels": of(&every)}),
        json!({"text": "a dog sat", "labels": of(&[2, 31, 39])}),
        json!({"text": "the dog and the mat", "labels": of(&[])}),
    ];
    let lab = trained(&rows, &["training.max_steps=150"]);
    let found = predict(&lab, &["--data", "rows.jsonl"]);
    assert_eq!(found[0]["labels"].as_array().unwrap().len(), 40);
    assert_eq!(found[1]["labels"], json!(of(&[2, 31, 39])));
    assert_eq!(found[2]["labels"], json!([]));
    let eval = adapted("eval", &["--data", "rows.jsonl", "--json"]);
    let found = lab.ok_json(&eval);
    assert_eq!(
        (&found["accuracy"], &found["f1_macro"]),
        (&json!(1.0), &json!(1.0))
    );
    assert_eq!(found["by_class"]["label 31"]["support"], 2);
    assert_eq!(found["by_class"]["micro avg"]["recall"], 1.0);
    // Two tokens can store 40 labels, one token cannot.
    let short = json!({"text": "the", "labels": of(&[1, 2])});
    lab.write("rows.jsonl", jsonl(&[rows[0].clone(), short]));
    lab.fails(
        &["train", "classify.toml", "--force"],
        &["rows.jsonl line 2 has 1 tokens, and of the 40 labels each token keeps 31"],
    );
}

#[test]
fn numbers_are_the_labels_that_are_called_so() {
    let row = |text: &str, label: i64| json!({"text": text, "label": label});
    let rows = [row("the cat", 1), row("the dog", 2), row("the mat", 3)];
    let lab = trained(
        &rows[..1],
        &[
            "classify.labels=[\"1\",\"2\",\"3\"]",
            "training.max_steps=1",
        ],
    );
    lab.write("rows.csv", "text,label\nthe cat,1\nthe dog,2\nthe mat,3\n");
    train(&lab, &["data.train=\"rows.csv\"", "training.max_steps=150"]);
    lab.write("rows.jsonl", jsonl(&rows));
    let eval = adapted("eval", &["--data", "rows.jsonl", "--json"]);
    assert_eq!(lab.ok_json(&eval)["accuracy"], 1.0);
    let found = predict(&lab, &["--data", "rows.jsonl"]);
    assert!(
        found.iter().all(|line| line["is_right"] == true),
        "{found:?}"
    );
    // Whole numbers that do not count from 0 are an error, unless they have names or `regression`
    // is set.
    lab.write(
        "rows.jsonl",
        jsonl(&[row("the cat", -1), row("the dog", 1)]),
    );
    let again = ["train", "classify.toml", "--force"];
    lab.fails(
        &again,
        &["classify.labels = [\"-1\", \"1\"]", "classify.problem_type"],
    );
    let named = train(
        &lab,
        &["classify.labels=[\"-1\",\"1\"]", "training.max_steps=1"],
    );
    assert!(!named.contains("regression"), "{named}");
    // The names alone do not tell that a text may have several labels.
    let row = |labels: Value| json!({"text": "the cat", "labels": labels});
    lab.write(
        "rows.jsonl",
        jsonl(&[row(json!(["a"])), row(json!(["a", "b"]))]),
    );
    train(
        &lab,
        &["classify.labels=[\"a\",\"b\"]", "training.max_steps=1"],
    );
    let saved = lab.text("out/config.toml");
    assert!(saved.contains("multi_label_classification"), "{saved}");
    let config = lab.json("out/adapter_config.json").to_string();
    lab.write(
        "out/adapter_config.json",
        config.replace("\"1\":\"b\"", "\"1\":\"a\""),
    );
    lab.fails(&eval, &["adapter_config.json: id2label names \"a\" twice"]);
    lab.write("rows.jsonl", "{\"input\": \"the cat\", \"label\": \"a\"}\n");
    lab.fails(&again, &["`sentence1` and `sentence2`"]);
}

#[test]
fn words_that_were_cut_are_in_no_entity() {
    let rows = [
        json!({"tokens": ["the", "cat", "sat"], "ner_tags": ["O", "B-PET", "O"]}),
        json!({"tokens": ["a", "dog", "sat"], "ner_tags": ["O", "B-PET", "O"]}),
        json!({"tokens": ["dog"], "ner_tags": ["B-PET"]}),
        json!({"tokens": ["a", "dog", "sat", "a", "dog"], "ner_tags": ["O", "B-PET", "O", "O", "B-PET"]}),
    ];
    let lab = Lab::new();
    lab.write("rows.jsonl", jsonl(&rows));
    lab.write("classify.toml", TRAIN.replace("\"classify\"", "\"tag\""));
    train(&lab, &["training.max_steps=150"]);
    let words = ["a", "dog", "sat", "a", "dog"];
    lab.write(
        "words.jsonl",
        jsonl(&[json!({"tokens": words}), json!({"tokens": []})]),
    );
    let all = predict(&lab, &["--data", "words.jsonl"]);
    assert_eq!(all[0]["tags"], json!(["O", "B-PET", "O", "O", "B-PET"]));
    assert_eq!(
        (&all[1]["tags"], &all[1]["entities"]),
        (&json!([]), &json!([]))
    );
    let cut = predict(&lab, &["--data", "words.jsonl", "--max-length", "3"]);
    assert_eq!(cut[0]["tags"], json!(["O", "B-PET", "O", "O", "O"]));
    assert_eq!(
        cut[0]["entities"],
        json!([{"type": "PET", "start": 1, "end": 2}])
    );
    let eval = adapted("eval", &["--data", "rows.jsonl"]);
    let said = lab.ok(&eval);
    assert!(said.contains("\nentity "), "{said}");
    let found = lab.ok_json(&[&eval[..], &["--json"]].concat());
    assert_eq!(found["by_class"]["PET"]["support"], 5);
    assert_eq!(found["confusion"]["counts"], json!([[5, 0], [0, 7]]));
    // `dog` is two tokens. So four words are cut off: `sat` in one row, and the last three words of
    // another.
    let cut = lab.ok_json(&[&eval[..], &["--max-length", "3", "--json"]].concat());
    let said = cut["left_out"].to_string();
    assert!(said.contains("neither learnt nor counted: 4"), "{said}");
    let weights = "tag.class_weights=\"balanced\"";
    train(&lab, &["training.max_steps=1", weights]);
    let saved = lab.text("out/config.toml");
    // Five words are pets, and seven are not.
    assert!(saved.contains("class_weights = [1.2"), "{saved}");
}

#[test]
fn columns_may_have_any_name_and_files_be_csv() {
    let lab = Lab::new();
    lab.write("classify.toml", TRAIN);
    let csv = "said,is\nthe cat sat,1.5\na dog sat,-1\na cat,1.5\nthe dog,-1\n";
    lab.write("rows.csv", csv);
    let named = [
        "data.train=rows.csv",
        "data.validation=rows.csv",
        "data.text_field=said",
    ];
    let labelled = [&named[..], &["data.label_field=is"]].concat();
    let number = "classify.problem_type=regression";
    train(&lab, &[&labelled[..], &[number]].concat());
    let said = ["--data", "rows.csv", "--text-field", "said"];
    let value = predict(&lab, &said)[0]["value"].as_f64().unwrap();
    assert!((value - 1.5).abs() < 1.0, "{value}");
    let missing = [
        "train",
        "classify.toml",
        "--force",
        "--set",
        named[0],
        "--set",
        named[2],
    ];
    lab.fails(
        &[&missing[..], &["--set", "data.label_field=was"]].concat(),
        &["data.label_field is \"was\"", "said, is"],
    );
    // In CSV, lists (labels, words, tags) are JSON in a cell.
    let csv = "text,labels\nthe cat sat,\"[\"\"cat\"\"]\"\na cat and a dog,\"[\"\"cat\"\", \"\"dog\"\"]\"\nthe mat,[]\n";
    lab.write("rows.csv", csv);
    train(&lab, &[named[0], named[1], "training.max_steps=100"]);
    let found = predict(&lab, &["--data", "rows.csv"]);
    let labels: Vec<&Value> = found.iter().map(|line| &line["labels"]).collect();
    assert_eq!(
        labels,
        [&json!(["cat"]), &json!(["cat", "dog"]), &json!([])]
    );
    let csv = "says,kinds\n\"[\"\"the\"\", \"\"cat\"\"]\",\"[\"\"O\"\", \"\"B-PET\"\"]\"\n";
    lab.write("rows.csv", csv);
    let tag = [
        "training.objective=tag",
        "data.text_field=says",
        "data.label_field=kinds",
    ];
    train(&lab, &[&named[..2], &tag].concat());
    let found = predict(&lab, &["--data", "rows.csv", "--text-field", "says"]);
    assert_eq!(found[0]["tags"], json!(["O", "B-PET"]));
    // The key has no meaning for a language model.
    lab.fails(
        &[
            "train",
            "train.toml",
            "--set",
            "data.label_field=text",
            "--force",
        ],
        &["data.label_field is \"text\"", "\"classify\""],
    );
}

/// A data set on the Hub, here from a server on this machine. Its rows decide the weights of the
/// labels.
#[test]
fn rows_come_from_the_hub() {
    let list = "{\"rfilename\": \"train.jsonl\"}, {\"rfilename\": \"test.jsonl\"}";
    let list = format!("{{\"sha\": \"{COMMIT}\", \"siblings\": [{list}]}}");
    let rows = jsonl(&[
        json!({"text": "the cat and the dog", "labels": ["cat", "dog"]}),
        json!({"text": "a cat sat", "labels": ["cat"]}),
        json!({"text": "the mat", "labels": []}),
        json!({"text": "a dog", "labels": ["dog"]}),
        json!({"text": "a dog and a mat", "labels": ["dog"]}),
    ]);
    let server = Server::start(&[
        ("list.json", list.as_bytes()),
        ("train.jsonl", rows.as_bytes()),
        ("test.jsonl", rows.as_bytes()),
    ]);
    let lab = Lab::new();
    let toml = TRAIN.replace("\"rows.jsonl\"", "\"org/tiny:train\"");
    lab.write("classify.toml", toml);
    let run = |line: &str| -> Answer {
        let mut command = lab.command(PEFT);
        command.env("HF_ENDPOINT", &server.endpoint);
        command.env("HF_HUB_OFFLINE", "0");
        command.args(line.split(' '));
        command.output().unwrap().into()
    };
    let said = run("train classify.toml --set classify.pos_weight=\"balanced\"");
    assert_eq!(said.code, Some(0), "{said:?}");
    let saved = lab.text("out/config.toml");
    // `cat`: three rows without it, two with it. The other label: two and three.
    assert!(saved.contains("pos_weight = [1.5, 0.666666"), "{saved}");
    let said = run("predict --model model --adapter out --data org/tiny:train");
    assert_eq!(said.out.lines().count(), 5, "{said:?}");
    let weights = "classify.class_weights=\"balanced\"";
    let said = run(&format!("train classify.toml --force --set {weights}"));
    said.failed(&["use classify.pos_weight"]);
}
