//! First steps with rows of one's own, as a reader of the README would take them.

use crate::common::{Lab, anew, with_keys};

/// Six questions with their answers, and a training file without validation data.
fn lab() -> Lab {
    let lab = Lab::new();
    let rows = (0..6).map(|i| format!("the cat sat {i}?,on the mat\n"));
    lab.write(
        "faq.csv",
        format!("question,answer\n{}", rows.collect::<String>()),
    );
    let file = lab.text("train.toml");
    let file: Vec<&str> = (file.lines())
        .filter(|line| !line.starts_with("validation"))
        .collect();
    lab.write(
        "plain.toml",
        file.join("\n").replace("train.jsonl", "faq.csv"),
    );
    lab
}

/// What the error suggests for `faq.csv`.
const FAQ: [&str; 4] = [
    "--set",
    "data.template=Question: {question}\nAnswer: ",
    "--set",
    "data.completion_field=answer",
];

#[test]
fn eval_takes_the_template_that_training_takes() {
    let lab = lab();
    let data = ["--data", "faq.csv", "--model", "model"];
    let eval = |more: &[&str]| lab.peft(&[&["eval"], &data[..], more].concat());
    eval(&[]).failed(&["--template $'{question}\\n' --completion-field answer"]);
    let columns = ["--template", "{question}\n", "--completion-field", "answer"];
    let answer = eval(&columns);
    assert_eq!(
        (answer.code, answer.err.as_str()),
        (Some(0), ""),
        "{answer:?}"
    );
    // Only the answers are predicted, as `peft data` counts them.
    let counted = lab.ok_json(
        &[
            &["data", "faq.csv", "--model", "model", "--summary"],
            &columns[..],
        ]
        .concat(),
    );
    let tokens = format!("({} tokens)", counted["supervised_tokens"]);
    assert!(answer.out.contains(&tokens), "{answer:?}");

    let answer = eval(&["--template", "{question}\\n"]);
    assert_eq!(answer.code, Some(0));
    assert!(
        answer.err.contains("--template $'{question}\\n'"),
        "{answer:?}"
    );
}

#[test]
fn train_names_a_line_break_that_is_none() {
    let lab = lab();
    let train = |template: &str| {
        let set = format!("data.template={template}");
        lab.peft(&["train", "plain.toml", "--dry-run", "--set", &set])
    };
    for template in ["{question}\\n", "\"{question}\\\\n\""] {
        let answer = train(template);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        let named = answer.err.matches("data.template=$'{question}\\n'").count();
        assert_eq!(named, 1, "{answer:?}");
    }
    assert_eq!(train("{question}\n").err, "");
    assert_eq!(train("\"{question}\\n\"").err, "");
}

#[test]
fn train_says_how_many_rows_it_evaluates_on_and_which() {
    let lab = lab();
    for (settings, said) in [
        (
            vec!["data.validation_split=2.0"],
            [
                "faq.csv: 4 examples, ",
                "faq.csv: 2 other examples to evaluate on, drawn by the seed",
            ],
        ),
        (
            vec!["data.train=faq.csv[:5]", "data.validation=faq.csv[5:]"],
            [
                "faq.csv[:5]: 5 examples, ",
                "faq.csv[5:]: 1 example to evaluate on\n",
            ],
        ),
    ] {
        let out = lab.ok(&[&anew("plain.toml", &settings)[..], &FAQ].concat());
        for line in said {
            assert!(out.contains(line), "{line}: {out}");
        }
        // The output shows the beginning of a prompt, ready for a shell.
        let way =
            "try it: peft generate --model model --adapter out --prompt $'Question: …\\nAnswer: '";
        assert!(out.contains(way), "{out}");
        let saved = lab.text("out/config.toml");
        assert_eq!(
            saved.contains("validation_split = 2\n"),
            settings.len() == 1,
            "{saved}"
        );
    }
}

#[test]
fn evaluations_without_rows_are_refused_before_anything_is_made() {
    let lab = lab();
    let named = [
        "training.eval_strategy asks for evaluations",
        "data.validation_split",
    ];
    for strategy in ["epoch", "steps"] {
        let set = format!("training.eval_strategy={strategy}");
        // No model is loaded: there is none of this name.
        let args = with_keys("plain.toml", &["model=nowhere", &set]);
        lab.fails(&args, &named);
        lab.fails(&[&args[..], &["--dry-run"]].concat(), &named);
    }
    assert!(!lab.path("out").exists());
    // A folder has its own rows for validation.
    std::fs::create_dir(lab.path("set")).unwrap();
    for name in ["set/train.jsonl", "set/valid.jsonl"] {
        lab.write(name, lab.read("train.jsonl"));
    }
    let sets = [
        "--set",
        "data.train=set",
        "--set",
        "training.eval_strategy=epoch",
    ];
    lab.ok(&[&["train", "plain.toml"], &sets[..]].concat());
}

