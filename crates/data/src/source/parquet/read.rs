//! The rows of Parquet files, with the wanted columns only.

use super::pages;
use crate::error::{DataError, FileProblem, Result};
use crate::format::{no_text, no_time};
use crate::source::{Record, Records};
use burn_peft_files::foreign;
use chrono::{DateTime, Utc};
use indicatif::ProgressBar;
use parquet::basic::{ConvertedType, LogicalType, Repetition, TimeUnit, Type as Physical};
use parquet::errors::ParquetError;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::reader::RowIter;
use parquet::record::{Field, Row};
use parquet::schema::types::{Type, TypePtr};
use serde_json::{Map, Number, Value, json};
use std::collections::HashSet;
use std::fs::File;
use std::io::Read;

/// The rows of a file; `name` is the file's name in errors. Only the named columns are read: the
/// others may be of kinds, or hold values, that this crate cannot read.
pub(crate) fn records<'a>(
    name: &str,
    file: File,
    bar: ProgressBar,
    columns: Option<&[String]>,
) -> Result<Records<'a>> {
    let bytes = file.metadata().map_or(0, |metadata| metadata.len());
    let heads = file.try_clone();
    let reader = open(name, file)?;
    let name = name.to_owned();
    let bad = move |error: ParquetError| unreadable(&name, &error);
    let metadata = reader.metadata().file_metadata();
    let rows = metadata.num_rows().max(1) as u64;
    let wanted = |column: &&TypePtr| {
        let is_named = |columns: &[String]| columns.iter().any(|name| name == column.name());
        can_be_read(column) && columns.is_none_or(is_named)
    };
    guarded(|| {
        let heads = heads?;
        let groups = reader.metadata().row_groups().iter();
        let chunks = groups.flat_map(|group| group.columns());
        let is_read = |chunk: &&ColumnChunkMetaData| {
            let top = chunk.column_path().parts().first();
            let named = |columns: &[String]| columns.iter().any(|name| Some(name) == top);
            columns.is_none_or(named)
        };
        chunks
            .filter(is_read)
            .try_for_each(|chunk| pages::check(&heads, chunk))
    })
    .map_err(&bad)?;
    let schema = metadata.schema();
    let nanos = schema.get_fields().iter().filter(|column| is_nanos(column));
    let nanos: Vec<String> = nanos.map(|column| column.name().into()).collect();
    let fields = schema.get_fields().iter().filter(wanted).cloned().collect();
    let wanted = Type::group_type_builder(schema.name()).with_fields(fields);
    let wanted = wanted.build().map_err(&bad)?;
    let before = bar.position();
    let iter = RowIter::from_file_into(Box::new(reader));
    let mut iter = Some(guarded(|| iter.project(Some(wanted))).map_err(&bad)?);
    let columns = std::iter::from_fn(move || {
        let rows = iter.as_mut()?;
        let row = guarded(|| rows.next().map(|row| Ok(timed(&row?, &nanos))).transpose());
        if row.is_err() {
            iter = None;
        }
        row.transpose()
    });
    Ok(Box::new((1..).zip(columns).map(
        move |(number, columns)| {
            bar.set_position(before + bytes * number as u64 / rows);
            Ok(Record::columns(number, columns.map_err(&bad)?))
        },
    )))
}

/// The columns of a file, each with a value of its kind.
pub(crate) fn schema(name: &str, file: File) -> Result<Map<String, Value>> {
    let reader = open(name, file)?;
    let fields = reader.metadata().file_metadata().schema().get_fields();
    let fields = fields.iter().filter(|column| can_be_read(column));
    Ok(fields
        .map(|f| (f.name().into(), value_of_kind(f)))
        .collect())
}

fn open(name: &str, mut file: File) -> Result<SerializedFileReader<File>> {
    let mut first = [0; 64];
    let read = file.read(&mut first).unwrap_or(0);
    if let Some(problem) = foreign(&first[..read]) {
        return Err(DataError::file(name, problem));
    }
    let reader =
        guarded(|| SerializedFileReader::new(file)).map_err(|error| unreadable(name, &error))?;
    let columns = reader.metadata().file_metadata().schema().get_fields();
    let mut names = HashSet::new();
    match columns.iter().find(|column| !names.insert(column.name())) {
        Some(twice) => {
            let problem = FileProblem::ColumnTwice(twice.name().into());
            Err(DataError::file(name, problem))
        }
        None => Ok(reader),
    }
}

/// Turns a panic into an error: the `parquet` crate panics on some files that contradict
/// themselves.
fn guarded<T>(
    read: impl FnOnce() -> std::result::Result<T, ParquetError>,
) -> std::result::Result<T, ParquetError> {
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
    result.unwrap_or_else(|_| Err(ParquetError::General("it contradicts itself".into())))
}

