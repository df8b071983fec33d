//! Attention on GPUs that works by tiles and stores no scores, as the CPU's body does.
//!
//! A table on the device says which rows a cube works on. No two cubes write the same elements, so
//! results are the same in every run. The forward pass is one launch, the backward pass two.

mod append;
mod backward;
mod cached;
mod cap;
mod decode;
mod forward;
mod passes;
mod seen;
mod shape;
mod tile;

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, ExtensionType, backend_extension};
use burn::tensor::{Int, Tensor};

use self::passes::AttentionPasses;
use crate::cpu::dropout::Dropout;
use crate::gpu::launch::MOST_CUBES;
use crate::{AttentionOptions, Qkv};

pub(crate) use self::append::{append, takes_append};
pub(crate) use self::cached::{attend_cached, takes_cache};

/// The most rows of a block, which is a line of the table that [`attention`] takes.
pub(crate) const ROWS: usize = tile::ROWS;

/// The widest head that the kernels take.
const WIDEST: usize = 256;

/// The tensors of the largest kernel, [`backward::of_keys`].
const BINDINGS: u32 = 9;

/// Whether the kernels take this attention, of this number of blocks.
pub(crate) fn takes(qkv: &Qkv, options: &AttentionOptions, blocks: usize) -> bool {
    let [first, others @ ..] = qkv.tensors() else {
        return false;
    };
    let alike = others.iter().all(|other| other.dtype() == first.dtype());
    let launched = blocks <= MOST_CUBES && options.heads <= MOST_CUBES;
    let taken = qkv.tensors().iter().all(super::takes) && super::most_bindings(first) >= BINDINGS;
    alike && launched && options.head_dim <= WIDEST && taken
}

/// As [`attention`](crate::attention), for texts that lie one after the other. A line of `blocks`,
/// `[blocks, 4]`, describes up to [`ROWS`] rows of a text: the first token of the text, its queries, its
/// keys, and the first of these rows, counted from the start of the text. Every token is in one block;
/// tokens of no text are in blocks without a key.
pub(crate) fn attention(
    qkv: Qkv,
    blocks: Tensor<2, Int>,
    options: AttentionOptions,
    dropout: Option<Dropout>,
) -> Tensor<2> {
    let (tokens, widths) = (qkv.tokens(), options.widths());
    match &qkv {
        Qkv::Packed(packed) => {
            let width = widths.iter().sum::<usize>();
            assert_eq!(packed.dims(), [tokens, width], "{options:?}");
        }
        Qkv::Apart(apart) => {
            let shapes = apart.each_ref().map(Tensor::dims);
            assert_eq!(shapes, widths.map(|width| [tokens, width]), "{options:?}");
        }
    }
    assert_eq!(options.heads % options.kv_heads, 0, "{options:?}");
    let parts = match qkv {
        Qkv::Packed(packed) => Parts::Packed(packed.into_dispatch()),
        Qkv::Apart([q, k, v]) => {
            Parts::Apart(q.into_dispatch(), k.into_dispatch(), v.into_dispatch())
        }
    };
    let call = Call { options, dropout };
    Tensor::from_dispatch(Dispatch::attention_gpu(parts, blocks.into_dispatch(), call))
}

/// Queries, keys and values, or their gradients.
#[derive(Clone, Debug, ExtensionType)]
#[extension_type(fusion)]
pub(super) enum Parts<B: Backend> {
    Packed(FloatTensor<B>),
    Apart(FloatTensor<B>, FloatTensor<B>, FloatTensor<B>),
}

/// What is not a tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    options: AttentionOptions,
    dropout: Option<Dropout>,
}

#[backend_extension(Cube, Fusion, Autodiff)]
trait AttentionGpu: Backend {
    #[fusion(meta = |parts, _blocks, call| passes::output(parts, call))]
    fn attention_gpu(
        #[extension_type] parts: Parts<Self>,
        blocks: IntTensor<Self>,
        call: Call,
    ) -> FloatTensor<Self>;
}

impl AttentionGpu for burn_cubecl::CubeBackend {
    fn attention_gpu(parts: Parts<Self>, blocks: IntTensor<Self>, call: Call) -> FloatTensor<Self> {
        Self::attention_gpu_forward(parts, blocks, call).0
    }
}

impl<B, C> AttentionGpu for Autodiff<B, C>
where
    B: AttentionGpu + AttentionPasses,
    C: CheckpointStrategy,
{
    fn attention_gpu(parts: Parts<Self>, blocks: IntTensor<Self>, call: Call) -> FloatTensor<Self> {
        let (nodes, parts) = match parts {
            Parts::Packed(packed) => {
                let node = packed.node();
                let packed = packed.into_primitive();
                // In the place of the other two, a tensor that nothing tracks.
                let none = || FloatTensor::<Self>::new(packed.clone()).node();
                ([node, none(), none()], Parts::Packed(packed))
            }
            Parts::Apart(q, k, v) => {
                let nodes = [q.node(), k.node(), v.node()];
                let [q, k, v] = [q, k, v].map(|part| part.into_primitive());
                (nodes, Parts::Apart(q, k, v))
            }
        };
        let prepared = AttentionBackward.prepare::<C>(nodes);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (out, lse) = B::attention_gpu_forward(parts.clone(), blocks.clone(), call);
                let state = State {
                    parts,
                    blocks,
                    out: out.clone(),
                    lse,
                    call,
                };
                prepared.finish(state, out)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(B::attention_gpu(parts, blocks, call)),
        }
    }
}

#[derive(Clone, Debug)]
struct State<B: Backend> {
    parts: Parts<B>,
    blocks: IntTensor<B>,
    out: FloatTensor<B>,
    lse: FloatTensor<B>,
    call: Call,
}

#[derive(Debug)]
struct AttentionBackward;

impl<B: AttentionPasses> Backward<B, 3> for AttentionBackward {
    type State = State<B>;

    fn backward(self, ops: Ops<State<B>, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let grad = grads.consume::<B>(&ops.node);
        let State {
            parts,
            blocks,
            out,
            lse,
            call,
        } = ops.state;
        let gradients = match B::attention_gpu_backward(parts, blocks, out, lse, grad, call) {
            Parts::Packed(packed) => vec![packed],
            Parts::Apart(q, k, v) => vec![q, k, v],
        };
        for (node, gradient) in ops.parents.into_iter().zip(gradients) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}
