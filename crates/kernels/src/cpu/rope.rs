//! Rotary position embeddings of rows of heads.

use super::buffer::{filled, for_rows, vectorised};

/// Which two channels of a head turn together; `n` channels are turned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pairing {
    /// Channel `i` and channel `i + n/2`: Llama and most others.
    Halves,
    /// Channel `2 i` and channel `2 i + 1`: GLM-4, Cohere, ERNIE.
    Interleaved,
}

vectorised! {
    /// Turns the first channels of each of a row's heads by the angles of that row.
    fn turn_row<'a>(
        x: &'a [f32],
        cos: &'a [f32],
        sin: &'a [f32],
        sign: f32,
        head_dim: usize,
        pairing: Pairing,
        out: &'a mut [f32],
    ) {
        let half = cos.len();
        for (x, out) in x.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim)) {
            let (x, rest) = x.split_at(2 * half);
            let (out, passed) = out.split_at_mut(2 * half);
            passed.copy_from_slice(rest);
            let angles = cos.iter().zip(sin);
            match pairing {
                Pairing::Halves => {
                    let (a, b) = x.split_at(half);
                    let (to_a, to_b) = out.split_at_mut(half);
                    let to = to_a.iter_mut().zip(to_b);
                    for (((a, b), (to_a, to_b)), (cos, sin)) in a.iter().zip(b).zip(to).zip(angles)
                    {
                        let sin = sin * sign;
                        *to_a = a * cos - b * sin;
                        *to_b = b * cos + a * sin;
                    }
                }
                Pairing::Interleaved => {
                    let pairs = x.as_chunks::<2>().0.iter().zip(out.as_chunks_mut::<2>().0);
                    for (([a, b], to), (cos, sin)) in pairs.zip(angles) {
                        let sin = sin * sign;
                        *to = [a * cos - b * sin, b * cos + a * sin];
                    }
                }
            }
        }
    }
}

/// How rows of heads are turned.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Channels of a head.
    pub head_dim: usize,
    /// Channels of a row.
    pub width: usize,
    /// Which channels turn together.
    pub pairing: Pairing,
    /// Whether they are turned back.
    pub inverse: bool,
}

/// Returns the rows of `x` with the first `2 · half` channels of each head turned by the row's
/// `half` angles; `cos` and `sin` have a row of angles for each row of `x`.
///
/// # Panics
/// If `cos` or `sin` has fewer rows than `x`, or if `half` angles do not fit a head.
pub fn rope(x: &[f32], cos: &[f32], sin: &[f32], half: usize, turn: Turn) -> Vec<f32> {
    let Turn {
        head_dim,
        width,
        pairing,
        inverse,
    } = turn;
    let sign = if inverse { -1.0 } else { 1.0 };
    filled(x.len(), |out| {
        for_rows(out, width, |first, out| {
            for (row, out) in out.chunks_exact_mut(width).enumerate() {
                let row = first + row;
                let angles = row * half..(row + 1) * half;
                let (cos, sin) = (&cos[angles.clone()], &sin[angles]);
                let x = &x[row * width..][..width];
                turn_row(x, cos, sin, sign, head_dim, pairing, out);
            }
        });
    })
}
