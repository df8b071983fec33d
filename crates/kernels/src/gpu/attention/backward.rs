//! The backward pass: both kernels compute the weights again from the log-sum-exp, one for the gradient
//! of queries, the other for those of keys and values.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;

use super::cap::bounded;
use super::seen::{Block, block_at, queries_at, queries_of, sees};
use super::shape::{Numbers, Shape};
use super::tile::{
    EACH, PITCH, ROWS, Rows, SCORES, SIDE, Tiles, add_products, add_weighted_rows, clear,
    first_row, place, reduce, store,
};
use crate::gpu::mask::factor;

/// A query and a key of a block's text, and what the forward pass left of the query and its head.
#[derive(CubeType, Clone, Copy)]
struct Pair {
    query: usize,
    key: usize,
    head: usize,
    lse: f32,
    /// The product of the output and its gradient.
    delta: f32,
}

/// The weight of a pair and the gradient of its score, from the product of query and key and the product
/// of the value and the output's gradient. Both are 0 if the query does not see the key.
#[cube]
fn weigh(
    pair: &Pair,
    product: f32,
    of_value: f32,
    block: &Block,
    numbers: &Numbers,
    #[comptime] shape: Shape,
) -> (f32, f32) {
    let mut score = product * numbers.scale;
    let mut slope = numbers.scale;
    if comptime!(shape.capped) {
        let bounded = bounded(score, numbers.softcap);
        score = bounded * numbers.softcap;
        slope *= f32::new(1.0) - bounded * bounded;
    }
    let weight = (score - pair.lse).exp();
    let mut stays = f32::new(1.0);
    if comptime!(shape.drops) {
        let row = (block.start + pair.query) * comptime!(shape.heads) + pair.head;
        stays = factor(&numbers.dropout, row as u32, pair.key as u32);
    }
    let of_score = weight * (of_value * stays - pair.delta) * slope;
    let seen = pair.query < block.queries
        && sees(
            i32::cast_from(pair.query),
            i32::cast_from(pair.key),
            i32::cast_from(block.keys),
            numbers.window,
            shape.causal,
        );
    let none = f32::new(0.0);
    (
        select(seen, weight * stays, none),
        select(seen, of_score, none),
    )
}

/// The gradient of queries, and for each query and head the product of the output and its gradient. A
/// cube for each block of queries (x) and head (y).
#[cube(launch_unchecked)]
pub(super) fn of_queries<F: Float, I: Int>(
    q: &Tensor<F>,
    k: &Tensor<F>,
    v: &Tensor<F>,
    table: &Tensor<I>,
    out: &Tensor<F>,
    grad: &Tensor<F>,
    lse: &Tensor<f32>,
    of_q: &mut Tensor<F>,
    deltas: &mut Tensor<f32>,
    numbers: &Numbers,
    gradient_at: usize,
    #[comptime] shape: Shape,
    #[define(F, I)] _types: [ElemType; 2],
) {
    let own = queries_at(table, numbers, shape);
    let (block, head, outputs) = (own.block, own.head, own.outputs);
    let (token, count) = (outputs.first, outputs.count);
    let head_dim = comptime!(shape.head_dim);
    let row = first_row();
    let queries = Rows::new(token, count, numbers.queries_at + outputs.column);

    let mut tiles = Tiles::new(shape.chunk);
    let mut shared = Shared::<[f32]>::new_slice(comptime!(SIDE * PITCH));

    let mut sums = Array::<f32>::new(comptime!(shape.sums()));
    let mut scores = Array::<f32>::new(SCORES);
    let mut of_values = Array::<f32>::new(SCORES);
    let mut delta = Array::<f32>::new(EACH);
    let mut of_lse = Array::<f32>::new(EACH);
    let mut ones = Array::<f32>::new(EACH);
    clear(&mut sums, comptime!(shape.sums()));

    #[unroll]
    for i in 0..EACH {
        let mut sum = f32::new(0.0);
        let mut of_token = f32::new(0.0);
        if row + i < count {
            let at = token + row + i;
            let mut d = place();
            while d < head_dim {
                let column = outputs.column + d;
                let a = f32::cast_from(out[at * out.stride(0) + column]);
                sum += a * f32::cast_from(grad[at * grad.stride(0) + column]);
                d += SIDE;
            }
            of_token = lse[at * lse.stride(0) + head];
        }
        delta[i] = sum;
        of_lse[i] = of_token;
        ones[i] = f32::new(1.0);
    }
    reduce(&mut delta, &mut shared, true);
    let stride = deltas.stride(0);
    if place() == 0 {
        #[unroll]
        for i in 0..EACH {
            if row + i < count {
                deltas[(token + row + i) * stride + head] = delta[i];
            }
        }
    }

    let mut first = own.begin;
    while first < own.end {
        clear(&mut scores, SCORES);
        clear(&mut of_values, SCORES);
        let (from, keys) = (block.start + first, block.keys - first);
        let values = Rows::new(from, keys, numbers.values_at + own.of_keys);
        let keys = Rows::new(from, keys, numbers.keys_at + own.of_keys);
        add_products(q, &queries, k, &keys, &mut tiles, &mut scores, shape);
        add_products(
            grad,
            &outputs,
            v,
            &values,
            &mut tiles,
            &mut of_values,
            shape,
        );
        #[unroll]
        for i in 0..EACH {
            #[unroll]
            for j in 0..EACH {
                let pair = Pair {
                    query: block.first + row + i,
                    key: first + place() * EACH + j,
                    head,
                    lse: of_lse[i],
                    delta: delta[i],
                };
                let at = i * EACH + j;
                let (_weight, of_score) =
                    weigh(&pair, scores[at], of_values[at], &block, numbers, shape);
                scores[at] = of_score;
            }
        }
        add_weighted_rows(&scores, k, &keys, &mut tiles, &mut sums, shape);
        first += ROWS;
    }
    let gradients = Rows::new(token, count, gradient_at + outputs.column);
    store(of_q, &sums, &ones, &gradients, head_dim);
}

