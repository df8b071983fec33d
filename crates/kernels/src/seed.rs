//! Where random numbers come from: the same on every device.

use std::cell::Cell;

use burn::tensor::{Device, Distribution, Tensor};

use crate::cpu::random::mix;
use crate::cpu_device;

thread_local! {
    /// The stream of [`with_seed`]: its seed, and how many seeds were drawn from it.
    static STREAM: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
    /// The number of the first row, see [`with_first_row`].
    static FIRST_ROW: Cell<u32> = const { Cell::new(0) };
}

/// Runs `body` on a part of a step's rows of tokens, with the dropout that this part has in the
/// whole: `first` is the number of its first row. So a step's rows can be split into any pieces.
pub fn with_first_row<R>(first: usize, body: impl FnOnce() -> R) -> R {
    struct Restore(u32);
    impl Drop for Restore {
        fn drop(&mut self) {
            FIRST_ROW.set(self.0);
        }
    }
    // Dropout numbers rows in 32 bits, and starts again at 0 after that.
    let _restore = Restore(FIRST_ROW.replace(first as u32));
    body()
}

/// The number of the first row.
pub(crate) fn first_row() -> u32 {
    FIRST_ROW.get()
}

/// Seeds all random numbers from here on: [`random`] values, and dropout on `device`.
pub fn set_seed(seed: u64, device: &Device) {
    cpu_device().seed(seed);
    device.seed(seed);
}

/// Random values, drawn on the CPU: a seed ([`set_seed`], [`with_seed`]) gives the same ones on
/// every device.
pub fn random<const D: usize>(
    shape: [usize; D],
    distribution: Distribution,
    device: &Device,
) -> Tensor<D> {
    let cpu = cpu_device();
    if let Some(seed) = next_seed() {
        cpu.seed(seed);
    }
    let values = Tensor::<D>::random(shape, distribution, &cpu);
    if device.clone().without_autodiff() != cpu {
        Tensor::from_data(values.into_data(), device)
    } else if device.is_autodiff() {
        values.autodiff()
    } else {
        values
    }
}

/// Runs `body` with dropout and [`random`] values that depend on `seed` alone, not on the device or
/// on other threads.
pub fn with_seed<R>(seed: u64, body: impl FnOnce() -> R) -> R {
    struct Restore(Option<(u64, u64)>);
    impl Drop for Restore {
        fn drop(&mut self) {
            STREAM.set(self.0);
        }
    }
    let _restore = Restore(STREAM.replace(Some((seed, 0))));
    body()
}

/// A seed of the stream of [`with_seed`]: the stream's, and its number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Drawn {
    pub stream: u64,
    pub number: u64,
}

impl Drawn {
    pub fn seed(self) -> u64 {
        mix(self.stream ^ mix(self.number))
    }
}

/// The next one of the stream of [`with_seed`], if there is one.
pub(crate) fn next_drawn() -> Option<Drawn> {
    let (stream, number) = STREAM.get()?;
    STREAM.set(Some((stream, number + 1)));
    Some(Drawn { stream, number })
}

/// As [`next_drawn`], the seed alone.
pub(crate) fn next_seed() -> Option<u64> {
    next_drawn().map(Drawn::seed)
}

/// Draws a seed from the stream of [`with_seed`], or else from the device's generator, so that
/// `device.seed` repeats it.
pub fn draw_seed(device: &Device) -> u64 {
    if let Some(seed) = next_seed() {
        return seed;
    }
    let range = Distribution::Uniform(0.0, f64::from(1 << 24));
    let halves = Tensor::<1>::random([2], range, &device.clone().without_autodiff());
    let mut halves = halves
        .into_data()
        .iter::<f32>()
        .collect::<Vec<_>>()
        .into_iter();
    let mut half = || halves.next().unwrap_or_default() as u64;
    half() << 24 | half()
}
