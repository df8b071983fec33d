//! A batch on the device, with what the loss needs of its labels.

use std::sync::Arc;

use burn::tensor::{Device, Int, Tensor, TensorData};
use burn_peft_kernels::MovedRows;

use crate::unpad::unpadded;
use crate::{ModelError, ModelInput, Result, texts};

/// The label of a token that is not predicted.
pub const IGNORE_INDEX: i64 = -100;

/// A batch of rows with labels.
///
/// Which positions are supervised, where the texts are and what the batch is without its padding
/// is worked out on the host, where the rows are, so that the device is never asked. Make a new
/// batch rather than change one.
#[derive(Clone, Debug)]
pub struct LmBatch {
    /// The rows.
    pub input: ModelInput,
    /// The supervised positions: `there` maps `[batch * seq, d]` to `[count, d]`.
    pub supervised: MovedRows,
    /// The token each supervised position has to predict, `[count]`.
    pub targets: Tensor<1, Int>,
    /// The number of supervised positions.
    pub count: usize,
    /// The number of tokens that are no padding.
    pub tokens: usize,
    /// The same without padding.
    pub(crate) unpadded: Option<Arc<LmBatch>>,
}

/// The supervised positions in the flattened `[batch * seq]`, and what they have to predict.
pub(crate) struct Labelled {
    pub positions: Vec<i64>,
    pub targets: Vec<i64>,
}

impl LmBatch {
    /// A batch from rows of equal length: `input_ids`, `attention_mask` and `labels` are
    /// `[batch, seq]`, row after row. The label of a position is predicted from the positions
    /// before it; -100 is not predicted.
    ///
    /// # Errors
    /// If the lengths do not fit `batch` and `seq`.
    pub fn new(
        input_ids: &[i64],
        attention_mask: &[i64],
        labels: &[i64],
        shape: [usize; 2],
        device: &Device,
    ) -> Result<Self> {
        check_lengths([input_ids, attention_mask, labels], shape)?;
        let seq = shape[1];
        let labelled = Labelled::of(labels, |position| position.is_multiple_of(seq));
        let unpadded = unpadded(input_ids, attention_mask, &labelled, seq, device);
        let mut batch = Self::of(input_ids, labelled, shape, device);
        batch.unpadded = unpadded.map(Arc::new);
        batch.tokens = attention_mask.iter().filter(|&&value| value != 0).count();
        if batch.tokens < input_ids.len() {
            batch.input.attention_mask = Some(matrix(attention_mask, shape, device));
        }
        batch.input.texts = texts::rows(Some(attention_mask), shape);
        Ok(batch)
    }

    /// A batch of packed rows: as [`new`](Self::new), with the number of the text that each token
    /// belongs to, `[batch, seq]`, in place of the mask; 0 is padding. Positions count from the
    /// start of each text, and its first token is not predicted.
    ///
    /// # Errors
    /// If the lengths do not fit `batch` and `seq`.
    pub fn packed(
        input_ids: &[i64],
        segment_ids: &[i64],
        labels: &[i64],
        shape: [usize; 2],
        device: &Device,
    ) -> Result<Self> {
        check_lengths([input_ids, segment_ids, labels], shape)?;
        let seq = shape[1];
        let starts = |position: usize| {
            position.is_multiple_of(seq) || segment_ids[position] != segment_ids[position - 1]
        };
        let mut position_ids = Vec::with_capacity(input_ids.len());
        for position in 0..input_ids.len() {
            let next = position_ids.last().map_or(0, |last| last + 1);
            position_ids.push(if starts(position) { 0 } else { next });
        }
        let mut batch = Self::of(input_ids, Labelled::of(labels, starts), shape, device);
        batch.tokens = segment_ids.iter().filter(|&&value| value != 0).count();
        batch.input.position_ids = Some(matrix(&position_ids, shape, device));
        batch.input.segment_ids = Some(matrix(segment_ids, shape, device));
        batch.input.texts = texts::packed(segment_ids, shape);
        Ok(batch)
    }

    /// A batch in which everything is a token.
    pub(crate) fn of(
        input_ids: &[i64],
        labelled: Labelled,
        shape: [usize; 2],
        device: &Device,
    ) -> Self {
        let count = labelled.positions.len();
        let positions = labelled.positions.iter().map(|&at| Some(at as usize));
        let positions: Vec<_> = positions.collect();
        Self {
            input: ModelInput::new(matrix(input_ids, shape, device)),
            supervised: MovedRows::new(&positions, input_ids.len(), device),
            targets: Tensor::from_data(TensorData::new(labelled.targets, [count]), device),
            count,
            tokens: input_ids.len(),
            unpadded: None,
        }
    }
}

impl Labelled {
    /// What these labels ask for; `starts` tells the first positions of texts.
    fn of(labels: &[i64], starts: impl Fn(usize) -> bool) -> Self {
        let labelled = labels.iter().enumerate();
        let labelled = labelled.filter(|&(at, &label)| label != IGNORE_INDEX && !starts(at));
        let (positions, targets) = labelled.map(|(at, &label)| (at as i64 - 1, label)).unzip();
        Self { positions, targets }
    }
}

pub(crate) fn matrix(values: &[i64], shape: [usize; 2], device: &Device) -> Tensor<2, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), shape), device)
}

fn check_lengths(parts: [&[i64]; 3], [batch, seq]: [usize; 2]) -> Result<()> {
    let size = batch * seq;
    let [ids, marks, labels] = parts.map(<[i64]>::len);
    if size == 0 || [ids, marks, labels].iter().any(|&length| length != size) {
        return Err(ModelError::Input(format!(
            "a batch of {batch} rows of {seq} tokens needs {size} ids, mask values and labels, \
             not {ids}, {marks} and {labels}"
        )));
    }
    Ok(())
}
