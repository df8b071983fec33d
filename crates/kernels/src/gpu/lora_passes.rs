//! The passes of LoRA's low-rank products, each a launch with what stands beside it.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::ir::ElemType;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{buffer, contiguous, cubes, elem, empty, empty_like};
use super::mask::{Drops, Mask, Masked, drops, factor, mask, mask_of};
use super::small_product::{Lies, place_in_tile, tile_of_product, tile_units, tiles};
use crate::flex::Optional;

/// The arguments that are not tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factors {
    pub scaling: f32,
    pub dropout: Option<Masked>,
}

fn beside(rows: &Shape, columns: &Shape) -> Shape {
    Shape::new([rows.dims::<2>()[0], columns.dims::<2>()[0]])
}

/// Of `x` `[tokens, d_in]`, `a` `[r, d_in]`, `b` `[d_out, r]`; what is of width `r` is in 32 bits.
#[backend_extension(Cube, Fusion)]
pub(crate) trait LoraPasses: Backend {
    /// `scaling · dropout(x) aᵀ`, `[tokens, r]`.
    #[fusion(dtype = DType::F32, shape = beside(x, a))]
    fn lora_down(x: FloatTensor<Self>, a: FloatTensor<Self>, factors: Factors)
    -> FloatTensor<Self>;

    /// `product + bias + residual + hidden bᵀ`.
    #[fusion(dtype = product, shape = product)]
    fn lora_up(
        product: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        b: FloatTensor<Self>,
        #[extension_type] bias: Optional<Self>,
        #[extension_type] residual: Optional<Self>,
    ) -> FloatTensor<Self>;