/// The gradients of keys and values. A cube for each block of keys (x) and their head (y) goes through the
/// queries that see them.
#[cube(launch_unchecked)]
pub(super) fn of_keys<F: Float, I: Int>(
    q: &Tensor<F>,
    k: &Tensor<F>,
    v: &Tensor<F>,
    table: &Tensor<I>,
    grad: &Tensor<F>,
    lse: &Tensor<f32>,
    deltas: &Tensor<f32>,
    of_k: &mut Tensor<F>,
    of_v: &mut Tensor<F>,
    numbers: &Numbers,
    keys_at: usize,
    values_at: usize,
    #[comptime] shape: Shape,
    #[define(F, I)] _types: [ElemType; 2],
) {
    let block = block_at(table, CUBE_POS_X as usize);
    let head_dim = comptime!(shape.head_dim);
    let group = comptime!(shape.group());
    let of_head = CUBE_POS_Y as usize * head_dim;
    // Rows of padding are no keys, and have no gradient.
    let rows = min(ROWS, block.queries - block.first);
    let mut count = 0usize;
    if block.first < block.keys {
        count = min(ROWS, block.keys - block.first);
    }
    let (begin, last) = queries_of(&block, count, numbers.window, shape.causal);
    let mut end = last;
    if count == 0 {
        end = begin;
    }
    let row = first_row();
    let token = block.start + block.first;
    let keys = Rows::new(token, count, numbers.keys_at + of_head);
    let values = Rows::new(token, count, numbers.values_at + of_head);

    let mut tiles = Tiles::new(shape.chunk);

    let mut of_values = Array::<f32>::new(comptime!(shape.sums()));
    let mut of_keys = Array::<f32>::new(comptime!(shape.sums()));
    let mut scores = Array::<f32>::new(SCORES);
    let mut products = Array::<f32>::new(SCORES);
    let mut ones = Array::<f32>::new(EACH);
    clear(&mut of_values, comptime!(shape.sums()));
    clear(&mut of_keys, comptime!(shape.sums()));
    #[unroll]
    for i in 0..EACH {
        ones[i] = f32::new(1.0);
    }

    for member in 0..group {
        let head = CUBE_POS_Y as usize * group + member;
        let mut first = begin;
        while first < end {
            clear(&mut scores, SCORES);
            clear(&mut products, SCORES);
            let (from, queries) = (block.start + first, block.queries - first);
            let outputs = Rows::new(from, queries, head * head_dim);
            let column = numbers.queries_at + head * head_dim;
            let queries = Rows::new(from, queries, column);
            add_products(k, &keys, q, &queries, &mut tiles, &mut scores, shape);
            add_products(v, &values, grad, &outputs, &mut tiles, &mut products, shape);
            #[unroll]
            for j in 0..EACH {
                let query = first + place() * EACH + j;
                let at = block.start + query;
                let mut of_lse = f32::new(0.0);
                let mut delta = f32::new(0.0);
                if query < block.queries {
                    of_lse = lse[at * lse.stride(0) + head];
                    delta = deltas[at * deltas.stride(0) + head];
                }
                #[unroll]
                for i in 0..EACH {
                    let pair = Pair {
                        query,
                        key: block.first + row + i,
                        head,
                        lse: of_lse,
                        delta,
                    };
                    let at = i * EACH + j;
                    let (weight, of_score) =
                        weigh(&pair, scores[at], products[at], &block, numbers, shape);
                    scores[at] = weight;
                    products[at] = of_score;
                }
            }
            add_weighted_rows(&scores, grad, &outputs, &mut tiles, &mut of_values, shape);
            add_weighted_rows(&products, q, &queries, &mut tiles, &mut of_keys, shape);
            first += ROWS;
        }
    }
    let of_block = Rows::new(token, rows, keys_at + of_head);
    store(of_k, &of_keys, &ones, &of_block, head_dim);
    let of_block = Rows::new(token, rows, values_at + of_head);
    store(of_v, &of_values, &ones, &of_block, head_dim);
}
