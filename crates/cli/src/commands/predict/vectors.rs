//! `peft predict` for embedding models: a vector for each text.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};

use anyhow::{Context, Result, ensure};
use burn::module::Module;
use burn::tensor::Device;
use burn_peft::config::TaskType;
use burn_peft_data::{ASKED_AT_ONCE, Examples, Texts, text_columns};
use burn_peft_models::embeddings::Embedder;
use burn_peft_models::hub::ModelFiles;
use burn_peft_models::{AutoConfig, LanguageModel};
use burn_peft_train::{embeddings, limits, read_all};
use serde_json::{Map, Value, json};

use super::batches::batches;
use super::{Args, check_objective, output_of};
use crate::loading::{
    find_data, find_tokenizer, head_of, modules_of, open_headless, warn_of_template,
};
use crate::output::{counted, evaluation_bar, say};
use crate::output_file::OutputFile;

/// Whether vectors are requested: by the adapter, the files of sentence-transformers, the model, or
/// the options.
pub(super) fn are_wanted(args: &Args, files: &ModelFiles) -> Result<bool> {
    if args.embedder.is_given() {
        return Ok(true);
    }
    if let Some(adapter) = &args.model.adapter {
        let head = head_of(std::slice::from_ref(adapter))?;
        return Ok(head.is_some_and(|head| head.is_none()));
    }
    let own = AutoConfig::from_file(files.get("config.json")?)?;
    Ok(own.head().is_none() || modules_of(files, None)?.is_some())
}

pub(super) fn run(args: &Args, files: &ModelFiles, device: &Device) -> Result<()> {
    // Checks that the file can be written before anything is computed.
    let place = output_of(args)?.map(OutputFile::beside).transpose()?;
    check_objective(args, TaskType::FeatureExtraction)?;
    let adapter = args.model.adapter.as_deref();
    let modules = args.embedder.modules(files, adapter)?.unwrap_or_default();
    let prompt = modules.prompt(args.prompt_name.as_deref());
    let prompt = prompt
        .map_err(anyhow::Error::msg)
        .context("--prompt-name")?;
    let tokenizer = find_tokenizer(files, args.rows.tokenizer.as_deref())?;
    let model = open_headless(files, adapter, &args.kept, device)?
        .no_grad()
        .valid();
    let config = args.rows.config(&args.data);
    warn_of_template(&config);
    let (columns, _) = text_columns(&config, &[], &find_data)?;
    let task = Texts {
        prompts: vec![prompt.to_string(); columns.len().max(1)],
        columns: columns.clone(),
        max_seq_length: modules.max_seq_length,
        do_lower_case: modules.do_lower_case,
        takes_empty: true,
    };
    let (limits, tokenizer) = (limits(&model), tokenizer.as_ref());
    let data = &args.data;
    let examples = Examples::load_with(data, &config, tokenizer, limits, &find_data, &task)?;
    for line in &examples.left_out {
        tracing::warn!("{}: {line}", examples.file);
    }
    let maker = Maker {
        model,
        embedder: modules.embedder,
        texts: columns.len().max(1),
        batch_size: args.rows.batch_size,
    };
    let mut rows = examples.sequences();
    let Some(place) = place else {
        return maker.each(&examples, &mut |row, vectors| {
            say(line(row, &columns, vectors)?)
        });
    };
    let cannot = || format!("cannot write {}", place.output().display());
    let is_tensors = place
        .file()
        .extension()
        .is_some_and(|end| end == "safetensors");
    if is_tensors {
        rows -= without_tokens(&examples)?;
    }
    let file = BufWriter::new(place.create()?);
    let mut file = if is_tensors {
        let mut tensors = Tensors::new(file, &columns, rows);
        maker.each(&examples, &mut |row, vectors| match vectors
            .iter()
            .cloned()
            .collect::<Option<Vec<_>>>()
        {
            Some(vectors) => tensors.add(row, &vectors).with_context(cannot),
            None => Ok(()),
        })?;
        tensors.file
    } else {
        let mut file = file;
        maker.each(&examples, &mut |row, vectors| {
            writeln!(file, "{}", line(row, &columns, vectors)?).with_context(cannot)
        })?;
        file
    };
    file.flush().with_context(cannot)?;
    place.sync(file.get_ref()).with_context(cannot)?;
    drop(file);
    let output = place.keep()?;
    say(format!("{}: {}", output.display(), counted(rows, "row")))
}

/// The number of rows that have a text without tokens, which is reported.
fn without_tokens(examples: &Examples) -> Result<usize> {
    let mut rows = Vec::new();
    for at in 0..examples.sequences() {
        let batch = examples.batch(&[at]);
        let mut labels = batch.example_labels();
        if labels.any(|labels| labels.first() == Some(&Texts::EMPTY)) {
            rows.extend(batch.rows.first().copied());
        }
    }
    let file = &examples.file;
    ensure!(
        rows.len() < examples.sequences(),
        "{file}: every row has a text without tokens, and so no vectors"
    );
    if !rows.is_empty() {
        let first: Vec<String> = rows.iter().take(10).map(usize::to_string).collect();
        let more = if rows.len() > 10 { ", …" } else { "" };
        tracing::warn!(
            "{file}: {} left out, with a text that has no tokens and so no vector: {}{more}; lines of JSON \
             have all rows, and the other vectors of these",
            counted(rows.len(), "row"),
            first.join(", "),
        );
    }
    Ok(rows.len())
}

