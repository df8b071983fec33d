use super::*;
use crate::testing::LIMITS;
use crate::tokenizer::bpe::tiny;
use crate::train_set::TrainSets;
use crate::{Batch, Sampler};
use std::path::Path;

/// A folder with `a.jsonl` of 12 texts, `b.csv` of 6 questions, and `c.jsonl` of 3 texts.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = |name: &str, rows: usize| {
        let rows = (0..rows).map(|row| format!("{{\"text\": \"{name} {row}\"}}\n"));
        let path = dir.path().join(format!("{name}.jsonl"));
        std::fs::write(path, rows.collect::<String>()).unwrap();
    };
    text("a", 12);
    text("c", 3);
    let rows = (0..6).map(|row| format!("q{row},yes {row}\n"));
    let rows = format!("question,answer\n{}", rows.collect::<String>());
    std::fs::write(dir.path().join("b.csv"), rows).unwrap();
    dir
}

/// The `[data]` table; `DIR/` in it is the folder.
fn table(dir: &Path, text: &str) -> DataConfig {
    let text = text.replace("DIR", dir.to_str().unwrap());
    let mut config: DataConfig = toml::from_str(&text).unwrap();
    config.cache_dir = Some(dir.join("cache"));
    config
}

fn load(dir: &Path, text: &str) -> Result<DataSet> {
    DataSet::load(&table(dir, text), Some(&tiny()), LIMITS, 42)
}

const B: &str = "{path = 'DIR/b.csv', template = '{question}:', completion_field = 'answer'}";

/// The text of each example of a batch.
fn texts(batch: &Batch) -> Vec<String> {
    let text = |span: &std::ops::Range<usize>| {
        let ids = batch.input_ids[span.clone()].iter().map(|&id| id as u32);
        tiny().decode(&ids.collect::<Vec<_>>()).unwrap()
    };
    batch.spans.iter().map(text).collect()
}

fn all_texts(examples: &Examples) -> Vec<String> {
    let all: Vec<usize> = (0..examples.sequences()).collect();
    texts(&examples.batch(&all))
}

#[test]
fn without_weights_every_row_of_every_set_comes_once() {
    let dir = folder();
    let list = format!("train = ['DIR/a.jsonl', {B}, 'DIR/c.jsonl']");
    let data = load(dir.path(), &list).unwrap().train;
    assert_eq!((data.len(), data.sequences_per_epoch()), (21, 21));
    assert!(data.mixture().is_none() && data.sets().len() == 3);
    let found = all_texts(&data);
    assert_eq!(found[0], "a 0<|endoftext|>");
    assert_eq!(found[12], "q0:yes 0<|endoftext|>");
    assert_eq!(found[20], "c 2<|endoftext|>");
    // As each is alone.
    let alone = ["'DIR/a.jsonl'", B, "'DIR/c.jsonl'"];
    let alone = alone.map(|set| load(dir.path(), &format!("train = [{set}]")).unwrap().train);
    let count = |count: fn(&Examples) -> usize| alone.iter().map(count).sum::<usize>();
    assert_eq!(data.tokens(), count(Examples::tokens));
    assert_eq!(data.supervised(), count(Examples::supervised));
    let batch = data.batch(&[13, 2]);
    assert_eq!(
        (&batch.sets[..], &batch.rows[..]),
        (&[1, 0][..], &[3, 3][..])
    );
    let one = Batch {
        sets: vec![0],
        ..data.batch(&[13])
    };
    assert_eq!(one, alone[1].batch(&[1]));
    let mut spread = data.spread();
    assert!(spread[..7].iter().any(|i| (12..18).contains(i)) && spread[..7].contains(&18));
    spread.sort_unstable();
    assert_eq!(spread, (0..21).collect::<Vec<_>>());
}

