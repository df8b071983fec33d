//! Which keys a query sees.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;

use super::tile::ROWS;

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
pub(super) fn keys_of(
    block: &Block,
    count: usize,
    window: i32,
    #[comptime] causal: bool,
) -> (usize, usize) {
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
