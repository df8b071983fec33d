//! The kernels of LoRA's low-rank products. Their workgroups make the tiles of the products of all
//! layers, one layer after the other. If the weights are in 16 bits, further workgroups of the kernels
//! that read all of the weights' inputs narrow these, a row each. The sizes of the rows are behind the
//! hidden values, or behind their gradients.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;

use crate::gpu::mask::{Drops, factor, mask_of, no_mask};
use crate::gpu::narrow::narrow_row;
use crate::gpu::small_product::{Lies, Side, Tiles, Tiling, place_in_tile, tile_of_product, tiles};

const ALONG: Lies = Lies {
    along_sum: true,
    drops: false,
};
const ACROSS: Lies = Lies {
    along_sum: false,
    drops: false,
};

/// The numbers of a layer.
#[derive(CubeType, CubeLaunch)]
pub(super) struct Layer {
    pub r: usize,
    pub d_out: usize,
    pub scaling: f32,
    pub dropout: Drops,
    /// Where its hidden values begin among those of all layers, and likewise its gradients.
    pub hidden_at: usize,
    pub of_a_at: usize,
    pub of_b_at: usize,
}

/// `scaling · dropout(x) aᵀ`. Also `x` in 16 bits, where there is room for it.
#[cube(launch_unchecked)]
pub(super) fn down<F: Float, N: Float>(
    x: &[F],
    a: &Sequence<Box<[F]>>,
    hidden: &mut [f32],
    narrow: &mut Sequence<Box<[N]>>,
    words: &[u32],
    layers: &Sequence<Layer>,
    tokens: usize,
    d_in: usize,
    sizes_at: usize,
    #[comptime] drops: bool,
    #[comptime] tiling: Tiling,
    #[define(F, N)] _dtypes: [ElemType; 2],
) {
    let mut memory = Tiles::new(tiling);
    let mut first = 0usize;
    let left = comptime!(Lies {
        along_sum: true,
        drops
    });
    #[unroll]
    for i in 0..a.len() {
        let layer = &layers[i];
        let r = layer.r;
        let end = first + tiles(tokens, r, tiling);
        if CUBE_POS >= first && CUBE_POS < end {
            let tile = CUBE_POS - first;
            let (rows, columns) = (Side::new(0, tokens), Side::new(0, r));
            let mask = mask_of(words, &layer.dropout, drops);
            let values = tile_of_product::<F, F>(
                x,
                &rows,
                &a[i],
                &columns,
                d_in,
                tile,
                &mut memory,
                &mask,
                left,
                ALONG,
                tiling,
            );
            for own in 0..comptime!(tiling.values()) {
                let (row, column) = place_in_tile(r, tile, own, tiling);
                if row < tokens && column < r {
                    hidden[layer.hidden_at + row * r + column] = layer.scaling * values[own];
                }
            }
        }
        first = end;
    }
    if comptime!(narrow.len() == 1) && CUBE_POS >= first && CUBE_POS < first + tokens {
        let row = CUBE_POS - first;
        let narrow = &mut narrow[0];
        let size = narrow_row::<F, N>(x, narrow, row * d_in, d_in, comptime!(tiling.units()));
        if UNIT_POS == 0 {
            hidden[sizes_at + row] = size;
        }
    }
}

