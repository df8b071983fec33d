//! The specialised body of log-probabilities and its backward pass.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};

use crate::cpu::buffer::for_rows;
use crate::cpu::vocabulary::{Head, softmax};
use crate::flex::{Optional, contiguous, tensor_of, values};
use crate::stored::{Readable, Stored, inner_of};

#[backend_extension(Flex, Autodiff)]
pub(super) trait LogProbsKernel: Backend {
    fn log_probs_kernel(
        hidden: FloatTensor<Self>,
        #[extension_type] weight: Stored<Self>,
        #[extension_type] bias: Optional<Self>,
        targets: IntTensor<Self>,
        softcap: Option<f32>,
        statistics: bool,
    ) -> FloatTensor<Self>;
}

/// The columns, and of training the gradient of each row's loss.
fn on_cpu(
    hidden: FloatTensor<Flex>,
    weight: Stored<Flex>,
    bias: Option<FloatTensor<Flex>>,
    targets: IntTensor<Flex>,
    softcap: Option<f32>,
    statistics: bool,
    with_gradient: bool,
) -> (FloatTensor<Flex>, Option<Vec<f32>>) {
    let (hidden, weight) = (contiguous(hidden), Readable::from(weight));
    let bias = bias.map(contiguous);
    let [vocab, _] = weight.dims();
    let targets: Vec<usize> = targets
        .into_data()
        .iter::<i64>()
        .map(|id| id as usize)
        .collect();
    let (rows, gradient) = weight.with(|weight| {
        let head = Head {
            weight,
            bias: bias.as_ref().map(values),
            softcap,
        };
        softmax(values(&hidden), head, &targets, with_gradient, statistics)
    });
    let count = rows.len();
    let columns = rows.iter().flat_map(|row| {
        let further = statistics.then(|| {
            let is_top1 = f32::from(row.is_top1());
            let mean = row.sum_of_logits() / vocab as f32;
            [row.log_sum_sq_probs(), row.entropy(), mean, is_top1]
        });
        std::iter::once(-row.loss()).chain(further.into_iter().flatten())
    });
    let columns: Vec<f32> = columns.collect();
    let width = if statistics { 5 } else { 1 };
    (tensor_of(columns, [count, width]), gradient)
}

impl LogProbsKernel for Flex {
    fn log_probs_kernel(
        hidden: FloatTensor<Self>,
        weight: Stored<Self>,
        bias: Optional<Self>,
        targets: IntTensor<Self>,
        softcap: Option<f32>,
        statistics: bool,
    ) -> FloatTensor<Self> {
        let bias = bias.given();
        on_cpu(hidden, weight, bias, targets, softcap, statistics, false).0
    }
}

impl<C: CheckpointStrategy> LogProbsKernel for Autodiff<Flex, C> {
    fn log_probs_kernel(
        hidden: FloatTensor<Self>,
        weight: Stored<Self>,
        bias: Optional<Self>,
        targets: IntTensor<Self>,
        softcap: Option<f32>,
        statistics: bool,
    ) -> FloatTensor<Self> {
        let prepared = LogProbsBackward.prepare::<C>([hidden.node()]);
        let (hidden, (weight, _)) = (hidden.into_primitive(), inner_of(weight));
        let bias = bias.given().map(|bias| bias.into_primitive());
        let run = |gradient| on_cpu(hidden, weight, bias, targets, softcap, statistics, gradient);
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => {
                let (columns, gradient) = run(true);
                prepared.finish(gradient.expect("a gradient was asked for"), columns)
            }
            OpsKind::UnTracked(prepared) => prepared.finish(run(false).0),
        }
    }
}

#[derive(Debug)]
struct LogProbsBackward;

impl Backward<Flex, 1> for LogProbsBackward {
    /// The gradient of each row's loss with respect to its hidden state, row after row.
    type State = Vec<f32>;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [hidden] = ops.parents;
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let Some(node) = hidden else { return };
        let [rows, width] = grad.shape().dims();
        // Of the columns, only the first has a gradient.
        let (of_columns, mut gradient) = (values(&grad), ops.state);
        let d = gradient.len() / rows.max(1);
        for_rows(&mut gradient, d, |first, rows| {
            for (row, gradient) in rows.chunks_exact_mut(d).enumerate() {
                let factor = -of_columns[(first + row) * width];
                gradient.iter_mut().for_each(|value| *value *= factor);
            }
        });
        grads.register::<Flex>(node.id, tensor_of(gradient, [rows, d]));
    }
}
