//! Questions that a model answers: `peft generate --chat`, `peft eval --generate`, the samples of a
//! run on chats, and what its report and its model card have of them.

use burn_peft_data::message;
use std::fs;
use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::common::{Lab, PEFT, assert_has, jsonl, with_keys};

/// The token that closes an answer. No file of the model says that it ends a text.
const END: &str = "<|end|>";
const TEMPLATE: &str = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\
    {% if m.role == 'assistant' %}<|end|>{% endif %}{{ '\\n' }}{% endfor %}\
    {% if add_generation_prompt %}<assistant>{% endif %}";

const TRAIN: &str = r#"
model = "chatty"
[data]
train = "chats.jsonl"
validation = "chats.jsonl"
[peft]
r = 16
lora_alpha = 32
target_modules = "all-linear"
[training]
output_dir = "out"
max_steps = 120
per_device_train_batch_size = 2
learning_rate = 0.02
logging_steps = 60
save_strategy = "no"
"#;

fn chat(question: &str, answer: &str) -> Value {
    json!({ "messages": [message("user", question), message("assistant", answer)] })
}

/// A lab with `chatty/` (a model with a chat template), `chats.jsonl`, and `chat.toml` to train the
/// model on it.
fn lab() -> Lab {
    let lab = Lab::new();
    let mut config = lab.config();
    config["n_positions"] = 128.into();
    config["vocab_size"] = (lab.vocab_size + 1).into();
    lab.write("config.json", config.to_string());
    lab.ok(&["init", "config.json", "--output", "chatty", "--seed", "1"]);
    let mut tokenizer = lab.json("model/tokenizer.json");
    let added = tokenizer["added_tokens"].as_array_mut().unwrap();
    let mut end = added[0].clone();
    end["id"] = lab.vocab_size.into();
    end["content"] = END.into();
    added.push(end);
    lab.write("chatty/tokenizer.json", tokenizer.to_string());
    lab.write("chatty/chat_template.jinja", TEMPLATE);
    let rows = [
        chat("the cat", "sat on the mat"),
        chat("the dog", "a cat and a dog"),
    ];
    lab.write("chats.jsonl", jsonl(&rows));
    lab.write("chat.toml", TRAIN);
    lab
}

const GENERATE: [&str; 5] = ["generate", "--model", "chatty", "--max-new-tokens", "5"];

