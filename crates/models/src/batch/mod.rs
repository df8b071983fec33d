//! A batch on the device, with what the loss needs of its labels.

mod rows;
mod sharing;
mod supervised;

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use burn::tensor::{Device, Int, Tensor};
use burn_peft_kernels::{HeadWeight, MovedRows, Texts, in_one_copy, is_gpu, takes_no_target};

use self::rows::Rows;
use self::supervised::{Labelled, Supervised};
use crate::{InputError, ModelInput, Result, texts};

/// The label of a token that is not predicted.
pub const IGNORE_INDEX: i64 = -100;

/// A batch of rows with labels.
///
/// Which positions are supervised and where the texts are is worked out on the host, where the rows
/// are, so nothing is read back from the device. Padding is left out before the first layer, and
/// put back in for a model that needs a matrix. Make a new batch rather than change one.
#[derive(Clone, Debug)]
pub struct LmBatch {
    /// The rows: as a matrix, or without padding as one row of several texts.
    pub input: ModelInput,
    supervised: Supervised,
    /// If some positions predict several tokens (the last ones that texts share do): for each
    /// token, the supervised position that it is predicted from, `[count]`.
    repeated: Option<Tensor<1, Int>>,
    /// The number of supervised positions.
    pub count: usize,
    /// The number of tokens that are not padding.
    pub tokens: usize,
    /// The other form of the batch.
    other: Other,
}

/// Rows of texts on the host, of different lengths, one after the other without padding.
#[derive(Clone, Copy, Debug)]
pub struct Ragged<'a> {
    /// The token ids, `[tokens]`.
    pub input_ids: &'a [i64],
    /// The label of each token, `[tokens]`; [`IGNORE_INDEX`] means that it is not predicted.
    pub labels: &'a [i64],
    /// The range of tokens of each text.
    pub texts: &'a [Range<usize>],
    /// With packing, the range of texts in each row; otherwise each text is a row.
    pub packed: Option<&'a [Range<usize>]>,
    /// The number of columns of a matrix of the rows.
    pub width: usize,
    /// The token that such a matrix is padded with.
    pub pad_id: i64,
}

/// The other form of a batch, made when it is first needed.
#[derive(Clone, Debug)]
enum Other {
    /// There is none: nothing is padding, or the padding has to stay.
    None,
    /// The batch without padding.
    Unpadded(Arc<Form>),
    /// The batch as a matrix.
    Matrix(Arc<Form>),
}

#[derive(Debug)]
struct Form {
    rows: Rows,
    device: Device,
    made: OnceLock<Option<LmBatch>>,
}

impl Form {
    fn new(rows: Rows, device: &Device) -> Arc<Self> {
        Arc::new(Self {
            rows,
            device: device.clone(),
            made: OnceLock::new(),
        })
    }
}

impl LmBatch {
    /// A batch from rows of equal length: `input_ids`, `attention_mask` and `labels` are
    /// `[batch, seq]`, row after row. The label of a position is predicted from the positions
    /// before it; -100 is not predicted.
    ///
    /// # Errors
    /// If the lengths do not match `batch` and `seq`.
    pub fn new(
        input_ids: &[i64],
        attention_mask: &[i64],
        labels: &[i64],
        shape: [usize; 2],
        device: &Device,
    ) -> Result<Self> {
        check_lengths([input_ids, attention_mask, labels], shape)?;
        let labelled = Labelled::of(labels, |position| position.is_multiple_of(shape[1]));
        let has_padding = attention_mask.contains(&0);
        let host = Host {
            shape,
            input_ids,
            attention_mask: has_padding.then_some(attention_mask),
            texts: texts::rows(Some(attention_mask), shape),
            ..Host::default()
        };
        let mut batch = Self::of(host, labelled.clone(), device);
        if has_padding {
            let rows = Rows::of_matrix(input_ids, attention_mask, labelled, shape);
            batch.tokens = rows.tokens();
            batch.other = Other::Unpadded(Form::new(rows, device));
        }
        Ok(batch)
    }

