//! The specialised body of log-probabilities and its backward pass.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Flex, TensorMetadata, backend_extension};

use crate::cpu::buffer::for_rows;
use crate::cpu::vocabulary::{Head, Row, head_gradients, softmax};
use crate::flex::{OnTape, Optional, contiguous, or_constant, tensor_of, values};
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

/// What the columns are made from.
#[derive(Clone, Debug)]
struct Inputs {
    hidden: FloatTensor<Flex>,
    weight: Readable,
    bias: Option<FloatTensor<Flex>>,
    targets: Vec<usize>,
    softcap: Option<f32>,
}

impl Inputs {
    fn new(
        hidden: FloatTensor<Flex>,
        weight: Stored<Flex>,
        bias: Option<FloatTensor<Flex>>,
        targets: IntTensor<Flex>,
        softcap: Option<f32>,
    ) -> Self {
        let targets = targets.into_data();
        Self {
            hidden: contiguous(hidden),
            weight: weight.into(),
            bias: bias.map(contiguous),
            targets: targets.iter::<i64>().map(|id| id as usize).collect(),
            softcap,
        }
    }

    fn with_head<R>(&self, body: impl FnOnce(Head<'_>) -> R) -> R {
        self.weight.with(|weight| {
            body(Head {
                weight,
                bias: self.bias.as_ref().map(values),
                softcap: self.softcap,
            })
        })
    }

    /// The sums of each row and, if asked for, the gradient of each row's loss.
    fn rows(&self, statistics: bool, with_gradient: bool) -> (Vec<Row>, Option<Vec<f32>>) {
        let (hidden, targets) = (values(&self.hidden), &self.targets);
        self.with_head(|head| softmax(hidden, head, targets, with_gradient, statistics))
    }

    fn columns(&self, rows: &[Row], statistics: bool) -> FloatTensor<Flex> {
        let [vocab, _] = self.weight.dims();
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
        tensor_of(columns, [rows.len(), width])
    }
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
        let inputs = Inputs::new(hidden, weight, bias.given(), targets, softcap);
        let (rows, _) = inputs.rows(statistics, false);
        inputs.columns(&rows, statistics)
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
        let (inner_weight, on_tape) = inner_of(weight);
        let bias = bias.given();
        let is_tracked = |t: &Option<OnTape<C>>| t.as_ref().is_some_and(|t| t.is_tracked());
        let trains_head = is_tracked(&on_tape) || is_tracked(&bias);
        let inner_bias = bias.clone().map(|bias| bias.into_primitive());
        let nodes = [Some(hidden.clone()), on_tape, bias];
        let nodes = nodes.map(|tensor| or_constant::<C>(tensor).node());
        let with_gradient = hidden.is_tracked();
        let hidden = hidden.into_primitive();
        let inputs = Inputs::new(hidden, inner_weight, inner_bias, targets, softcap);
        match LogProbsBackward
            .prepare::<C>(nodes)
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prepared) => {
                let (rows, of_hidden) = inputs.rows(statistics, with_gradient);
                let columns = inputs.columns(&rows, statistics);
                let log_sums = rows.iter().map(Row::log_sum);
                let head = trains_head.then(|| (inputs, log_sums.collect()));
                prepared.finish(State { of_hidden, head }, columns)
            }
            OpsKind::UnTracked(prepared) => {
                let (rows, _) = inputs.rows(statistics, false);
                prepared.finish(inputs.columns(&rows, statistics))
            }
        }
    }
}

#[derive(Clone, Debug)]
struct State {
    /// The gradient of each row's loss with respect to its hidden state, row after row.
    of_hidden: Option<Vec<f32>>,
    /// For a head that is trained, what its gradients are made from, with the logarithm of the sum
    /// of each row's exponentials.
    head: Option<(Inputs, Vec<f32>)>,
}

#[derive(Debug)]
struct LogProbsBackward;

impl Backward<Flex, 3> for LogProbsBackward {
    type State = State;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [hidden, weight, bias] = ops.parents;
        let grad = contiguous(grads.consume::<Flex>(&ops.node));
        let [rows, width] = grad.shape().dims();
        // Only the first column has a gradient.
        let factors: Vec<f32> = values(&grad).iter().copied().step_by(width).collect();
        let State { of_hidden, head } = ops.state;
        if let (Some(node), Some(mut gradient)) = (hidden, of_hidden) {
            let d = gradient.len() / rows.max(1);
            for_rows(&mut gradient, d, |first, rows| {
                for (row, gradient) in rows.chunks_exact_mut(d).enumerate() {
                    let factor = -factors[first + row];
                    gradient.iter_mut().for_each(|value| *value *= factor);
                }
            });
            grads.register::<Flex>(node.id, tensor_of(gradient, [rows, d]));
        }
        let Some((inputs, log_sums)) = head else {
            return;
        };
        let dims @ [vocab, _] = inputs.weight.dims();
        let (of_weight, of_bias) = inputs.with_head(|head| {
            let hidden = values(&inputs.hidden);
            head_gradients(hidden, head, &inputs.targets, &log_sums, &factors)
        });
        if let Some(node) = weight {
            grads.register::<Flex>(node.id, tensor_of(of_weight, dims));
        }
        if let Some(node) = bias {
            grads.register::<Flex>(node.id, tensor_of(of_bias, [vocab]));
        }
    }
}
