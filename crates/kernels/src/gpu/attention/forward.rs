//! The forward pass: an online softmax over tiles of keys.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;

use super::cap::capped;
use super::seen::{queries_at, sees};
use super::shape::{Numbers, Shape};
use super::tile::{
    EACH, PITCH, ROWS, Rows, SCORES, SIDE, Tiles, add_products, add_weighted_rows, clear,
    first_row, place, reduce, store,
};
use crate::gpu::mask::factor;

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
    let own = queries_at(table, numbers, shape);
    let (block, head, outputs) = (own.block, own.head, own.outputs);
    let (token, count) = (outputs.first, outputs.count);
    let row = first_row();
    let queries = Rows::new(token, count, numbers.queries_at + outputs.column);

    let mut tiles = Tiles::new(shape.chunk);
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

    let mut first = own.begin;
    while first < own.end {
        clear(&mut scores, SCORES);
        let (from, keys) = (block.start + first, block.keys - first);
        let values = Rows::new(from, keys, numbers.values_at + own.of_keys);
        let keys = Rows::new(from, keys, numbers.keys_at + own.of_keys);
        add_products(q, &queries, k, &keys, &mut tiles, &mut scores, shape);
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
                    let of_row = (token + row + i) * comptime!(shape.heads) + head;
                    let key = first + place() * EACH + j;
                    weight *= factor(&numbers.dropout, of_row as u32, key as u32);
                }
                scores[i * EACH + j] = weight;
            }
            #[unroll]
            for j in 0..comptime!(shape.sums() / EACH) {
                sums[j * EACH + i] *= shrink;
            }
        }
        add_weighted_rows(&scores, v, &values, &mut tiles, &mut sums, shape);
        first += ROWS;
    }

    reduce(&mut whole, &mut shared, true);
    let stride = lse.stride(0);
    #[unroll]
    for i in 0..EACH {
        let sees_one = whole[i] > f32::new(0.0);
        let sum = select(sees_one, whole[i], f32::new(1.0));
        if place() == 0 && row + i < count {
            lse[(token + row + i) * stride + head] = largest[i] + sum.ln();
        }
        whole[i] = f32::new(1.0) / sum;
    }
    store(out, &sums, &whole, &outputs, shape.head_dim);
}
