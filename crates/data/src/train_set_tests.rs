use super::*;

fn config(text: &str) -> DataConfig {
    toml::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_text_a_list_and_tables_read_back_as_they_are_written() {
    let one = config("train = 'a.jsonl[:5]'");
    assert_eq!(one.train, TrainSets::One("a.jsonl[:5]".into()));
    let list = config(
        "train = ['a.jsonl', {path = 'b.jsonl', weight = 2, split = 'train[:5]', \
         template = '{q}'}]",
    );
    let tables = config(
        "[[train]]\npath = 'a.jsonl'\n[[train]]\npath = 'b.jsonl'\nweight = 2.0\n\
         split = 'train[:5]'\ntemplate = '{q}'",
    );
    assert_eq!(list, tables);
    assert_eq!(list.train.weights(), Some(vec![1.0, 2.0]));
    assert_eq!(config("train = ['a', 'b']").train.weights(), None);
    for config in [one, list, config("train = ['a', 'b']")] {
        let text = toml::to_string(&config).unwrap();
        assert_eq!(
            toml::from_str::<DataConfig>(&text).unwrap(),
            config,
            "{text}"
        );
        let json = serde_json::to_string(&config).unwrap();
        let read: DataConfig = serde_json::from_str(&json).unwrap();
        assert_eq!(read, config, "{json}");
    }
}

#[test]
fn a_split_goes_behind_the_path() {
    let spec = |path: &str, split: &str| {
        let split = Some(split.to_owned());
        TrainSet {
            split,
            ..TrainSet::new(path)
        }
        .spec()
    };
    assert_eq!(spec("a.jsonl", "train[:500]"), "a.jsonl[:500]");
    assert_eq!(spec("a.jsonl", "[5:]"), "a.jsonl[5:]");
    assert_eq!(spec("a.jsonl", "train"), "a.jsonl");
    assert_eq!(spec("a.json", "train[:5]"), "a.json:train[:5]");
    assert_eq!(spec("org/set", "train[:500]"), "org/set:train[:500]");
    assert_eq!(
        spec("org/set@main:subset", "test"),
        "org/set@main:subset/test"
    );
    assert_eq!(spec("org/set", "[:500]"), "org/set[:500]");
}

#[test]
fn what_cannot_be_names_the_entry() {
    let error = |text: &str| config(text).check_sets().unwrap_err().to_string();
    for (weight, shown) in [("-1", "-1"), ("0", "0"), ("nan", "NaN"), ("inf", "inf")] {
        assert_eq!(
            error(&format!(
                "train = ['a.jsonl', {{path = 'b.jsonl', weight = {weight}}}]"
            )),
            format!(
                "data.train[1].weight is {shown}; give b.jsonl a number above 0, or leave it out"
            )
        );
    }
    assert_eq!(
        error("train = []"),
        "data.train is an empty list; name a file, or several"
    );
    assert_eq!(
        error("train = ['a.jsonl', 'b.jsonl', {path = 'a.jsonl', weight = 3}]"),
        "data.train[2].path is a.jsonl, as data.train[0] has it; leave one of the two out: in \
         data.train a weight makes rows come more often"
    );
    // Other rows, or other texts of the same rows.
    let fine = "train = ['a.jsonl', {path = 'a.jsonl', template = 'x'}, \
                {path = 'a.jsonl', split = '[:5]'}]";
    config(fine).check_sets().unwrap();
    assert_eq!(
        error("train = [{path = 'a.jsonl[:5]', split = 'train'}]"),
        "data.train[0].split is \"train\", and a.jsonl[:5] has a slice of its own; keep one of \
         them"
    );
    assert_eq!(
        error("train = [{path = 'a.csv', split = 'test'}]"),
        "data.train[0].split is \"test\", and a.csv is a file, which has the split train alone; \
         a slice of its rows is \"[:500]\""
    );
    assert_eq!(
        error("train = [{path = 'a.csv', text_field = 'a', template = 'b'}]"),
        "data.train[0].text_field and template of the same entry are both set; keep one of them"
    );
    assert_eq!(
        error("train = ['']"),
        "data.train[0].path is empty; name a file, a folder, or a data set on the Hub"
    );
    assert_eq!(
        error("train = ['a', 'b']\nstopping_strategy = 'all_exhausted'"),
        "data.stopping_strategy is \"all_exhausted\", and no set of data.train has a weight: \
         then every row comes once in an epoch; give weights, or leave it out"
    );
    assert_eq!(
        error("train = 'a'\nvalidation = ['b', {path = 'c', weight = 2}]"),
        "data.validation[1].weight is 2, and every row is evaluated on once; leave it out"
    );
    let unread = |text: &str| toml::from_str::<DataConfig>(text).unwrap_err().to_string();
    for (text, said) in [
        ("train = 3", "a text, or a list"),
        ("train = ['a', 3]", "entry [1]: invalid type: integer `3`"),
        (
            "train = ['a', {weight = 3}]",
            "entry [1]: missing field `path`",
        ),
        (
            "train = [{path = 'a', weight = 'b'}]",
            "entry [0]: invalid type: string",
        ),
    ] {
        assert!(unread(text).contains(said), "{}", unread(text));
    }
}

#[test]
fn a_set_says_otherwise_than_the_table() {
    let all = config("train = []\ntemplate = '{a}'\ncompletion_field = 'b'\nmax_length = 9");
    let own = |set: TrainSet| all.of_set(&set);
    let plain = own(TrainSet::new("a.jsonl"));
    assert_eq!(
        plain,
        DataConfig {
            train: "a.jsonl".into(),
            ..all.clone()
        }
    );
    let text = own(TrainSet {
        text_field: Some("t".into()),
        ..TrainSet::new("a.jsonl")
    });
    assert_eq!((text.template, text.completion_field), (None, None));
    assert_eq!(
        (text.text_field.as_deref(), text.max_length),
        (Some("t"), Some(9))
    );
    let other = own(TrainSet {
        completion_field: Some("c".into()),
        ..TrainSet::new("a.jsonl")
    });
    let found = (other.template.as_deref(), other.completion_field.as_deref());
    assert_eq!(found, (Some("{a}"), Some("c")));
    let learnt =
        config("train = [{path = 'a', train_on = 'last_answer'}]\ncompletion_only_loss = false");
    let sets = learnt.train.sets();
    assert_eq!(learnt.of_set(&sets[0]).learnt(), TrainOn::LastAnswer);
    assert_eq!(learnt.of_set(&TrainSet::new("b")).learnt(), TrainOn::All);
}
