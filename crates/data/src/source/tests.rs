use super::*;
use crate::source::part::Part;
use std::fs;

fn open(spec: &str, sample_by: SampleBy) -> Result<Source> {
    Source::open(spec, sample_by, &|_| Ok(None))
}

/// The wanted rows of a file with this content.
fn read(name: &str, content: &str, sample_by: SampleBy) -> Result<Vec<(usize, String)>> {
    let dir = tempfile::tempdir().unwrap();
    let (file, slice) = name
        .split_once('[')
        .map_or((name, ""), |(f, _)| (f, &name[f.len()..]));
    let path = dir.path().join(file);
    fs::write(&path, content).unwrap();
    let source = open(&format!("{}{slice}", path.display()), sample_by)?;
    let records = Part::default().records(&source, &ProgressBar::hidden())?;
    let rows = records.map(|record| source.parse(record?));
    rows.map(|row| row.map(|row| (row.number, row.columns["text"].as_str().unwrap().into())))
        .collect()
}

fn error(name: &str, content: impl AsRef<[u8]>) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    let read = || {
        open(path.to_str().unwrap(), SampleBy::Line)?
            .rows()?
            .collect::<Result<Vec<_>>>()
    };
    let error = read().unwrap_err().to_string();
    error.replace(&format!("{}/", dir.path().display()), "")
}

fn numbered(rows: &[(usize, &str)]) -> Vec<(usize, String)> {
    rows.iter()
        .map(|&(number, text)| (number, text.into()))
        .collect()
}

#[test]
fn reads_the_same_rows_from_every_kind() {
    for (name, content) in [
        (
            "a.jsonl",
            "{\"text\": \"one\", \"label\": 1}\n\n{\"text\": \"two, three\"}\n",
        ),
        (
            "a.json",
            "{\"text\": \"one\"}\n\n{\"text\": \"two, three\"}",
        ),
        (
            "a.csv",
            "\u{feff}label,text\r\n0,one\r\n1,\"two, three\"\r\n",
        ),
        ("a.tsv", "text\tlabel\none\t0\ntwo, three\t1\n"),
        ("a.txt", "one\r\n  \r\ntwo, three"),
        (
            "a.json",
            "[{\"text\": \"one\"}, {\"text\": \"two, three\"}]",
        ),
    ] {
        let rows = read(name, content, SampleBy::Line).unwrap();
        let texts: Vec<&str> = rows.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["one", "two, three"], "{name}");
    }
}

#[test]
fn numbers_rows_as_an_editor_does() {
    let content = "{\"text\": \"one\"}\n\n{\"text\": \"two\"}";
    let rows = read("a.jsonl[1:]", content, SampleBy::Line);
    assert_eq!(rows.unwrap(), numbered(&[(3, "two")]));
    let rows = read("a.csv", "text\n\"one\ntwo\"\nthree\n", SampleBy::Line).unwrap();
    assert_eq!(rows, numbered(&[(2, "one\ntwo"), (4, "three")]));
    let rows = read(
        "a.csv",
        "text\r\n\"one\r\ntwo\"\r\n\r\nthree\r\nfour",
        SampleBy::Line,
    );
    let expected = [(2, "one\r\ntwo"), (5, "three"), (6, "four")];
    assert_eq!(rows.unwrap(), numbered(&expected));
}

#[test]
fn text_by_paragraph_and_as_a_document() {
    let text = "a\nb\n\n\nc\n";
    let rows = read("a.txt", text, SampleBy::Paragraph).unwrap();
    assert_eq!(rows, numbered(&[(1, "a\nb"), (5, "c")]));
    let rows = read("a.txt", text, SampleBy::Document).unwrap();
    assert_eq!(rows, numbered(&[(1, text)]));
    let error = read("a.jsonl", "{\"text\": \"x\"}", SampleBy::Document).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("data.sample_by is for plain text"),
        "{error}"
    );
}

