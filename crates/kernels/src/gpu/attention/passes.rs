//! The passes of attention, as they are launched.

use burn::backend::fusion::custom::TensorSpec;
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Backend, TensorMetadata, backend_extension};
use burn::tensor::{DType, Shape as Dims};
use burn_cubecl::CubeBackend;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::backward::{of_keys, of_queries};
use super::forward::forward_kernel;
use super::shape::{NumbersLaunch, Shape};
use super::tile::{UNITS, chunk};
use super::{Call, Parts, PartsMetadata};
use crate::cpu::dropout::Dropout;
use crate::gpu::launch::{contiguous, elem, empty};
use crate::gpu::mask::mask;

/// More keys than any text has.
const NO_WINDOW: i32 = 1 << 30;

#[backend_extension(Cube, Fusion)]
pub(super) trait AttentionPasses: Backend {
    /// The output, and for each token and head the logarithm of the sum of its scores' exponentials.
    #[fusion(meta = |parts, _blocks, call| (output(parts, call), of_heads(parts, call)))]
    fn attention_gpu_forward(
        #[extension_type] parts: Parts<Self>,
        blocks: IntTensor<Self>,
        call: Call,
    ) -> (FloatTensor<Self>, FloatTensor<Self>);

    /// The gradients of the parts.
    #[fusion(meta = |parts, _blocks, _out, _lse, _grad, _call| parts.clone())]
    fn attention_gpu_backward(
        #[extension_type] parts: Parts<Self>,
        blocks: IntTensor<Self>,
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        call: Call,
    ) -> Parts<Self>;
}

fn queries(parts: &PartsMetadata) -> &TensorSpec {
    match parts {
        PartsMetadata::Packed(packed) => packed,
        PartsMetadata::Apart(q, _, _) => q,
    }
}

/// Type and shape of the output.
pub(super) fn output(parts: &PartsMetadata, call: &Call) -> TensorSpec {
    let q = queries(parts);
    let [width, ..] = call.options.widths();
    TensorSpec::new(Dims::new([q.shape[0], width]), q.dtype)
}

fn of_heads(parts: &PartsMetadata, call: &Call) -> TensorSpec {
    let dims = Dims::new([queries(parts).shape[0], call.options.heads]);
    TensorSpec::new(dims, DType::F32)
}

/// The same tensor with the values of each row side by side.
fn with_rows(tensor: CubeTensor) -> CubeTensor {
    match tensor.meta.strides()[1] {
        1 => tensor,
        _ => contiguous(tensor),
    }
}

/// Queries, keys and values, and the columns at which they begin.
struct Read {
    parts: [CubeTensor; 3],
    at: [usize; 3],
}

impl Read {
    fn new(parts: Parts<CubeBackend>, widths: [usize; 3]) -> Self {
        match parts {
            Parts::Packed(packed) => {
                let packed = with_rows(packed);
                let [q, k, _] = widths;
                Self {
                    parts: [packed.clone(), packed.clone(), packed],
                    at: [0, q, q + k],
                }
            }
            Parts::Apart(q, k, v) => Self {
                parts: [q, k, v].map(with_rows),
                at: [0; 3],
            },
        }
    }

    fn tokens(&self) -> usize {
        self.parts[0].shape()[0]
    }
}

fn arg(tensor: &CubeTensor) -> TensorArg {
    tensor.clone().into_tensor_arg()
}

impl Call {
    fn shape(&self, on: &CubeTensor) -> Shape {
        let options = &self.options;
        let memory = on.client.properties().hardware.max_shared_memory_size;
        Shape {
            heads: options.heads,
            kv_heads: options.kv_heads,
            head_dim: options.head_dim,
            chunk: chunk(options.head_dim, memory),
            causal: options.causal,
            capped: options.softcap.is_some(),
            drops: self.dropout.is_some(),
        }
    }