#[test]
fn a_new_file_has_the_keys_that_its_rows_need() {
    let lab = lab();
    let new = |name: &str, train: &str| {
        let answer = lab.peft(&["new", name, "--model", "model", "--train", train]);
        assert_eq!(answer.code, Some(0), "{answer:?}");
        let file = lab.read(&format!("{name}.toml"));
        (String::from_utf8(file).unwrap(), answer.err)
    };
    for train in ["faq.csv", "faq.csv[:5]"] {
        let (file, said) = new(&format!("a{}", train.len()), train);
        let keys = "\ntemplate = \"{question}\\n\"\ncompletion_field = \"answer\"\n";
        assert!(file.contains(keys) && said.is_empty(), "{file}\n{said}");
    }
    let sets = [
        "--set",
        "data.validation_split=2",
        "--set",
        "training.max_steps=1",
    ];
    lab.ok(&[&["train", "a7.toml"], &sets[..]].concat());
    // The run continues the first question as its prompt.
    let (file, _) = new("e", "faq.csv");
    assert!(
        file.contains("\nprompt = \"the cat sat 0?\\n\"\n"),
        "{file}"
    );
    // No template is needed, or the file does not exist yet.
    for (name, train) in [("b", "train.jsonl"), ("c", "later.csv")] {
        let (file, said) = new(name, train);
        assert!(
            !file.contains("\ntemplate") && said.is_empty(),
            "{file}\n{said}"
        );
        assert!(file.contains("template = \"{question}") && file.contains("completion_field = "));
    }
    lab.write("semicolons.csv", "question;answer\nthe cat, why?;the mat\n");
    let (_, said) = new("d", "semicolons.csv");
    assert!(
        said.contains("is a semicolon (;) what stands between its columns?"),
        "{said}"
    );
}

#[test]
fn another_separator_than_a_comma_is_asked_for() {
    let lab = lab();
    for (file, text, named) in [
        ("a.csv", "question;answer\na, b;c\n", "a semicolon (;)"),
        ("b.csv", "question\tanswer\na\tb\n", "a tab"),
        ("c.tsv", "question,answer\na,b\n", "a comma"),
    ] {
        lab.write(file, text);
        lab.fails(
            &["data", file],
            &[file, "has one column", named, "what stands between"],
        );
    }
}

#[test]
fn one_of_a_thing_is_no_plural_and_one_length_no_range() {
    let lab = lab();
    lab.write("one.csv", "text\nthe cat\n");
    for (args, said) in [
        (vec!["data", "one.csv"], "\n1 row, 7 characters;"),
        (
            vec!["data", "one.csv", "--model", "model"],
            "\n1 example, 3 tokens, ",
        ),
    ] {
        let out = lab.ok(&args);
        assert!(
            out.contains(said) && !out.contains("7 to 7") && !out.contains("3 to 3"),
            "{out}"
        );
    }
}

#[test]
fn the_help_says_which_columns_need_a_template() {
    let lab = Lab::new();
    for command in ["train", "data", "eval"] {
        let help = lab.ok(&[command, "--help"]);
        assert!(help.contains("--template $'{question}\\n'"), "{help}");
        assert!(!help.contains("complete too"), "{help}");
    }
    let generate = [
        "generate",
        "--model",
        "m",
        "--prompt",
        "a",
        "--template",
        "{a}",
    ];
    let answer = lab.peft(&generate);
    assert!(
        answer.err.contains("--prompt takes the whole prompt"),
        "{answer:?}"
    );
}

#[test]
fn a_template_that_ends_with_a_space_is_named() {
    let lab = lab();
    let said = |template: &str| {
        let columns = ["--template", template, "--completion-field", "answer"];
        let ways = [["data", "faq.csv"], ["eval", "--data=faq.csv"]].map(|way| {
            let answer = lab.peft(&[&way[..], &["--model", "model"], &columns].concat());
            assert_eq!(answer.code, Some(0), "{answer:?}");
            answer.err.contains("data.template ends with a space")
        });
        assert_eq!(ways[0], ways[1]);
        ways[0]
    };
    assert!(said("{question} "));
    assert!(!said("{question}\n") && !said("{question}"));
}
