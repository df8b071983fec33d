//! A frozen feed-forward network with weights in bf16.
//!
//! What lies between its two products is as large as the rest of a block together. It leaves the
//! product in 32 bits once and is read once: GELU's input is kept, and its output given to the
//! next product, in 16 bits, as torch's autocast has them.

use super::activation::{ActivationKind::GeluTanh, activate_into, slopes_into};
use super::buffer::{filled, for_pieces};
use super::elementwise::add_rows;
use super::product::{Left, Matrix, MatrixMut, Onto, PackedLeft, Weight};

/// Rows that a thread takes at a time.
const ROWS: usize = 8;

/// The weights, `[d, inner]` and `[inner, d]`, both in bf16, and their biases, `[inner]` and `[d]`.
#[derive(Clone, Copy, Debug)]
pub struct Network<'a> {
    /// Of the first layer.
    pub up: Weight<'a>,
    /// Of the first layer.
    pub up_bias: Option<&'a [f32]>,
    /// Of the second layer.
    pub down: Weight<'a>,
    /// Of the second layer.
    pub down_bias: Option<&'a [f32]>,
}

impl Network<'_> {
    /// `gelu(x · up + up_bias) · down + down_bias + residual`, `[tokens, d]`, and, if it is to be
    /// kept, GELU's input, `[tokens, inner]`.
    ///
    /// # Panics
    /// If the shapes do not fit each other, or if nothing can be [packed](PackedLeft::is_available).
    pub fn forward(
        &self,
        x: Matrix<'_, f32>,
        residual: Option<&[f32]>,
        keeps: bool,
    ) -> (Vec<f32>, Option<PackedLeft>) {
        let (tokens, inner, d) = (x.rows(), self.up.cols(), self.down.cols());
        let hidden = self.up.times(x, self.up_bias.map_or(Onto::Zero, Onto::Row));
        let mut kept = keeps.then(|| room(tokens, inner));
        let mut activated = room(tokens, inner);
        let (keep, write) = (kept.as_mut().map(PackedLeft::writer), activated.writer());
        for_pieces(tokens, ROWS, |rows| {
            let (first, rows) = (rows.start, rows.len());
            let hidden = &hidden[first * inner..][..rows * inner];
            let values = filled(hidden.len(), |out| activate_into(GeluTanh, hidden, out));
            // SAFETY: pieces do not overlap.
            unsafe {
                if let Some(keep) = &keep {
                    keep.write(first, Matrix::new(hidden, rows, inner));
                }
                write.write(first, Matrix::new(&values, rows, inner));
            }
        });
        let output = filled(tokens * d, |out| {
            let mut onto = self.down_bias.map_or(Onto::Zero, Onto::Row);
            if let Some(residual) = residual {
                add_rows(out, residual, self.down_bias, d);
                onto = Onto::Current;
            }
            let mut out = MatrixMut::new(out, tokens, d);
            self.down.product(Left::Packed(&activated), onto, &mut out);
        });
        (output, kept)
    }

    /// The gradient of `x`, given GELU's input and the gradient of the output.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn backward(&self, kept: &PackedLeft, grad: Matrix<'_, f32>) -> Vec<f32> {
        let (tokens, inner) = (kept.rows(), kept.cols());
        let of_activated = self.down.transposed().times(grad, Onto::Zero);
        let mut of_hidden = room(tokens, inner);
        let write = of_hidden.writer();
        for_pieces(tokens, ROWS, |rows| {
            let (first, rows) = (rows.start, rows.len());
            let grad = &of_activated[first * inner..][..rows * inner];
            let hidden = filled(grad.len(), |out| {
                for (row, out) in out.chunks_exact_mut(inner).enumerate() {
                    kept.read_row(first + row, out);
                }
            });
            let values = filled(grad.len(), |out| slopes_into(GeluTanh, &hidden, grad, out));
            // SAFETY: pieces do not overlap.
            unsafe { write.write(first, Matrix::new(&values, rows, inner)) };
        });
        let up = self.up.transposed();
        up.times(Left::Packed(&of_hidden), Onto::Zero)
    }
}

fn room(rows: usize, cols: usize) -> PackedLeft {
    PackedLeft::room(rows, cols).expect("the caller asked whether there is any")
}
