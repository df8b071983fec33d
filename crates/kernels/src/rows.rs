//! Moves rows of a matrix to other places.

use burn::backend::autodiff::checkpoint::{base::Checkpointer, strategy::CheckpointStrategy};
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn::backend::tensor::{FloatTensor, IntTensor};
use burn::backend::{Autodiff, Backend, Dispatch, Flex, TensorMetadata, backend_extension};
use burn::tensor::{Device, Int, Tensor, TensorData};

/// Moves rows of a matrix to other places, no two to the same one.
///
/// The gradient moves the opposite way. Burn's `select` would sum it row by row, since it cannot
/// know that no two rows go to one place.
#[derive(Clone, Debug)]
pub struct MovedRows {
    there: Places,
    back: Places,
}

#[derive(Clone, Debug)]
struct Places {
    /// The row that each row comes from, `[rows]`; any number for a row that comes from none.
    from: Tensor<1, Int>,
    /// 1, or 0 for a row that comes from none, `[rows, 1]`.
    kept: Tensor<2>,
}

impl MovedRows {
    /// Moves the rows of a matrix of `rows` rows: row `i` of the new matrix is row `from[i]` of the
    /// old one, or zero. No row of the old one may be named twice.
    ///
    /// # Panics
    /// If a number in `from` is not below `rows`.
    pub fn new(from: &[Option<usize>], rows: usize, device: &Device) -> Self {
        let mut back = vec![None; rows];
        for (row, from) in from.iter().enumerate() {
            if let Some(from) = from {
                back[*from] = Some(row);
            }
        }
        let device = device.clone().without_autodiff();
        Self {
            there: Places::new(from, &device),
            back: Places::new(&back, &device),
        }
    }

    /// Moves `x`, `[rows, d]`, to the new places.
    pub fn there(&self, x: Tensor<2>) -> Tensor<2> {
        move_rows(x, &self.there, &self.back)
    }

    /// Moves rows from the new places back to the old ones; rows that went nowhere are zero.
    pub fn back(&self, x: Tensor<2>) -> Tensor<2> {
        move_rows(x, &self.back, &self.there)
    }
}

impl Places {
    fn new(from: &[Option<usize>], device: &Device) -> Self {
        let rows = from.len();
        let kept: Vec<f32> = from.iter().map(|&row| row.map_or(0.0, |_| 1.0)).collect();
        let from: Vec<i64> = from.iter().map(|row| row.unwrap_or(0) as i64).collect();
        Self {
            from: Tensor::from_data(TensorData::new(from, [rows]), device),
            kept: Tensor::from_data(TensorData::new(kept, [rows, 1]), device),
        }
    }
}

fn move_rows(x: Tensor<2>, there: &Places, back: &Places) -> Tensor<2> {
    let dtype = x.dtype();
    let parts = |places: &Places| {
        let kept = places.kept.clone().cast(dtype);
        (places.from.clone().into_dispatch(), kept.into_dispatch())
    };
    let ((there, kept), (back, kept_back)) = (parts(there), parts(back));
    let x = x.into_dispatch();
    Tensor::from_dispatch(Dispatch::rows_kernel(x, there, kept, back, kept_back))
}

#[backend_extension(
    Flex,
    Cube: cfg(feature = "gpu"),
    Autodiff,
)]
trait RowsKernel: Backend {
    fn rows_kernel(
        x: FloatTensor<Self>,
        there: IntTensor<Self>,
        kept: FloatTensor<Self>,
        _back: IntTensor<Self>,
        _kept_back: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let [rows, width] = x.shape().dims();
        if rows == 0 {
            // Every row comes from none, so `kept` is zero.
            let shape = [kept.shape()[0], width];
            return Self::float_expand(kept, shape.into());
        }
        Self::float_mul(Self::float_select(x, 0, there), kept)
    }
}

impl RowsKernel for Flex {}

#[cfg(feature = "gpu")]
impl RowsKernel for burn::backend::Cube {}

impl<B: Backend + RowsKernel, C: CheckpointStrategy> RowsKernel for Autodiff<B, C> {
    fn rows_kernel(
        x: FloatTensor<Self>,
        there: IntTensor<Self>,
        kept: FloatTensor<Self>,
        back: IntTensor<Self>,
        kept_back: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let (kept, kept_back) = (kept.into_primitive(), kept_back.into_primitive());
        let prepared = RowsBackward.prepare::<C>([x.node()]);
        let output = B::rows_kernel(
            x.into_primitive(),
            there.clone(),
            kept.clone(),
            back.clone(),
            kept_back.clone(),
        );
        match prepared.compute_bound().stateful() {
            OpsKind::Tracked(prepared) => prepared.finish((there, kept, back, kept_back), output),
            OpsKind::UnTracked(prepared) => prepared.finish(output),
        }
    }
}

#[derive(Debug)]
struct RowsBackward;

impl<B: Backend + RowsKernel> Backward<B, 1> for RowsBackward {
    type State = (IntTensor<B>, FloatTensor<B>, IntTensor<B>, FloatTensor<B>);

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [x] = ops.parents;
        let grad = grads.consume::<B>(&ops.node);
        if let Some(node) = x {
            let (there, kept, back, kept_back) = ops.state;
            let grad = B::rows_kernel(grad, back, kept_back, there, kept);
            grads.register::<B>(node.id, grad);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_same_gradients, random};

    /// As in a batch in which no token counts.
    #[test]
    fn no_rows_leave_a_gradient_of_zeros() {
        let rows = MovedRows::new(&[], 2, &Device::flex());
        let x: Tensor<2> = random([2, 3], 1.0).autodiff().require_grad();
        let gradients = rows.there(x.clone()).sum().backward();
        let found: Vec<f32> = x.grad(&gradients).unwrap().into_data().iter().collect();
        assert_eq!(found, [0.0; 6]);
    }

    #[test]
    fn equals_a_selection() {
        let rows = [Some(3), None, Some(0), Some(4), None];
        let rows = MovedRows::new(&rows, 5, &Device::flex());
        assert_same_gradients(
            &[random([5, 3], 1.0)],
            |[x]| rows.there(x),
            |[x]| {
                let select = |from| x.clone().narrow(0, from, 1);
                let zero = select(1) * 0.0;
                Tensor::cat(vec![select(3), zero.clone(), select(0), select(4), zero], 0)
            },
        );
        assert_same_gradients(
            &[random([5, 3], 1.0)],
            |[x]| rows.back(x),
            |[x]| {
                let select = |from| x.clone().narrow(0, from, 1);
                let zero = select(1) * 0.0;
                Tensor::cat(vec![select(2), zero.clone(), zero, select(0), select(3)], 0)
            },
        );
    }
}
