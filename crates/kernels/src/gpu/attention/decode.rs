//! The kernel of attention over a cache: an online softmax over its positions.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;

use super::cap::capped;

/// The units of a cube, each of which takes a position of the cache, and then columns of the values.
pub(super) const UNITS: usize = 64;

/// A cube for each head (x) and row (y).
#[cube(launch_unchecked)]
pub(super) fn decode_kernel<F: Float, I: Int>(
    query: &Tensor<F>,
    keys: &Tensor<F>,
    values: &Tensor<F>,
    first: &Tensor<I>,
    out: &mut Tensor<F>,
    window: usize,
    scale: f32,
    softcap: f32,
    #[comptime] head_dim: usize,
    #[comptime] group: usize,
    #[comptime] caps: bool,
    #[comptime] pads: bool,
    #[define(F, I)] _types: [ElemType; 2],
) {
    let head = CUBE_POS_X as usize;
    let row = CUBE_POS_Y as usize;
    let unit = UNIT_POS_X as usize;
    let positions = keys.shape(2);
    let key_row = keys.stride(2);
    let value_row = values.stride(2);
    let key_at = row * keys.stride(0) + head / group * keys.stride(1);
    let value_at = row * values.stride(0) + head / group * values.stride(1);
    let query_at = row * query.stride(0) + head * head_dim;
    let columns = comptime!(head_dim.div_ceil(UNITS));

    let mut of_query = Shared::<[f32]>::new_slice(head_dim);
    let mut weights = Shared::<[f32]>::new_slice(UNITS);
    let mut sums = Array::<f32>::new(columns);
    #[unroll]
    for i in 0..columns {
        let d = unit + i * UNITS;
        if d < head_dim {
            of_query[d] = f32::cast_from(query[query_at + d]) * scale;
        }
        sums[i] = f32::new(0.0);
    }
    sync_cube();

    let mut largest = f32::new(-1e30);
    let mut whole = f32::new(0.0);
    let mut begin = 0usize;
    if pads {
        begin = usize::cast_from(first[row]);
    }
    if positions > window {
        begin = max(begin, positions - window);
    }
    while begin < positions {
        let position = begin + unit;
        let mut score = f32::new(-1e30);
        if position < positions {
            score = f32::new(0.0);
            for d in 0..head_dim {
                score += of_query[d] * f32::cast_from(keys[key_at + position * key_row + d]);
            }
            if caps {
                score = capped(score, softcap);
            }
        }
        weights[unit] = score;
        sync_cube();
        let mut higher = largest;
        for other in 0..UNITS {
            higher = max(higher, weights[other]);
        }
        sync_cube();
        let shrink = (largest - higher).exp();
        largest = higher;
        weights[unit] = select(position < positions, (score - higher).exp(), f32::new(0.0));
        sync_cube();
        whole *= shrink;
        #[unroll]
        for i in 0..columns {
            sums[i] *= shrink;
        }
        let seen = min(UNITS, positions - begin);
        for other in 0..seen {
            let weight = weights[other];
            whole += weight;
            let at = value_at + (begin + other) * value_row;
            #[unroll]
            for i in 0..columns {
                let d = unit + i * UNITS;
                if d < head_dim {
                    sums[i] += weight * f32::cast_from(values[at + d]);
                }
            }
        }
        sync_cube();
        begin += UNITS;
    }
    let width = out.stride(0);
    #[unroll]
    for i in 0..columns {
        let d = unit + i * UNITS;
        if d < head_dim {
            out[row * width + head * head_dim + d] = F::cast_from(sums[i] / whole);
        }
    }
}