#[test]
fn bad_files_are_named_with_the_row() {
    assert_eq!(
        error("reviews.jsonl", "{\"text\": \"a\"}\nnot json\n"),
        "reviews.jsonl line 2 is not JSON: expected ident at column 2"
    );
    assert_eq!(
        error("a.jsonl", "[1]"),
        "a.jsonl line 1 is [1], and not a JSON object {…}"
    );
    assert_eq!(
        error("a.json", "[{}, 3]"),
        "a.json row 2 is 3, and not a JSON object {…}"
    );
    assert!(error("a.json", "[{\"text\": \"cut o").starts_with("a.json is not JSON: EOF"));
    for end in ["\n", "\r\n", "\n\n\n", "\r\n\r\n"] {
        let line = 1 + 2 * end.matches('\n').count();
        let csv = ["a,b", "1,2", "3", ""].join(end);
        assert_eq!(
            error("a.csv", csv),
            format!("a.csv is not CSV: line {line} has 1 values, and there are 2 columns")
        );
    }
    assert!(error("a.jsonl", b"{\"text\": \"\xff\"}").starts_with("a.jsonl is not UTF-8 text"));
    assert!(error("a.jsonl", b"{}\n\xff").ends_with("of line 2; save it as UTF-8"));
    assert!(error("a.csv", b"text\ncaf\xe9\n").ends_with("; save it as UTF-8"));
    assert!(error("a.json", b"[\"caf\xe9\"]").ends_with("; save it as UTF-8"));
    let long = format!("\"{}\"", "é".repeat(50));
    assert_eq!(
        error("a.jsonl", long),
        format!(
            "a.jsonl line 1 is \"{}…, and not a JSON object {{…}}",
            "é".repeat(39)
        )
    );
    assert!(error("a.parquet", "PAR1").starts_with("a.parquet is "));
    assert!(error("a.docx", "").starts_with("a.docx ends in \"docx\""));
}

#[test]
fn empty_files_have_no_rows() {
    for (name, content) in [
        ("a.jsonl", ""),
        ("a.jsonl", "\n\n"),
        ("a.json", "[]"),
        ("a.json", ""),
        ("a.csv", "text\n"),
        ("a.csv", ""),
        ("a.txt", " \n"),
    ] {
        assert_eq!(read(name, content, SampleBy::Line).unwrap(), [], "{name}");
    }
}

#[test]
fn several_files_are_one() {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["b.jsonl", "a.csv"].map(|name| dir.path().join(name));
    fs::write(&paths[0], "\n{\"text\": \"one\"}\n{\"text\": \"two\"}").unwrap();
    fs::write(&paths[1], "text\nthree\n").unwrap();
    let find = |name: &str| match name {
        "org/set:train" => Ok(Some(paths.to_vec())),
        _ => Err(format!("no {name}")),
    };
    let source = Source::open("org/set:train[1:]", SampleBy::Line, &find).unwrap();
    let rows: Vec<Row> = source.rows().unwrap().map(|row| row.unwrap()).collect();
    assert_eq!(
        rows.iter().map(|row| row.number).collect::<Vec<_>>(),
        [1, 2, 3]
    );
    assert_eq!(rows[2].columns["text"], "three");
    assert_eq!(source.place(3), "org/set:train row 3");
    let error = Source::open("org/other", SampleBy::Line, &find).unwrap_err();
    assert_eq!(error.to_string(), "no org/other");
}

#[test]
fn a_folder_is_asked_for_and_errors_name_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let (folder, file) = (dir.path().to_str().unwrap(), dir.path().join("train.jsonl"));
    fs::write(&file, "{\"text\": \"one\"}\n[2]").unwrap();
    let find = |name: &str| match name.strip_prefix(folder) {
        Some("" | ":train") => Ok(Some(vec![file.clone()])),
        _ => Err(format!("no {name}")),
    };
    for spec in ["", ":train", "[1:]", ":train[1:]"] {
        let source = Source::open(&format!("{folder}{spec}"), SampleBy::Line, &find).unwrap();
        assert_eq!(source.place(2), format!("{} line 2", file.display()));
        assert_eq!(source.slice().is_whole(), !spec.ends_with(']'));
    }
}

