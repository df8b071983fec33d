//! Numbers that come to a device together.

use burn::tensor::{Device, Int, Tensor, TensorData};

#[cfg(feature = "gpu")]
use crate::flex::is_gpu;

/// Where a GPU can bind a part of a buffer: at multiples of so many numbers of 32 bits.
#[cfg(feature = "gpu")]
const ALIGNED: usize = 64;

/// Tensors of these numbers, each `[length]`. They come to a GPU in one copy, of which each is a part.
pub fn in_one_copy(parts: &[&[i64]], device: &Device) -> Vec<Tensor<1, Int>> {
    #[cfg(feature = "gpu")]
    if is_gpu(device) {
        return on_gpu(parts, device);
    }
    let alone = |part: &&[i64]| {
        let data = TensorData::new(part.to_vec(), [part.len()]);
        Tensor::from_data(data, device)
    };
    parts.iter().map(alone).collect()
}

#[cfg(feature = "gpu")]
fn on_gpu(parts: &[&[i64]], device: &Device) -> Vec<Tensor<1, Int>> {
    let mut numbers: Vec<i64> = Vec::new();
    let mut starts = Vec::new();
    for part in parts {
        numbers.resize(numbers.len().next_multiple_of(ALIGNED), 0);
        starts.push(numbers.len());
        numbers.extend(*part);
    }
    let length = numbers.len();
    let all = Tensor::<1, Int>::from_data(TensorData::new(numbers, [length]), device);
    let parts = starts.iter().zip(parts);
    parts
        .map(|(&start, part)| crate::gpu::part(all.clone(), start, part.len()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_what_was_given() {
        let long: Vec<i64> = (0..1000).map(|i| i * 3 - 500).collect();
        let given = [&long[..], &[7], &long[..65]];
        for (found, part) in in_one_copy(&given, &crate::testing::device())
            .into_iter()
            .zip(given)
        {
            assert_eq!(found.dims(), [part.len()]);
            let found: Vec<i64> = (found + 1).into_data().iter().collect();
            let expected: Vec<i64> = part.iter().map(|number| number + 1).collect();
            assert_eq!(found, expected);
        }
    }

    #[cfg(feature = "wgpu")]
    #[test]
    fn parts_are_what_was_given_on_a_gpu() {
        crate::testing::on_gpu(parts_are_what_was_given);
    }
}
