//! What a pass through a model tells its blocks, and the positions of its tokens.

use burn::nn::Embedding;
use burn::tensor::{Device, Int, Tensor};
use burn_peft::LoraAdapter;

use crate::ModelInput;
use crate::parts::{AttentionMask, Rope, RopeTable};

/// What all blocks need to know about a pass through the model.
#[derive(Clone, Debug)]
pub struct Pass {
    /// The number of rows in the batch.
    pub batch: usize,
    /// What each position attends to.
    pub mask: AttentionMask,
    /// The rotation of queries and keys, for each kind of rotary embedding that the model has.
    pub ropes: Vec<RopeTable>,
    /// The factor of the queries, `[batch * seq, 1]`, if it grows with their position.
    pub query_growth: Option<Tensor<2>>,
}

impl Pass {
    /// A pass over an input whose tokens see their whole texts, and what precedes them at `past`
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

/// The positions of everything that runs through the blocks: those of one row, if all rows share
/// them, or those of every row.
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

    /// The number of positions of the longest row. If positions are given without it
    /// ([`ModelInput::length`]), they are read back from the device.
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

    /// The rotation of every token for each of the rotary embeddings, and the tokens' positions
    /// ([`of_tokens`](Self::of_tokens)).
    pub fn rotations(&self, ropes: &[Rope]) -> (Vec<RopeTable>, Tensor<1>) {
        let needs_length = ropes.iter().any(Rope::depends_on_length);
        let length = if needs_length { self.length() } else { 0 };
        let positions = self.of_tokens();
        let tables = ropes.iter().map(|rope| rope.table(&positions, length));
        (tables.collect(), positions)
    }
}

/// The positions of embeddings.
#[derive(Clone, Debug)]
// The tensor is large, but made once a pass: a box would gain nothing.
#[allow(clippy::large_enum_variant)]
pub enum Positions {
    /// Those of each token, `[rows * seq]`.
    Ids(Tensor<1, Int>),
    /// The same for every row.
    Range(std::ops::Range<usize>),
}

impl Positions {
    /// The positions of an input's tokens, after `past` ones.
    pub fn of(input: &ModelInput, past: usize) -> Self {
        let [_, seq] = input.input_ids.dims();
        match &input.position_ids {
            Some(ids) => Self::Ids(ids.clone().reshape([-1])),
            None => Self::Range(past..past + seq),
        }
    }

    /// As [`of`](Self::of), with padding tokens at -1; if positions are not given, padding is not
    /// counted (RoBERTa).
    pub fn without_padding(input: &ModelInput, past: usize, padding: i64) -> Self {
        let is_token = input.input_ids.clone().not_equal_elem(padding).int();
        let count = match &input.position_ids {
            Some(ids) => ids.clone() + 1,
            None => is_token.clone().cumsum(1) + past as i64,
        };
        Self::Ids((count * is_token - 1).reshape([-1]))
    }

    /// The sum of embeddings, `[rows * seq, d]`, and those of their positions, from a table in
    /// which row `first` is position 0.
    pub fn add(
        self,
        embedded: Tensor<2>,
        table: &LoraAdapter<Embedding>,
        first: usize,
    ) -> Tensor<2> {
        match self {
            Self::Ids(ids) => {
                let rows = if first == 0 { ids } else { ids + first as i64 };
                embedded + table.forward(rows)
            }
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