#[test]
fn missing_files_and_hub_ids_are_errors() {
    for spec in ["missing.jsonl", "stanfordnlp/imdb", "missing.jsonl[:5]"] {
        let error = open(spec, SampleBy::Line).unwrap_err().to_string();
        let path = spec.trim_end_matches("[:5]");
        assert!(
            error.starts_with(&format!("there is no data file {path};")),
            "{error}"
        );
        assert!(error.contains("Hub"), "{error}");
    }
}

#[test]
fn a_csv_column_is_there_once() {
    assert_eq!(
        error("a.csv", "text,label,text\none,1,two\n"),
        "a.csv has the column \"text\" twice; rename one of them"
    );
    // Columns without a name, as a spreadsheet leaves at its edge.
    let rows = read("a.csv", ",text,,\n0,one,,\n", SampleBy::Line).unwrap();
    assert_eq!(rows, numbered(&[(2, "one")]));
}

#[test]
fn json_may_be_one_object_or_several_over_many_lines() {
    let rows = numbered(&[(1, "one"), (2, "two")]);
    for (name, content) in [
        (
            "a.json",
            "{\n \"text\": \"one\"\n}\n{\n \"text\": \"two\"\n}\n",
        ),
        (
            "a.jsonl",
            "{\n \"text\": \"one\"\n}\n{\n \"text\": \"two\"\n}\n",
        ),
        ("a.jsonl", "[\n{\"text\": \"one\"},\n{\"text\": \"two\"}\n]"),
        (
            "a.json",
            "\u{feff}{\n\"train\": [\n{\"text\": \"one\"},\n{\"text\": \"two\"}\n]}",
        ),
        (
            "a.json",
            "{\"version\": \"1.0\", \"data\": [{\"text\": \"one\"}, {\"text\": \"two\"}]}",
        ),
        (
            "a.json",
            "{\"poems\": [{\"text\": \"one\"}, {\"text\": \"two\"}]}\n\n",
        ),
        ("a.json", "[{\"text\": \"one\"}, {\"text\": \"two\"}]"),
    ] {
        assert_eq!(
            read(name, content, SampleBy::Line).unwrap(),
            rows,
            "{content}"
        );
    }
    // A row that holds lists is still a row.
    let chat = "{\n\"messages\": [{\"role\": \"user\"}], \"text\": \"one\"\n}";
    assert_eq!(
        read("a.json", chat, SampleBy::Line).unwrap(),
        numbered(&[(1, "one")])
    );
    assert_eq!(
        error(
            "a.json",
            "{\n\"text\": \"one\"\n}\n{\n\"text\" \"two\"\n}\n"
        ),
        "a.json is not JSON: expected `:` at line 5 column 8"
    );
}

#[test]
fn of_several_lists_one_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.json");
    let content = "{\"train\": [{\"text\": \"one\"}, {\"text\": \"two\"}], \"test\": [{\"text\": \"three\"}]}";
    fs::write(&path, content).unwrap();
    let read = |list: &str| {
        let source = open(&format!("{}{list}", path.display()), SampleBy::Line)?;
        let records = Part::default().records(&source, &ProgressBar::hidden())?;
        let texts = records.map(|record| Ok(source.parse(record?)?.columns["text"].to_string()));
        texts.collect::<Result<Vec<_>>>()
    };
    assert_eq!(read(":test").unwrap(), ["\"three\""]);
    assert_eq!(read(":train[1:]").unwrap(), ["\"two\""]);
    let error = read("").unwrap_err().to_string();
    let lists =
        "a.json holds several lists of rows: `train` (2), `test` (1); name the one that is meant";
    assert!(
        error.contains(lists) && error.ends_with("a.json:train"),
        "{error}"
    );
    let error = read(":dev").unwrap_err().to_string();
    assert!(
        error.contains("holds no list `dev`; the lists of rows it holds are `train` (2)"),
        "{error}"
    );
}

