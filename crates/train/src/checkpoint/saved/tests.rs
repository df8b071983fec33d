use super::*;

pub(crate) fn saved(config: &str) -> Saved {
    Saved {
        saved_at: 1,
        total_steps: 40,
        base: Some("abc".into()),
        objective: None,
        model: Some(r#"{"n_head": 2, "eos_token_id": 1}"#.into()),
        state: TrainState::default(),
        data: DataIdentity {
            examples: 3,
            tokens: 9,
            hash: Some("123".into()),
        },
        config: config.parse().unwrap(),
        files: BTreeMap::new(),
    }
}

const CONFIG: &str = "model = 'm'\n[data]\ntrain = 'a'\n[training]\noutput_dir = 'o'\n";

#[test]
fn floats_read_back_bit_for_bit() {
    let mut state = saved(CONFIG);
    let mut value = 0.1_f64;
    for i in 0..2000 {
        value = (value * 1.618_033_988_749_895).fract() + 1e-9 / f64::from(i + 1);
        state.state.total_loss = value * 10_f64.powi(i % 40 - 20);
        let read: Saved = toml::from_str(&state.to_toml().unwrap()).unwrap();
        assert_eq!(read, state);
    }
}

#[test]
fn a_difference_that_matters_is_named_and_others_are_not() {
    let then = saved(CONFIG);
    let difference = |now: &Saved| then.difference(now).map(|problem| problem.to_string());
    let with = |line: &str| difference(&saved(&format!("{CONFIG}{line}")));
    for fine in [
        "",
        "learning_rate = 5e-5",
        "max_steps = 80",
        "save_steps = 3",
        "eval_strategy = 'steps'",
        "logging_steps = 1",
    ] {
        assert_eq!(with(fine), None, "{fine}");
    }
    let problem = with("learning_rate = 0.5").unwrap();
    assert!(
        problem.contains("its run had training.learning_rate = 0.00005, this one has 0.5"),
        "{problem}"
    );
    assert!(with("seed = 1").unwrap().contains("training.seed"));
    let other = CONFIG.replace("'a'", "'a'\nmax_length = 7");
    let problem = difference(&saved(&other)).unwrap();
    assert!(
        problem.contains("data.max_length = nothing, this one has 7"),
        "{problem}"
    );

    // As earlier versions wrote it, and in TRL's words.
    let before = saved(&CONFIG.replace("'a'", "'a'\ncompletion_only_loss = true"));
    assert_eq!(difference(&before), None);
    let all = ["completion_only_loss = false", "train_on = 'all'"];
    let [trl, ours] = all.map(|key| saved(&CONFIG.replace("'a'", &format!("'a'\n{key}"))));
    assert_eq!(trl.difference(&ours), None);
    assert!(
        difference(&ours)
            .unwrap()
            .contains("data.train_on = \"answers\"")
    );

    // Stating the default changes nothing.
    let table = |table: &str| saved(&format!("{CONFIG}[distributed]\n{table}"));
    assert_eq!(difference(&table("sync = 'step'")), None);
    let local = table("local_steps = 5");
    let said = table("local_steps = 5\nouter_lr = 0.8\nouter_momentum = 0.4");
    assert_eq!(local.difference(&said), None);
    let other = local.difference(&table("local_steps = 5\nouter_lr = 0.7"));
    let other = other.unwrap().to_string();
    assert!(
        other.contains("distributed.outer_lr = 0.8, this one has 0.7"),
        "{other}"
    );

    let mut base = saved(CONFIG);
    base.base = Some("def".into());
    let problem = difference(&base).unwrap();
    assert!(
        problem.contains("abc") && problem.contains("def"),
        "{problem}"
    );
    let mut model = saved(CONFIG);
    model.model = Some(r#"{"n_head": 4, "eos_token_id": 1}"#.into());
    let problem = difference(&model).unwrap();
    let named = "its model's config.json had n_head = 2, this run's has 4";
    assert!(problem.starts_with(named), "{problem}");
    for same in [Some(r#"{"n_head": 2, "eos_token_id": 3}"#.into()), None] {
        model.model = same;
        assert_eq!(difference(&model), None);
    }
    let mut data = saved(CONFIG);
    data.data.examples = 4;
    assert!(difference(&data).unwrap().contains("3 examples"));
    let mut rows = saved(CONFIG);
    rows.data.hash = Some("456".into());
    assert_eq!(
        difference(&rows).unwrap(),
        "its run had other rows to train on, with as many tokens, or the same rows in \
         another order (BLAKE3 123, this run's 456); give it the same data, or start over \
         without --resume"
    );
    // Written before there was a hash.
    rows.data.hash = None;
    assert_eq!(difference(&rows), None);
}

#[test]
fn of_several_sets_the_key_that_differs_is_named() {
    let with = |train: &str, validation: &str| {
        let data = format!("train = {train}\nvalidation = {validation}");
        saved(&CONFIG.replace("train = 'a'", &data))
    };
    let then = with("['a', {path = 'b', weight = 2}]", "['c']");
    let difference = |train, validation| {
        let problem = then.difference(&with(train, validation));
        problem
            .map(|problem| problem.to_string())
            .unwrap_or_default()
    };
    let same = "[{path = 'a'}, {path = 'b', weight = 2.0}]";
    assert_eq!(difference(same, "['d', {path = 'e', template = 'x'}]"), "");
    for (train, named) in [
        (
            "['a', {path = 'b', weight = 3}]",
            "data.train[1].weight = 2.0, this one has 3.0",
        ),
        (
            "['a', 'b']",
            "data.train[1].weight = 2.0, this one has nothing",
        ),
        (
            "[{path = 'b', weight = 2}, 'a']",
            "data.train[0].path = \"a\", this one has \"b\"",
        ),
        ("'a'", "data.train[0].path = \"a\", this one has nothing"),
    ] {
        let said = difference(train, "['c']");
        assert!(said.contains(named), "{said}");
    }
}

#[test]
fn another_last_step_is_told_with_the_key_that_makes_it() {
    let then = saved(&format!("{CONFIG}max_steps = 40"));
    let mut now = saved(&format!("{CONFIG}max_steps = 300"));
    let told = |now: &Saved| then.other_length(now, Path::new("out/checkpoint-5"));
    assert_eq!(told(&now), None, "the steps are the same");
    now.total_steps = 300;
    assert_eq!(
        told(&now).unwrap(),
        "out/checkpoint-5 is of a run of 40 steps, and this one continues to step 300 \
         (training.max_steps was 40 and is 300): from here on the learning rate is that of a \
         run of 300 steps"
    );
}

#[test]
fn a_state_that_lost_lines_or_was_changed_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let text = saved(CONFIG).to_toml().unwrap();
    let read = |text: &str| {
        std::fs::write(dir.path().join(STATE_NAME), text).unwrap();
        Saved::read(dir.path())
    };
    assert_eq!(read(&text).unwrap(), saved(CONFIG));
    // With whole lines missing, it is still TOML.
    for (end, _) in text.match_indices('\n').skip(1) {
        if end + 1 < text.len() {
            assert!(read(&text[..end]).is_err(), "{}", &text[..end]);
        }
    }
    assert!(read(&text.replace("total_steps = 40", "total_steps = 41")).is_err());
}
