//! The passes of LoRA's low-rank products of one or several layers with the same input, as they are
//! launched.

use std::iter::repeat_with;

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::ops::FloatTensorOps;
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
use crate::gpu::product::{is_software, product};
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

/// The tensors of one or several layers: either weights, which are frozen and of one type, or products.
#[derive(ExtensionType)]
#[extension_type(fusion)]
pub(super) struct Layers<B: Backend> {
    /// `[tokens, d_in]`.
    pub x: FloatTensor<B>,
    /// `[d_in, d_out]` each.
    #[extension_type]
    pub weights: Several<B>,
    /// `[tokens, d_out]` each.
    #[extension_type]
    pub products: Several<B>,
    #[extension_type]
    pub biases: Several<B>,
    #[extension_type]
    pub residuals: Several<B>,
    /// `[r, d_in]` each.
    #[extension_type]
    pub a: Several<B>,
    /// `[d_out, r]` each.
    #[extension_type]
    pub b: Several<B>,
}

/// What the backward pass needs of the forward pass.
#[derive(Clone, Debug, ExtensionType)]
#[extension_type(fusion)]
pub(super) struct Kept<B: Backend> {
    /// `[tokens, d_in]`.
    pub x: FloatTensor<B>,
    /// The hidden values that [`LoraPasses::lora_forward`] computes.
    pub hidden: FloatTensor<B>,
    /// `[r, d_in]` each.
    #[extension_type]
    pub a: Several<B>,
    /// `[d_out, r]` each.
    #[extension_type]
    pub b: Several<B>,
}