/// The line for a row.
fn line(row: usize, columns: &[String], vectors: &[Found]) -> Result<String> {
    // With as many digits as a 32-bit number has.
    let of = |vector: &Vec<f32>| serde_json::to_string(vector);
    if let ([], [vector]) = (columns, vectors) {
        return Ok(match vector {
            Some(vector) => format!("{{\"row\":{row},\"embedding\":{}}}", of(vector)?),
            None => json!({"row": row, "error": "it has no tokens, and so no vector"}).to_string(),
        });
    }
    let mut line = format!("{{\"row\":{row}");
    let mut empty = Vec::new();
    for (column, vector) in columns.iter().zip(vectors) {
        match vector {
            Some(vector) => line += &format!(",{}:{}", json!(column), of(vector)?),
            None => empty.push(column.as_str()),
        }
    }
    if !empty.is_empty() {
        let error = format!("no tokens, and so no vector, in {}", empty.join(", "));
        line += &format!(",\"error\":{}", json!(error));
    }
    Ok(line + "}")
}

/// Called with the number of a row and its vectors.
type Take<'a> = dyn FnMut(usize, &[Found]) -> Result<()> + 'a;

/// The vector of a text; `None` if it has no tokens.
type Found = Option<Vec<f32>>;

/// Computes the vectors.
struct Maker {
    model: LanguageModel,
    embedder: Embedder,
    /// The number of texts in a row.
    texts: usize,
    /// The number of rows in a batch, if set.
    batch_size: Option<usize>,
}

impl Maker {
    /// Passes the vectors of every row, in order, to `take`.
    fn each(&self, examples: &Examples, take: &mut Take<'_>) -> Result<()> {
        let lengths = examples.lengths();
        let bar = evaluation_bar("embedding", examples.sequences());
        for (chunk, lengths) in lengths.chunks(ASKED_AT_ONCE).enumerate() {
            let mut found: Vec<(usize, Vec<Found>)> = vec![Default::default(); lengths.len()];
            for places in batches(lengths, self.batch_size) {
                let rows = places.iter().map(|at| chunk * ASKED_AT_ONCE + at);
                let rows = self.vectors(examples, &rows.collect::<Vec<_>>())?;
                bar.inc(places.len() as u64);
                for (at, of_row) in places.into_iter().zip(rows) {
                    found[at] = of_row;
                }
            }
            for (row, vectors) in &found {
                take(*row, vectors)?;
            }
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// The numbers and the vectors of some rows.
    fn vectors(&self, examples: &Examples, rows: &[usize]) -> Result<Vec<(usize, Vec<Found>)>> {
        let batch = examples.batch(rows);
        let vectors = embeddings(&self.model, self.embedder, &batch);
        let [_, d] = vectors.dims();
        let values: Vec<f32> = read_all(vectors)?
            .into_iter()
            .map(|value| value as f32)
            .collect();
        let place = batch.rows.first().copied().unwrap_or_default();
        ensure!(
            values.iter().all(|value| value.is_finite()),
            "the vectors of row {place}, or of one computed with it, are not finite: the model's weights, \
             or the adapter's, are broken"
        );
        let vectors = values.chunks(d).zip(batch.example_labels());
        let vectors: Vec<Found> = vectors
            .map(|(vector, labels)| (labels[0] != Texts::EMPTY).then(|| vector.to_vec()))
            .collect();
        let rows = vectors
            .chunks(self.texts)
            .zip(batch.rows.chunks(self.texts));
        Ok(rows
            .map(|(of_row, numbers)| (numbers[0], of_row.to_vec()))
            .collect())
    }
}

/// A safetensors file written row by row.
struct Tensors {
    file: BufWriter<File>,
    names: Vec<String>,
    rows: usize,
    /// The number of rows written.
    done: usize,
    /// Where the values begin, once the size of vectors is known.
    start: Option<u64>,
}

impl Tensors {
    fn new(file: BufWriter<File>, columns: &[String], rows: usize) -> Self {
        let names = match columns {
            [] => vec!["embeddings".to_string()],
            columns => columns.to_vec(),
        };
        Self {
            file,
            names,
            rows,
            done: 0,
            start: None,
        }
    }

    /// Writes the header for vectors of size `d`.
    fn begin(&mut self, d: usize) -> std::io::Result<u64> {
        let mut header = Map::new();
        let rows = 8 * self.rows;
        let tensor = |dtype: &str, shape: Value, start: usize, bytes: usize| json!({"dtype": dtype, "shape": shape, "data_offsets": [start, start + bytes]});
        header.insert("row".into(), tensor("I64", json!([self.rows]), 0, rows));
        let bytes = 4 * d * self.rows;
        for (index, name) in self.names.iter().enumerate() {
            let start = rows + index * bytes;
            header.insert(
                name.clone(),
                tensor("F32", json!([self.rows, d]), start, bytes),
            );
        }
        let mut header = Value::Object(header).to_string();
        // Values have to begin at a multiple of eight.
        header += &" ".repeat(header.len().next_multiple_of(8) - header.len());
        self.file.write_all(&(header.len() as u64).to_le_bytes())?;
        self.file.write_all(header.as_bytes())?;
        Ok(8 + header.len() as u64)
    }

    fn add(&mut self, row: usize, vectors: &[Vec<f32>]) -> std::io::Result<()> {
        let d = vectors.first().map_or(0, Vec::len);
        let start = match self.start {
            Some(start) => start,
            None => self.begin(d)?,
        };
        self.start = Some(start);
        let at = |file: &mut BufWriter<File>, place: usize| {
            file.seek(SeekFrom::Start(start + place as u64)).map(drop)
        };
        at(&mut self.file, 8 * self.done)?;
        self.file.write_all(&(row as i64).to_le_bytes())?;
        for (index, vector) in vectors.iter().enumerate() {
            let bytes = 4 * d;
            let of_column = 8 * self.rows + index * bytes * self.rows;
            at(&mut self.file, of_column + self.done * bytes)?;
            let values: Vec<u8> = vector
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect();
            self.file.write_all(&values)?;
        }
        self.done += 1;
        Ok(())
    }
}
