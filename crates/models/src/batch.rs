//! A batch on the device, with what the loss needs of its labels.

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::{ModelError, ModelInput, Result};

/// The label of a token that is not predicted.
pub const IGNORE_INDEX: i64 = -100;

/// A batch of rows with labels.
///
/// Which positions are supervised is worked out on the host, where the labels are, so that the
/// loss touches no others and the device is never asked.
#[derive(Clone, Debug)]
pub struct LmBatch {
    /// The rows.
    pub input: ModelInput,
    /// The supervised positions in the flattened `[batch * seq]`, `[count]`.
    pub positions: Tensor<1, Int>,
    /// The token each supervised position has to predict, `[count]`.
    pub targets: Tensor<1, Int>,
    /// The number of supervised positions.
    pub count: usize,
    /// The number of tokens that are no padding.
    pub tokens: usize,
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
        [batch, seq]: [usize; 2],
        device: &Device,
    ) -> Result<Self> {
        let size = batch * seq;
        if [input_ids, attention_mask, labels]
            .iter()
            .any(|part| part.len() != size)
            || size == 0
        {
            return Err(ModelError::Input(format!(
                "a batch of {batch} rows of {seq} tokens needs {size} ids, mask values and labels, \
                 not {}, {} and {}",
                input_ids.len(),
                attention_mask.len(),
                labels.len()
            )));
        }
        let (mut positions, mut targets) = (Vec::new(), Vec::new());
        for (position, &label) in labels.iter().enumerate() {
            if position % seq != 0 && label != IGNORE_INDEX {
                positions.push(position as i64 - 1);
                targets.push(label);
            }
        }
        let matrix = |values: &[i64]| {
            Tensor::from_data(TensorData::new(values.to_vec(), [batch, seq]), device)
        };
        let tokens = attention_mask.iter().filter(|&&value| value != 0).count();
        let count = positions.len();
        Ok(Self {
            input: ModelInput {
                input_ids: matrix(input_ids),
                attention_mask: (tokens < size).then(|| matrix(attention_mask)),
                position_ids: None,
            },
            positions: Tensor::from_data(TensorData::new(positions, [count]), device),
            targets: Tensor::from_data(TensorData::new(targets, [count]), device),
            count,
            tokens,
        })
    }
}