    /// The gradients of what [`lora_down`](Self::lora_down) computes, with its scaling, and of `b`.
    #[fusion(meta = |_grad, hidden, b, _factors| -> (TensorSpec, TensorSpec) { (hidden.clone(), b.clone()) })]
    fn lora_gradients_up(
        grad: FloatTensor<Self>,
        hidden: FloatTensor<Self>,
        b: FloatTensor<Self>,
        factors: Factors,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of `a` and of `x`, to which `product` is added.
    #[fusion(meta = |_of_hidden, x, a, _product, _factors| -> (TensorSpec, TensorSpec) { (a.clone(), x.clone()) })]
    fn lora_gradients_down(
        of_hidden: FloatTensor<Self>,
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        #[extension_type] product: Optional<Self>,
        factors: Factors,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradient of `a` alone.
    #[fusion(dtype = a, shape = a)]
    fn lora_gradient_a(
        of_hidden: FloatTensor<Self>,
        x: FloatTensor<Self>,
        a: FloatTensor<Self>,
        factors: Factors,
    ) -> FloatTensor<Self>;
}

const ALONG: Lies = Lies {
    along_sum: true,
    drops: false,
};
const ACROSS: Lies = Lies {
    along_sum: false,
    drops: false,
};

#[cube(launch_unchecked)]
fn down<F: Float>(
    x: &[F],
    a: &[F],
    hidden: &mut [f32],
    words: &[u32],
    d_in: u32,
    r: u32,
    scaling: f32,
    dropout: Drops,
    #[comptime] drops: bool,
    #[define(F)] _dtype: ElemType,
) {
    let (d_in, r) = (d_in as usize, r as usize);
    let tokens = hidden.len() / r;
    let tile = CUBE_POS;
    if tile >= tiles(tokens, r) {
        terminate!();
    }
    let left = comptime!(Lies {
        along_sum: true,
        drops
    });
    let mask = mask_of(words, &dropout, drops);
    let value = tile_of_product::<F, F>(x, a, tokens, r, d_in, tile, &mask, left, ALONG);
    let (row, column) = place_in_tile(r, tile);
    if row < tokens && column < r {
        hidden[row * r + column] = scaling * value;
    }
}

#[cube(launch_unchecked)]
fn up<F: Float>(
    product: &[F],
    hidden: &[f32],
    b: &[F],
    bias: &[F],
    residual: &[F],
    output: &mut [F],
    d_out: u32,
    r: u32,
    mask: Mask,
    #[comptime] has_bias: bool,
    #[comptime] has_residual: bool,
    #[define(F)] _dtype: ElemType,
) {
    let (d_out, r) = (d_out as usize, r as usize);
    let tokens = output.len() / d_out;
    let tile = CUBE_POS;
    if tile >= tiles(tokens, d_out) {
        terminate!();
    }
    let change = tile_of_product::<f32, F>(hidden, b, tokens, d_out, r, tile, &mask, ALONG, ALONG);
    let (row, column) = place_in_tile(d_out, tile);
    if row < tokens && column < d_out {
        let at = row * d_out + column;
        let mut value = f32::cast_from(product[at]) + change;
        if has_bias {
            value += f32::cast_from(bias[column]);
        }
        if has_residual {
            value += f32::cast_from(residual[at]);
        }
        output[at] = F::cast_from(value);
    }
}

/// The first workgroups compute the tiles of the gradient of the hidden values, the others those of the
/// gradient of `b`.
#[cube(launch_unchecked)]
fn gradients_up<F: Float>(
    grad: &[F],
    hidden: &[f32],
    b: &[F],
    of_hidden: &mut [f32],
    of_b: &mut [F],
    d_out: u32,
    r: u32,
    scaling: f32,
    mask: Mask,
    #[define(F)] _dtype: ElemType,
) {
    let (d_out, r) = (d_out as usize, r as usize);
    let tokens = of_hidden.len() / r;
    let first = tiles(tokens, r);
    let tile = CUBE_POS;
    if tile >= first + tiles(d_out, r) {
        terminate!();
    }
    if tile < first {
        let value = tile_of_product::<F, F>(grad, b, tokens, r, d_out, tile, &mask, ALONG, ACROSS);
        let (row, column) = place_in_tile(r, tile);
        if row < tokens && column < r {
            of_hidden[row * r + column] = scaling * value;
        }
    } else {
        let tile = tile - first;
        let value =
            tile_of_product::<F, f32>(grad, hidden, d_out, r, tokens, tile, &mask, ACROSS, ACROSS);
        let (row, column) = place_in_tile(r, tile);
        if row < d_out && column < r {
            of_b[row * r + column] = F::cast_from(value);
        }
    }
}

/// The first workgroups compute the tiles of the gradient of `a`, the others, if there are any, those of
/// the gradient of `x`.
#[cube(launch_unchecked)]
fn gradients_down<F: Float>(
    of_hidden: &[f32],
    x: &[F],
    a: &[F],
    product: &[F],
    of_a: &mut [F],
    of_x: &mut [F],
    words: &[u32],
    d_in: u32,
    r: u32,
    dropout: Drops,
    #[comptime] drops: bool,
    #[comptime] with_x: bool,
    #[comptime] has_product: bool,
    #[define(F)] _dtype: ElemType,
) {
    let (d_in, r) = (d_in as usize, r as usize);
    let tokens = of_hidden.len() / r;
    let mask = mask_of(words, &dropout, drops);
    let first = tiles(r, d_in);
    let tile = CUBE_POS;
    if tile >= first + tiles(tokens, d_in) {
        terminate!();
    }
    let right = comptime!(Lies {
        along_sum: false,
        drops
    });
    if tile < first {
        let value =
            tile_of_product::<f32, F>(of_hidden, x, r, d_in, tokens, tile, &mask, ACROSS, right);
        let (row, column) = place_in_tile(d_in, tile);
        if row < r && column < d_in {
            of_a[row * d_in + column] = F::cast_from(value);
        }
    } else if with_x {
        let tile = tile - first;
        let value =
            tile_of_product::<f32, F>(of_hidden, a, tokens, d_in, r, tile, &mask, ALONG, ACROSS);
        let (row, column) = place_in_tile(d_in, tile);
        if row < tokens && column < d_in {
            let at = row * d_in + column;
            let mut change = value;
            if drops {
                change *= factor(&mask, row as u32, column as u32);
            }
            if has_product {
                change += f32::cast_from(product[at]);
            }
            of_x[at] = F::cast_from(change);
        }
    }
}

impl LoraPasses for CubeBackend {
    fn lora_down(x: CubeTensor, a: CubeTensor, factors: Factors) -> CubeTensor {
        let (x, a) = (contiguous(x), contiguous(a));
        let ([tokens, d_in], [r, _]) = (x.shape().dims(), a.shape().dims());
        let hidden = empty(&x, [tokens, r], DType::F32);
        let (words, dropout) = drops(factors.dropout, &x);
        // SAFETY: places are checked against the sizes of the matrices.
        unsafe {
            down::launch_unchecked(
                &x.client,
                cubes(tiles(tokens, r)),
                tile_units(),
                buffer(&x),
                buffer(&a),
                buffer(&hidden),
                words,
                d_in as u32,
                r as u32,
                factors.scaling,
                dropout,
                factors.dropout.is_some(),
                elem(&x),
            );
        }
        hidden
    }

    fn lora_up(
        product: CubeTensor,
        hidden: CubeTensor,
        b: CubeTensor,
        bias: Optional<Self>,
        residual: Optional<Self>,
    ) -> CubeTensor {
        let [product, hidden, b] = [product, hidden, b].map(contiguous);
        let [bias, residual] = [bias, residual].map(|tensor| tensor.given().map(contiguous));
        let ([tokens, d_out], [_, r]) = (product.shape().dims(), b.shape().dims());
        let output = empty_like(&product);
        // SAFETY: as above.
        unsafe {
            up::launch_unchecked(
                &product.client,
                cubes(tiles(tokens, d_out)),
                tile_units(),
                buffer(&product),
                buffer(&hidden),
                buffer(&b),
                buffer(bias.as_ref().unwrap_or(&product)),
                buffer(residual.as_ref().unwrap_or(&product)),
                buffer(&output),
                d_out as u32,
                r as u32,
                mask(None),
                bias.is_some(),
                residual.is_some(),
                elem(&product),
            );
        }
        output
    }

    fn lora_gradients_up(
        grad: CubeTensor,
        hidden: CubeTensor,
        b: CubeTensor,
        factors: Factors,
    ) -> (CubeTensor, CubeTensor) {
        let [grad, hidden, b] = [grad, hidden, b].map(contiguous);
        let ([tokens, d_out], [_, r]) = (grad.shape().dims(), b.shape().dims());
        let (of_hidden, of_b) = (empty_like(&hidden), empty_like(&b));
        // SAFETY: as above.
        unsafe {
            gradients_up::launch_unchecked(
                &grad.client,
                cubes(tiles(tokens, r) + tiles(d_out, r)),
                tile_units(),
                buffer(&grad),
                buffer(&hidden),
                buffer(&b),
                buffer(&of_hidden),
                buffer(&of_b),
                d_out as u32,
                r as u32,
                factors.scaling,
                mask(None),
                elem(&grad),
            );
        }
        (of_hidden, of_b)
    }

    fn lora_gradients_down(
        of_hidden: CubeTensor,
        x: CubeTensor,
        a: CubeTensor,
        product: Optional<Self>,
        factors: Factors,
    ) -> (CubeTensor, CubeTensor) {
        let of_x = empty_like(&x);
        let of_a = down_gradients(of_hidden, x, a, product.given(), Some(&of_x), factors);
        (of_a, of_x)
    }

    fn lora_gradient_a(
        of_hidden: CubeTensor,
        x: CubeTensor,
        a: CubeTensor,
        factors: Factors,
    ) -> CubeTensor {
        down_gradients(of_hidden, x, a, None, None, factors)
    }
}

/// The gradient of `a`, and in `of_x`, where it is given, that of `x`, to which `product` is added.
fn down_gradients(
    of_hidden: CubeTensor,
    x: CubeTensor,
    a: CubeTensor,
    product: Option<CubeTensor>,
    of_x: Option<&CubeTensor>,
    factors: Factors,
) -> CubeTensor {
    let [of_hidden, x, a] = [of_hidden, x, a].map(contiguous);
    let product = product.map(contiguous);
    let ([tokens, d_in], [r, _]) = (x.shape().dims(), a.shape().dims());
    let of_a = empty_like(&a);
    let tiles_of_x = of_x.map_or(0, |_| tiles(tokens, d_in));
    // A kernel must be given some tensor to write to.
    let unused = empty(&x, [1], x.dtype);
    let (words, dropout) = drops(factors.dropout, &x);
    // SAFETY: as above.
    unsafe {
        gradients_down::launch_unchecked(
            &x.client,
            cubes(tiles(r, d_in) + tiles_of_x),
            tile_units(),
            buffer(&of_hidden),
            buffer(&x),
            buffer(&a),
            buffer(product.as_ref().unwrap_or(&x)),
            buffer(&of_a),
            buffer(of_x.unwrap_or(&unused)),
            words,
            d_in as u32,
            r as u32,
            dropout,
            factors.dropout.is_some(),
            of_x.is_some(),
            product.is_some(),
            elem(&x),
        );
    }
    of_a
}
