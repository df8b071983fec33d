//! Rows of token ids from a safetensors file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_peft::config::TaskType;
use burn_peft::tensor_file::explain;
use burn_peft_models::embeddings::Embedder;
use burn_peft_models::{CausalLm, ModelInput};
use burn_peft_train::limits;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use crate::loading::model_input;

/// The limit for models whose positions have no limit of their own: devices count in 32 bits, and
/// an adapter's positions are added.
const MAX_POSITIONS: usize = 1 << 30;

/// The rows of a file, `[batch, seq]` each.
pub struct Rows {
    file: PathBuf,
    input_ids: Vec<i64>,
    attention_mask: Option<Vec<i64>>,
    position_ids: Option<Vec<i64>>,
    token_type_ids: Option<Vec<i64>>,
    batch: usize,
    seq: usize,
}

impl Rows {
    /// Reads `input_ids` and, if they exist, `attention_mask` and `position_ids`.
    pub fn read(path: &Path) -> Result<Self> {
        let place = path.display();
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {place}"))?;
        let tensors = SafeTensors::deserialize(&bytes)
            .map_err(|error| anyhow!("{place} {}", explain(&bytes, &error)))?;
        let Ok(ids) = tensors.tensor("input_ids") else {
            bail!(
                "{place}: no tensor input_ids; it holds {}",
                tensors.names().join(", ")
            );
        };
        let &[batch, seq] = ids.shape() else {
            bail!("{place}: input_ids is {:?}, not [batch, seq]", ids.shape());
        };
        ensure!(
            batch > 0 && seq > 0,
            "{place}: input_ids is empty: {:?}",
            ids.shape()
        );
        let integers = |name: &str, view: &TensorView<'_>| {
            integers(view).with_context(|| format!("{place}: {name}"))
        };
        let beside = |name: &str| -> Result<Option<Vec<i64>>> {
            let Ok(tensor) = tensors.tensor(name) else {
                return Ok(None);
            };
            ensure!(
                tensor.shape() == [batch, seq],
                "{place}: {name} is {:?}, input_ids is [{batch}, {seq}]",
                tensor.shape()
            );
            integers(name, &tensor).map(Some)
        };
        let rows = Self {
            file: path.to_path_buf(),
            input_ids: integers("input_ids", &ids)?,
            attention_mask: beside("attention_mask")?,
            position_ids: beside("position_ids")?,
            token_type_ids: beside("token_type_ids")?,
            batch,
            seq,
        };
        let mut mask = rows.attention_mask.iter().flatten();
        if let Some(value) = mask.find(|&&value| value != 0 && value != 1) {
            bail!("{place}: attention_mask holds {value}; it has to be 0 or 1");
        }
        Ok(rows)
    }

    /// The rows as the model takes them.
    pub fn input(&self, model: &impl CausalLm, device: &Device) -> Result<ModelInput> {
        self.check_ids(model)?;
        self.check_positions(model)?;
        self.check_types(model)?;
        let shape = [self.batch, self.seq];
        let mask = self.attention_mask.clone();
        let positions = self.position_ids.clone();
        let matrix = |values| Tensor::from_data(TensorData::new(values, shape), device);
        Ok(ModelInput {
            position_ids: positions.map(matrix),
            token_type_ids: self.token_type_ids.clone().map(matrix),
            ..model_input(self.input_ids.clone(), mask, shape, device)
        })
    }

    /// A model's output for the rows, from the logits of all positions, `[batch, seq, outputs]`;
    /// for a text classifier, those of the token that a text is judged by, `[batch, labels]`.
    pub fn scored(&self, model: &impl CausalLm, logits: Tensor<3>) -> TensorData {
        let head = model.head();
        if head.task != TaskType::SeqCls {
            return logits.into_data().convert::<f32>();
        }
        let [batch, seq, labels] = logits.dims();
        let rows = self.input_ids.chunks(self.seq).enumerate();
        let places = rows.map(|(row, ids)| (row * seq + head.judged_token(ids)) as i64);
        let places: Vec<i64> = places.collect();
        let places = Tensor::<1, Int>::from_data(places.as_slice(), &logits.device());
        let logits = logits.reshape([batch * seq, labels]).select(0, places);
        logits.into_data().convert::<f32>()
    }

    /// The embedding of each row, `[batch, d]`, from the hidden states of all positions, `[batch,
    /// seq, d]`.
    pub fn embedded(&self, embedder: Embedder, hidden: Tensor<3>) -> Result<TensorData> {
        let [batch, all, d] = hidden.dims();
        // Virtual tokens come before those of the text.
        let extra = all - self.seq;
        let (mut places, mut texts) = (Vec::new(), Vec::new());
        for row in 0..batch {
            let is_token = |at: &usize| {
                let mask = self.attention_mask.as_ref();
                mask.is_none_or(|mask| mask[row * self.seq + at] == 1)
            };
            let start = places.len();
            let tokens = (0..self.seq).filter(is_token);
            places.extend(tokens.map(|at| (row * all + extra + at) as i64));
            ensure!(
                start < places.len(),
                "{}: attention_mask is 0 throughout row {row}: there is nothing to embed",
                self.file.display()
            );
            texts.push(start..places.len());
        }
        let places = Tensor::<1, Int>::from_data(places.as_slice(), &hidden.device());
        let hidden = hidden.reshape([batch * all, d]).select(0, places);
        Ok(embedder.of(hidden, &texts).into_data().convert::<f32>())
    }

    /// The rows without the padding before them.
    pub fn prompts(&self, model: &impl CausalLm) -> Result<Vec<Vec<u32>>> {
        self.check_ids(model)?;
        let rows = (0..self.batch).map(|row| {
            let of_row = row * self.seq..(row + 1) * self.seq;
            let padding = match &self.attention_mask {
                None => 0,
                Some(mask) => self.padding(row, &mask[of_row.clone()])?,
            };
            // All of them are below the size of a vocabulary.
            let ids = self.input_ids[of_row].iter().skip(padding);
            Ok(ids.map(|&id| id as u32).collect())
        });
        rows.collect()
    }

    /// How many positions of a row come before its first token.
    fn padding(&self, row: usize, mask: &[i64]) -> Result<usize> {
        let place = self.file.display();
        let Some(first) = mask.iter().position(|&value| value == 1) else {
            bail!(
                "{place}: attention_mask is 0 throughout row {row}: a text needs a token to continue"
            );
        };
        if let Some(hole) = mask[first..].iter().position(|&value| value == 0) {
            bail!(
                "{place}: attention_mask[{row}, {}] is 0, after the first token of its row: pad the \
                 rows on the left, where only tokens come between the padding and the end",
                first + hole
            );
        }
        Ok(first)
    }

    fn check_ids(&self, model: &impl CausalLm) -> Result<()> {
        let known = 0..model.vocab_size() as i64;
        if let Some(at) = self.input_ids.iter().position(|id| !known.contains(id)) {
            bail!(
                "{}: input_ids{} is {}, not from 0 to below the model's vocab_size {}",
                self.file.display(),
                self.place(at),
                self.input_ids[at],
                known.end
            );
        }
        Ok(())
    }

    fn check_types(&self, model: &impl CausalLm) -> Result<()> {
        let config = model.config_json().unwrap_or_default();
        let config: serde_json::Value = serde_json::from_str(&config).unwrap_or_default();
        // Other models have no token types.
        let (Some(known), Some(types)) = (config["type_vocab_size"].as_i64(), &self.token_type_ids)
        else {
            return Ok(());
        };
        if let Some(at) = types.iter().position(|of| !(0..known).contains(of)) {
            bail!(
                "{}: token_type_ids{} is {}, not from 0 to below the model's type_vocab_size {known}",
                self.file.display(),
                self.place(at),
                types[at]
            );
        }
        Ok(())
    }

    fn check_positions(&self, model: &impl CausalLm) -> Result<()> {
        let (file, limits) = (self.file.display(), limits(model));
        let Some(positions) = &self.position_ids else {
            ensure!(
                !limits.forbid(self.seq),
                "{file}: input_ids has rows of {} tokens, more than {}",
                self.seq,
                limits.positions()
            );
            return Ok(());
        };
        let is_known = |&position: &i64| {
            usize::try_from(position)
                .is_ok_and(|place| place < MAX_POSITIONS && !limits.forbid(place + 1))
        };
        if let Some(at) = positions.iter().position(|position| !is_known(position)) {
            bail!(
                "{file}: position_ids{} is {}, not from 0 to below {}",
                self.place(at),
                positions[at],
                if limits.has_last_position {
                    limits.positions()
                } else {
                    MAX_POSITIONS.to_string()
                }
            );
        }
        Ok(())
    }

    /// The row and column of a value.
    fn place(&self, at: usize) -> String {
        format!("[{}, {}]", at / self.seq, at % self.seq)
    }
}

fn integers(view: &TensorView<'_>) -> Result<Vec<i64>> {
    let bytes = view.data();
    Ok(match view.dtype() {
        Dtype::I64 => bytes
            .as_chunks()
            .0
            .iter()
            .map(|&word| i64::from_le_bytes(word))
            .collect(),
        Dtype::I32 => {
            let words = bytes.as_chunks().0.iter();
            words.map(|&word| i32::from_le_bytes(word).into()).collect()
        }
        other => bail!("is {other:?}; supported: I64 and I32"),
    })
}
