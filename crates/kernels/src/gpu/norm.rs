//! The norm of many tensors together, in two launches.

use burn::tensor::{DType, Shape};
use burn_cubecl::cubecl;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::tensor::CubeTensor;

use super::launch::{MOST_UNITS, empty};
use super::many::{Buffers, Lazy, Place, buffer, cubes, place_at, register, size, value_at};
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
    // Besides the sums, and what CubeCL tells the kernel.
    let most = client.properties().hardware.max_bindings as usize - 2;
    let mut tensors = tensors.iter().enumerate().peekable();
    while let Some(&(first, _)) = tensors.peek() {
        let (mut buffers, mut places) = (Buffers::default(), SequenceArg::new());
        while let Some((_, tensor)) = tensors.next_if(|_| buffers.len() < most) {
            places.push(buffers.place(tensor));
        }
        // SAFETY: no unit reads beyond a tensor, or writes but the sum of its cube.
        unsafe {
            squares_kernel::launch_unchecked(
                &client,
                CubeCount::Static(cubes, places.values.len() as u32, 1),
                CubeDim::new_1d(MOST_UNITS),
                buffers.argument(),
                places,
                buffer(sums.clone()),
                first as u32,
                cubes,
                MOST_UNITS,
            );
        }
    }
    // SAFETY: `sums` has as many values.
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

/// Every row of cubes sums up the squares of one tensor; every cube leaves one number.
#[cube(launch_unchecked)]
fn squares_kernel(
    buffers: &Sequence<Box<[f32]>>,
    places: &Sequence<Place>,
    sums: &mut [f32],
    first: u32,
    cubes: u32,
    #[comptime] units: u32,
) {
    let first = first as usize;
    let cubes = cubes as usize;
    let row = CUBE_POS_Y as usize;
    let cube = CUBE_POS_X as usize;
    let place = place_at(places, row);
    let mut sum = 0.0f32;
    let mut at = cube * units as usize + UNIT_POS as usize;
    while at < place.length {
        let value = value_at(buffers, &place, at);
        sum += value * value;
        at += cubes * units as usize;
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
