//! The passes of LoRA's low-rank products of one or several layers with the same input, as they are
//! launched.

use std::iter::repeat_with;

use burn::backend::tensor::FloatTensor;
use burn::backend::{Backend, ExtensionType, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::kernels::{Layer, LayerLaunch, down, gradients_down, gradients_up, up};
use super::several::{MOST_LAYERS, Several, SeveralMetadata};
use crate::flex::{Optional, OptionalMetadata};
use crate::gpu::launch::{buffer, contiguous, cubes, elem, empty, empty_like, together, view};
use crate::gpu::mask::{DropsLaunch, Masked, drops_of_each, no_drops};
use crate::gpu::product::is_software;
use crate::gpu::small_product::{Tiling, tiles};

/// The arguments of a layer that are not tensors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Factors {
    pub scaling: f32,
    pub dropout: Option<Masked>,
}

impl Factors {
    const NONE: Self = Self {
        scaling: 1.0,
        dropout: None,
    };
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Debug, ExtensionType)]
#[extension_type(fusion)]
pub(super) struct Kept<B: Backend> {
    /// `[tokens, d_in]`.
    pub x: FloatTensor<B>,
    /// What [`LoraPasses::lora_down`] computes.
    pub hidden: FloatTensor<B>,
    /// `[r, d_in]` each.
    #[extension_type]
    pub a: Several<B>,
    /// `[d_out, r]` each.
    #[extension_type]
    pub b: Several<B>,
}

fn hidden_values(x: &Shape, a: &SeveralMetadata) -> Shape {
    let ranks = a.specs().into_iter().map(|a| a.shape[0]);
    Shape::new([x[0] * ranks.sum::<usize>()])
}

/// The gradients of a layer's products: of all `a`, of all `b`, and of `x`.
type Gradients<B> = (Several<B>, Several<B>, Optional<B>);

fn gradients(
    kept: &KeptMetadata,
    of_x: bool,
) -> (SeveralMetadata, SeveralMetadata, OptionalMetadata) {
    let x = kept.x.clone();
    let of_x = if of_x {
        OptionalMetadata::Given(x)
    } else {
        OptionalMetadata::Missing
    };
    (kept.a.clone(), kept.b.clone(), of_x)
}

#[backend_extension(Cube, Fusion)]
pub(super) trait LoraPasses: Backend {
    /// `scaling · dropout(x) aᵀ`, `[tokens, r]`, of each layer, one after the other and in 32 bits.
    #[fusion(dtype = DType::F32, shape = hidden_values(x, a))]
    fn lora_down(
        x: FloatTensor<Self>,
        #[extension_type] a: Several<Self>,
        factors: Vec<Factors>,
    ) -> FloatTensor<Self>;

    /// `product + bias + residual + hidden bᵀ` of each layer. Biases and residuals may be missing.
    #[fusion(meta = |products, _hidden, _b, _biases, _residuals| products.clone())]
    fn lora_up(
        #[extension_type] products: Several<Self>,
        hidden: FloatTensor<Self>,
        #[extension_type] b: Several<Self>,
        #[extension_type] biases: Several<Self>,
        #[extension_type] residuals: Several<Self>,
    ) -> Several<Self>;

    /// The gradients of each `a` and `b`, which share a buffer, and of `x` if `of_x`: the products,
    /// if there are any, are added to it.
    #[fusion(meta = |_grads, kept, _products, _factors, of_x| gradients(kept, *of_x))]
    fn lora_gradients(
        #[extension_type] grads: Several<Self>,
        #[extension_type] kept: Kept<Self>,
        #[extension_type] products: Several<Self>,
        factors: Vec<Factors>,
        of_x: bool,
    ) -> (Several<Self>, Several<Self>, Optional<Self>);
}

fn all(several: Several<CubeBackend>) -> Vec<CubeTensor> {
    several.into_vec().into_iter().map(contiguous).collect()
}

/// Tensors as the argument of a kernel.
fn buffers<T: LaunchArg<RuntimeArg = BufferArg>>(tensors: &[CubeTensor]) -> SequenceArg<T> {
    tensors.iter().map(buffer).collect()
}

/// The sizes of a layer, and where its gradients begin in their buffer.
#[derive(Clone, Copy, Default)]
struct Sizes {
    r: usize,
    d_out: usize,
    of_a_at: usize,
    of_b_at: usize,
}

/// The numbers of layers as the argument of a kernel.
fn numbers(
    tokens: usize,
    layers: &[Sizes],
    factors: &[Factors],
    drops: impl IntoIterator<Item = DropsLaunch>,
) -> SequenceArg<Layer> {
    let mut hidden = 0;
    let layers = layers.iter().zip(factors).zip(drops);
    let numbers = layers.map(|((sizes, factors), drops)| {
        let hidden_at = hidden;
        hidden += tokens * sizes.r;
        LayerLaunch::new(
            sizes.r,
            sizes.d_out,
            factors.scaling,
            drops,
            hidden_at,
            sizes.of_a_at,
            sizes.of_b_at,
        )
    });
    numbers.collect()
}

/// The words of the layers' seeds, the numbers of their dropout, and whether there is any.
fn drops(factors: &[Factors], like: &CubeTensor) -> (BufferArg, Vec<DropsLaunch>, bool) {
    let dropout: Vec<_> = factors.iter().map(|factors| factors.dropout).collect();
    let (words, drops) = drops_of_each(&dropout, like);
    (words, drops, dropout.iter().any(Option::is_some))
}

