//! From the `[data]` table to examples: what the trainer and `peft eval` call.

use crate::batch::Batch;
use crate::config::DataConfig;
use crate::error::{DataError, Result};
use crate::example::{Encoded, Encoder, Example, Limits};
use crate::format::Shape;
use crate::sampler::stream;
use crate::source::Rows;
use crate::tokenizer::Tokenizer;
use rand::seq::SliceRandom;
use rayon::prelude::*;

/// The examples of one file.
#[derive(Clone, Debug)]
pub struct Examples {
    /// The file they are from.
    pub file: String,
    /// The shape of its rows.
    pub shape: Shape,
    /// The examples in the file's order; never empty.
    pub examples: Vec<Example>,
    /// Rows left out: fewer than 2 tokens, or nothing to learn.
    pub skipped: usize,
    /// Rows cut to `max_length`.
    pub truncated: usize,
    /// What batches are padded with: the tokenizer's end of sequence, else 0.
    pub pad_id: u32,
    /// What the width of a batch is rounded up to.
    pub pad_to_multiple_of: Option<usize>,
}

impl Examples {
    /// Reads a file and tokenises it on all cores. `spec` is its path with an optional slice;
    /// without a tokenizer only rows of `input_ids` can be read.
    ///
    /// # Errors
    /// See [`DataError`]: whatever is wrong, with the file, the row and the value.
    pub fn load(
        spec: &str,
        config: &DataConfig,
        tokenizer: Option<&Tokenizer>,
        limits: Limits,
    ) -> Result<Self> {
        config.validate(limits.n_positions)?;
        Self::encode(
            &Rows::read(spec, config.sample_by)?,
            config,
            tokenizer,
            limits,
        )
    }

    fn encode(
        rows: &Rows,
        config: &DataConfig,
        tokenizer: Option<&Tokenizer>,
        limits: Limits,
    ) -> Result<Self> {
        let shape = Shape::detect(rows, config)?;
        let encoder = Encoder {
            shape: &shape,
            tokenizer,
            limits,
            max_length: config.max_length,
            completion_only_loss: config.completion_only_loss,
            document: rows.document,
        };
        // Collected before the first error is looked for, so that it is the file's first.
        let encode = |row| encoder.encode(row, &rows.place(row.number));
        let encoded: Vec<Result<Encoded>> = rows.rows.par_iter().map(encode).collect();
        let encoded: Vec<Encoded> = encoded.into_iter().collect::<Result<_>>()?;

        let total = encoded.len();
        let skipped = encoded.iter().filter(|row| row.examples.is_empty()).count();
        let truncated = encoded.iter().filter(|row| row.truncated).count();
        let file = rows.file.clone();
        if skipped == total {
            let mut problem =
                format!("each of its {total} has fewer than 2 tokens or nothing to learn");
            if truncated > 0 {
                problem += &format!("; {truncated} of them were cut to data.max_length");
            }
            return Err(DataError::Empty { file, problem });
        }
        if skipped > 0 {
            tracing::warn!(
                "{file}: {skipped} of {total} rows skipped: fewer than 2 tokens or nothing to learn"
            );
        }
        let eos = tokenizer.and_then(Tokenizer::eos_id);
        let examples = Self {
            file,
            examples: encoded.into_iter().flat_map(|row| row.examples).collect(),
            skipped,
            truncated,
            pad_id: eos
                .filter(|&eos| (eos as usize) < limits.vocab_size)
                .unwrap_or(0),
            pad_to_multiple_of: config.pad_to_multiple_of,
            shape,
        };
        examples.check_padding(limits)?;
        tracing::info!(
            "{}: {} examples of shape {}, {} tokens, {truncated} rows cut to max_length",
            examples.file,
            examples.len(),
            examples.shape,
            examples.tokens(),
        );
        Ok(examples)
    }

    /// Padding must not reach beyond the model's positions either.
    fn check_padding(&self, limits: Limits) -> Result<()> {
        let multiple = self.pad_to_multiple_of.unwrap_or(1);
        let width = self.longest().next_multiple_of(multiple);
        if width <= limits.n_positions {
            return Ok(());
        }
        let problem = format!(
            "is {multiple}, which pads {} tokens of {} to {width}, more than the model's n_positions {}",
            self.longest(),
            self.file,
            limits.n_positions
        );
        Err(DataError::Setting {
            key: "pad_to_multiple_of",
            problem,
        })
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.examples.len()
    }

    /// Whether there are none; loading never gives this.
    pub fn is_empty(&self) -> bool {
        self.examples.is_empty()
    }

    /// Tokens of all examples.
    pub fn tokens(&self) -> usize {
        self.examples
            .iter()
            .map(|example| example.input_ids.len())
            .sum()
    }

    /// Tokens the loss is taken over.
    pub fn supervised_tokens(&self) -> usize {
        self.examples.iter().map(Example::supervised_tokens).sum()
    }

    /// Tokens of the longest example.
    pub fn longest(&self) -> usize {
        self.examples
            .iter()
            .map(|example| example.input_ids.len())
            .max()
            .unwrap_or(0)
    }

    /// The examples at these indices as a batch.
    ///
    /// # Panics
    /// When an index is not below [`Examples::len`].
    pub fn batch(&self, indices: &[usize]) -> Batch {
        let examples: Vec<&Example> = indices.iter().map(|&i| &self.examples[i]).collect();
        Batch::collate(&examples, self.pad_id, self.pad_to_multiple_of)
    }
}

/// What to train on, and what to evaluate on.
#[derive(Clone, Debug)]
pub struct DataSet {
    /// What to train on.
    pub train: Examples,
    /// What to evaluate on, where the table names something.
    pub validation: Option<Examples>,
}