#[test]
fn what_python_writes_beyond_json_is_read() {
    // json.dumps({"score": float("nan"), "low": -float("inf"), "text": "a \ud83d \\\" NaN"})
    let line = r#"{"score": NaN, "low": -Infinity, "text": "a \ud83d \\\" NaN"}"#;
    let text = "a \u{fffd} \\\" NaN";
    let rows = read("a.jsonl", line, SampleBy::Line).unwrap();
    assert_eq!(rows, numbered(&[(1, text)]));
    let rows = read("a.json", &format!("[{line}, {line}]"), SampleBy::Line).unwrap();
    assert_eq!(rows, numbered(&[(1, text), (2, text)]));
    // Whole pairs stay; halves in any order do not.
    let line = r#"{"text": "\ud83d\ude00 \ude00\ud83d \ud83d\ud83d\ude00"}"#;
    let rows = read("a.jsonl", line, SampleBy::Line).unwrap();
    assert_eq!(rows, numbered(&[(1, "😀 \u{fffd}\u{fffd} \u{fffd}😀")]));
    assert_eq!(
        error("a.jsonl", "{\"text\": Infinity, \"a\": nan}"),
        "a.jsonl line 1 is not JSON: expected ident at column 26"
    );
}

#[test]
fn what_is_no_text_is_named() {
    for name in ["a.jsonl", "a.json", "a.csv", "a.txt", "a.parquet"] {
        let error = error(
            name,
            "version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
        );
        assert!(
            error.starts_with(&format!("{name} is a Git LFS pointer")),
            "{error}"
        );
    }
    assert!(error("a.jsonl", b"\x1f\x8b\x08\0").starts_with("a.jsonl is compressed by gzip"));
    assert!(error("a.csv", b"\xff\xfet\0e\0").starts_with("a.csv is text in UTF-16"));
}

#[test]
fn a_row_of_jsonl_is_no_file_of_rows() {
    let row = "{\"id\": 1, \"turns\": [{\"text\": \"A\"}, {\"text\": \"B\"}]}";
    let over_lines = row.replace(", ", ",\n");
    let dir = tempfile::tempdir().unwrap();
    for (name, content, found) in [
        ("a.jsonl", row, 1),
        ("a.ndjson", row, 1),
        ("a.jsonl", &over_lines, 1),
        ("a.json", row, 2),
        ("a.json", &over_lines, 2),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, content).unwrap();
        let source = open(path.to_str().unwrap(), SampleBy::Line).unwrap();
        let rows: Vec<Row> = source.rows().unwrap().map(Result::unwrap).collect();
        assert_eq!(rows.len(), found, "{name} {content}");
    }
}

#[test]
fn an_empty_list_of_rows_is_none_of_another_name() {
    let lists = error("a.json", "{\"authors\": [{\"name\": \"x\"}], \"rows\": []}");
    assert!(
        lists.contains("holds several lists of rows: `authors` (1), `rows` (0); name the one"),
        "{lists}"
    );
    // Beside a list with a known key for rows, an empty one does not count as a choice.
    let content = "{\"train\": [{\"text\": \"one\"}], \"test\": []}";
    let rows = read("a.json", content, SampleBy::Line).unwrap();
    assert_eq!(rows, numbered(&[(1, "one")]));
    assert_eq!(
        read("a.json", "{\"data\": []}", SampleBy::Line).unwrap(),
        []
    );
    assert_eq!(
        error("a.json", "{\"data\": [\"a\"]}"),
        "a.json row 1 is \"a\", and not a JSON object {…}"
    );
}

#[test]
fn numbers_that_nothing_can_hold_are_null() {
    let digits = "9".repeat(400);
    let line = format!(
        r#"{{"a": 1e999, "b": -1E+400, "c": -NaN, "d": {digits}, "e": [-2.5, 3e2], "text": "1e999 -NaN"}}"#
    );
    let path = tempfile::tempdir().unwrap();
    for (name, content) in [("a.jsonl", line.clone()), ("a.json", format!("[{line}]"))] {
        let path = path.path().join(name);
        fs::write(&path, content).unwrap();
        let source = open(path.to_str().unwrap(), SampleBy::Line).unwrap();
        let row = source.rows().unwrap().next().unwrap().unwrap();
        let expected = serde_json::json!({
            "a": null, "b": null, "c": null, "d": null, "e": [-2.5, 300.0], "text": "1e999 -NaN"
        });
        assert_eq!(Value::from(row.columns), expected);
    }
}
