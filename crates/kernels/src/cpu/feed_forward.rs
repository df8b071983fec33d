//! A frozen feed-forward network with weights in bf16.
//!
//! The values between its products are as large as all others of a block together. They leave a
//! product in 32 bits and are read once. The activation's inputs are kept, and its outputs are
//! given to the next product, both in 16 bits, as in torch's autocast.

use super::activation::{
    ActivationKind, activate_into, gated_into, gated_slopes_into, slopes_into,
};
use super::buffer::{filled, for_pieces};
use super::elementwise::add_rows;
use super::product::{Left, Matrix, MatrixMut, Onto, PackedLeft, Weight};

/// Rows that a thread takes at a time.
const ROWS: usize = 8;

/// A weight in bf16, `[d_in, d_out]`, and its bias, `[d_out]`.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// The weight.
    pub weight: Weight<'a>,
    /// The bias.
    pub bias: Option<&'a [f32]>,
}

impl Layer<'_> {
    fn times(&self, x: &PackedLeft) -> Vec<f32> {
        let onto = self.bias.map_or(Onto::Zero, Onto::Row);
        self.weight.times(Left::Packed(x), onto)
    }
}

/// The layers, from `d` to `inner` and back.
#[derive(Clone, Copy, Debug)]
pub struct Network<'a> {
    /// From `d` to `inner`. Its output, or without a gate that of `up`, goes through the
    /// activation.
    pub gate: Option<Layer<'a>>,
    /// From `d` to `inner`.
    pub up: Layer<'a>,
    /// From `inner` to `d`.
    pub down: Layer<'a>,
    /// The activation.
    pub activation: ActivationKind,
}

/// The outputs of the first layers, `[tokens, inner]` each.
#[derive(Debug)]
pub struct Kept {
    gate: Option<PackedLeft>,
    up: PackedLeft,
}

impl Kept {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.up.rows()
    }
}

impl Network<'_> {
    /// Returns `down(activation(gate(x)) · up(x)) + residual`, `[tokens, d]`, or without a gate
    /// `down(activation(up(x))) + residual`. With `keeps`, also returns what the gradient needs.
    ///
    /// # Panics
    /// If the shapes do not fit each other, or if nothing can be
    /// [packed](PackedLeft::is_available).
    pub fn forward(
        &self,
        x: Matrix<'_, f32>,
        residual: Option<&[f32]>,
        keeps: bool,
    ) -> (Vec<f32>, Option<Kept>) {
        let (tokens, inner, d) = (x.rows(), self.up.weight.cols(), self.down.weight.cols());
        let x = PackedLeft::new(x).expect("the caller asked whether it can be packed");
        let gate = self.gate.map(|gate| gate.times(&x));
        let up = self.up.times(&x);
        drop(x);
        let mut kept = keeps.then(|| Kept {
            gate: gate.as_ref().map(|_| room(tokens, inner)),
            up: room(tokens, inner),
        });
        let mut activated = room(tokens, inner);
        let keep = kept
            .as_mut()
            .map(|kept| (kept.gate.as_mut().map(PackedLeft::writer), kept.up.writer()));
        let write = activated.writer();
        for_pieces(tokens, ROWS, |rows| {
            let (first, rows) = (rows.start, rows.len());
            let piece = first * inner..(first + rows) * inner;
            let up = &up[piece.clone()];
            let gate = gate.as_ref().map(|gate| &gate[piece]);
            let values = filled(up.len(), |out| match gate {
                Some(gate) => gated_into(self.activation, gate, up, out),
                None => activate_into(self.activation, up, out),
            });
            let matrix = |values| Matrix::new(values, rows, inner);
            // SAFETY: pieces do not overlap.
            unsafe {
                if let Some((keep_gate, keep_up)) = &keep {
                    if let (Some(keep), Some(gate)) = (keep_gate, gate) {
                        keep.write(first, matrix(gate));
                    }
                    keep_up.write(first, matrix(up));
                }
                write.write(first, matrix(&values));
            }
        });
        let output = filled(tokens * d, |out| {
            let mut onto = self.down.bias.map_or(Onto::Zero, Onto::Row);
            if let Some(residual) = residual {
                add_rows(out, residual, self.down.bias, d);
                onto = Onto::Current;
            }
            let mut out = MatrixMut::new(out, tokens, d);
            let activated = Left::Packed(&activated);
            self.down.weight.product(activated, onto, &mut out);
        });
        (output, kept)
    }

    /// The gradient of `x`, given what was kept and the gradient of the output.
    ///
    /// # Panics
    /// As [`forward`](Self::forward).
    pub fn backward(&self, kept: &Kept, grad: Matrix<'_, f32>) -> Vec<f32> {
        let (tokens, inner, d) = (kept.rows(), kept.up.cols(), self.up.weight.rows());
        let of_activated = self.down.weight.transposed().times(grad, Onto::Zero);
        let mut of_gate = kept.gate.as_ref().map(|_| room(tokens, inner));
        let mut of_up = room(tokens, inner);
        let write_gate = of_gate.as_mut().map(PackedLeft::writer);
        let write_up = of_up.writer();
        for_pieces(tokens, ROWS, |rows| {
            let (first, rows) = (rows.start, rows.len());
            let grad = &of_activated[first * inner..][..rows * inner];
            let read = |kept: &PackedLeft| {
                filled(grad.len(), |out| {
                    for (row, out) in out.chunks_exact_mut(inner).enumerate() {
                        kept.read_row(first + row, out);
                    }
                })
            };
            let up = read(&kept.up);
            let mut gate_slopes = Vec::new();
            let up_slopes = filled(grad.len(), |of_up| match &kept.gate {
                Some(gate) => {
                    let gate = read(gate);
                    gate_slopes = filled(grad.len(), |of_gate| {
                        gated_slopes_into(self.activation, [&gate, &up], grad, [of_gate, of_up]);
                    });
                }
                None => slopes_into(self.activation, &up, grad, of_up),
            });
            // SAFETY: pieces do not overlap.
            unsafe {
                if let Some(write) = &write_gate {
                    write.write(first, Matrix::new(&gate_slopes, rows, inner));
                }
                write_up.write(first, Matrix::new(&up_slopes, rows, inner));
            }
        });
        filled(tokens * d, |out| {
            let mut out = MatrixMut::new(out, tokens, d);
            let up = self.up.weight.transposed();
            up.product(Left::Packed(&of_up), Onto::Zero, &mut out);
            if let (Some(gate), Some(of_gate)) = (self.gate, &of_gate) {
                let gate = gate.weight.transposed();
                gate.product(Left::Packed(of_gate), Onto::Current, &mut out);
            }
        })
    }
}

fn room(rows: usize, cols: usize) -> PackedLeft {
    PackedLeft::room(rows, cols).expect("the caller asked whether it can be packed")
}