    /// A batch of packed rows: as [`new`](Self::new), with the number of the text that each token
    /// belongs to, `[batch, seq]`, in place of the mask; 0 is padding. Positions count from the
    /// start of each text, and its first token is not predicted.
    ///
    /// # Errors
    /// If the lengths do not match `batch` and `seq`.
    pub fn packed(
        input_ids: &[i64],
        segment_ids: &[i64],
        labels: &[i64],
        shape: [usize; 2],
        device: &Device,
    ) -> Result<Self> {
        check_lengths([input_ids, segment_ids, labels], shape)?;
        Ok(Self::of_packed(
            input_ids,
            segment_ids,
            labels,
            shape,
            device,
        ))
    }

    fn of_packed(
        input_ids: &[i64],
        segment_ids: &[i64],
        labels: &[i64],
        shape: [usize; 2],
        device: &Device,
    ) -> Self {
        let seq = shape[1];
        let starts = |position: usize| {
            position.is_multiple_of(seq) || segment_ids[position] != segment_ids[position - 1]
        };
        let mut position_ids = Vec::with_capacity(input_ids.len());
        for position in 0..input_ids.len() {
            let next = position_ids.last().map_or(0, |last| last + 1);
            position_ids.push(if starts(position) { 0 } else { next });
        }
        let host = Host {
            shape,
            input_ids,
            position_ids: Some(&position_ids),
            segment_ids: Some(segment_ids),
            texts: texts::packed(segment_ids, shape),
            ..Host::default()
        };
        let mut batch = Self::of(host, Labelled::of(labels, starts), device);
        batch.tokens = segment_ids.iter().filter(|&&value| value != 0).count();
        batch
    }

    /// A batch from rows of different lengths. Rows of one text each are put one after the other
    /// into a single row, unless they are of equal length; packed rows make a matrix.
    ///
    /// # Panics
    /// If there are no tokens, or the number of labels differs.
    pub fn ragged(ragged: &Ragged<'_>, device: &Device) -> Self {
        Self::ragged_of_types(ragged, None, device)
    }

    /// As [`ragged`](Self::ragged), with the text of a pair that each token belongs to, 0 or 1,
    /// `[tokens]`. Packed rows have none.
    ///
    /// # Panics
    /// As [`ragged`](Self::ragged).
    pub fn ragged_of_types(ragged: &Ragged<'_>, types: Option<Vec<i64>>, device: &Device) -> Self {
        let [tokens, labels] = [ragged.input_ids, ragged.labels].map(<[i64]>::len);
        assert!(
            tokens > 0 && labels == tokens,
            "{labels} labels of {tokens} tokens"
        );
        let rows = Rows::of_ragged(ragged).with_types(types);
        if let Some(segment_ids) = rows.segment_ids() {
            let (input_ids, labels) = (rows.in_matrix(), rows.labels_in_matrix(ragged.labels));
            return Self::of_packed(&input_ids, &segment_ids, &labels, rows.shape(), device);
        }
        let unpadded = rows.has_padding().then(|| rows.unpadded(device));
        match unpadded.flatten() {
            Some(mut batch) => {
                batch.other = Other::Matrix(Form::new(rows, device));
                batch
            }
            None => rows.as_matrix(device),
        }
    }

    /// A batch in which every position is a token.
    fn of(host: Host<'_>, labelled: Labelled, device: &Device) -> Self {
        let shape = host.shape;
        let cells = host.input_ids.len();
        let numbers = host.texts.as_ref();
        let numbers = numbers.and_then(|texts| texts.numbers(cells, device));
        let of_all = is_gpu(device).then(|| labelled.of_all(cells)).flatten();
        // One copy: a GPU takes one large copy faster than several small ones.
        let parts = [
            Some(host.input_ids),
            host.position_ids,
            host.segment_ids,
            host.token_type_ids,
            host.attention_mask,
            of_all.as_deref(),
            numbers.as_deref(),
        ];
        let given: Vec<&[i64]> = parts.into_iter().flatten().collect();
        let mut copied = in_one_copy(&given, device).into_iter();
        let [
            input_ids,
            position_ids,
            segment_ids,
            token_type_ids,
            attention_mask,
            of_all,
            numbers,
        ] = parts.map(|part| part.and_then(|_| copied.next()));
        if let (Some(texts), Some(numbers)) = (&host.texts, numbers) {
            texts.set_numbers(cells, numbers);
        }
        let matrix = |ids: Tensor<1, Int>| ids.reshape(shape);
        let input = ModelInput {
            position_ids: position_ids.map(matrix),
            segment_ids: segment_ids.map(matrix),
            token_type_ids: token_type_ids.map(matrix),
            attention_mask: attention_mask.map(matrix),
            length: last(host.position_ids),
            texts: host.texts,
            ..ModelInput::new(matrix(input_ids.expect("every batch has ids")))
        };
        Self {
            input,
            repeated: None,
            count: labelled.targets.len(),
            supervised: Supervised::new(labelled, cells, of_all, device),
            tokens: cells,
            other: Other::None,
        }
    }

