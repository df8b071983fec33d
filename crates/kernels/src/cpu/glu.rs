//! The gate of a feed-forward network, in one pass over memory.

use std::ops::Range;

use super::activation::{ActivationKind, gated_into, gated_slopes_into};
use rayon::prelude::*;

use super::buffer::{filled, filled_as, filled_rows, for_row_pairs, for_rows};
use super::narrow::{round, widen};

/// Values in 32 bits, or in 16 as the bits of bf16.
#[derive(Clone, Copy, Debug)]
pub enum Values<'a> {
    /// In 32 bits.
    Wide(&'a [f32]),
    /// In 16 bits.
    Narrow(&'a [u16]),
}

impl Values<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Wide(values) => values.len(),
            Self::Narrow(bits) => bits.len(),
        }
    }

    /// Some of the values in 32 bits, written to `room` if they have to be widened.
    fn piece<'b>(&'b self, piece: Range<usize>, room: &'b mut Vec<f32>) -> &'b [f32] {
        match self {
            Self::Wide(values) => &values[piece],
            Self::Narrow(bits) => {
                *room = filled(piece.len(), |room| widen(&bits[piece], room));
                room
            }
        }
    }
}

/// The function of each value of `gate`, times that of `up`.
///
/// # Panics
/// If `up` is shorter than `gate`.
pub fn glu(kind: ActivationKind, gate: Values<'_>, up: Values<'_>) -> Vec<f32> {
    filled_rows(gate.len(), 1, |piece, out| {
        let [mut of_gate, mut of_up] = [Vec::new(), Vec::new()];
        let gate = gate.piece(piece.clone(), &mut of_gate);
        gated_into(kind, gate, up.piece(piece, &mut of_up), out);
    })
}

/// Values of a piece of [`glu_narrowing`]: all arrays of a piece fit into the second-level cache.
const PIECE: usize = 1 << 14;

/// As [`glu`], and both inputs rounded to bf16.
///
/// # Panics
/// If `gate` and `up` differ in length.
pub fn glu_narrowing(kind: ActivationKind, gate: &[f32], up: &[f32]) -> (Vec<f32>, [Vec<u16>; 2]) {
    assert_eq!(gate.len(), up.len());
    let (mut gate_bits, mut up_bits) = (Vec::new(), Vec::new());
    let output = filled(gate.len(), |out| {
        gate_bits = filled_as(gate.len(), |gate_bits| {
            up_bits = filled_as(up.len(), |up_bits| {
                let outputs = (out.par_chunks_mut(PIECE)).zip(
                    gate_bits
                        .par_chunks_mut(PIECE)
                        .zip(up_bits.par_chunks_mut(PIECE)),
                );
                let inputs = gate.par_chunks(PIECE).zip(up.par_chunks(PIECE));
                outputs.zip(inputs).for_each(|((out, bits), (gate, up))| {
                    round(gate, bits.0);
                    round(up, bits.1);
                    gated_into(kind, gate, up, out);
                });
            });
        });
    });
    (output, [gate_bits, up_bits])
}

/// The gradients of `gate` and `up`, given that of [`glu`]'s output.
///
/// # Panics
/// If `gate` and `up` differ in length, or if `grad` is shorter.
pub fn glu_backward(
    kind: ActivationKind,
    gate: Values<'_>,
    up: Values<'_>,
    grad: &[f32],
) -> [Vec<f32>; 2] {
    let mut of_up = Vec::new();
    let of_gate = filled(gate.len(), |of_gate| {
        of_up = filled(up.len(), |of_up| {
            for_row_pairs([of_gate, of_up], 1, |first, outputs| {
                let piece = first..first + outputs[0].len();
                let mut rooms = [Vec::new(), Vec::new()];
                let [room, other] = &mut rooms;
                let inputs = [
                    gate.piece(piece.clone(), room),
                    up.piece(piece.clone(), other),
                ];
                gated_slopes_into(kind, inputs, &grad[piece], outputs);
            });
        });
    });
    [of_gate, of_up]
}

/// As [`glu`], with rows of `gate` and `up` side by side, `inner` values of each: from
/// `[rows, 2 · inner]` to `[rows, inner]`.
pub fn packed_glu(kind: ActivationKind, gate_up: Values<'_>, inner: usize) -> Vec<f32> {
    filled(gate_up.len() / 2, |out| {
        for_rows(out, inner, |first, out| {
            let mut room = Vec::new();
            let first = 2 * first * inner;
            let rows = gate_up.piece(first..first + 2 * out.len(), &mut room);
            for (row, out) in rows
                .chunks_exact(2 * inner)
                .zip(out.chunks_exact_mut(inner))
            {
                let (gate, up) = row.split_at(inner);
                gated_into(kind, gate, up, out);
            }
        });
    })
}

/// The gradient of `gate_up`, `[rows, 2 · inner]`, given that of [`packed_glu`]'s output,
/// `[rows, inner]`.
pub fn packed_glu_backward(
    kind: ActivationKind,
    gate_up: Values<'_>,
    grad: &[f32],
    inner: usize,
) -> Vec<f32> {
    filled(gate_up.len(), |out| {
        for_rows(out, 2 * inner, |first, out| {
            let mut room = Vec::new();
            let grads = grad[first * inner..].chunks_exact(inner);
            let first = 2 * first * inner;
            let rows = gate_up.piece(first..first + out.len(), &mut room);
            let rows = rows.chunks_exact(2 * inner).zip(grads);
            for ((row, grad), out) in rows.zip(out.chunks_exact_mut(2 * inner)) {
                let inputs: [&[f32]; 2] = row.split_at(inner).into();
                gated_slopes_into(kind, inputs, grad, out.split_at_mut(inner).into());
            }
        });
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::narrow::narrowed;

    /// Output and rounded inputs are those of the single functions, to the bit.
    #[test]
    fn narrows_what_it_reads() {
        for length in [0, 5, PIECE, 2 * PIECE + 7] {
            let number = |at: usize| (at * 7919 % 1009) as f32 / 100.0 - 5.0;
            let gate: Vec<f32> = (0..length).map(number).collect();
            let up: Vec<f32> = (1..=length).map(number).collect();
            for kind in [ActivationKind::Silu, ActivationKind::GeluTanh] {
                let (output, bits) = glu_narrowing(kind, &gate, &up);
                assert!(output == glu(kind, Values::Wide(&gate), Values::Wide(&up)));
                assert!(bits == [narrowed(&gate), narrowed(&up)]);
            }
        }
    }
}
