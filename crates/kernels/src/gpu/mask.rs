//! Which values dropout keeps: the CPU's hash of seed, row and column, in 32 bits.

use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::launch::buffer;
use super::seeds::words;
use crate::cpu::dropout;
use crate::cpu::random::{Dropout, MIX_1, MIX_2, SPREAD, seed_words};
use crate::seed::Drawn;

/// Dropout, and where its seed is from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Masked {
    dropout: Dropout,
    drawn: Drawn,
}

impl Masked {
    /// Dropout with this probability; none at 0.
    pub fn new(probability: f64, drawn: Drawn) -> Option<Self> {
        let dropout = dropout::new(probability, drawn.seed())?;
        Some(Self { dropout, drawn })
    }
}

/// Dropout, as kernels are launched with it: the same numbers in every step, beside [`words`] of which
/// the two from `at` on are those of its seed.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Drops {
    at: u32,
    row: u32,
    threshold: u32,
    scale: f32,
}

/// Dropout, as kernels compute with it.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(crate) struct Mask {
    first: u32,
    second: u32,
    row: u32,
    threshold: u32,
    scale: f32,
}

/// Dropout as an argument of a launch, for kernels that are not given words. Kernels do not read it
/// where there is no dropout.
pub(crate) fn mask(dropout: Option<Dropout>) -> MaskLaunch {
    let Some(dropout) = dropout else {
        return MaskLaunch::new(0, 0, 0, 0, 1.0);
    };
    let [first, second] = seed_words(dropout.seed);
    let (threshold, scale) = (dropout.threshold(), dropout.scale());
    MaskLaunch::new(first, second, dropout.first, threshold, scale)
}

/// Dropout as two arguments of a launch on the device of a tensor; without any, what kernels do not read.
pub(crate) fn drops(masked: Option<Masked>, like: &CubeTensor) -> (BufferArg, DropsLaunch) {
    let (words, drops) = drops_of_each(&[masked], like);
    (words, drops.into_iter().next().unwrap_or_else(no_drops))
}

/// As [`drops`], of several layers. Their seeds must have been drawn one after the other, without
/// others between them.
pub(crate) fn drops_of_each(
    masked: &[Option<Masked>],
    like: &CubeTensor,
) -> (BufferArg, Vec<DropsLaunch>) {
    let drawn = masked.iter().flatten().next().map(|masked| masked.drawn);
    let words = drawn.map(|first| (words(first, like), first.number));
    let drops = masked.iter().map(|masked| match (masked, &words) {
        (Some(Masked { dropout, drawn }), Some(((_, at), first))) => {
            let at = at + 2 * (drawn.number - first) as u32;
            DropsLaunch::new(at, dropout.first, dropout.threshold(), dropout.scale())
        }
        _ => no_drops(),
    });
    let drops = drops.collect();
    let words = words.map_or_else(|| buffer(like), |((words, _), _)| buffer(&words));
    (words, drops)
}

/// No dropout, as an argument of a launch.
pub(crate) fn no_drops() -> DropsLaunch {
    DropsLaunch::new(0, 0, 0, 1.0)
}

/// The mask of these arguments, where there is dropout.
#[cube]
pub(crate) fn mask_of(words: &[u32], drops: &Drops, #[comptime] has: bool) -> Mask {
    let mut first = 0u32;
    let mut second = 0u32;
    if has {
        first = words[drops.at as usize];
        second = words[drops.at as usize + 1];
    }
    Mask {
        first,
        second,
        row: drops.row,
        threshold: drops.threshold,
        scale: drops.scale,
    }
}

/// The mask where there is no dropout. Kernels do not read it.
#[cube]
pub(crate) fn no_mask() -> Mask {
    Mask {
        first: 0u32.runtime(),
        second: 0u32.runtime(),
        row: 0u32.runtime(),
        threshold: 0u32.runtime(),
        scale: 1.0f32.runtime(),
    }
}

#[cube]
fn shifted(x: u32, #[comptime] by: u32) -> u32 {
    x ^ (x >> by)
}

#[cube]
fn mixed(x: u32) -> u32 {
    shifted(shifted(shifted(x, 16u32) * MIX_1, 15u32) * MIX_2, 16u32)
}

/// What the value at this place is multiplied by: 0, or the scale of the values that stay.
#[cube]
pub(crate) fn factor(mask: &Mask, row: u32, column: u32) -> f32 {
    let row = row + mask.row;
    let first = mixed(row ^ mask.first);
    let second = mixed((row * SPREAD) ^ mask.second);
    let x = shifted(column ^ first, 16u32) * MIX_1;
    let x = shifted(x ^ second, 15u32) * MIX_2;
    if shifted(x, 16u32) >= mask.threshold {
        mask.scale
    } else {
        0.0f32.runtime()
    }
}