/// Workgroups for the tiles of matrices of these sizes.
fn of_tiles(sizes: impl IntoIterator<Item = [usize; 2]>, tiling: Tiling) -> CubeCount {
    let tiles = sizes
        .into_iter()
        .map(|[rows, columns]| tiles(rows, columns, tiling));
    cubes(tiles.sum())
}

impl LoraPasses for CubeBackend {
    fn lora_down(x: CubeTensor, a: Several<Self>, factors: Vec<Factors>) -> CubeTensor {
        let (x, a) = (contiguous(x), all(a));
        let [tokens, d_in] = x.shape().dims();
        let r = |a: &CubeTensor| a.shape()[0];
        let sizes = a.iter().map(|a| Sizes {
            r: r(a),
            ..Sizes::default()
        });
        let sizes: Vec<_> = sizes.collect();
        let hidden = empty(&x, [tokens * a.iter().map(r).sum::<usize>()], DType::F32);
        let (words, dropout, drop) = drops(&factors, &x);
        let tiling = Tiling::tall(is_software(&x.device));
        // SAFETY: places are checked against the sizes of the matrices.
        unsafe {
            down::launch_unchecked(
                &x.client,
                of_tiles(a.iter().map(|a| [tokens, r(a)]), tiling),
                tiling.cube_dim(),
                buffer(&x),
                buffers(&a),
                buffer(&hidden),
                words,
                numbers(tokens, &sizes, &factors, dropout),
                tokens,
                d_in,
                drop,
                tiling,
                elem(&x),
            );
        }
        hidden
    }

    fn lora_up(
        products: Several<Self>,
        hidden: CubeTensor,
        b: Several<Self>,
        biases: Several<Self>,
        residuals: Several<Self>,
    ) -> Several<Self> {
        let (products, hidden, b) = (all(products), contiguous(hidden), all(b));
        let (biases, residuals) = (all(biases), all(residuals));
        let tokens = products[0].shape()[0];
        let sizes = b.iter().map(|b| {
            let [d_out, r] = b.shape().dims();
            Sizes {
                r,
                d_out,
                ..Sizes::default()
            }
        });
        let sizes: Vec<_> = sizes.collect();
        let outputs: Vec<_> = products.iter().map(empty_like).collect();
        let undropped = repeat_with(no_drops);
        let tiling = Tiling::wide(is_software(&hidden.device));
        // SAFETY: as above.
        unsafe {
            up::launch_unchecked(
                &hidden.client,
                of_tiles(sizes.iter().map(|layer| [tokens, layer.d_out]), tiling),
                tiling.cube_dim(),
                buffers(&products),
                buffer(&hidden),
                buffers(&b),
                buffers(&biases),
                buffers(&residuals),
                buffers(&outputs),
                numbers(tokens, &sizes, &[Factors::NONE; MOST_LAYERS], undropped),
                tokens,
                tiling,
                elem(&products[0]),
            );
        }
        Several::new(outputs)
    }

    fn lora_gradients(
        grads: Several<Self>,
        kept: Kept<Self>,
        products: Several<Self>,
        factors: Vec<Factors>,
        of_x: bool,
    ) -> Gradients<Self> {
        let (grads, products) = (all(grads), all(products));
        let [x, hidden] = [kept.x, kept.hidden].map(contiguous);
        let (a, b) = (all(kept.a), all(kept.b));
        let [tokens, d_in] = x.shape().dims();
        let of_hidden = empty_like(&hidden);
        let (gradients, places) = together(&a[0], a.iter().chain(&b));
        let (of_a, of_b) = places.split_at(a.len());
        let sizes = b.iter().zip(of_a.iter().zip(of_b));
        let sizes = sizes.map(|(b, (&of_a_at, &of_b_at))| {
            let [d_out, r] = b.shape().dims();
            Sizes {
                r,
                d_out,
                of_a_at,
                of_b_at,
            }
        });
        let sizes: Vec<_> = sizes.collect();
        let up_tiles = sizes
            .iter()
            .flat_map(|layer| [[tokens, layer.r], [layer.d_out, layer.r]]);
        let of_x = of_x.then(|| empty_like(&x));
        let down_tiles = sizes.iter().map(|layer| [layer.r, d_in]);
        let down_tiles = down_tiles.chain(of_x.iter().map(|_| [tokens, d_in]));
        let undropped = repeat_with(no_drops);
        let (words, dropout, drop) = drops(&factors, &x);
        let software = is_software(&x.device);
        let (tall, wide) = (Tiling::tall(software), Tiling::wide(software));
        // SAFETY: as above.
        unsafe {
            gradients_up::launch_unchecked(
                &x.client,
                of_tiles(up_tiles, tall),
                tall.cube_dim(),
                buffers(&grads),
                buffer(&hidden),
                buffers(&b),
                buffer(&of_hidden),
                buffer(&gradients),
                numbers(tokens, &sizes, &factors, undropped),
                tokens,
                tall,
                elem(&x),
            );
            gradients_down::launch_unchecked(
                &x.client,
                of_tiles(down_tiles, wide),
                wide.cube_dim(),
                buffer(&of_hidden),
                buffer(&x),
                buffers(&a),
                buffers(&products),
                buffer(&gradients),
                buffers(of_x.as_slice()),
                words,
                numbers(tokens, &sizes, &factors, dropout),
                tokens,
                d_in,
                drop,
                wide,
                elem(&x),
            );
        }
        let views = |of: &[CubeTensor], places: &[usize]| {
            let views = of.iter().zip(places);
            Several::new(views.map(|(of, &at)| view(&gradients, at, of.shape())))
        };
        (views(&a, of_a), views(&b, of_b), Optional::new(of_x))
    }
}
