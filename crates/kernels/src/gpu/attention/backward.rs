//! The backward pass: both kernels compute the weights again from the log-sum-exp, one for the gradient
//! of queries, the other for those of keys and values.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;

use super::seen::{block_at, keys_of, queries_of, sees};
use super::shape::{Numbers, Shape};
use super::softmax::{bounded, factor};
use super::tile::{
    EACH, PITCH, ROWS, SCORES, SIDE, add_scores, add_weighted, clear, first_row, load, place,
    reduce, share, store,
};

/// A weight and the gradient of its score, from the product of query and key and the product of the value
/// and the output's gradient. `row` is the row of dropout's mask.
#[cube]
fn weigh(
    product: f32,
    of_value: f32,
    lse: f32,
    delta: f32,
    row: u32,
    key: u32,
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
    let weight = (score - lse).exp();
    let mut stays = f32::new(1.0);
    if comptime!(shape.drops) {
        stays = factor(numbers, row, key);
    }
    (weight * stays, weight * (of_value * stays - delta) * slope)
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
    let block = block_at(table, CUBE_POS_X as usize);
    let head = CUBE_POS_Y as usize;
    let head_dim = comptime!(shape.head_dim);
    let chunk = comptime!(shape.chunk);
    let parts = comptime!(shape.parts());
    let of_keys = head / comptime!(shape.group()) * head_dim;
    let count = min(ROWS, block.queries - block.first);
    let (begin, end) = keys_of(&block, count, numbers.window, shape.causal);
    let row = first_row();
    let token = block.start + block.first;

    let mut tile_1 = Shared::<[f32]>::new_slice(comptime!(chunk * PITCH));
    let mut tile_2 = Shared::<[f32]>::new_slice(comptime!(chunk * PITCH));
    let mut weights = Shared::<[f32]>::new_slice(comptime!(ROWS * PITCH));
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
                let column = head * head_dim + d;
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

    let mut first = begin;
    while first < end {
        clear(&mut scores, SCORES);
        clear(&mut of_values, SCORES);
        let from = block.start + first;
        let keys = block.keys - first;
        #[unroll]
        for part in 0..parts {
            let at = comptime!(part * chunk);
            let width = comptime!(shape.width(part));
            let column = numbers.queries_at + head * head_dim + at;
            load(q, &mut tile_1, token, count, column, width, chunk);
            let column = numbers.keys_at + of_keys + at;
            load(k, &mut tile_2, from, keys, column, width, chunk);
            sync_cube();
            add_scores(&tile_1, &tile_2, &mut scores, width);
            sync_cube();
            load(
                grad,
                &mut tile_1,
                token,
                count,
                head * head_dim + at,
                width,
                chunk,
            );
            let column = numbers.values_at + of_keys + at;
            load(v, &mut tile_2, from, keys, column, width, chunk);
            sync_cube();
            add_scores(&tile_1, &tile_2, &mut of_values, width);
            sync_cube();
        }
        #[unroll]
        for i in 0..EACH {
            let query = block.first + row + i;
            let of_row = (numbers.first + u32::cast_from(block.start + query))
                * comptime!(shape.heads as u32)
                + CUBE_POS_Y;
            #[unroll]
            for j in 0..EACH {
                let key = first + place() * EACH + j;
                let (_weight, of_score) = weigh(
                    scores[i * EACH + j],
                    of_values[i * EACH + j],
                    of_lse[i],
                    delta[i],
                    of_row,
                    u32::cast_from(key),
                    numbers,
                    shape,
                );
                let seen = sees(
                    i32::cast_from(query),
                    i32::cast_from(key),
                    i32::cast_from(block.keys),
                    numbers.window,
                    shape.causal,
                );
                scores[i * EACH + j] = select(seen, of_score, f32::new(0.0));
            }
        }
        share(&scores, &mut weights);
        #[unroll]
        for part in 0..parts {
            let at = comptime!(part * chunk);
            let width = comptime!(shape.width(part));
            let column = numbers.keys_at + of_keys + at;
            load(k, &mut tile_2, from, keys, column, width, chunk);
            sync_cube();
            add_weighted(&weights, &tile_2, &mut sums, part, chunk);
            sync_cube();
        }
        first += ROWS;
    }
    let column = gradient_at + head * head_dim;
    store(of_q, &sums, &ones, token, count, column, head_dim);
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
    let chunk = comptime!(shape.chunk);
    let parts = comptime!(shape.parts());
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

    let mut tile_1 = Shared::<[f32]>::new_slice(comptime!(chunk * PITCH));
    let mut tile_2 = Shared::<[f32]>::new_slice(comptime!(chunk * PITCH));
    let mut weights = Shared::<[f32]>::new_slice(comptime!(ROWS * PITCH));

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
            let from = block.start + first;
            let queries = block.queries - first;
            #[unroll]
            for part in 0..parts {
                let at = comptime!(part * chunk);
                let width = comptime!(shape.width(part));
                let column = numbers.keys_at + of_head + at;
                load(k, &mut tile_1, token, count, column, width, chunk);
                let column = numbers.queries_at + head * head_dim + at;
                load(q, &mut tile_2, from, queries, column, width, chunk);
                sync_cube();
                add_scores(&tile_1, &tile_2, &mut scores, width);
                sync_cube();
                let column = numbers.values_at + of_head + at;
                load(v, &mut tile_1, token, count, column, width, chunk);
                load(
                    grad,
                    &mut tile_2,
                    from,
                    queries,
                    head * head_dim + at,
                    width,
                    chunk,
                );
                sync_cube();
                add_scores(&tile_1, &tile_2, &mut products, width);
                sync_cube();
            }
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
                let of_row = (numbers.first + u32::cast_from(at)) * comptime!(shape.heads as u32)
                    + u32::cast_from(head);
                #[unroll]
                for i in 0..EACH {
                    let key = block.first + row + i;
                    let (weight, of_score) = weigh(
                        scores[i * EACH + j],
                        products[i * EACH + j],
                        of_lse,
                        delta,
                        of_row,
                        u32::cast_from(key),
                        numbers,
                        shape,
                    );
                    let seen = query < block.queries
                        && sees(
                            i32::cast_from(query),
                            i32::cast_from(key),
                            i32::cast_from(block.keys),
                            numbers.window,
                            shape.causal,
                        );
                    scores[i * EACH + j] = select(seen, weight, f32::new(0.0));
                    products[i * EACH + j] = select(seen, of_score, f32::new(0.0));
                }
            }
            share(&scores, &mut weights);
            #[unroll]
            for part in 0..parts {
                let at = comptime!(part * chunk);
                let width = comptime!(shape.width(part));
                load(
                    grad,
                    &mut tile_2,
                    from,
                    queries,
                    head * head_dim + at,
                    width,
                    chunk,
                );
                sync_cube();
                add_weighted(&weights, &tile_2, &mut of_values, part, chunk);
                sync_cube();
            }
            share(&products, &mut weights);
            #[unroll]
            for part in 0..parts {
                let at = comptime!(part * chunk);
                let width = comptime!(shape.width(part));
                let column = numbers.queries_at + head * head_dim + at;
                load(q, &mut tile_2, from, queries, column, width, chunk);
                sync_cube();
                add_weighted(&weights, &tile_2, &mut of_keys, part, chunk);
                sync_cube();
            }
            first += ROWS;
        }
    }
    store(
        of_k,
        &of_keys,
        &ones,
        token,
        rows,
        keys_at + of_head,
        head_dim,
    );
    store(
        of_v,
        &of_values,
        &ones,
        token,
        rows,
        values_at + of_head,
        head_dim,
    );
}
