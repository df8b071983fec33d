//! What a pass through a model tells its blocks, and where its tokens stand.

use burn::tensor::{Device, Int, Tensor};

use crate::ModelInput;
use crate::parts::{AttentionMask, RopeTable};

/// What all blocks are told of a pass through the model.
#[derive(Clone, Debug)]
pub struct Pass {
    /// Rows of the batch.
    pub batch: usize,
    /// What each position attends to.
    pub mask: AttentionMask,
    /// What turns queries and keys, for each kind of rotary embedding that the model has.
    pub ropes: Vec<RopeTable>,
    /// What queries are multiplied by, `[batch * seq, 1]`, where they grow with their position.
    pub query_growth: Option<Tensor<2>>,
}

impl Pass {
    /// A pass over an input whose tokens see all of their texts, and what stands before them at `past`
    /// positions.
    pub fn both_ways(input: &ModelInput, past: usize) -> Self {
        Self {
            batch: input.input_ids.dims()[0],
            mask: AttentionMask::both_ways(input, past),
            ropes: Vec::new(),
            query_growth: None,
        }
    }

    /// A pass over an input after `past` positions, which are `cached`.
    pub fn new(input: &ModelInput, past: usize, cached: bool) -> Self {
        Self {
            batch: input.input_ids.dims()[0],
            mask: AttentionMask::of(input, past, cached),
            ropes: Vec::new(),
            query_growth: None,
        }
    }
}

/// The positions of all that runs through the blocks: those of a row, which all rows share, or
/// those of every row.
#[derive(Clone, Debug)]
pub struct Places {
    rows: usize,
    first: usize,
    extra: usize,
    seq: usize,
    ids: Option<Tensor<2, Int>>,
    length: Option<usize>,
    device: Device,
}

impl Places {
    /// The positions of an input after `past` ones.
    pub fn of(input: &ModelInput, past: usize) -> Self {
        let [rows, seq] = input.input_ids.dims();
        Self {
            rows,
            first: past,
            extra: input.extra.embedded_positions(),
            seq,
            ids: input.position_ids.clone(),
            length: input.length,
            device: input.input_ids.device(),
        }
    }

    /// The number of positions that the longest row has come to. Positions that were given without
    /// it ([`ModelInput::length`]) are read back from the device.
    pub fn length(&self) -> usize {
        match (&self.ids, self.length) {
            (Some(_), Some(length)) => length,
            (Some(ids), None) => ids.clone().max().into_scalar::<i64>().max(0) as usize + 1,
            (None, _) => self.first + self.extra + self.seq,
        }
    }

    /// The position of every token, row after row, `[rows * (extra + seq)]`.
    pub fn of_tokens(&self) -> Tensor<1> {
        let range = |first: usize, count| {
            let range = first as i64..(first + count) as i64;
            let range = Tensor::<1, Int>::arange(range, &self.device).unsqueeze::<2>();
            range.expand([self.rows, count])
        };
        let positions = match &self.ids {
            None => range(self.first, self.extra + self.seq),
            Some(ids) if self.extra == 0 => ids.clone(),
            Some(ids) => Tensor::cat(vec![range(self.first, self.extra), ids.clone()], 1),
        };
        positions.reshape([-1]).float()
    }
}

/// The positions of embeddings.
#[derive(Clone, Debug)]
// A tensor is large, and made once a pass: a box would gain nothing.
#[allow(clippy::large_enum_variant)]
pub enum Positions {
    /// Those of each token, `[rows * seq]`.
    Ids(Tensor<1, Int>),
    /// The same for every row.
    Range(std::ops::Range<usize>),
}
