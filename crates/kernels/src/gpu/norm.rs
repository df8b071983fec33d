//! The norm of many tensors together, in two launches.

use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{MOST_UNITS, empty};
use super::many::{Lazy, Place, buffer, cubes, placed, register, size};
use super::reduce::sum_of_units;

/// The root of the sum of all squares, `[1]`.
pub(crate) fn norm_of_all(tensors: Vec<Lazy>) -> Lazy {
    let shape = vec![Shape::from([1])];
    let mut output = register("norm_of_all", tensors, shape, |tensors| {
        vec![launch(tensors)]
    });
    output.remove(0)
}

fn launch(tensors: Vec<CubeTensor>) -> CubeTensor {
    let client = tensors[0].client.clone();
    let longest = tensors.iter().map(size).max().unwrap_or(0);
    let cubes = cubes(longest, 16, 32);
    let count = tensors.len();
    let sums = empty(&tensors[0], [count * cubes as usize], DType::F32);
    let norm = empty(&tensors[0], [1], DType::F32);
    let at_once = client.properties().hardware.max_bindings as usize - 2;
    let mut tensors = tensors.into_iter().enumerate().peekable();
    while let Some((first, _)) = tensors.peek() {
        let first = *first;
        let (mut arguments, mut lengths, mut places) =
            (SequenceArg::new(), SequenceArg::new(), Places::default());
        let mut rows = 0;
        for (_, tensor) in tensors.by_ref().take(at_once) {
            lengths.push(size(&tensor));
            let (tensor, place) = placed(tensor);
            places.push(place);
            arguments.push(buffer(tensor));
            rows += 1;
        }
        // SAFETY: no unit reads or writes beyond a tensor.
        unsafe {
            squares_kernel::launch_unchecked(
                &client,
                CubeCount::Static(cubes, rows, 1),
                CubeDim::new_1d(MOST_UNITS),
                arguments,
                lengths,
                places.columns,
                places.rows,
                places.steps,
                buffer(sums.clone()),
                first as u32,
                cubes,
                MOST_UNITS,
            );
        }
    }
    // SAFETY: as above.
    unsafe {
        root_kernel::launch_unchecked(
            &client,
            CubeCount::Static(1, 1, 1),
            CubeDim::new_1d(MOST_UNITS),
            buffer(sums),
            buffer(norm.clone()),
            count as u32 * cubes,
            MOST_UNITS,
        );
    }
    norm
}

/// The [`Place`]s of many tensors, as a kernel takes them.
#[derive(Default)]
pub(crate) struct Places {
    pub columns: SequenceArg<usize>,
    pub rows: SequenceArg<usize>,
    pub steps: SequenceArg<usize>,
}

impl Places {
    pub fn push(&mut self, place: Place) {
        self.columns.push(place.columns);
        self.rows.push(place.row);
        self.steps.push(place.column);
    }
}

/// Every row of cubes sums up the squares of one tensor; every cube leaves one number.
#[cube(launch_unchecked)]
fn squares_kernel(
    tensors: &Sequence<Box<[f32]>>,
    lengths: Sequence<usize>,
    columns: Sequence<usize>,
    rows: Sequence<usize>,
    steps: Sequence<usize>,
    sums: &mut [f32],
    first: u32,
    cubes: u32,
    #[comptime] units: u32,
) {
    let first = first as usize;
    let cubes = cubes as usize;
    let row = CUBE_POS_Y as usize;
    let cube = CUBE_POS_X as usize;
    let mut sum = 0.0f32;
    #[unroll]
    for i in 0..tensors.len() {
        if row == i {
            let mut at = cube * units as usize + UNIT_POS as usize;
            while at < lengths[i] {
                let place = at / columns[i] * rows[i] + at % columns[i] * steps[i];
                let value = tensors[i][place];
                sum += value * value;
                at += cubes * units as usize;
            }
        }
    }
    let sum = sum_of_units(sum, units);
    if UNIT_POS == 0 {
        sums[(first + row) * cubes + cube] = sum;
    }
}

/// One cube sums up what all have left.
#[cube(launch_unchecked)]
fn root_kernel(sums: &[f32], norm: &mut [f32], count: u32, #[comptime] units: u32) {
    let count = count as usize;
    let mut sum = 0.0f32;
    let mut at = UNIT_POS as usize;
    while at < count {
        sum += sums[at];
        at += units as usize;
    }
    let sum = sum_of_units(sum, units);
    if UNIT_POS == 0 {
        norm[0] = sum.sqrt();
    }
}