fn unreadable(name: &str, error: &ParquetError) -> DataError {
    DataError::file(name, FileProblem::Parquet(error.to_string()))
}

/// The `parquet` crate panics on intervals of time.
fn can_be_read(column: &TypePtr) -> bool {
    match column.as_ref() {
        Type::GroupType { fields, .. } => fields.iter().all(can_be_read),
        Type::PrimitiveType { basic_info, .. } => {
            basic_info.converted_type() != ConvertedType::INTERVAL
        }
    }
}

fn value_of_kind(column: &Type) -> Value {
    let basic = column.get_basic_info();
    match (basic.converted_type(), column.is_group()) {
        (ConvertedType::LIST, _) => json!([null]),
        _ if basic.has_repetition() && basic.repetition() == Repetition::REPEATED => json!([null]),
        (_, true) => json!({"": null}),
        _ if column.is_primitive() => match column.get_physical_type() {
            Physical::BOOLEAN => true.into(),
            Physical::BYTE_ARRAY => "text".into(),
            _ => 1.into(),
        },
        _ => Value::Null,
    }
}

/// Whether a column holds nanoseconds since 1970, which the `parquet` crate gives as plain numbers.
fn is_nanos(column: &TypePtr) -> bool {
    let basic = column.get_basic_info();
    let time = basic.logical_type_ref();
    matches!(time, Some(LogicalType::Timestamp(time)) if time.unit == TimeUnit::NANOS)
}

/// The columns of a row; those in `nanos` are times.
fn timed(row: &Row, nanos: &[String]) -> Map<String, Value> {
    let columns = row.get_column_iter();
    let columns = columns.map(|(name, field)| match field {
        Field::Long(time) if nanos.contains(name) => {
            let time = DateTime::from_timestamp_nanos(*time);
            (
                name.clone(),
                time.format("%Y-%m-%d %H:%M:%S%.9f %:z").to_string().into(),
            )
        }
        field => (name.clone(), value(field)),
    });
    columns.collect()
}

fn object(row: &Row) -> Map<String, Value> {
    let columns = row.get_column_iter();
    columns
        .map(|(name, field)| (name.clone(), value(field)))
        .collect()
}

/// A value as JSON: a time as text, unless it is outside of any calendar; bytes as text if they are
/// valid text, since some writers have no text type.
fn value(field: &Field) -> Value {
    let time = |time: Option<DateTime<Utc>>, units, format| match time {
        Some(time) => time.format(format).to_string().into(),
        None => no_time(units),
    };
    let float = |number| Number::from_f64(number).map_or(Value::Null, Value::Number);
    match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Byte(number) => (*number).into(),
        Field::Short(number) => (*number).into(),
        Field::Int(number) => (*number).into(),
        Field::Long(number) => (*number).into(),
        Field::UByte(number) => (*number).into(),
        Field::UShort(number) => (*number).into(),
        Field::UInt(number) => (*number).into(),
        Field::ULong(number) => (*number).into(),
        Field::Float16(number) => float(f64::from(*number)),
        Field::Float(number) => float(f64::from(*number)),
        Field::Double(number) => float(*number),
        Field::Str(text) => text.clone().into(),
        Field::Bytes(bytes) => match str::from_utf8(bytes.data()) {
            Ok(text) => text.into(),
            Err(_) => no_text(bytes.len()),
        },
        Field::Decimal(_) | Field::TimeMillis(_) | Field::TimeMicros(_) => field.to_string().into(),
        Field::Date(days) => time(
            DateTime::from_timestamp(i64::from(*days) * 24 * 60 * 60, 0),
            (*days).into(),
            "%Y-%m-%d",
        ),
        Field::TimestampMillis(millis) => time(
            DateTime::from_timestamp_millis(*millis),
            *millis,
            "%Y-%m-%d %H:%M:%S%.3f %:z",
        ),
        Field::TimestampMicros(micros) => time(
            DateTime::from_timestamp_micros(*micros),
            *micros,
            "%Y-%m-%d %H:%M:%S%.6f %:z",
        ),
        Field::Group(row) => object(row).into(),
        Field::ListInternal(list) => list.elements().iter().map(value).collect(),
        Field::MapInternal(map) => {
            let entry = |(key, field): &(Field, Field)| match value(key) {
                Value::String(key) => (key, value(field)),
                key => (key.to_string(), value(field)),
            };
            Value::Object(map.entries().iter().map(entry).collect())
        }
    }
}
