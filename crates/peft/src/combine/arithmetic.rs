//! Sums of the tensors of several tasks, as in peft/utils/merge_utils.py: pruning (arXiv
//! 2306.01708, 2311.03099), sign election, weights.

use super::MajoritySign;

/// What is done with the tensors of several tasks before they are added up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Arithmetic {
    /// Nothing.
    Linear,
    /// Small values become zero.
    MagnitudePrune,
    /// Small values become zero, and only those with the elected sign are averaged.
    Ties(MajoritySign),
    /// Random values become zero, and the others are scaled up to compensate.
    DareLinear,
    /// Random values become zero, and only those with the elected sign are averaged.
    DareTies(MajoritySign),
}

/// Which of this many values are kept, each with this probability.
pub(super) type Mask<'a> = &'a mut dyn FnMut(usize, f64) -> Vec<bool>;

/// The weighted sum of tensors of equal length; `density` is the share of values that pruning
/// keeps.
pub(super) fn sum(
    arithmetic: Arithmetic,
    mut tensors: Vec<Vec<f32>>,
    weights: &[f32],
    density: f64,
    mask: Mask<'_>,
) -> Vec<f32> {
    for tensor in &mut tensors {
        match arithmetic {
            _ if density >= 1.0 => {}
            Arithmetic::Linear => {}
            Arithmetic::MagnitudePrune | Arithmetic::Ties(_) => keep_largest(tensor, density),
            Arithmetic::DareLinear | Arithmetic::DareTies(_) => {
                let mask = mask(tensor.len(), density);
                for (value, kept) in tensor.iter_mut().zip(mask) {
                    *value = if kept { *value / density as f32 } else { 0.0 };
                }
            }
        }
    }
    let length = tensors.first().map_or(0, Vec::len);
    let (Arithmetic::Ties(method) | Arithmetic::DareTies(method)) = arithmetic else {
        let weighted = |i: usize| tensors.iter().zip(weights).map(move |(t, w)| t[i] * w);
        return (0..length).map(|i| weighted(i).sum()).collect();
    };
    let elect = |i: usize| {
        let values = tensors.iter().map(|tensor| tensor[i]);
        let votes: f32 = match method {
            MajoritySign::Total => values.sum(),
            MajoritySign::Frequency => values.map(sign).sum(),
        };
        let elected = if votes >= 0.0 { 1.0 } else { -1.0 };
        let (mut total, mut count) = (0.0, 0.0_f32);
        for (tensor, weight) in tensors.iter().zip(weights) {
            if sign(tensor[i]) == elected {
                total += tensor[i] * weight;
                count += 1.0;
            }
        }
        total / count.max(1.0)
    };
    (0..length).map(elect).collect()
}

/// PyTorch's sign, which is 0 for 0.
fn sign(value: f32) -> f32 {
    match value {
        0.0 => 0.0,
        value => value.signum(),
    }
}

/// Sets all but the largest values to zero.
fn keep_largest(tensor: &mut [f32], density: f64) {
    let kept = (density * tensor.len() as f64) as usize;
    let mut order: Vec<usize> = (0..tensor.len()).collect();
    if kept < order.len() {
        let descending = |a: &usize, b: &usize| tensor[*b].abs().total_cmp(&tensor[*a].abs());
        order.select_nth_unstable_by(kept, descending);
        for &index in &order[kept..] {
            tensor[index] = 0.0;
        }
    }
}
