use crate::format::Row;
use crate::{DataConfig, Examples, LabelKind, Limits, Result, Rows, SampleBy, Shape, Source};
use crate::{labels_of, train_bpe};
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::data_type::{
    ByteArray, ByteArrayType, DataType, FixedLenByteArray, FixedLenByteArrayType, Int64Type,
};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;
use serde_json::{Value, json};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

type Group<'a> = SerializedRowGroupWriter<'a, File>;

fn column<T: DataType>(group: &mut Group<'_>, values: &[T::T]) {
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<T>().write_batch(values, None, None).unwrap();
    column.close().unwrap();
}

fn texts(group: &mut Group<'_>, texts: [&[u8]; 2]) {
    column::<ByteArrayType>(group, &texts.map(|text| ByteArray::from(text.to_vec())));
}

/// A file of two rows with these columns.
fn write(path: &Path, columns: &str, compression: Compression, fill: impl FnOnce(&mut Group<'_>)) {
    let schema = Arc::new(parse_message_type(&format!("message rows {{ {columns} }}")).unwrap());
    let properties = WriterProperties::builder().set_compression(compression);
    let file = File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties.build())).unwrap();
    let mut group = writer.next_row_group().unwrap();
    fill(&mut group);
    group.close().unwrap();
    writer.close().unwrap();
}

fn rows(path: &Path) -> Result<Vec<Value>> {
    let source = Source::open(path.to_str().unwrap(), SampleBy::Line, &|_| Ok(None))?;
    let rows = source.rows()?;
    rows.map(|row| Ok(Value::from(row?.columns))).collect()
}

fn load(path: &Path) -> Result<Examples> {
    let mut config = DataConfig::new(path.to_str().unwrap());
    config.cache_dir = Some(path.with_file_name("cache"));
    let tokenizer = train_bpe(["one two"], 300).unwrap();
    let limits = Limits {
        max_positions: 64,
        positions_key: "n_positions",
        vocab_size: tokenizer.vocab_size(),
        has_last_position: true,
        adapter_positions: 0,
    };
    Examples::load(
        &config.train.sets()[0].path,
        &config,
        Some(&tokenizer),
        limits,
    )
}

#[test]
fn reads_text_and_numbers_whatever_they_are_compressed_by() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    for compression in [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::ZSTD(ZstdLevel::default()),
        Compression::LZ4_RAW,
        Compression::LZ4,
    ] {
        let columns = "required binary text (UTF8); required int64 label;";
        write(&path, columns, compression, |group| {
            texts(group, [b"one", b"zwei, drei"]);
            column::<Int64Type>(group, &[3, 4]);
        });
        let expected = [
            json!({"text": "one", "label": 3}),
            json!({"text": "zwei, drei", "label": 4}),
        ];
        assert_eq!(rows(&path).unwrap(), expected, "{compression}");
    }
    std::fs::write(&path, "PAR1 and no more").unwrap();
    let error = rows(&path).unwrap_err().to_string();
    assert!(error.contains("is not a Parquet file"), "{error}");
}

#[test]
fn times_that_no_calendar_has_are_named_where_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let columns =
        "required int64 millis (TIMESTAMP_MILLIS); required int64 micros (TIMESTAMP_MICROS);";
    write(&path, columns, Compression::UNCOMPRESSED, |group| {
        column::<Int64Type>(group, &[86_400_000, i64::MAX]);
        column::<Int64Type>(group, &[i64::MIN, -1]);
    });
    // The way the `parquet` crate writes them.
    let expected = [
        json!({"millis": "1970-01-02 00:00:00.000 +00:00", "micros": {"a time out of range": i64::MIN}}),
        json!({"millis": {"a time out of range": i64::MAX}, "micros": "1969-12-31 23:59:59.999999 +00:00"}),
    ];
    assert_eq!(rows(&path).unwrap(), expected);
    let mut config = DataConfig::new("a.parquet");
    config.template = Some("{micros}".into());
    let shape = Shape::detect(expected[0].as_object().unwrap(), "a.parquet", &config).unwrap();
    let columns = expected[0].as_object().unwrap().clone();
    let error = shape.read(&Row { number: 1, columns }, "a.parquet row 1");
    assert_eq!(
        error.unwrap_err().to_string(),
        "a.parquet row 1 has a time out of range in `micros`, where text is expected"
    );
}

#[test]
fn nanoseconds_are_times_as_others_are() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let columns = "required int64 when (TIMESTAMP(NANOS,true)); required int64 local \
                   (TIMESTAMP(NANOS,false)); required int64 number;";
    write(&path, columns, Compression::UNCOMPRESSED, |group| {
        column::<Int64Type>(group, &[1_700_000_000_000_000_000, -1]);
        column::<Int64Type>(group, &[1, i64::MAX]);
        column::<Int64Type>(group, &[5, 6]);
    });
    // date -u -d @1700000000; 2262-04-11 is the day of pandas.Timestamp.max.
    let expected = [
        json!({
            "when": "2023-11-14 22:13:20.000000000 +00:00",
            "local": "1970-01-01 00:00:00.000000001 +00:00",
            "number": 5
        }),
        json!({
            "when": "1969-12-31 23:59:59.999999999 +00:00",
            "local": "2262-04-11 23:47:16.854775807 +00:00",
            "number": 6
        }),
    ];
    assert_eq!(rows(&path).unwrap(), expected);
}