/// `product + bias + residual + hidden bᵀ`. Products of an input in 16 bits are multiplied by the sizes
/// of its rows.
#[cube(launch_unchecked)]
pub(super) fn up<F: Float>(
    products: &Sequence<Box<[F]>>,
    hidden: &[f32],
    b: &Sequence<Box<[F]>>,
    biases: &Sequence<Box<[F]>>,
    residuals: &Sequence<Box<[F]>>,
    outputs: &mut Sequence<Box<[F]>>,
    layers: &Sequence<Layer>,
    tokens: usize,
    sizes_at: usize,
    #[comptime] is_narrow: bool,
    #[comptime] tiling: Tiling,
    #[define(F)] _dtype: ElemType,
) {
    let mut memory = Tiles::new(tiling);
    let mask = no_mask();
    let mut first = 0usize;
    #[unroll]
    for i in 0..b.len() {
        let layer = &layers[i];
        let (r, d_out) = (layer.r, layer.d_out);
        let end = first + tiles(tokens, d_out, tiling);
        if CUBE_POS >= first && CUBE_POS < end {
            let tile = CUBE_POS - first;
            let (rows, columns) = (Side::new(layer.hidden_at, tokens), Side::new(0, d_out));
            let changes = tile_of_product::<f32, F>(
                hidden,
                &rows,
                &b[i],
                &columns,
                r,
                tile,
                &mut memory,
                &mask,
                ALONG,
                ALONG,
                tiling,
            );
            for own in 0..comptime!(tiling.values()) {
                let (row, column) = place_in_tile(d_out, tile, own, tiling);
                if row < tokens && column < d_out {
                    let at = row * d_out + column;
                    let mut value = f32::cast_from(products[i][at]);
                    if is_narrow {
                        value *= hidden[sizes_at + row];
                    }
                    value += changes[own];
                    if comptime!(biases.len() == b.len()) {
                        value += f32::cast_from(biases[i][column]);
                    }
                    if comptime!(residuals.len() == b.len()) {
                        value += f32::cast_from(residuals[i][at]);
                    }
                    let output = &mut outputs[i];
                    output[at] = F::cast_from(value);
                }
            }
        }
        first = end;
    }
}

/// The gradients of the hidden values, with their scaling, and of each `b`. Also the outputs' gradients in
/// 16 bits, where there is room for them.
#[cube(launch_unchecked)]
pub(super) fn gradients_up<F: Float, N: Float>(
    grads: &Sequence<Box<[F]>>,
    hidden: &[f32],
    b: &Sequence<Box<[F]>>,
    of_hidden: &mut [f32],
    gradients: &mut [F],
    narrow: &mut Sequence<Box<[N]>>,
    layers: &Sequence<Layer>,
    tokens: usize,
    sizes_at: usize,
    #[comptime] tiling: Tiling,
    #[define(F, N)] _dtypes: [ElemType; 2],
) {
    let mut memory = Tiles::new(tiling);
    let mask = no_mask();
    let mut first = 0usize;
    #[unroll]
    for i in 0..b.len() {
        let layer = &layers[i];
        let (r, d_out) = (layer.r, layer.d_out);
        let (outputs, ranks) = (Side::new(0, d_out), Side::new(0, r));
        let end = first + tiles(tokens, r, tiling);
        if CUBE_POS >= first && CUBE_POS < end {
            let tile = CUBE_POS - first;
            let rows = Side::new(0, tokens);
            let values = tile_of_product::<F, F>(
                &grads[i],
                &rows,
                &b[i],
                &ranks,
                d_out,
                tile,
                &mut memory,
                &mask,
                ALONG,
                ACROSS,
                tiling,
            );
            for own in 0..comptime!(tiling.values()) {
                let (row, column) = place_in_tile(r, tile, own, tiling);
                if row < tokens && column < r {
                    of_hidden[layer.hidden_at + row * r + column] = layer.scaling * values[own];
                }
            }
        }
        first = end;
        let end = first + tiles(d_out, r, tiling);
        if CUBE_POS >= first && CUBE_POS < end {
            let tile = CUBE_POS - first;
            let ranks = Side::new(layer.hidden_at, r);
            let values = tile_of_product::<F, f32>(
                &grads[i],
                &outputs,
                hidden,
                &ranks,
                tokens,
                tile,
                &mut memory,
                &mask,
                ACROSS,
                ACROSS,
                tiling,
            );
            for own in 0..comptime!(tiling.values()) {
                let (row, column) = place_in_tile(r, tile, own, tiling);
                if row < d_out && column < r {
                    gradients[layer.of_b_at + row * r + column] = F::cast_from(values[own]);
                }
            }
        }
        first = end;
        if comptime!(narrow.len() == b.len()) {
            let end = first + tokens;
            if CUBE_POS >= first && CUBE_POS < end {
                let row = CUBE_POS - first;
                let narrow = &mut narrow[i];
                let units = comptime!(tiling.units());
                let size = narrow_row::<F, N>(&grads[i], narrow, row * d_out, d_out, units);
                if UNIT_POS == 0 {
                    of_hidden[sizes_at + i * tokens + row] = size;
                }
            }
            first = end;
        }
    }
}

