//! The forward pass: an online softmax over tiles of keys.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;

use super::seen::{block_at, keys_of, sees};
use super::shape::{Numbers, Shape};
use super::softmax::{capped, factor};
use super::tile::{
    EACH, PITCH, ROWS, SCORES, SIDE, add_scores, add_weighted, clear, first_row, load, place,
    reduce, share, store,
};

/// What stands for the maximum of no scores: WGSL has no infinity.
const LOWEST: f32 = -1e30;

/// A cube for each block of queries (x) and head (y).
#[cube(launch_unchecked)]
pub(super) fn forward_kernel<F: Float, I: Int>(
    q: &Tensor<F>,
    k: &Tensor<F>,
    v: &Tensor<F>,
    table: &Tensor<I>,
    out: &mut Tensor<F>,
    lse: &mut Tensor<f32>,
    numbers: &Numbers,
    #[comptime] shape: Shape,
    #[define(F, I)] _types: [ElemType; 2],
) {
    let block = block_at(table, CUBE_POS_X as usize);
    let head = CUBE_POS_Y as usize;
    let of_keys = head / comptime!(shape.group()) * shape.head_dim;
    let head_dim = comptime!(shape.head_dim);
    let chunk = comptime!(shape.chunk);
    let parts = comptime!(shape.parts());
    let count = min(ROWS, block.queries - block.first);
    let (begin, end) = keys_of(&block, count, numbers.window, shape.causal);
    let row = first_row();

    let mut tile_1 = Shared::<[f32]>::new_slice(comptime!(chunk * PITCH));
    let mut tile_2 = Shared::<[f32]>::new_slice(comptime!(chunk * PITCH));
    let mut weights = Shared::<[f32]>::new_slice(comptime!(ROWS * PITCH));
    let mut shared = Shared::<[f32]>::new_slice(comptime!(SIDE * PITCH));

    let mut sums = Array::<f32>::new(comptime!(shape.sums()));
    let mut scores = Array::<f32>::new(SCORES);
    let mut largest = Array::<f32>::new(EACH);
    let mut whole = Array::<f32>::new(EACH);
    let mut maxima = Array::<f32>::new(EACH);
    clear(&mut sums, comptime!(shape.sums()));
    #[unroll]
    for i in 0..EACH {
        largest[i] = f32::new(LOWEST);
        whole[i] = f32::new(0.0);
    }

    let mut first = begin;
    while first < end {
        clear(&mut scores, SCORES);
        #[unroll]
        for part in 0..parts {
            let at = comptime!(part * chunk);
            let width = comptime!(shape.width(part));
            let column = numbers.queries_at + head * head_dim + at;
            let from = block.start + block.first;
            load(q, &mut tile_1, from, count, column, width, chunk);
            let column = numbers.keys_at + of_keys + at;
            let from = block.start + first;
            load(
                k,
                &mut tile_2,
                from,
                block.keys - first,
                column,
                width,
                chunk,
            );
            sync_cube();
            add_scores(&tile_1, &tile_2, &mut scores, width);
            sync_cube();
        }

        #[unroll]
        for i in 0..EACH {
            maxima[i] = f32::new(LOWEST);
            #[unroll]
            for j in 0..EACH {
                let query = i32::cast_from(block.first + row + i);
                let key = i32::cast_from(first + place() * EACH + j);
                let keys = i32::cast_from(block.keys);
                let mut score = scores[i * EACH + j] * numbers.scale;
                if comptime!(shape.capped) {
                    score = capped(score, numbers.softcap);
                }
                if !sees(query, key, keys, numbers.window, shape.causal) {
                    score = f32::new(LOWEST);
                }
                scores[i * EACH + j] = score;
                maxima[i] = max(maxima[i], score);
            }
        }
        reduce(&mut maxima, &mut shared, false);
        #[unroll]
        for i in 0..EACH {
            let higher = max(largest[i], maxima[i]);
            let shrink = (largest[i] - higher).exp();
            largest[i] = higher;
            whole[i] *= shrink;
            #[unroll]
            for j in 0..EACH {
                let score = scores[i * EACH + j];
                let seen = score > f32::new(LOWEST);
                let mut weight = select(seen, (score - higher).exp(), f32::new(0.0));
                whole[i] += weight;
                if comptime!(shape.drops) {
                    let token = u32::cast_from(block.start + block.first + row + i);
                    let heads = comptime!(shape.heads as u32);
                    let of_row = (numbers.first + token) * heads + CUBE_POS_Y;
                    let key = u32::cast_from(first + place() * EACH + j);
                    weight *= factor(numbers, of_row, key);
                }
                scores[i * EACH + j] = weight;
            }
            #[unroll]
            for j in 0..comptime!(shape.sums() / EACH) {
                sums[j * EACH + i] *= shrink;
            }
        }
        share(&scores, &mut weights);
        #[unroll]
        for part in 0..parts {
            let at = comptime!(part * chunk);
            let width = comptime!(shape.width(part));
            let column = numbers.values_at + of_keys + at;
            let from = block.start + first;
            load(
                v,
                &mut tile_2,
                from,
                block.keys - first,
                column,
                width,
                chunk,
            );
            sync_cube();
            add_weighted(&weights, &tile_2, &mut sums, part, chunk);
            sync_cube();
        }
        first += ROWS;
    }

    reduce(&mut whole, &mut shared, true);
    let stride = lse.stride(0);
    #[unroll]
    for i in 0..EACH {
        let sees_one = whole[i] > f32::new(0.0);
        let sum = select(sees_one, whole[i], f32::new(1.0));
        if place() == 0 && row + i < count {
            let token = block.start + block.first + row + i;
            lse[token * stride + head] = largest[i] + sum.ln();
        }
        whole[i] = f32::new(1.0) / sum;
    }
    let from = block.start + block.first;
    store(out, &sums, &whole, from, count, head * head_dim, head_dim);
}