#[test]
fn two_columns_of_one_name_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let columns = "required binary text (UTF8); required binary text (UTF8);";
    write(&path, columns, Compression::UNCOMPRESSED, |group| {
        texts(group, [b"one", b"two"]);
        texts(group, [b"three", b"four"]);
    });
    for error in [rows(&path).unwrap_err(), load(&path).unwrap_err()] {
        let error = error.to_string();
        assert!(
            error.ends_with("a.parquet has the column \"text\" twice; rename one of them"),
            "{error}"
        );
    }
}

#[test]
fn a_file_without_rows_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let columns = "required binary text (UTF8);";
    write(&path, columns, Compression::UNCOMPRESSED, |group| {
        column::<ByteArrayType>(group, &[]);
    });
    let error = load(&path).unwrap_err().to_string();
    assert!(
        error.ends_with("has no usable row: it has no rows"),
        "{error}"
    );
}

#[test]
fn bytes_are_text_where_they_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    for (second, is_text) in [(&b"zw\xc3\xb6lf"[..], true), (b"\xff\xd8\xff", false)] {
        write(
            &path,
            "required binary text;",
            Compression::UNCOMPRESSED,
            |group| {
                texts(group, [b"one", second]);
            },
        );
        if is_text {
            assert_eq!(rows(&path).unwrap()[1], json!({"text": "zw\u{f6}lf"}));
        } else {
            let error = load(&path).unwrap_err().to_string();
            let words = "row 2 has bytes that are not UTF-8 in `text`, where text is expected";
            assert!(error.ends_with(words), "{error}");
        }
    }
}

#[test]
fn columns_that_nobody_reads_may_hold_anything() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let columns = "required binary text (UTF8); required binary broken (UTF8); \
                   required fixed_len_byte_array(12) span (INTERVAL);";
    write(&path, columns, Compression::UNCOMPRESSED, |group| {
        texts(group, [b"one", b"two"]);
        texts(group, [b"\xff", b"\xff"]);
        let span = FixedLenByteArray::from(vec![0; 12]);
        column::<FixedLenByteArrayType>(group, &[span.clone(), span]);
    });
    assert!(rows(&path).is_err(), "the column is read");
    assert_eq!(load(&path).unwrap().len(), 2);
}

#[test]
fn a_spoiled_byte_is_an_error_or_another_value_and_never_a_panic() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpus");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    for file in ["plain.parquet", "gzip.parquet"] {
        let whole = std::fs::read(Path::new(corpus).join(file)).unwrap();
        for at in 0..whole.len() {
            for bits in [0x01, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= bits;
                std::fs::write(&path, bytes).unwrap();
                let _ = rows(&path);
            }
        }
    }
}

#[test]
fn a_page_that_claims_far_more_than_its_bytes_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let long = "one two ".repeat(300_000);
    write(
        &path,
        "required binary text (UTF8);",
        Compression::SNAPPY,
        |group| {
            texts(group, [long.as_bytes(), b"one"]);
        },
    );
    assert_eq!(rows(&path).unwrap()[0]["text"], long.as_str());
    let mut bytes = std::fs::read(&path).unwrap();
    // The header of the first page: its kind, and its size in four bytes, which becomes 128 MiB.
    assert_eq!((bytes[4], bytes[6], bytes[10] < 0x80), (0x15, 0x15, true));
    bytes[7..11].copy_from_slice(&[0xfe, 0xff, 0xff, 0x7f]);
    std::fs::write(&path, bytes).unwrap();
    let error = rows(&path).unwrap_err().to_string();
    assert!(
        error.contains("a page of `\"text\"`") && error.contains("claims to hold 134217727"),
        "{error}"
    );
}

/// Columns of any name; the labels are a list of texts.
#[test]
fn labels_may_be_lists() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    let columns = "required binary said (UTF8); \
                   required group kinds (LIST) { repeated group list { required binary element (UTF8); } }";
    write(&path, columns, Compression::SNAPPY, |group| {
        texts(group, [b"one", b"two"]);
        let mut column = group.next_column().unwrap().unwrap();
        let values = ["a", "b", "b"].map(|text| ByteArray::from(text.as_bytes().to_vec()));
        let column_writer = column.typed::<ByteArrayType>();
        let written = column_writer.write_batch(&values, Some(&[1, 1, 1]), Some(&[0, 1, 0]));
        written.unwrap();
        column.close().unwrap();
    });
    let mut config = DataConfig::new(path.to_str().unwrap());
    config.text_field = Some("said".into());
    config.label_field = Some("kinds".into());
    config.cache_dir = Some(dir.path().join("cache"));
    let (names, kind) = labels_of(Rows::Labelled, &config, &|_| Ok(None)).unwrap();
    assert_eq!(
        (names, kind),
        (vec!["a".into(), "b".into()], LabelKind::Several)
    );
}
