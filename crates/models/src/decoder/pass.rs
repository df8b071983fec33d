//! What a pass through a model tells its blocks, and where its tokens stand.

use burn::nn::Embedding;
use burn::tensor::{Device, Int, Tensor};
use burn_peft::LoraAdapter;

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

impl Positions {
    /// Those of the tokens of an input, after `past` ones.
    pub fn of(input: &ModelInput, past: usize) -> Self {
        let [_, seq] = input.input_ids.dims();
        match &input.position_ids {
            Some(ids) => Self::Ids(ids.clone().reshape([-1])),
            None => Self::Range(past..past + seq),
        }
    }

    /// As [`of`](Self::of), with the token for padding at -1, and not counted where the positions are
    /// not given: RoBERTa's.
    pub fn without_padding(input: &ModelInput, past: usize, padding: i64) -> Self {
        let is_token = input.input_ids.clone().not_equal_elem(padding).int();
        let count = match &input.position_ids {
            Some(ids) => ids.clone() + 1,
            None => is_token.clone().cumsum(1) + past as i64,
        };
        Self::Ids((count * is_token - 1).reshape([-1]))
    }

    /// The sum of embeddings, `[rows * seq, d]`, and those of their positions in a table whose row of
    /// this number is that of position 0.
    pub fn add(
        self,
        embedded: Tensor<2>,
        table: &LoraAdapter<Embedding>,
        first: usize,
    ) -> Tensor<2> {
        match self {
            Self::Ids(ids) => embedded + table.forward(ids + first as i64),
            Self::Range(range) => {
                let [tokens, d] = embedded.dims();
                let seq = range.len();
                let range = (range.start + first) as i64..(range.end + first) as i64;
                let positions = table.forward(Tensor::arange(range, &embedded.device()));
                let sum = embedded.reshape([tokens / seq, seq, d]) + positions.unsqueeze();
                sum.reshape([tokens, d])
            }
        }
    }
}