#[test]
fn a_question_is_put_into_the_template_and_the_answer_shown_alone() {
    let lab = lab();
    let call = |more: &[&str]| lab.ok_json(&[&GENERATE[..], more, &["--json"]].concat());
    let rendered = call(&["--prompt", "<user>the cat\n<assistant>"]);
    let asked = call(&["--chat", "--prompt", "the cat"]);
    for key in ["prompt_token_ids", "token_ids"] {
        assert_eq!(asked[key], rendered[key], "{key}");
    }
    assert_eq!(asked["content"], rendered["text"]);
    assert_eq!(asked["messages"], json!([message("user", "the cat")]));
    assert_eq!(asked["completion_tokens"], 5);
    assert_eq!(asked["finish_reason"], "length");
    let given = rendered["prompt_token_ids"].as_array().unwrap().len();
    assert_eq!(asked["prompt_tokens"], given);
    let plain = lab.ok(&[&GENERATE[..], &["--chat", "--prompt", "the cat"]].concat());
    assert_eq!(plain, format!("{}\n", asked["content"].as_str().unwrap()));

    let system = call(&["--chat", "--system", "a mat", "--prompt", "the cat"]);
    let rendered = call(&["--prompt", "<system>a mat\n<user>the cat\n<assistant>"]);
    assert_eq!(system["prompt_token_ids"], rendered["prompt_token_ids"]);

    // Several conversations, from a file and from standard input.
    let turns = [
        message("user", "a"),
        message("assistant", "b"),
        message("user", "the dog"),
    ];
    let rows = [
        json!({ "messages": [message("user", "the cat")] }),
        json!({ "messages": turns }),
    ];
    lab.write("asked.jsonl", jsonl(&rows));
    let answers = call(&["--messages", "asked.jsonl"]);
    assert_eq!(answers[0]["content"], asked["content"]);
    let text = format!("<user>a\n<assistant>b{END}\n<user>the dog\n<assistant>");
    let rendered = call(&["--prompt", &text]);
    for key in ["prompt_token_ids", "token_ids"] {
        assert_eq!(answers[1][key], rendered[key], "{key}");
    }
    let mut command = lab.command(PEFT);
    command.args(GENERATE).args(["--messages", "-", "--json"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    input
        .write_all(json!(turns).to_string().as_bytes())
        .unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let piped: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(piped["content"], answers[1]["content"]);
    // Several answers are separated by an empty line, and printed without their questions.
    let plain = lab.ok(&[&GENERATE[..], &["--messages", "asked.jsonl"]].concat());
    let [first, second] = [0, 1].map(|index| answers[index]["content"].as_str().unwrap());
    assert_eq!(plain, format!("{first}\n\n{second}\n"));
}

#[test]
fn what_cannot_be_asked_is_an_error_with_the_way_out() {
    let lab = lab();
    let chat = ["generate", "--model", "model", "--chat", "--prompt", "a"];
    lab.fails(
        &chat,
        &["chat_template", "chat_template.jinja", "--tokenizer"],
    );
    lab.write(
        "done.json",
        json!([message("user", "a"), message("assistant", "b")]).to_string(),
    );
    let done = [&GENERATE[..], &["--messages", "done.json"]].concat();
    lab.fails(&done, &["done.json ends with the assistant's answer"]);
    let missing = [&GENERATE[..], &["--messages", "none.json"]].concat();
    lab.fails(&missing, &["none.json"]);
    for more in [
        &["--prompt", "a", "--system", "b"][..],
        &["--chat"],
        &["--messages", "done.json", "--prompt", "a"],
    ] {
        let answer = lab.peft(&[&GENERATE[..], more].concat());
        assert_eq!(answer.code, Some(2), "{more:?}: {answer:?}");
    }
    let texts = [
        "eval",
        "--model",
        "model",
        "--data",
        "train.jsonl",
        "--generate",
    ];
    lab.fails(
        &texts,
        &["train.jsonl has no row that asks", "text (column `text`)"],
    );
}

#[test]
fn a_run_on_chats_asks_and_its_answers_are_counted() {
    let lab = lab();
    let out = lab.ok(&["train", "chat.toml"]);
    // After training, it gives the answers that it has learnt by heart; before, it does not.
    let samples: Vec<&str> = out
        .lines()
        .filter(|line| line.contains("sample: "))
        .collect();
    assert_eq!(samples.len(), 4, "{out}");
    assert!(!samples[0].contains("sat on the mat"), "{out}");
    assert_eq!(
        samples[2..],
        [
            "  sample: the cat → sat on the mat",
            "  sample: the dog → a cat and a dog"
        ]
    );
    assert!(
        out.contains("try it: peft chat chatty --adapter out\n"),
        "{out}"
    );

    // The answer ends at the template's token, which is not part of it.
    let with = [
        &GENERATE[..3],
        &[
            "--adapter",
            "out",
            "--chat",
            "--prompt",
            "the cat",
            "--json",
        ],
    ];
    let answer = lab.ok_json(&with.concat());
    assert_eq!(answer["content"], "sat on the mat");
    assert_eq!(answer["finish_reason"], "stop");

    let rows = [
        chat("the cat", "sat on the mat"),
        // The right answer, except for case and white space.
        json!({ "messages": [message("user", "the dog"), message("assistant", "A CAT  and")] }),
        json!({ "messages": [message("user", "the cat"), message("assistant", "x")], "contains": ["y", "the Mat"] }),
        json!({ "messages": [message("user", "the cat"), message("assistant", "x")], "contains": "y" }),
        json!({ "messages": [message("user", "the cat")] }),
    ];
    lab.write("held-out.jsonl", jsonl(&rows));
    let eval = [
        "eval",
        "--model",
        "chatty",
        "--data",
        "held-out.jsonl",
        "--generate",
    ];
    let args = [&eval[..], &["--adapter", "out"]].concat();
    for batch in ["1", "3"] {
        let found = lab.ok_json(&[&args[..], &["--json", "--batch-size", batch]].concat());
        assert_eq!(found["exact"], 0.25, "{found}");
        assert_eq!(found["contained"], 0.75, "{found}");
        assert_eq!(found["examples"], 4);
        assert_eq!(
            found["left_out"],
            json!(["1 of 5 rows left out: no question, or no answer in words"])
        );
        assert_eq!(found["base"]["exact"], 0.0, "{found}");
        let row = &found["answers"][1];
        assert_eq!(row["row"], 2);
        assert_eq!(row["messages"], json!([message("user", "the dog")]));
        assert_eq!(row["expected"], "A CAT  and");
        assert_eq!(row["answer"], "a cat and a dog");
        assert_eq!(
            (&row["exact"], &row["contained"]),
            (&json!(false), &json!(true))
        );
        assert_eq!(found["answers"][2]["contains"], json!(["y", "the Mat"]));
    }
    let answer = lab.peft(&args);
    let said =
        "exact 25.0 % (1)  contained 75.0 % (3)  of 4 answers  base: exact 0.0 % (0)  contained ";
    assert!(answer.out.starts_with(said), "{answer:?}");
    assert!(answer.err.contains("1 of 5 rows left out"), "{answer:?}");

    // Prompts with completions are questions too.
    lab.write(
        "pairs.jsonl",
        jsonl(&[json!({ "prompt": "<user>the cat\n<assistant>", "completion": "sat on" })]),
    );
    let args = [
        "eval",
        "--model",
        "chatty",
        "--adapter",
        "out",
        "--data",
        "pairs.jsonl",
        "--generate",
        "--json",
    ];
    let found = lab.ok_json(&[&args[..], &["--max-new-tokens", "6"]].concat());
    assert_eq!(found["contained"], 1.0, "{found}");
    assert_eq!(
        found["answers"][0]["question"],
        "<user>the cat\n<assistant>"
    );

    let page = lab.text("out/report.html");
    let parts = [
        "<h2>Answers</h2>",
        "<th>question<th>expected<th>before training<th>step 120, after training",
        "<tr><td>the cat<td>sat on the mat<td>",
        "<td class=\"new\">a cat and a dog",
    ];
    assert_has(&page, &parts);
}

#[test]
fn prompts_of_the_file_are_what_a_user_asks() {
    let lab = lab();
    let steps = [
        "--set",
        "training.max_steps=2",
        "--set",
        "training.eval_strategy=steps",
        "--set",
        "training.eval_steps=1",
    ];
    let call =
        |more: &[&str]| lab.ok(&[&["train", "chat.toml", "--force"], &steps[..], more].concat());
    let out = call(&["--set", "prompt=[\"a mat\", \"the <b>dog\"]"]);
    assert_eq!(out.matches("\n  sample: a mat → ").count(), 3, "{out}");
    let entries = lab.metrics("out").into_iter();
    let asked: Vec<Value> = entries
        .map(|entry| entry["prompt"].clone())
        .filter(|prompt| prompt.is_string())
        .collect();
    let expected = ["a mat", "the <b>dog"].repeat(3);
    assert_eq!(asked, expected);
    let page = lab.text("out/report.html");
    assert!(
        page.contains("<th>question<th>before training<th>step 2, after"),
        "{page}"
    );
    assert!(
        page.contains("<tr><td>the &lt;b&gt;dog<td>") && !page.contains("<b>dog"),
        "{page}"
    );
    assert!(page.contains("<summary>In between</summary>"), "{page}");
    // The configuration that the run wrote can be read again.
    lab.ok(&with_keys(
        "out/config.toml",
        &["training.output_dir=again"],
    ));
    // With an empty list, nothing is asked.
    let out = call(&["--set", "prompt=[]"]);
    assert!(!out.contains("sample: "), "{out}");
}

#[test]
fn a_result_has_a_model_card_which_is_the_users_once_it_is_changed() {
    let lab = lab();
    let call = |more: &[&str]| {
        let args = ["train", "chat.toml", "--set", "training.max_steps=1"];
        let answer = lab.peft(&[&args[..], more].concat());
        assert_eq!(answer.code, Some(0), "{answer:?}");
        answer
    };
    fs::copy(lab.path("chats.jsonl"), lab.path("a|`b.jsonl")).unwrap();
    let out = call(&["--set", "data.train=a|`b.jsonl"]).out;
    assert!(out.contains("\n  out/README.md ("), "{out}");
    let card = lab.text("out/README.md");
    let parts = [
        "---\n# base_model: (the Hub id of the model that was trained)\n# license: ",
        "\nlibrary_name: peft\npipeline_tag: text-generation\ntags:\n- \"burn-peft\"\n- \"lora\"\n---\n\n# out\n",
        "An adapter (LORA) for `chatty`",
        "peft chat chatty --adapter out\n",
        "model = PeftModel.from_pretrained(model, \"out\")",
        "tokenizer.apply_chat_template(",
        "| ``a\\|`b.jsonl`` | training | 2 | ",
        "| `chats.jsonl` | evaluation | 2 | ",
        "| evaluation loss | ",
        "| perplexity | ",
        "\nr = 16 ",
        "| steps | 1 |",
    ];
    assert_has(&card, &parts);
    // The card of a run is replaced by that of the next run.
    call(&["--force", "--set", "peft.r=2"]);
    let card = lab.text("out/README.md");
    assert!(card.contains("\nr = 2 "), "{card}");
    // A card that the user has changed is kept, and so is any other file of that name.
    for mine in [
        card.replace("# license: (such as apache-2.0)", "license: mit"),
        "mine\n".into(),
    ] {
        lab.write("out/README.md", &mine);
        let answer = call(&["--force"]);
        assert!(
            answer
                .err
                .contains("out/README.md was not written by peft, or was changed"),
            "{answer:?}"
        );
        assert_eq!(lab.read("out/README.md"), mine.as_bytes());
        assert!(!answer.out.contains("README.md"), "{answer:?}");
    }
}