/// The gradients of each `a` and, if it is wanted, of `x`, to which the `products` are added, those of
/// gradients in 16 bits multiplied by the sizes of the rows.
#[cube(launch_unchecked)]
pub(super) fn gradients_down<F: Float>(
    of_hidden: &[f32],
    x: &[F],
    a: &Sequence<Box<[F]>>,
    products: &Sequence<Box<[F]>>,
    gradients: &mut [F],
    of_x: &mut Sequence<Box<[F]>>,
    words: &[u32],
    layers: &Sequence<Layer>,
    tokens: usize,
    d_in: usize,
    sizes_at: usize,
    #[comptime] drops: bool,
    #[comptime] is_narrow: bool,
    #[comptime] tiling: Tiling,
    #[define(F)] _dtype: ElemType,
) {
    let mut memory = Tiles::new(tiling);
    let mut first = 0usize;
    let right = comptime!(Lies {
        along_sum: false,
        drops
    });
    let channels = Side::new(0, d_in);
    #[unroll]
    for i in 0..a.len() {
        let layer = &layers[i];
        let r = layer.r;
        let end = first + tiles(r, d_in, tiling);
        if CUBE_POS >= first && CUBE_POS < end {
            let tile = CUBE_POS - first;
            let ranks = Side::new(layer.hidden_at, r);
            let mask = mask_of(words, &layer.dropout, drops);
            let values = tile_of_product::<f32, F>(
                of_hidden,
                &ranks,
                x,
                &channels,
                tokens,
                tile,
                &mut memory,
                &mask,
                ACROSS,
                right,
                tiling,
            );
            for own in 0..comptime!(tiling.values()) {
                let (row, column) = place_in_tile(d_in, tile, own, tiling);
                if row < r && column < d_in {
                    gradients[layer.of_a_at + row * d_in + column] = F::cast_from(values[own]);
                }
            }
        }
        first = end;
    }
    if comptime!(of_x.len() == 1) {
        let end = first + tiles(tokens, d_in, tiling);
        if CUBE_POS >= first && CUBE_POS < end {
            let tile = CUBE_POS - first;
            let mut sums = Array::<f32>::new(comptime!(tiling.values()));
            for own in 0..comptime!(tiling.values()) {
                sums[own] = 0.0f32;
            }
            #[unroll]
            for i in 0..a.len() {
                let layer = &layers[i];
                let rows = Side::new(layer.hidden_at, tokens);
                let mask = mask_of(words, &layer.dropout, drops);
                let changes = tile_of_product::<f32, F>(
                    of_hidden,
                    &rows,
                    &a[i],
                    &channels,
                    layer.r,
                    tile,
                    &mut memory,
                    &mask,
                    ALONG,
                    ACROSS,
                    tiling,
                );
                for own in 0..comptime!(tiling.values()) {
                    let (row, column) = place_in_tile(d_in, tile, own, tiling);
                    let mut change = changes[own];
                    if drops {
                        change *= factor(&mask, row as u32, column as u32);
                    }
                    if comptime!(products.len() == a.len()) {
                        let product = &products[i];
                        if row < tokens && column < d_in {
                            let mut value = f32::cast_from(product[row * d_in + column]);
                            if is_narrow {
                                value *= of_hidden[sizes_at + i * tokens + row];
                            }
                            change += value;
                        }
                    }
                    sums[own] += change;
                }
            }
            for own in 0..comptime!(tiling.values()) {
                let (row, column) = place_in_tile(d_in, tile, own, tiling);
                if row < tokens && column < d_in {
                    let of_x = &mut of_x[0];
                    of_x[row * d_in + column] = F::cast_from(sums[own]);
                }
            }
        }
    }
}