#[test]
fn one_set_is_the_same_as_a_list_of_one() {
    let dir = folder();
    let one = load(dir.path(), "train = 'DIR/a.jsonl[:5]'").unwrap().train;
    for list in [
        "['DIR/a.jsonl[:5]']",
        "[{path = 'DIR/a.jsonl', split = 'train[:5]', weight = 3}]",
    ] {
        let list = load(dir.path(), &format!("train = {list}")).unwrap().train;
        assert_eq!(list.hash(), one.hash());
        assert_eq!(
            (list.cache_file, list.file),
            (one.cache_file.clone(), one.file.clone())
        );
    }
    assert_eq!(one.len(), 5);
}

#[test]
fn weights_say_how_many_rows_of_each_an_epoch_has() {
    let dir = folder();
    let mixed = |strategy: &str| {
        let b = format!("{}, weight = 1}}", B.trim_end_matches('}'));
        let text = format!("train = [{{path = 'DIR/a.jsonl', weight = 2}}, {b}]\n{strategy}");
        load(dir.path(), &text).unwrap().train
    };
    let first = mixed("");
    let all = mixed("stopping_strategy = 'all_exhausted'");
    let per_epoch = |data: &Examples| data.mixture().unwrap().per_epoch().collect::<Vec<_>>();
    // Twelve rows for six of half the weight: both end at once.
    assert_eq!(
        (per_epoch(&first), per_epoch(&all)),
        (vec![12, 6], vec![12, 6])
    );

    let weights = |a, c, strategy: &str| {
        let set = |name, weight| format!("{{path = 'DIR/{name}.jsonl', weight = {weight}}}");
        let text = format!("train = [{}, {}]\n{strategy}", set("a", a), set("c", c));
        load(dir.path(), &text).unwrap().train
    };
    let all = weights(1, 1, "stopping_strategy = 'all_exhausted'");
    assert_eq!(
        (per_epoch(&all), all.sequences_per_epoch()),
        (vec![12, 12], 24)
    );
    let sampler = Sampler::new(all.sequences(), 4, 7, true).unwrap();
    let sampler = sampler.mixed(all.mixture().unwrap().clone());
    assert_eq!(
        (sampler.batches_per_epoch(), sampler.examples_per_epoch()),
        (6, 24)
    );
    for batch in sampler.batches(3) {
        let texts = texts(&all.batch(&batch));
        let of_c = texts.iter().filter(|text| text.starts_with('c')).count();
        assert_eq!(of_c, 2, "{texts:?}");
    }
    let rest: Vec<_> = sampler.batches_from(3, 4).collect();
    assert_eq!(rest, sampler.batches(3).collect::<Vec<_>>()[4..]);
    let grouped = sampler.clone().group_by_length(all.lengths());
    let sorted = |sampler: &Sampler| {
        let mut order = sampler.order(3);
        order.sort_unstable();
        order
    };
    assert_eq!(sorted(&grouped), sorted(&sampler));

    // Other weights are other data, though the rows are the same.
    assert_ne!(weights(1, 2, "").hash(), weights(1, 3, "").hash());
    assert_eq!(weights(1, 2, "").hash(), weights(2, 4, "").hash());
    let tokens = all.tokens_per_epoch();
    let drawn: usize = sampler
        .batches(0)
        .map(|batch| all.batch(&batch).tokens())
        .sum();
    assert_eq!(tokens, drawn);
    assert!(all.select(&[0, 3]).mixture().is_none());
}

#[test]
fn sets_with_weights_are_packed_apart() {
    let dir = folder();
    let text = "train = [{path = 'DIR/a.jsonl', weight = 1}, 'DIR/c.jsonl']\npacking = true";
    let data = load(dir.path(), text).unwrap().train;
    for sequence in 0..data.sequences() {
        let texts = texts(&data.batch(&[sequence]));
        let first = texts[0].chars().next().unwrap();
        assert!(texts.iter().all(|text| text.starts_with(first)));
    }
    assert_eq!(data.len(), 15);
    assert!(data.sequences() < 12, "{}", data.sequences());
    let plain = text.replace(", weight = 1", "");
    let plain = load(dir.path(), &plain).unwrap().train;
    assert_eq!((plain.len(), plain.tokens()), (15, data.tokens()));
    assert!(plain.sequences() <= data.sequences() && plain.mixture().is_none());
    assert_eq!(plain.spread().len(), plain.sequences());
}