    /// The supervised positions: `there` maps `[batch * seq, d]` to `[count, d]`, or to fewer rows
    /// if some positions predict several tokens.
    pub fn supervised(&self) -> &MovedRows {
        self.supervised.moved()
    }

    /// The token that each supervised position has to predict, `[count]`.
    pub fn targets(&self) -> Tensor<1, Int> {
        self.supervised.targets()
    }

    /// The rows that tokens are predicted from and their targets, for a loss with this weight of the
    /// head. On a GPU it may be all rows, and those that predict nothing have [`NO_TARGET`](burn_peft_kernels::NO_TARGET).
    pub(crate) fn predicting_with(
        &self,
        rows: Tensor<2>,
        weight: &HeadWeight,
    ) -> (Tensor<2>, Tensor<1, Int>) {
        match self.supervised.of_all() {
            Some(targets) if self.repeated.is_none() && takes_no_target(&rows, weight) => {
                (rows, targets)
            }
            _ => (self.predicting(rows), self.targets()),
        }
    }

    /// The rows that tokens are predicted from, `[count, d]`, taken from those of all tokens,
    /// `[batch * seq, d]`.
    pub(crate) fn predicting(&self, rows: Tensor<2>) -> Tensor<2> {
        let rows = self.supervised().there(rows);
        match &self.repeated {
            Some(repeated) => rows.select(0, repeated.clone()),
            None => rows,
        }
    }

    /// The batch without its padding, unless it has none or something precedes its texts, which all
    /// texts of one packed row would share.
    pub(crate) fn unpadded(&self) -> &Self {
        let stands_alone = self.input.extra.is_empty() && self.input.position_ids.is_none();
        match &self.other {
            Other::Unpadded(form) if stands_alone => {
                let made = form.made.get_or_init(|| form.rows.unpadded(&form.device));
                made.as_ref().unwrap_or(self)
            }
            _ => self,
        }
    }

    /// Converts indices into the flattened rows to those into the flattened rows [as a
    /// matrix](Self::as_matrix).
    pub(crate) fn places_in_matrix(&self, places: &[usize]) -> Vec<usize> {
        match &self.other {
            Other::Matrix(form) => places.iter().map(|&at| form.rows.place(at)).collect(),
            _ => places.to_vec(),
        }
    }

    /// The batch as a matrix, `[batch, seq]`, padded if its rows differ in length.
    pub fn as_matrix(&self) -> &Self {
        match &self.other {
            Other::Matrix(form) => {
                let made = || Some(form.rows.as_matrix(&form.device));
                form.made.get_or_init(made).as_ref().unwrap_or(self)
            }
            _ => self,
        }
    }
}

/// Numbers of a batch on the host, `[batch * seq]`.
#[derive(Default)]
struct Host<'a> {
    shape: [usize; 2],
    input_ids: &'a [i64],
    position_ids: Option<&'a [i64]>,
    segment_ids: Option<&'a [i64]>,
    token_type_ids: Option<&'a [i64]>,
    attention_mask: Option<&'a [i64]>,
    texts: Option<Texts>,
}

/// One more than the largest position.
fn last(positions: Option<&[i64]>) -> Option<usize> {
    positions?.iter().max().map(|&last| last as usize + 1)
}

fn check_lengths(parts: [&[i64]; 3], [batch, seq]: [usize; 2]) -> Result<()> {
    let size = batch * seq;
    let [ids, marks, labels] = parts.map(<[i64]>::len);
    if size == 0 || [ids, marks, labels].iter().any(|&length| length != size) {
        let error = InputError::Batch {
            rows: batch,
            seq,
            ids,
            marks,
            labels,
        };
        return Err(error.into());
    }
    Ok(())
}