impl DataSet {
    /// Loads what a `[data]` table names. The seed draws the rows of a `validation_split`.
    ///
    /// # Errors
    /// As [`Examples::load`].
    pub fn load(
        config: &DataConfig,
        tokenizer: Option<&Tokenizer>,
        limits: Limits,
        seed: u64,
    ) -> Result<Self> {
        config.validate(limits.n_positions)?;
        let mut train = Rows::read(&config.train, config.sample_by)?;
        let validation = match (&config.validation, config.validation_split) {
            (Some(spec), _) => Some(Rows::read(spec, config.sample_by)?),
            (None, Some(split)) => Some(draw(&mut train, split, seed)?),
            (None, None) => None,
        };
        train
            .rows
            .truncate(config.max_samples.unwrap_or(usize::MAX));
        let encode = |rows: &Rows| Examples::encode(rows, config, tokenizer, limits);
        Ok(Self {
            train: encode(&train)?,
            validation: validation.as_ref().map(encode).transpose()?,
        })
    }
}

/// Takes a share (below 1) or a number of rows out, at random; both parts keep the file's order.
fn draw(rows: &mut Rows, split: f64, seed: u64) -> Result<Rows> {
    let total = rows.rows.len();
    let count = if split < 1.0 {
        (split * total as f64).ceil()
    } else {
        split
    } as usize;
    if count >= total {
        let problem = format!(
            "is {split}, which takes {count} of the {total} rows of {} and leaves none to train on",
            rows.file
        );
        return Err(DataError::Setting {
            key: "validation_split",
            problem,
        });
    }
    let mut drawn = vec![false; total];
    drawn[..count].fill(true);
    drawn.shuffle(&mut stream(seed, u64::MAX));
    let mut drawn = drawn.into_iter();
    let taken = rows
        .rows
        .extract_if(.., |_| drawn.next().unwrap_or(false))
        .collect();
    Ok(Rows {
        rows: taken,
        file: rows.file.clone(),
        ..*rows
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpe::tiny;

    const LIMITS: Limits = Limits {
        n_positions: 16,
        vocab_size: 270,
    };

    fn load(content: &str, change: impl FnOnce(&mut DataConfig)) -> Result<DataSet> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        std::fs::write(&path, content).unwrap();
        let mut config = DataConfig::new(path.to_str().unwrap());
        change(&mut config);
        DataSet::load(&config, Some(&tiny()), LIMITS, 42)
    }

    fn numbers(count: usize) -> String {
        (0..count)
            .map(|i| format!("{{\"text\": \"row {i}\"}}\n"))
            .collect()
    }

    fn rows(examples: &Examples) -> Vec<usize> {
        examples
            .examples
            .iter()
            .map(|example| example.row)
            .collect()
    }

    #[test]
    fn examples_keep_the_order_of_the_file_and_batch() {
        let data = load(&numbers(50), |_| ()).unwrap();
        assert!(data.validation.is_none());
        assert_eq!(rows(&data.train), (1..=50).collect::<Vec<_>>());
        let batch = data.train.batch(&[9, 2]);
        assert_eq!((batch.batch, &batch.rows[..]), (2, &[10, 3][..]));
        let text: Vec<u32> = batch.input_ids[..batch.seq]
            .iter()
            .map(|&id| id as u32)
            .collect();
        assert_eq!(tiny().decode(&text).unwrap(), "row 9<|endoftext|>");
        assert_eq!(
            data.train.tokens() - data.train.len(),
            data.train.supervised_tokens()
        );
    }

    #[test]
    fn a_validation_split_is_drawn_by_the_seed() {
        let split = |value| load(&numbers(20), |c| c.validation_split = Some(value));
        let data = split(0.25).unwrap();
        let (train, validation) = (rows(&data.train), rows(&data.validation.unwrap()));
        assert_eq!((train.len(), validation.len()), (15, 5));
        assert!(train.is_sorted() && validation.is_sorted());
        assert!(validation.iter().all(|row| !train.contains(row)));
        assert_eq!(rows(&split(5.0).unwrap().train), train);

        let error = split(20.0).unwrap_err().to_string();
        assert!(
            error.starts_with("data.validation_split is 20, which takes 20 of the 20"),
            "{error}"
        );
        let data = load(&numbers(20), |c| c.max_samples = Some(3)).unwrap();
        assert_eq!(rows(&data.train), [1, 2, 3]);
    }

    #[test]
    fn rows_without_anything_to_learn_are_counted() {
        let data = load(
            "{\"text\": \"the\"}\n{\"text\": \"\"}\n{\"text\": \"\"}",
            |_| (),
        )
        .unwrap();
        assert_eq!((data.train.len(), data.train.skipped), (1, 2));
        let error = load("{\"text\": \"\"}\n{\"text\": \"\"}", |_| ())
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("a.jsonl has no usable row: each of its 2 has fewer"),
            "{error}"
        );
    }

    #[test]
    fn the_first_bad_row_is_the_one_reported() {
        let bad = format!(
            "{}{{\"text\": 1}}\n{}{{\"text\": 2}}\n",
            numbers(30),
            numbers(30)
        );
        let error = load(&bad, |_| ()).unwrap_err().to_string();
        assert!(
            error.contains("a.jsonl line 31 has a number in `text`"),
            "{error}"
        );
    }

    #[test]
    fn padding_stays_within_the_positions() {
        let error = load(&numbers(3), |c| c.pad_to_multiple_of = Some(32)).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("to 32, more than the model's n_positions 16"),
            "{error}"
        );
        let data = load(&numbers(3), |c| c.pad_to_multiple_of = Some(8)).unwrap();
        assert_eq!(data.train.batch(&[0]).seq, 8);
    }
}