#[test]
fn rows_are_held_back_from_each_set_in_proportion() {
    let dir = folder();
    let list = format!("train = ['DIR/a.jsonl', {B}, 'DIR/c.jsonl']");
    let data = load(dir.path(), &format!("{list}\nvalidation_split = 7")).unwrap();
    let (train, held) = (all_texts(&data.train), data.validation.unwrap());
    let held = all_texts(&held);
    let of = |texts: &[String], name: char| texts.iter().filter(|t| t.starts_with(name)).count();
    assert_eq!(['a', 'q', 'c'].map(|name| of(&held, name)), [4, 2, 1]);
    assert_eq!(['a', 'q', 'c'].map(|name| of(&train, name)), [8, 4, 2]);
    assert!(held.iter().all(|text| !train.contains(text)));

    let data = load(dir.path(), &format!("{list}\nmax_samples = 7"))
        .unwrap()
        .train;
    let texts = all_texts(&data);
    assert_eq!(['a', 'q', 'c'].map(|name| of(&texts, name)), [4, 2, 1]);
    assert_eq!(
        data.left_out,
        ["no more than 7 rows are read of all: data.max_samples = 7"]
    );
    assert!(data.sets().iter().all(|set| set.left_out.is_empty()));
}

#[test]
fn the_rows_for_validation_of_every_folder_are_found() {
    let dir = folder();
    for name in ["one", "two"] {
        let folder = dir.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        for split in ["train", "valid"] {
            let row = format!("{{\"text\": \"{name} {split}\"}}\n");
            std::fs::write(folder.join(format!("{split}.jsonl")), row).unwrap();
        }
    }
    let find = |name: &str| {
        let (folder, split) = name.rsplit_once(':').unwrap_or((name, "train"));
        let split = split.replace("validation", "valid");
        Ok(Some(vec![Path::new(folder).join(format!("{split}.jsonl"))]))
    };
    let config = table(dir.path(), "train = ['DIR/one', 'DIR/a.jsonl', 'DIR/two']");
    assert!(DataSet::has_validation(&config, &find));
    let data = DataSet::load_with(&config, Some(&tiny()), LIMITS, 1, &find, &Lm).unwrap();
    assert_eq!(data.train.len(), 14);
    let held = all_texts(&data.validation.unwrap());
    assert_eq!(held, ["one valid<|endoftext|>", "two valid<|endoftext|>"]);
}

#[test]
fn an_error_of_a_set_names_its_entry_or_its_file() {
    let dir = folder();
    let error = |text: &str| load(dir.path(), text).unwrap_err().to_string();
    let said = error("train = ['DIR/a.jsonl', {path = 'DIR/b.csv', template = '{x}'}]");
    assert!(
        said.starts_with("data.train[1].template asks for {x}, but "),
        "{said}"
    );
    let said = error("train = ['DIR/a.jsonl', 'DIR/b.csv']\ntext_field = 'text'");
    assert!(said.starts_with("data.text_field is \"text\", but ") && said.contains("b.csv"));
    let said = error("train = ['DIR/a.jsonl', 'DIR/none.jsonl']");
    assert!(
        said.contains("there is no data file") && said.contains("none.jsonl"),
        "{said}"
    );
    let said = error(
        "train = [{path = 'DIR/a.jsonl', weight = 1e-12}, 'DIR/c.jsonl']\n\
         stopping_strategy = 'all_exhausted'",
    );
    assert!(said.contains("for sets of 12, 3 rows"), "{said}");
    let empty = DataConfig {
        train: TrainSets::Several(Vec::new()),
        ..DataConfig::new("")
    };
    let said = DataSet::load(&empty, None, LIMITS, 1)
        .unwrap_err()
        .to_string();
    assert_eq!(said, "data.train is an empty list; name a file, or several");
}
