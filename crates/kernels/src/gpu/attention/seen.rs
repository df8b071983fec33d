//! Which keys a query sees.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::shape::{Numbers, Shape};
use super::tile::{ROWS, Rows};

/// Rows of one text, at most as many as a tile has.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Block {
    /// The first token of the text, and its queries and keys.
    pub start: usize,
    pub queries: usize,
    pub keys: usize,
    /// The first row of the block, counted from the start of the text.
    pub first: usize,
}

#[cube]
pub(super) fn block_at<I: Int>(table: &Tensor<I>, block: usize) -> Block {
    let at = block * table.stride(0);
    Block {
        start: usize::cast_from(table[at]),
        queries: usize::cast_from(table[at + 1]),
        keys: usize::cast_from(table[at + 2]),
        first: usize::cast_from(table[at + 3]),
    }
}

/// The queries of a block in one head, which a cube works on.
#[derive(CubeType, Clone, Copy)]
pub(super) struct Queries {
    pub block: Block,
    pub head: usize,
    /// Their rows, and the head's column, in the output and its gradient.
    pub outputs: Rows,
    /// The column of the head's keys and values among those of all heads.
    pub of_keys: usize,
    /// The keys that they may see, from `begin` to before `end`.
    pub begin: usize,
    pub end: usize,
}

/// Those of the block `CUBE_POS_X` in the head `CUBE_POS_Y`.
#[cube]
pub(super) fn queries_at<I: Int>(
    table: &Tensor<I>,
    numbers: &Numbers,
    #[comptime] shape: Shape,
) -> Queries {
    let block = block_at(table, CUBE_POS_X as usize);
    let head = CUBE_POS_Y as usize;
    let head_dim = comptime!(shape.head_dim);
    let count = min(ROWS, block.queries - block.first);
    let (begin, end) = keys_of(&block, count, numbers.window, shape.causal);
    let outputs = Rows::new(block.start + block.first, count, head * head_dim);
    Queries {
        block,
        head,
        outputs,
        of_keys: head / comptime!(shape.group()) * head_dim,
        begin,
        end,
    }
}

/// Whether a query sees a key of its text.
#[cube]
pub(super) fn sees(query: i32, key: i32, keys: i32, window: i32, #[comptime] causal: bool) -> bool {
    if causal {
        let own = min(query, keys - 1);
        key <= own && own - key < window
    } else {
        key < keys && query - key < window && key - query < window
    }
}

/// The keys that a block's queries may see: the first, rounded down to whole tiles, and the end.
#[cube]
fn keys_of(block: &Block, count: usize, window: i32, #[comptime] causal: bool) -> (usize, usize) {
    let keys = i32::cast_from(block.keys);
    let first = i32::cast_from(block.first);
    let last = first + i32::cast_from(count) - 1;
    let mut own = first;
    let mut end = min(keys, last + window);
    if causal {
        own = min(first, keys - 1);
        end = min(last, keys - 1) + 1;
    }
    let begin = max(own - window + 1, 0);
    (usize::cast_from(begin) / ROWS * ROWS, usize::cast_from(end))
}

/// The queries that may see a block's keys, as above.
#[cube]
pub(super) fn queries_of(
    block: &Block,
    count: usize,
    window: i32,
    #[comptime] causal: bool,
) -> (usize, usize) {
    let (keys, queries) = (i32::cast_from(block.keys), i32::cast_from(block.queries));
    let first = i32::cast_from(block.first);
    let last = first + i32::cast_from(count) - 1;
    let mut begin = max(first - window + 1, 0);
    let mut end = min(queries, last + window);
    if causal {
        begin = first;
        // Padding stands at the last key.
        if keys - 1 - last < window {
            end = queries;
        }
    }
    (usize::cast_from(begin) / ROWS * ROWS, usize::cast_from(end))
}
