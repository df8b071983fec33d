//! Parquet files, where the crate is built with the feature `parquet`.

use crate::error::{DataError, Result};
use crate::source::Records;
use indicatif::ProgressBar;
use std::fs::File;

/// The rows of a file; `name` is how errors call it.
#[cfg(not(feature = "parquet"))]
pub(crate) fn records<'a>(name: &str, _: File, _: ProgressBar) -> Result<Records<'a>> {
    Err(DataError::File {
        file: name.into(),
        problem: "is Parquet, which this peft was built without: build it with \
                  `--features parquet`, or write the rows as .jsonl"
            .into(),
    })
}

/// The rows of a file; `name` is how errors call it.
#[cfg(feature = "parquet")]
pub(crate) fn records<'a>(name: &str, file: File, bar: ProgressBar) -> Result<Records<'a>> {
    use crate::source::Record;
    use parquet::errors::ParquetError;
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::reader::RowIter;
    use serde_json::Value;

    let name = name.to_owned();
    let bad = move |error: ParquetError| DataError::File {
        file: name.clone(),
        problem: format!("is no Parquet file that can be read: {error}"),
    };
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let reader = SerializedFileReader::new(file).map_err(&bad)?;
    let rows = reader.metadata().file_metadata().num_rows().max(1) as u64;
    let before = bar.position();
    let iter = RowIter::from_file_into(Box::new(reader));
    Ok(Box::new((1..).zip(iter).map(move |(number, row)| {
        let row = row.map_err(&bad)?;
        bar.set_position(before + bytes * number as u64 / rows);
        match row.to_json_value() {
            Value::Object(columns) => Ok(Record::columns(number, columns)),
            _ => Err(bad(ParquetError::General(format!(
                "row {number} has no columns"
            )))),
        }
    })))
}

#[cfg(all(test, feature = "parquet"))]
mod tests {
    use super::*;
    use crate::{SampleBy, Source};
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    use parquet::file::properties::WriterProperties;
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;
    use std::sync::Arc;

    #[test]
    fn reads_text_and_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.parquet");
        let schema = "message rows { required binary text (UTF8); required int64 label; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let properties = Arc::new(WriterProperties::builder().build());
        let file = File::create(&path).unwrap();
        let mut writer = SerializedFileWriter::new(file, schema, properties).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let texts = ["one", "zwei, drei"].map(ByteArray::from);
        let written = column
            .typed::<ByteArrayType>()
            .write_batch(&texts, None, None);
        written.unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let written = column.typed::<Int64Type>().write_batch(&[3, 4], None, None);
        written.unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();

        let name = path.to_str().unwrap();
        let source = Source::open(name, SampleBy::Line, &|_| Ok(None)).unwrap();
        let rows: Vec<_> = source.rows().unwrap().map(|row| row.unwrap()).collect();
        assert_eq!(rows[1].number, 2);
        let expected = serde_json::json!({"text": "zwei, drei", "label": 4});
        assert_eq!(serde_json::Value::from(rows[1].columns.clone()), expected);
        assert!(source.place(2).ends_with("a.parquet row 2"));

        std::fs::write(&path, "PAR1 and no more").unwrap();
        let error = source.rows().err().unwrap().to_string();
        assert!(error.contains("is no Parquet file"), "{error}");
    }
}
