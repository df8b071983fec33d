//! Attention of one new token over a cache.

mod heads;

use std::ops::Range;

use pulp::Arch;

use self::heads::Heads;
use super::view::Columns;
use super::{Dims, for_each_from, scratch};
use crate::cpu::exp::exp_one;

/// Positions in a piece; a long text has enough pieces for all threads.
const PIECE: usize = 256;

/// The number of multiplications from which on threads share them: fewer than elsewhere, since they are
/// awake while a token is decoded.
const SHARED: usize = 1 << 15;

/// Heads of queries that use a key or value while it is in registers.
const HEADS: usize = 4;

/// Keys and values of earlier tokens and of the new one.
#[derive(Debug, Clone, Copy)]
pub struct Cache<'a> {
    /// `[batch, kv_heads, capacity, head_dim]`.
    pub keys: &'a [f32],
    /// `[batch, kv_heads, capacity, head_dim]`.
    pub values: &'a [f32],
    /// The number of tokens that there is room for.
    pub capacity: usize,
    /// For each sequence, the tokens that are seen, after any window.
    pub seen: &'a [Range<usize>],
}

/// Writes the output of each sequence's new token, `[batch, heads * head_dim]`; `q` holds their
/// queries, in the same shape. A sequence without tokens gets zeros.
///
/// # Panics
///
/// If shapes do not fit each other.
pub fn decode(dims: Dims, q: Columns, cache: Cache, out: &mut [f32]) {
    decode_on(Arch::new(), dims, q, cache, out);
}

pub(super) fn decode_on(arch: Arch, dims: Dims, q: Columns, cache: Cache, out: &mut [f32]) {
    dims.check();
    let batch = cache.seen.len();
    let size = batch * dims.kv_heads * cache.capacity * dims.head_dim;
    q.check(batch, dims.query_width());
    assert!(
        cache.keys.len() >= size && cache.values.len() >= size,
        "a cache that is too small"
    );
    assert!(
        cache.seen.iter().all(|seen| seen.end <= cache.capacity),
        "more tokens than the cache has room for"
    );
    assert_eq!(
        out.len(),
        batch * dims.query_width(),
        "a result of {batch} rows"
    );
    let pieces: Vec<_> = (cache.seen.iter().enumerate())
        .flat_map(|(sequence, seen)| {
            let heads = 0..dims.kv_heads;
            heads.flat_map(move |kv_head| {
                let starts = seen.clone().step_by(PIECE);
                starts.map(move |start| Piece {
                    sequence,
                    kv_head,
                    positions: start..seen.end.min(start + PIECE),
                })
            })
        })
        .collect();
    // For each head of a piece, the sum of the weighted values, the largest score, and the sum of
    // the weights.
    let width = dims.head_dim + 2;
    let mut parts = vec![0.0; pieces.len() * dims.group() * width];
    let tasks: Vec<_> = (pieces.iter())
        .zip(parts.chunks_exact_mut(dims.group() * width))
        .collect();
    let tokens: usize = cache.seen.iter().map(ExactSizeIterator::len).sum();
    let multiplications = tokens * dims.query_width();
    for_each_from(SHARED, tasks, multiplications, |(piece, parts)| {
        piece.run(arch, dims, q, cache, parts);
    });
    out.fill(0.0);
    let parts = parts.chunks_exact(dims.group() * width);
    let mut pieces = pieces.iter().zip(parts).peekable();
    while let Some((first, parts)) = pieces.next() {
        let mut of_head = vec![parts];
        let same = |(piece, _): &(&Piece, &[f32])| piece.is_with(first);
        while let Some((_, parts)) = pieces.next_if(same) {
            of_head.push(parts);
        }
        for in_group in 0..dims.group() {
            let head = first.kv_head * dims.group() + in_group;
            let at = first.sequence * dims.query_width() + head * dims.head_dim;
            let parts = of_head
                .iter()
                .map(|parts| &parts[in_group * width..][..width]);
            combine(parts, &mut out[at..at + dims.head_dim]);
        }
    }
}

/// Combines the parts of a head.
fn combine<'a>(parts: impl Iterator<Item = &'a [f32]> + Clone, out: &mut [f32]) {
    let width = out.len();
    let largest = parts
        .clone()
        .map(|part| part[width])
        .fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for part in parts {
        let factor = exp_one(part[width] - largest);
        sum += factor * part[width + 1];
        for (out, value) in out.iter_mut().zip(part) {
            *out += factor * value;
        }
    }
    out.iter_mut().for_each(|out| *out /= sum);
}

/// Some positions of one head of keys in one sequence.
struct Piece {
    sequence: usize,
    kv_head: usize,
    positions: Range<usize>,
}

impl Piece {
    fn is_with(&self, other: &Self) -> bool {
        (self.sequence, self.kv_head) == (other.sequence, other.kv_head)
    }

    /// Fills the parts of all heads that share the keys.
    fn run(&self, arch: Arch, dims: Dims, q: Columns, cache: Cache, parts: &mut [f32]) {
        let width = dims.head_dim;
        let head = self.sequence * dims.kv_heads + self.kv_head;
        let first = (head * cache.capacity + self.positions.start) * width;
        let rows = first..first + self.positions.len() * width;
        let first = self.kv_head * dims.group();
        let queries = q.row(self.sequence, first * width, dims.group() * width);
        let heads = (queries.chunks(HEADS * width)).zip(parts.chunks_mut(HEADS * (width + 2)));
        scratch::with([HEADS * width, HEADS * PIECE], |[scaled, scores]| {
            for (queries, parts) in heads {
                for (to, from) in scaled.iter_mut().zip(queries) {
                    *to = from * dims.scale;
                }
                arch.dispatch(Heads {
                    softcap: dims.softcap,
                    queries: &scaled[..queries.len()],
                    keys: &cache.keys[rows.clone()],
                    values: &cache.values[rows.clone()],
                    scores,
                    parts,
                    width,
                });
            }
        });
    }
}