    fn numbers(&self, [queries_at, keys_at, values_at]: [usize; 3]) -> NumbersLaunch {
        let options = &self.options;
        let window = options.window.and_then(|window| i32::try_from(window).ok());
        // A row of the mask for each head of a token.
        let dropout = self.dropout.map(|dropout| Dropout {
            first: dropout.first.wrapping_mul(options.heads as u32),
            ..dropout
        });
        NumbersLaunch::new(
            queries_at,
            keys_at,
            values_at,
            options.scale as f32,
            options.softcap.unwrap_or(1.0) as f32,
            window.unwrap_or(NO_WINDOW).min(NO_WINDOW),
            mask(dropout),
        )
    }
}

/// A cube for each block and head.
fn cubes(blocks: &CubeTensor, heads: usize) -> CubeCount {
    CubeCount::Static(blocks.shape()[0] as u32, heads as u32, 1)
}

impl AttentionPasses for CubeBackend {
    fn attention_gpu_forward(
        parts: Parts<Self>,
        blocks: IntTensor<Self>,
        call: Call,
    ) -> (FloatTensor<Self>, FloatTensor<Self>) {
        let widths = call.options.widths();
        let Read {
            parts: [q, k, v],
            at,
        } = &Read::new(parts, widths);
        let (tokens, heads) = (q.shape()[0], call.options.heads);
        let out = empty(q, [tokens, widths[0]], q.dtype);
        let lse = empty(q, [tokens, heads], DType::F32);
        if tokens == 0 {
            return (out, lse);
        }
        // SAFETY: `Texts` makes no block with rows beyond the tokens, and columns are within those of the
        // heads.
        unsafe {
            forward_kernel::launch_unchecked(
                &q.client,
                cubes(&blocks, heads),
                CubeDim::new_1d(UNITS as u32),
                arg(q),
                arg(k),
                arg(v),
                arg(&blocks),
                arg(&out),
                arg(&lse),
                call.numbers(*at),
                call.shape(q),
                [elem(q), elem(&blocks)],
            );
        }
        (out, lse)
    }

    fn attention_gpu_backward(
        parts: Parts<Self>,
        blocks: IntTensor<Self>,
        out: FloatTensor<Self>,
        lse: FloatTensor<Self>,
        grad: FloatTensor<Self>,
        call: Call,
    ) -> Parts<Self> {
        let widths = call.options.widths();
        let is_packed = matches!(parts, Parts::Packed(_));
        let read = Read::new(parts, widths);
        let tokens = read.tokens();
        let Read {
            parts: [q, k, v],
            at,
        } = &read;
        let (gradients, [of_q, of_k, of_v]) = if is_packed {
            let all = empty(q, [tokens, widths.iter().sum()], q.dtype);
            (Parts::Packed(all.clone()), [all.clone(), all.clone(), all])
        } else {
            let [q, k, v] = widths.map(|width| empty(q, [tokens, width], q.dtype));
            (Parts::Apart(q.clone(), k.clone(), v.clone()), [q, k, v])
        };
        if tokens == 0 {
            return gradients;
        }
        let (out, grad) = (with_rows(out), with_rows(grad));
        let heads = call.options.heads;
        let deltas = empty(q, [tokens, heads], DType::F32);
        // SAFETY: as in the forward pass; gradients have the shapes of the parts, and the two kernels
        // write different columns.
        unsafe {
            of_queries::launch_unchecked(
                &q.client,
                cubes(&blocks, heads),
                CubeDim::new_1d(UNITS as u32),
                arg(q),
                arg(k),
                arg(v),
                arg(&blocks),
                arg(&out),
                arg(&grad),
                arg(&lse),
                arg(&of_q),
                arg(&deltas),
                call.numbers(*at),
                at[0],
                call.shape(q),
                [elem(q), elem(&blocks)],
            );
            of_keys::launch_unchecked(
                &q.client,
                cubes(&blocks, call.options.kv_heads),
                CubeDim::new_1d(UNITS as u32),
                arg(q),
                arg(k),
                arg(v),
                arg(&blocks),
                arg(&grad),
                arg(&lse),
                arg(&deltas),
                arg(&of_k),
                arg(&of_v),
                call.numbers(*at),
                at[1],
                at[2],
                call.shape(q),
                [elem(q), elem(&blocks)],
            );
        }
        gradients
    }
}