/// The outputs and the hidden values.
fn outputs(layers: &LayersMetadata) -> (SeveralMetadata, TensorSpec) {
    let (tokens, dtype) = (layers.x.shape[0], layers.x.dtype);
    let output = |b: &TensorSpec| TensorSpec::new(Shape::new([tokens, b.shape[0]]), dtype);
    let outputs = layers.b.specs().into_iter().map(output).collect();
    let ranks = layers.a.specs().into_iter().map(|a| a.shape[0]);
    let weight = layers.weights.specs().into_iter().next();
    let is_narrow = weight.is_some_and(|weight| weight.dtype != dtype);
    let hidden = tokens * (ranks.sum::<usize>() + usize::from(is_narrow));
    (outputs, TensorSpec::new(Shape::new([hidden]), DType::F32))
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
    /// `product + bias + residual + hidden bᵀ` of each layer; and the hidden values of all layers, one
    /// after the other and in 32 bits: `scaling · dropout(x) aᵀ`, `[tokens, r]`. If the weights' type is
    /// not that of `x`, the sizes of its rows are behind them.
    #[fusion(meta = |layers, _factors| -> (SeveralMetadata, TensorSpec) { outputs(layers) })]
    fn lora_forward(
        #[extension_type] layers: Layers<Self>,
        factors: Vec<Factors>,
    ) -> (Several<Self>, FloatTensor<Self>);

    /// The gradients of each `a` and `b`, which share a buffer, and of `x` if `of_x`. That of `x` has
    /// the products with the weights, if there are any.
    #[fusion(meta = |_grads, kept, _weights, _factors, of_x| gradients(kept, *of_x))]
    fn lora_gradients(
        #[extension_type] grads: Several<Self>,
        #[extension_type] kept: Kept<Self>,
        #[extension_type] weights: Several<Self>,
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

impl Sizes {
    /// Those of the layer with this `b`.
    fn new(b: &CubeTensor) -> Self {
        let [d_out, r] = b.shape().dims();
        Self {
            r,
            d_out,
            ..Self::default()
        }
    }
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

/// The number of tiles of matrices of these sizes.
fn of_tiles(sizes: impl IntoIterator<Item = [usize; 2]>, tiling: Tiling) -> usize {
    let tiles = sizes
        .into_iter()
        .map(|[rows, columns]| tiles(rows, columns, tiling));
    tiles.sum()
}

/// Room for tensors in the type of the weights, if that is not their own.
fn narrow_of(tensors: &[CubeTensor], weights: &[CubeTensor]) -> Vec<CubeTensor> {
    let Some(dtype) = weights.first().map(|weight| weight.dtype) else {
        return Vec::new();
    };
    let wide = tensors.iter().filter(|tensor| tensor.dtype != dtype);
    let room = wide.map(|tensor| empty(tensor, tensor.shape().dims::<2>(), dtype));
    room.collect()
}

impl LoraPasses for CubeBackend {
    fn lora_forward(layers: Layers<Self>, factors: Vec<Factors>) -> (Several<Self>, CubeTensor) {
        let (x, a, b) = (contiguous(layers.x), all(layers.a), all(layers.b));
        let (biases, residuals) = (all(layers.biases), all(layers.residuals));
        let weights = layers.weights.into_vec();
        let [tokens, d_in] = x.shape().dims();
        let sizes: Vec<_> = b.iter().map(Sizes::new).collect();
        let sizes_at = tokens * sizes.iter().map(|layer| layer.r).sum::<usize>();
        let narrow = narrow_of(std::slice::from_ref(&x), &weights);
        let to_narrow = tokens * narrow.len();
        let hidden = empty(&x, [sizes_at + to_narrow], DType::F32);
        let (words, dropout, drop) = drops(&factors, &x);
        let software = is_software(&x.device);
        let (tall, wide) = (Tiling::tall(software), Tiling::wide(software));
        // SAFETY: places are checked against the sizes of the matrices.
        unsafe {
            down::launch_unchecked(
                &x.client,
                cubes(of_tiles(sizes.iter().map(|layer| [tokens, layer.r]), tall) + to_narrow),
                tall.cube_dim(),
                buffer(&x),
                buffers(&a),
                buffer(&hidden),
                buffers(&narrow),
                words,
                numbers(tokens, &sizes, &factors, dropout),
                tokens,
                d_in,
                sizes_at,
                drop,
                tall,
                [elem(&x), elem(narrow.first().unwrap_or(&x))],
            );
        }
        let input = narrow.first().unwrap_or(&x);
        let products = weights.into_iter();
        let products = products.map(|weight| product(input.clone(), weight, x.dtype));
        let products: Vec<_> = products.chain(all(layers.products)).collect();
        let outputs: Vec<_> = products.iter().map(empty_like).collect();
        let undropped = repeat_with(no_drops);
        // SAFETY: as above.
        unsafe {
            up::launch_unchecked(
                &x.client,
                cubes(of_tiles(
                    sizes.iter().map(|layer| [tokens, layer.d_out]),
                    wide,
                )),
                wide.cube_dim(),
                buffers(&products),
                buffer(&hidden),
                buffers(&b),
                buffers(&biases),
                buffers(&residuals),
                buffers(&outputs),
                numbers(tokens, &sizes, &[Factors::NONE; MOST_LAYERS], undropped),
                tokens,
                sizes_at,
                !narrow.is_empty(),
                wide,
                elem(&x),
            );
        }
        (Several::new(outputs), hidden)
    }

    fn lora_gradients(
        grads: Several<Self>,
        kept: Kept<Self>,
        weights: Several<Self>,
        factors: Vec<Factors>,
        of_x: bool,
    ) -> Gradients<Self> {
        let (grads, mut weights) = (all(grads), weights.into_vec());
        if !of_x {
            weights.clear();
        }
        let [x, hidden] = [kept.x, kept.hidden].map(contiguous);
        let (a, b) = (all(kept.a), all(kept.b));
        let [tokens, d_in] = x.shape().dims();
        let narrow = narrow_of(&grads, &weights);
        let (gradients, places) = together(&a[0], a.iter().chain(&b));
        let (of_a, of_b) = places.split_at(a.len());
        let sizes = b.iter().zip(of_a.iter().zip(of_b));
        let sizes = sizes.map(|(b, (&of_a_at, &of_b_at))| Sizes {
            of_a_at,
            of_b_at,
            ..Sizes::new(b)
        });
        let sizes: Vec<_> = sizes.collect();
        let sizes_at = tokens * sizes.iter().map(|layer| layer.r).sum::<usize>();
        let to_narrow = tokens * narrow.len();
        let of_hidden = empty(&x, [sizes_at + to_narrow], DType::F32);
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
                cubes(of_tiles(up_tiles, tall) + to_narrow),
                tall.cube_dim(),
                buffers(&grads),
                buffer(&hidden),
                buffers(&b),
                buffer(&of_hidden),
                buffer(&gradients),
                buffers(&narrow),
                numbers(tokens, &sizes, &factors, undropped),
                tokens,
                sizes_at,
                tall,
                [elem(&x), elem(narrow.first().unwrap_or(&x))],
            );
        }
        let inputs = if narrow.is_empty() { &grads } else { &narrow };
        let products = weights.into_iter().zip(inputs);
        let products = products.map(|(weight, input)| {
            let weight = Self::float_transpose(weight);
            product(input.clone(), weight, x.dtype)
        });
        let products: Vec<_> = products.collect();
        // SAFETY: as above.
        unsafe {
            gradients_down::launch_unchecked(
                &x.client,
                cubes(of_tiles(down_tiles, wide)),
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
                sizes_at,
                drop,
                !narrow.is_empty(),
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
